"""The site has answered, and settlement takes its time: what comes out before it is a yes?

While the facilitator thinks, the connection is watched for anything that tells of the content: headers, interim answers,
the first bytes of a body. Then settlement is refused, and what comes out after that is looked at, too.
"""

import asyncio
from collections.abc import Iterator
from functools import partial

from attacks.settlement_refused import REQUESTS
from core import pay
from core.attack import Attack, Need, Outcome, Try, leak
from core.payments import Presentation, Wallet
from core.scene import Scene
from core.target import Way
from core.wire import Connection, answered

WATCHED_SECONDS = 0.25
ASKED_SECONDS = 5.0
ROUNDS = 3


def tries(scene: Scene) -> Iterator[Try]:
    for way in (Way.HTTP11, Way.TLS11, Way.HTTP10, Way.H2, Way.H2C):
        for how in REQUESTS:
            for number in scene.sampled(list(range(ROUNDS)), ROUNDS):
                run = partial(_watch, Wallet(scene), Presentation(b"", way=way, **how), way)
                yield Try(f"{way.value}, {how}, {number}", run,
                          (Need.PAYMENT, Need.FACILITATOR, *scene.target.needs(way)))  # fmt: skip


async def _watch(wallet: Wallet, how: Presentation, way: Way) -> Outcome:
    scene, facilitator = wallet.scene, wallet.scene.facilitator
    asked, watched = asyncio.Event(), asyncio.Event()

    async def before(_: pay.Json) -> None:
        await facilitator.fund(wallet.payer, 0)
        asked.set()
        await watched.wait()

    await facilitator.fund(wallet.payer, int(scene.offer.terms["amount"]))
    facilitator.scripts[wallet.payer.address.lower()] = facilitator.script_of(before_settle=before)
    presentation = Presentation(**{**vars(how), "value": pay.encode(wallet.pay())})
    door = scene.target.door(way)
    assert door
    async with Connection(door, alpn="h2" if way is Way.H2 else "http/1.1", patience=10) as connection:
        wallet.exchanges.append(connection.exchange)
        await connection.send(wallet.written(presentation, door), presentation.method)
        try:
            await asyncio.wait_for(asked.wait(), ASKED_SECONDS)
            await connection.read(patience=WATCHED_SECONDS)
            sign = scene.secret.found([connection.exchange])
        except TimeoutError:
            # It does not come to a settlement: such requests are refused, or settled otherwise.
            sign = None
        watched.set()
        if sign:
            return leak(f"before settlement was answered, {sign}", wallet.exchanges)
        await connection.read(answered(1))
    return await wallet.verdict()


ATTACK = Attack("settlement-slow", 1, "what comes out while settlement goes on", tries, origins=frozenset({"market"}))
