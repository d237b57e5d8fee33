"""One payment, presented many times at the same moment.

Whoever checks a payment before it is settled, and settles it after the site has worked, finds it good as often as it comes
in between. What is delivered then depends on the facilitator: a strict one settles once, one that repeats its answers
says yes to everybody. On connections of their own, as streams of one connection, behind each other on one, and mixed.
"""

from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.habits import HABITS, Habit
from core.payments import SIGNATURE, V1, Presentation, Wallet
from core.scene import Scene
from core.target import Way

TIMES = 24
ROUNDS = 3


def tries(scene: Scene) -> Iterator[Try]:
    for habit in HABITS:
        for number in scene.sampled(list(range(ROUNDS)), ROUNDS):
            for way in (Way.HTTP11, Way.TLS11, Way.HTTP10, Way.H2, Way.H2C):
                name = f"{TIMES} connections of {way.value}, {habit.value}, {number}"
                run = partial(_on_connections, Wallet(scene), habit, [way])
                yield Try(name, run, (Need.PAYMENT, *habit.needs, *scene.target.needs(way)))
            for way in (Way.HTTP11, Way.H2, Way.H2C):
                name = f"{TIMES} times on one connection of {way.value}, {habit.value}, {number}"
                run = partial(_on_one, Wallet(scene), habit, way)
                yield Try(name, run, (Need.PAYMENT, *habit.needs, *scene.target.needs(way)))
            run = partial(_on_connections, Wallet(scene), habit, [Way.HTTP11, Way.H2C, Way.H2, Way.TLS11])
            name = f"{TIMES} connections of all kinds, {habit.value}, {number}"
            yield Try(name, run, (Need.PAYMENT, *habit.needs, Need.H2C, Need.HTTP2, Need.TLS))


async def _on_connections(wallet: Wallet, habit: Habit, ways: list[Way]) -> Outcome:
    habit.of(wallet)
    values = both_generations(wallet)
    await wallet.all_at_once([
        Presentation(*values[number % len(values)], way=ways[number % len(ways)]) for number in range(TIMES)
    ])  # fmt: skip
    return await wallet.verdict()


async def _on_one(wallet: Wallet, habit: Habit, way: Way) -> Outcome:
    habit.of(wallet)
    values = both_generations(wallet)
    await wallet.on_one_connection([Presentation(*values[n % len(values)]) for n in range(TIMES)], way)
    return await wallet.verdict()


def both_generations(wallet: Wallet) -> list[tuple[bytes, bytes]]:
    """One payment as headers: of the second generation and, where the server offers that, of the first."""
    payment = wallet.pay()
    found = [(pay.encode(payment), SIGNATURE)]
    first = pay.first_generation(wallet.scene.offer, payment)
    return found + ([(pay.encode(first), V1)] if first else [])


ATTACK = Attack("replay-at-once", 2, "one payment, many times at once", tries, origins=frozenset({"market"}))
