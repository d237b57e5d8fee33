"""A shared cache beside the server.

In front of it a cache can keep what one buyer paid for and give it to everybody, or keep the answer 402 and give it to those
who pay. Behind it a cache must not change what is asked of whom. The site asks to keep everything, in every way there is.
"""

import asyncio
import dataclasses
from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try, held, inapplicable, leak, refused_though_paid
from core.http1 import Headers
from core.scene import Scene
from core.target import Way
from core.wire import Exchange

HABITS = 15
"""Ways in which the kit's site speaks to caches."""
AT_ONCE = 6
PATIENCE_SECONDS = 12.0
"""Caches have requests wait for each other for some seconds."""
LATER: list[tuple[bytes, Headers]] = [
    (b"GET", []),
    (b"HEAD", []),
    (b"GET", [(b"Range", b"bytes=0-9")]),
    (b"GET", [(b"If-None-Match", b"*")]),
    (b"GET", [(b"If-None-Match", b'"x"')]),
    (b"GET", [(b"Cache-Control", b"max-stale, only-if-cached")]),
    (b"GET", [(b"PAYMENT-SIGNATURE", b"e30=")]),
    (b"GET", [(b"X-PAYMENT", b"e30=")]),
    (b"GET", [(b"Accept-Encoding", b"gzip")]),
    (b"GET", [(b"Accept", b"text/html"), (b"User-Agent", b"Mozilla/5.0")]),
    (b"POST", []),
    (b"OPTIONS", []),
]
"""How it is asked afterwards for what somebody else has bought."""


class Story:
    """Requests for one address of the page that nothing else asks for, so that a cache has not met it."""

    def __init__(self, scene: Scene, habit: int, more: bytes = b""):
        self.scene, self.mark = scene, scene.mark()
        path, _, query = scene.target.path.partition(b"?")
        self.path = path + b"?" + b"&".join(filter(None, [query, b"habit=%d" % habit, more, b"only=" + self.mark]))
        self.payers = [pay.Payer.made_up(scene.random) for _ in range(2)]
        # Without the address in it, a payment fits every address of the same price.
        required = {name: value for name, value in scene.offer.required.items() if name != "resource"} if scene.offer else {}
        offer = dataclasses.replace(scene.offer, required=required) if scene.offer else None
        self.payments = [pay.encode(payer.payment(offer, scene.random)) if offer else b"" for payer in self.payers]
        self.exchanges: list[Exchange] = []

    async def ask(self, method: bytes = b"GET", headers: Headers | None = None, way: Way = Way.HTTP11) -> Exchange:
        exchange = await self.scene.ask(
            way, self.path, method=method, headers=headers, mark=self.mark, patience=PATIENCE_SECONDS
        )
        self.exchanges.append(exchange)
        return exchange

    async def buy(self, which: int = 0, method: bytes = b"GET") -> Exchange:
        return await self.ask(method, [(b"PAYMENT-SIGNATURE", self.payments[which])])

    def is_page(self, exchange: Exchange) -> bool:
        return exchange.status() == 200 and self.scene.secret.found([exchange]) is not None

    def settled(self) -> int:
        return sum(self.scene.books.charged(payer.address) for payer in self.payers) if self.scene.books else 0

    def leaked(self, unpaid: list[Exchange]) -> Outcome | None:
        sign = self.scene.secret.found(unpaid)
        return leak(f"to somebody who has not paid, {sign}", self.exchanges) if sign else None

    def refused(self, exchange: Exchange) -> Outcome:
        return refused_though_paid(f"a payment was answered with {exchange.status()} {exchange.note}", self.exchanges)


def tries(scene: Scene) -> Iterator[Try]:
    needs = (Need.SECRET, Need.PAYMENT)
    for habit in range(HABITS):
        for method, headers in LATER:
            name = f"bought, then {method.decode()} {headers}, habit {habit}"
            yield Try(name, partial(_bought_before, Story(scene, habit), method, headers), needs)
        yield Try(f"402, then bought, habit {habit}", partial(_asked_before, Story(scene, habit)), needs)
        yield Try(f"bought while asked for, habit {habit}", partial(_at_once, Story(scene, habit)), needs)
        books = (*needs, Need.FACILITATOR)
        yield Try(f"bought twice, habit {habit}", partial(_twice, Story(scene, habit)), books)
        yield Try(f"presented again, habit {habit}", partial(_again, Story(scene, habit)), books)
        yield Try(f"failed, then bought, habit {habit}", partial(_failed_before, Story(scene, habit, b"fails=1")), books)


async def _bought_before(story: Story, method: bytes, headers: Headers) -> Outcome:
    bought = await story.buy()
    if not story.is_page(bought):
        return story.refused(bought)
    later = [await story.ask(method, headers) for _ in range(2)]
    return story.leaked(later) or held(story.exchanges)


async def _asked_before(story: Story) -> Outcome:
    unpaid = [await story.ask(), await story.ask(b"HEAD")]
    bought = await story.buy()
    return story.leaked(unpaid) or (held(story.exchanges) if story.is_page(bought) else story.refused(bought))


async def _at_once(story: Story) -> Outcome:
    """Caches have requests for the same address wait for each other's answer."""
    asked = [asyncio.ensure_future(story.ask()) for _ in range(AT_ONCE)]
    buying = asyncio.ensure_future(story.buy())
    asked += [asyncio.ensure_future(story.ask()) for _ in range(AT_ONCE)]
    unpaid, bought = await asyncio.gather(*asked), await buying
    return story.leaked(unpaid) or (held(story.exchanges) if story.is_page(bought) else story.refused(bought))


async def _twice(story: Story) -> Outcome:
    pages = [story.is_page(await story.buy(which)) for which in (0, 1)]
    if sum(pages) > story.settled():
        return leak(f"{sum(pages)} deliveries for {story.settled()} settlements", story.exchanges)
    return held(story.exchanges) if all(pages) else story.refused(story.exchanges[-1])


async def _again(story: Story) -> Outcome:
    first = story.is_page(await story.buy())
    again = [story.is_page(await story.buy()) for _ in range(2)]
    if first + sum(again) > story.settled():
        return leak(f"{first + sum(again)} deliveries for {story.settled()} settlements", story.exchanges)
    return held(story.exchanges) if first else story.refused(story.exchanges[0])


async def _failed_before(story: Story) -> Outcome:
    """The site fails for one buyer, and asks caches to keep that; the next one must get what is paid for."""
    failed, bought = await story.buy(0), await story.buy(1)
    unpaid = await story.ask()
    if bought.status() == failed.status() and story.scene.origin is None and not story.settled():
        return inapplicable("the site's own cache keeps that it failed, and nobody was charged")
    return story.leaked([unpaid]) or (held(story.exchanges) if story.is_page(bought) else story.refused(bought))


ATTACK = Attack("shared-caches", 7, "caches in front and behind", tries, origins=frozenset({"cache"}))
