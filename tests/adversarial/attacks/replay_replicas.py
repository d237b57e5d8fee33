"""One payment at several replicas of a server, and before and after a restart.

What a server remembers in its own memory alone, another replica of it does not know, nor does itself after a restart.
Presented at all replicas at once, at one after the other, and again after they have ended in good order or crashed, also
while the payment was being settled.
"""

import asyncio
from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.habits import HABITS, Habit
from core.payments import Presentation, Wallet
from core.scene import Scene

EACH = 12
ROUNDS = 8
SETTLING_SECONDS = 5.0


def at_replicas(scene: Scene) -> Iterator[Try]:
    for habit in HABITS:
        for number in scene.sampled(list(range(ROUNDS)), ROUNDS):
            needs = (Need.PAYMENT, Need.REPLICAS, *habit.needs)
            yield Try(f"at once, {habit.value}, {number}", partial(_at_once, Wallet(scene), habit), needs)
            yield Try(f"in turn, {habit.value}, {number}", partial(_in_turn, Wallet(scene), habit), needs)


async def _at_once(wallet: Wallet, habit: Habit) -> Outcome:
    habit.of(wallet)
    value = pay.encode(wallet.pay())
    doors = wallet.scene.target.replicas
    await wallet.all_at_once([Presentation(value, door=door) for _ in range(EACH) for door in doors])
    return await wallet.verdict()


async def _in_turn(wallet: Wallet, habit: Habit) -> Outcome:
    habit.of(wallet)
    value = pay.encode(wallet.pay())
    for door in wallet.scene.target.replicas * 2:
        await wallet.present(value, door=door)
    return await wallet.verdict()


def restarted(scene: Scene) -> Iterator[Try]:
    for habit in HABITS:
        for at_once in (False, True):
            how = "crashed" if at_once else "ended"
            needs = (Need.PAYMENT, Need.RESTART, *habit.needs)
            run = partial(_delivered_before, Wallet(scene), habit, at_once)
            yield Try(f"delivered, then {how}, {habit.value}", run, needs)
    for habit in HABITS[1:]:
        run = partial(_settled_before, Wallet(scene), habit)
        yield Try(f"crashed while it was settled, {habit.value}", run, (Need.PAYMENT, Need.RESTART, *habit.needs))


async def _delivered_before(wallet: Wallet, habit: Habit, at_once: bool) -> Outcome:
    habit.of(wallet)
    value = pay.encode(wallet.pay())
    await wallet.present(value)
    await wallet.scene.restart(at_once)
    for door in wallet.scene.target.replicas:
        await wallet.present(value, door=door)
    return await wallet.verdict()


async def _settled_before(wallet: Wallet, habit: Habit) -> Outcome:
    """The money moves, and the server is gone before it is told."""
    habit.of(wallet)
    script = wallet.scene.facilitator.scripts[wallet.payer.address.lower()]
    answer, moved, gone = script.settle, asyncio.Event(), asyncio.Event()

    async def settle(asked: pay.Json, honest: object) -> object:
        if not gone.is_set():
            moved.set()
            await gone.wait()
        return await answer(asked, honest)

    script.settle = settle
    value = pay.encode(wallet.pay())
    presenting = asyncio.create_task(wallet.present(value))
    waiting = asyncio.create_task(moved.wait())
    await asyncio.wait([presenting, waiting], timeout=SETTLING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await wallet.scene.restart(True)
    gone.set()
    await presenting
    for door in wallet.scene.target.replicas:
        await wallet.present(value, door=door)
    return await wallet.verdict()


ATTACK = Attack("replay-replicas", 2, "one payment, at several replicas", at_replicas, origins=frozenset({"market"}))
RESTART = Attack("replay-restart", 2, "one payment, before and after a restart", restarted, origins=frozenset({"market"}),
                 alone=True)  # fmt: skip
