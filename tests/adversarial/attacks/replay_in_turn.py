"""One payment presented again and again, each time a little differently.

Sequences drawn by chance: other versions of HTTP, methods, headers, generations of the protocol, pages, hosts. What a
server ties a payment to, and what it forgets to, shows in which of them gets a second answer out of it.
"""

from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.habits import HABITS, Habit
from core.payments import SIGNATURE, V1, Presentation, Wallet
from core.scene import Scene
from core.target import Way

SEQUENCES, LENGTH = 120, 6
METHODS = [b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"get", b"PROPFIND"]
HEADERS = [
    (), (), ((b"Range", b"bytes=0-99"),), ((b"Range", b"bytes=100-"),), ((b"If-None-Match", b'"x"'),),
    ((b"Accept", b"text/html"), (b"User-Agent", b"Mozilla/5.0")), ((b"Expect", b"100-continue"),), ((b"TE", b"trailers"),),
    ((b"Cookie", b"reader=1"),), ((b"Accept-Encoding", b"gzip"),), ((b"Cache-Control", b"no-cache"),),
    ((b"Idempotency-Key", b"one"),), ((b"X-Forwarded-For", b"10.1.2.3"),), ((b"Authorization", b"Bearer x"),),
]  # fmt: skip


def tries(scene: Scene) -> Iterator[Try]:
    target = scene.target
    ways = [way for way in (Way.HTTP11, Way.HTTP10, Way.TLS11, Way.H2, Way.H2C) if target.door(way)]
    for number in scene.sampled(list(range(SEQUENCES)), SEQUENCES):
        wallet, habit = Wallet(scene), HABITS[number % len(HABITS)]
        steps = [_step(wallet, ways) for _ in range(LENGTH)]
        run = partial(_present, wallet, habit, steps)
        yield Try(f"sequence {number}, {habit.value}", run, (Need.PAYMENT, *habit.needs))


def _step(wallet: Wallet, ways: list[Way]) -> dict:
    chance, target = wallet.scene.random, wallet.scene.target
    step = {
        "way": chance.choice(ways), "method": chance.choice(METHODS), "headers": chance.choice(HEADERS),
        "path": chance.choice([target.path] * 3 + target.other_paths), "header": chance.choice([SIGNATURE] * 3 + [V1]),
    }  # fmt: skip
    if step["method"] in (b"POST", b"PUT", b"PATCH"):
        step["body"] = b"x=1"
    return step


async def _present(wallet: Wallet, habit: Habit, steps: list[dict]) -> Outcome:
    habit.of(wallet)
    payment = wallet.pay()
    first = pay.first_generation(wallet.scene.offer, payment) or payment
    for step in steps:
        value = pay.encode(first if step["header"] == V1 else payment)
        await wallet.all_at_once([Presentation(value, **step)])
    return await wallet.verdict()


ATTACK = Attack("replay-in-turn", 2, "one payment, again and again", tries, origins=frozenset({"market"}))
