"""Somebody else uses the authorization first.

A payment is seen on its way, and submitted to the chain by whoever saw it: before the server asks, while the site works, or
as settlement begins. The payer has paid, the payee has the money, and the server's own settlement fails. Where the chain can
be asked the payer is owed one delivery, and nobody two. Or its payer spends the nonce on something else, and is owed nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.payments import Presentation, Wallet
from core.scene import Scene

ROUNDS = 6
MOMENTS = ["before it is presented", "while the site works", "as settlement begins", "just before its transaction"]
REVERTED = {"success": False, "errorReason": "invalid_transaction_state", "transaction": "0x" + "ef" * 32,
            "network": "eip155:84532"}  # fmt: skip
"""What a facilitator says whose transaction failed."""
AFTERWARDS = 3


def tries(scene: Scene) -> Iterator[Try]:
    needs = (Need.PAYMENT, Need.FACILITATOR, Need.ORIGIN)
    for moment in MOMENTS:
        for number in scene.sampled(list(range(ROUNDS)), ROUNDS):
            for at_once in (1, 8):
                run = partial(_submit, Wallet(scene), moment, at_once, False)
                yield Try(f"submitted {moment}, presented {at_once} times, {number}", run, needs)
            run = partial(_submit, Wallet(scene), moment, 1, True)
            yield Try(f"spent otherwise {moment}, {number}", run, needs)


async def _submit(wallet: Wallet, moment: str, at_once: int, otherwise: bool) -> Outcome:
    scene, facilitator = wallet.scene, wallet.scene.facilitator
    await facilitator.fund(wallet.payer, int(scene.offer.terms["amount"]))
    payment = wallet.pay()
    first = asyncio.Lock()
    done: list[bool] = []

    async def use(_: object = None) -> None:
        async with first:
            if not done:
                done.append(True)
                await (facilitator.cancel(wallet.payer, payment) if otherwise else facilitator.submit(payment))

    if moment == MOMENTS[0]:
        await use()
    elif moment == MOMENTS[1]:
        scene.origin.before[wallet.mark] = use
    elif moment == MOMENTS[3]:
        facilitator.scripts[wallet.payer.address.lower()] = _overtaken(scene, use)
    else:
        facilitator.scripts[wallet.payer.address.lower()] = facilitator.script_of(before_settle=use)
    value = pay.encode(payment)
    await wallet.all_at_once([Presentation(value) for _ in range(at_once)])
    # Without a chain nobody can tell this from a payer who spent the nonce on something else.
    outcome = await wallet.verdict(can_know=scene.chain)
    for _ in range(AFTERWARDS):
        await wallet.present(value)
    after = await wallet.verdict(can_know=scene.chain)
    return outcome if outcome.why else after


def _overtaken(scene: Scene, use: Callable[[], Awaitable[None]]) -> object:
    """A facilitator whose own transaction comes second, once."""
    failed: list[bool] = []

    async def settle(_: pay.Json, honest: object) -> object:
        if failed:
            return honest
        failed.append(True)
        return 200, REVERTED

    return scene.facilitator.script_of(before_settle=lambda _: use(), settle=settle)


ATTACK = Attack("used-by-others", 1, "the authorization is used by somebody else first", tries,
                origins=frozenset({"market", "chain"}))  # fmt: skip
