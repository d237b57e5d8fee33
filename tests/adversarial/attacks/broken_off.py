"""Deliveries that the client breaks off, to get another.

A server that gives again what did not arrive can be told so by anybody. The client leaves before the site has answered,
while settlement goes on, within the answer and at its very end, by a proper close and by a reset, and comes again with the
same payment. Whole answers must not be more than settlements; broken ones may be given again a few times, not for ever.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try, held, leak
from core.http1 import Message
from core.payments import Presentation, Wallet
from core.scene import Scene
from core.target import Way
from core.wire import Connection, Exchange, answered

MOMENTS = ["at once", "while the site works", "while it is settled", "behind the first byte", "in the middle",
           "before the last byte", "behind the last byte"]  # fmt: skip
TIMES = [1, 2, 8]
"""How often it is broken off before it is read to its end."""
OWED_AFTER_MAX = 2
"""Who breaks off more often is not owed the site's work for ever."""
COPIES = 300
"""The suite's own origin repeats the page so often, when asked to, so that an answer does not fit into the buffers."""
BUFFER_BYTES = 8192
AGAIN_MAX = 5
"""How often a broken answer may be given again: more is no redelivery but a subscription."""
SECONDS = 5.0
BUSY = 503
BUSY_ROUNDS = 20
BUSY_PAUSE_SECONDS = 0.1


def tries(scene: Scene) -> Iterator[Try]:
    for moment in MOMENTS:
        for times in TIMES:
            for way in (Way.HTTP11, Way.H2C):
                for resets in (False, True):
                    how = "reset" if resets else "closed"
                    needs = (Need.PAYMENT, Need.SECRET, *scene.target.needs(way))
                    if moment == "while the site works":
                        needs += (Need.ORIGIN,)
                    if moment == "while it is settled":
                        needs += (Need.FACILITATOR,)
                    run = partial(_break_off, Wallet(scene), moment, times, way, resets)
                    yield Try(f"{moment}, {times} times, {way.value}, {how}", run, needs)
    for moment in MOMENTS[4:6]:
        for path in scene.target.other_paths:
            run = partial(_go_elsewhere, Wallet(scene), moment, path)
            yield Try(f"{moment}, then {path.decode()}", run, (Need.PAYMENT, Need.SECRET))


async def _break_off(wallet: Wallet, moment: str, times: int, way: Way, resets: bool) -> Outcome:
    scene = wallet.scene
    value = pay.encode(wallet.pay())
    wallet.path = _long(scene)
    parts = 0
    for _ in range(times):
        parts += await _unless_busy(partial(_once, wallet, value, moment, way, resets))
    for _ in range(3):
        await wallet.present(value)
    outcome = await wallet.verdict(can_know=times <= OWED_AFTER_MAX)
    if parts > AGAIN_MAX * max(1, wallet.settled()):
        return leak(f"{parts} times most of the content, for {wallet.settled()} settlements", wallet.exchanges)
    return outcome


async def _go_elsewhere(wallet: Wallet, moment: str, path: bytes) -> Outcome:
    """What is still owed for one page must not be had as another: most of the one is out already."""
    value = pay.encode(wallet.pay())
    wallet.path = _long(wallet.scene)
    has_most = await _unless_busy(partial(_once, wallet, value, moment, Way.HTTP11, True))

    async def present() -> bool | None:
        other = await wallet.present(value, path=path)
        return None if other.status() == BUSY else wallet.scene.secret.found([other]) is not None

    if has_most and await _unless_busy(present):
        return leak(f"most of {wallet.path.decode()}, and {path.decode()}, for one payment", wallet.exchanges)
    return held(wallet.exchanges)


def _long(scene: Scene) -> bytes:
    """The priced page, so long that it does not fit into the buffers."""
    return scene.target.path + (b"&" if b"?" in scene.target.path else b"?") + b"copies=%d" % COPIES


async def _unless_busy(ask: Callable[[], Awaitable[bool | None]]) -> bool:
    """Asks again while the server says that it has not noticed yet how the last time ended."""
    for _ in range(BUSY_ROUNDS):
        if (came := await ask()) is not None:
            return came
        await asyncio.sleep(BUSY_PAUSE_SECONDS)
    return False


async def _once(wallet: Wallet, value: bytes, moment: str, way: Way, resets: bool) -> bool | None:
    """Whether most of the content came out before it was broken off. All of it counts as a delivery. `None`: come again."""
    scene = wallet.scene
    reached, left = asyncio.Event(), asyncio.Event()

    async def pause(_: object = None) -> None:
        reached.set()
        await asyncio.wait_for(left.wait(), SECONDS)

    door = scene.target.door(way)
    assert door
    account = wallet.payer.address.lower()
    if moment == "while the site works":
        scene.origin.before[wallet.mark] = pause
    if moment == "while it is settled":
        scene.facilitator.scripts[account] = scene.facilitator.script_of(before_settle=pause)
    connection = Connection(door, patience=SECONDS, buffer_bytes=BUFFER_BYTES)
    await connection.__aenter__()
    try:
        await connection.send(wallet.written(Presentation(value, way=way), door))
        if moment.startswith("while"):
            waiting = asyncio.create_task(reached.wait())
            reading = asyncio.create_task(connection.read(answered(1)))
            await asyncio.wait([waiting, reading], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            reading.cancel()
            await asyncio.gather(waiting, reading, return_exceptions=True)
        elif moment != "at once":
            await connection.read(partial(_enough, moment))
    finally:
        await _leave(connection, resets)
        left.set()
        if scene.origin:
            scene.origin.before.pop(wallet.mark, None)
        if scene.facilitator:
            scene.facilitator.scripts.pop(account, None)
    exchange = connection.exchange
    answers = exchange.answers()
    if answers and answers[0].complete:
        wallet.exchanges.append(exchange)
        return None if answers[0].status == BUSY else False
    return bool(answers) and len(answers[0].body) >= _length(answers[0]) // 2 and scene.secret.found([exchange]) is not None


def _enough(moment: str, exchange: Exchange) -> bool:
    answers = exchange.answers()
    if not answers:
        return False
    answer = answers[0]
    match moment:
        case "behind the first byte":
            return bool(answer.body)
        case "in the middle":
            return answer.complete or len(answer.body) >= _length(answer) // 2
        case "before the last byte":
            return answer.complete or len(answer.body) >= _length(answer) - 1
    return answer.complete


def _length(answer: Message) -> int:
    length = answer.header("content-length") or b"0"
    return int(length) if length.isdigit() else 0


async def _leave(connection: Connection, resets: bool) -> None:
    raw = connection.raw
    if resets and raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await connection.__aexit__()


ATTACK = Attack("broken-off", 2, "deliveries that are broken off, to get another", tries, origins=frozenset({"market"}))
