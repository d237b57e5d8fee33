"""What gets out before the money has moved, or although it never does.

A page is more than its body: interim answers with hints, validators, lengths, cookies, trailers, the status of a condition,
and that the site was asked at all. Each way of asking is tried without a payment and with payments that come to nothing at
every step: unreadable, refused when verified, refused when settled, settled with no answer.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try, held, inapplicable, leak
from core.http1 import Headers
from core.scene import Scene
from core.target import Way

LONG_AGO, FAR_OFF = b"Thu, 01 Jan 1970 00:00:01 GMT", b"Tue, 19 Jan 2038 03:14:07 GMT"
PREFLIGHT: Headers = [(b"Origin", b"https://app.example"), (b"Access-Control-Request-Method", b"GET")]
CONDITIONS: list[Headers] = [
    [(b"If-None-Match", b"*")],
    [(b"If-None-Match", b'"x", W/"y"')],
    [(b"If-Match", b"*")],
    [(b"If-Match", b'"x"')],
    [(b"If-Modified-Since", LONG_AGO)],
    [(b"If-Modified-Since", FAR_OFF)],
    [(b"If-Unmodified-Since", LONG_AGO)],
    [(b"If-Unmodified-Since", FAR_OFF)],
    [(b"Range", b"bytes=0-0")],
    [(b"Range", b"bytes=0-")],
    [(b"Range", b"bytes=-1")],
    [(b"Range", b"bytes=999999999-")],
    [(b"Range", b"bytes=0-0,2-2")],
    [(b"Range", b"lines=1-2")],
    [(b"Range", b"bytes=0-0"), (b"If-Range", b'"x"')],
    [(b"Range", b"bytes=1-"), (b"If-Range", FAR_OFF)],
]
MANNERS: list[Headers] = [
    [],
    [(b"Expect", b"100-continue")],
    [(b"TE", b"trailers")],
    [(b"Accept-Encoding", b"gzip")],
    [(b"Accept-Encoding", b"br")],
    [(b"Accept", b"text/html"), (b"User-Agent", b"Mozilla/5.0")],
    [(b"Accept", b"text/event-stream")],
    [(b"Prefer", b"return=minimal")],
    [(b"Early-Data", b"1")],
    [(b"Cache-Control", b"only-if-cached")],
    [(b"Cache-Control", b"max-stale")],
    [(b"Purpose", b"prefetch")],
    [(b"Sec-Purpose", b"prefetch")],
    [(b"Want-Repr-Digest", b"sha-256=1")],
    [(b"Authorization", b"Basic eDp4")],
    [(b"Cookie", b"paid=1")],
    [(b"Max-Forwards", b"0")],
    [(b"Depth", b"1")],
    [(b"Service-Worker", b"script")],
    [(b"X-Forwarded-For", b"127.0.0.1")],
    [(b"User-Agent", b"Googlebot/2.1")],
]
METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT", b"QUERY"]
WAYS = [Way.HTTP11, Way.HTTP10, Way.H2, Way.H2C]
Json = dict


def _asks() -> list[tuple[bytes, Headers]]:
    asks = [(method, headers) for method in METHODS for headers in MANNERS[:4] + CONDITIONS]
    asks += [(b"GET", headers) for headers in MANNERS[4:]]
    return asks + [(b"OPTIONS", PREFLIGHT + headers) for headers in MANNERS + CONDITIONS]


def tries(scene: Scene) -> Iterator[Try]:
    asks = _asks()
    for way in WAYS:
        for method, headers in asks:
            name = f"{way.value}, no payment: {method.decode()} {headers}"
            yield scene.unpaid(name, way, scene.target.path, method=method, headers=headers, **_body(headers))
    # By turns, because servers leave a facilitator alone that fails again and again.
    for method, headers in scene.sampled(asks, len(asks)):
        for fate, (verifies, prepare) in FATES.items():
            way = scene.random.choice(WAYS)
            payer, mark = pay.Payer.made_up(scene.random), scene.mark()
            payment = payer.payment(scene.offer, scene.random) if scene.offer else {}
            run = partial(_present, scene, fate, prepare, verifies, payer, payment, mark, way, method, headers)
            needs = (Need.SECRET, Need.PAYMENT, Need.FACILITATOR, *scene.target.needs(way))
            yield Try(f"{way.value}, {fate}: {method.decode()} {headers}", run, needs)


def _body(headers: Headers) -> dict:
    return {"body": b"x"} if any(name == b"Expect" for name, _ in headers) else {}


async def _present(
    scene: Scene,
    fate: str,
    prepare: Callable[[Scene, str], None],
    verifies: bool,
    payer: pay.Payer,
    payment: Json,
    mark: bytes,
    way: Way,
    method: bytes,
    headers: Headers,
) -> Outcome:
    """Presents a payment that comes to nothing, and looks at what is said all the same."""
    first = scene.offer.terms.get("extra", {}).get("paymentFlow") == "upfront"
    if first and prepare in (_REFUSED, _BROKEN):
        return inapplicable("the server settles without a verification before")
    prepare(scene, payer.address.lower())
    fields = [(b"PAYMENT-SIGNATURE", pay.encode(payment)), *headers]
    try:
        exchange = await scene.ask(way, scene.target.path, method=method, headers=fields, mark=mark, **_body(headers))
    finally:
        # Whoever asks again what became of the payment is told the truth.
        scene.facilitator.scripts.pop(payer.address.lower(), None)
    sign = scene.secret.found([exchange])
    if scene.books.charged(payer.address):
        return leak(f"{fate}: it was settled", [exchange])
    if sign:
        return leak(f"{fate}, and {sign}", [exchange])
    if scene.origin and (first or not verifies) and (times := scene.origin.worked(mark)):
        return leak(f"{fate}, and the origin was asked for the priced page ({times} times)", [exchange])
    return held([exchange])


def _script(**changes: Callable[..., Awaitable]) -> Callable[[Scene, str], None]:
    def prepare(scene: Scene, payer: str) -> None:
        script = scene.facilitator.script
        scene.facilitator.scripts[payer] = type(script)(**{name: partial(change, scene) for name, change in changes.items()})

    return prepare


async def _no(_scene: Scene, asked: Json, _answer: object) -> object:
    return 200, {"isValid": False, "invalidReason": "insufficient_funds", "payer": None}


async def _drained(scene: Scene, asked: Json) -> None:
    """The payer moves the money away between the two calls."""
    scene.facilitator.balances[asked["paymentPayload"]["payload"]["authorization"]["from"].lower()] = 0


async def _lost(_scene: Scene, _asked: Json, _answer: object) -> object:
    return None


async def _broken(_scene: Scene, _asked: Json, _answer: object) -> object:
    return 500, {"error": "internal"}


async def _half_said(_scene: Scene, _asked: Json, _answer: object) -> object:
    return 200, {"success": "true", "transaction": "", "network": "eip155:84532"}


def _poor(scene: Scene, payer: str) -> None:
    scene.facilitator.balances[payer] = 0


_REFUSED, _BROKEN = _script(verify=_no), _script(verify=_broken)
FATES: dict[str, tuple[bool, Callable[[Scene, str], None]]] = {
    "the payer has no money": (False, _poor),
    "verification is broken": (False, _BROKEN),
    "verification says no": (False, _REFUSED),
    "settlement gives no answer": (True, _script(before_settle=_drained, settle=_lost)),
    "the money is gone at settlement": (True, _script(before_settle=_drained)),
    "settlement is broken": (True, _script(before_settle=_drained, settle=_broken)),
    "settlement succeeds in words that mean nothing": (True, _script(before_settle=_drained, settle=_half_said)),
}
"""Payments that come to nothing: whether they verify, and what makes them so."""

ATTACK = Attack("early-leaks", 7, "content before, or without, settlement", tries, origins=frozenset({"leaks"}))
