"""What is told of a page to those who are not charged.

An answer that is no success costs nothing, and the payment can be used again. Who asks `If-None-Match: *`, or for a range
behind the end, gets such an answer on purpose: with the page's validator, its length, or just a yes or no that is free as
often as it is asked. And a CORS preflight passes unpaid: its status must not depend on what the page is like.
"""

from collections.abc import Iterator
from functools import partial

from attacks.early_leaks import CONDITIONS, FAR_OFF, LONG_AGO, PREFLIGHT
from core import pay
from core.attack import Attack, Need, Outcome, Try, held, leak
from core.http1 import Headers
from core.scene import Scene
from core.target import Way

WAYS = [Way.HTTP11, Way.H2, Way.H2C]
QUESTIONS: list[tuple[str, Headers, Headers]] = [
    ("whether there is a page", [(b"If-None-Match", b"*")], [(b"If-None-Match", b'"x"')]),
    ("which version it is", [(b"If-Match", b"*")], [(b"If-Match", b'"x"')]),
    ("when it was changed", [(b"If-Modified-Since", FAR_OFF)], [(b"If-Modified-Since", LONG_AGO)]),
    ("since when it is as it is", [(b"If-Unmodified-Since", FAR_OFF)], [(b"If-Unmodified-Since", LONG_AGO)]),
    ("how long it is", [(b"Range", b"bytes=0-")], [(b"Range", b"bytes=999999999-")]),
]
"""What can be asked of a page: two requests whose answers differ by what the page is like."""


def tries(scene: Scene) -> Iterator[Try]:
    methods = [b"GET", b"HEAD", b"POST"]
    for way in WAYS:
        for method in methods:
            for headers in CONDITIONS:
                run = partial(_uncharged, scene, _payers(scene, 1), scene.mark(), way, method, headers)
                needs = (Need.SECRET, Need.PAYMENT, Need.FACILITATOR, *scene.target.needs(way))
                yield Try(f"{way.value}: {method.decode()} {headers}, with a payment", run, needs)
        for about, one, other in QUESTIONS:
            run = partial(_preflights, scene, scene.mark(), way, about, one, other)
            yield Try(f"{way.value}: {about}, by preflights", run, (*scene.target.needs(way),))
        for about, one, other in QUESTIONS[:-1]:
            for method in methods[:2]:
                run = partial(_asked_free, scene, _payers(scene, 2), scene.mark(), way, method, about, one, other)
                needs = (Need.PAYMENT, Need.FACILITATOR, *scene.target.needs(way))
                yield Try(f"{way.value}: {about}, by {method.decode()} with payments", run, needs)


def _payers(scene: Scene, count: int) -> list[pay.Payer]:
    return [pay.Payer.made_up(scene.random) for _ in range(count)]


def _paying(scene: Scene, payer: pay.Payer) -> Headers:
    return [(b"PAYMENT-SIGNATURE", pay.encode(payer.payment(scene.offer, scene.random)))]


async def _uncharged(scene: Scene, payers: list[pay.Payer], mark: bytes, way: Way, method: bytes, headers: Headers) -> Outcome:
    """A payment that is not settled buys no part of the page."""
    fields = _paying(scene, payers[0]) + headers
    exchange = await scene.ask(way, scene.target.path, method=method, headers=fields, mark=mark)
    sign = scene.secret.found([exchange])
    if sign and not scene.books.charged(payers[0].address):
        return leak(f"nothing was charged, and {sign}", [exchange])
    return held([exchange])


async def _preflights(scene: Scene, mark: bytes, way: Way, about: str, one: Headers, other: Headers) -> Outcome:
    exchanges = [
        await scene.ask(way, scene.target.path, method=b"OPTIONS", headers=PREFLIGHT + headers, mark=mark)
        for headers in (one, other)
    ]
    statuses = [exchange.status() for exchange in exchanges]
    if statuses[0] != statuses[1]:
        return leak(f"preflights tell {about}: {statuses[0]} or {statuses[1]}", exchanges)
    return held(exchanges)


async def _asked_free(
    scene: Scene, payers: list[pay.Payer], mark: bytes, way: Way, method: bytes, about: str, one: Headers, other: Headers
) -> Outcome:
    """Of two answers that differ, neither may be free: the free one would tell what the other one is, too."""
    exchanges, charged = [], []
    for payer, headers in zip(payers, (one, other), strict=True):
        fields = _paying(scene, payer) + headers
        exchanges.append(await scene.ask(way, scene.target.path, method=method, headers=fields, mark=mark))
        charged.append(scene.books.charged(payer.address))
    statuses = [exchange.status() for exchange in exchanges]
    if statuses[0] != statuses[1] and not all(charged):
        return leak(f"{about} is told without a charge: {statuses[0]} or {statuses[1]}", exchanges)
    return held(exchanges)


ATTACK = Attack("uncharged-answers", 7, "questions about a page that cost nothing", tries, origins=frozenset({"leaks"}))
