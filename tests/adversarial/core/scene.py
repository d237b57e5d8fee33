"""What a try has to work with: the target, what gives its content away, who can pay, and who can tell what happened."""

import base64
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from core import http1, http2, pay
from core.attack import Need, Outcome, Try, held, leak, refused_though_paid
from core.http1 import Headers, Message
from core.secret import Secret
from core.target import Target, Way, upgrade_headers
from core.wire import Connection, Door, Exchange, answered

TRY_HEADER = b"X-Try"
"""Names the try in every request, so that whoever sees one can tell where it came from."""
PAYMENT = b"PAYMENT-SIGNATURE"
NO_MARK = b"try-000000-00000000"
"""Stands where a mark is put later."""
PATIENCE_SECONDS = 4.0
PAID_SECONDS = 20.0
"""Whoever has paid waits longer."""


class OriginLog(Protocol):
    """What an origin of the suite's own remembers, by the name that a try gave its requests."""

    def worked(self, mark: bytes) -> int:
        """How often the priced page was served, in full or in part, to requests with this mark."""

    before: dict[bytes, Callable[[], Awaitable[None]]]
    """What happens before the priced page is served to requests with a mark."""

    def seen(self, mark: bytes) -> list[tuple[bytes, bytes, Headers]]:
        """Method, target and headers of requests with this mark, as they arrived."""


class Books(Protocol):
    """What a facilitator of the suite's own remembers."""

    def settled(self, payer: str, terms: pay.Json) -> int:
        """How often a payer's money has moved as the terms say."""

    def charged(self, payer: str) -> int:
        """How often a payer's money has moved at all."""

    def verified(self, payer: str) -> int:
        """Times a payment of a payer was asked about."""


class Inside(Protocol):
    """What can be seen of a server of the kit's own, from its machine."""

    def memory(self) -> int:
        """Bytes of memory it has."""

    def log(self) -> bytes:
        """Its log so far."""

    async def metrics(self) -> bytes | None:
        """The page of its metrics, if it has one."""

    async def exported(self) -> dict[str, bytes]:
        """What its commands print of its books, by command."""


@dataclass
class Scene:
    target: Target
    secret: Secret
    random: random.Random
    scale: float = 1.0
    """How many tries, as a multiple of the usual number."""
    payer: pay.Payer | None = None
    offer: pay.Offer | None = None
    """The offer for the priced page."""
    upfront_offer: pay.Offer | None = None
    """That for the page that is settled before the site is asked."""
    funded: bool = False
    """Whether a payment has worked."""
    any_payer: bool = False
    """Whether accounts made up on the spot can pay too."""
    origin: OriginLog | None = None
    books: Books | None = None
    facilitator: object | None = None
    """The kit's scripted facilitator (`kit.facilitator.Facilitator`), where the target uses it."""
    chain: bool = False
    """Whether money is on a chain that the server can ask, too."""
    restart: Callable[[bool], Awaitable[None]] | None = None
    """Ends the server, at once or in good order, and starts it again."""
    reload: Callable[[bool], None] | None = None
    """Has the server read its configuration again while it runs: the same in other words, or one that is wrong."""
    inside: Inside | None = None
    notes: list[str] = field(default_factory=list)
    _marks: int = 0

    def has(self, need: Need) -> bool:
        target = self.target
        return {
            Need.PAYMENT: self.funded,
            Need.ORIGIN: self.origin is not None,
            Need.FACILITATOR: self.facilitator is not None,
            Need.INSIDE: self.inside is not None,
            Need.SECRET: bool(self.secret),
            Need.FREE: target.free_path is not None,
            Need.HTTP2: target.h2 is not None,
            Need.H2C: target.h2c is not None,
            Need.PLAIN: target.plain is not None,
            Need.TLS: target.tls is not None,
            Need.REPLICAS: len(target.replicas) > 1,
            Need.RESTART: self.restart is not None,
            Need.RELOAD: self.reload is not None,
            Need.OTHER_PAGE: bool(target.other_paths),
            Need.UPFRONT: target.upfront_path is not None,
        }[need]

    def mark(self) -> bytes:
        """A name for the requests of one try; all have the length of `NO_MARK`."""
        self._marks += 1
        return b"try-%06d-%s" % (self._marks, self.random.randbytes(4).hex().encode())

    def sampled(self, items: list, usual: int) -> list:
        """So many of the items as are usual, by scale; in their order."""
        count = min(len(items), max(1, round(usual * self.scale)))
        return [items[at] for at in sorted(self.random.sample(range(len(items)), count))]

    def unpaid(self, name: str, way: Way, path: bytes, **ask: object) -> Try:
        """A try: one request without a payment. The arguments are those of `ask`."""
        mark = self.mark()
        return Try(name, partial(self._unpaid, mark, way, path, ask), (Need.SECRET, *self.target.needs(way)))

    def raw(self, name: str, data: bytes, *methods: bytes, answers: int = 1, door: Door | None = None) -> Try:
        """A try: these very bytes on a connection of HTTP/1. `{mark}` in them becomes the try's mark."""
        mark = self.mark()
        run = partial(self._raw, mark, door or self.target.door(Way.HTTP11), data, methods, answers)
        return Try(name, run, (Need.SECRET,))

    async def _unpaid(self, mark: bytes, way: Way, path: bytes, ask: dict) -> Outcome:
        return self.judge([await self.ask(way, path, mark=mark, **ask)], mark)

    async def _raw(self, mark: bytes, door: Door, data: bytes, methods: tuple[bytes, ...], answers: int) -> Outcome:
        async with Connection(door, patience=PATIENCE_SECONDS) as connection:
            await connection.send(data.replace(b"{mark}", mark), *methods)
            exchange = await connection.read(answered(answers))
        return self.judge([exchange], mark)

    def judge(self, exchanges: list[Exchange], mark: bytes) -> Outcome:
        """What is to be said of requests for which nobody has paid."""
        sign = self.secret.found(exchanges)
        if sign:
            return leak(f"without a payment, {sign}", exchanges)
        if self.origin and (times := self.origin.worked(mark)):
            return leak(f"without a payment, the origin was asked for the priced page ({times} times)", exchanges)
        return held(exchanges)

    def judge_paid(self, exchanges: list[Exchange], mark: bytes, payer: pay.Payer, *, good: bool = True) -> Outcome:
        """What is to be said of requests with payments of one payer, who has no others.

        Nothing may come back that was not settled for, and what was settled must come back. Where nobody can tell what was
        settled, the server's receipts are believed, except for payments that are not `good`: these buy nothing anywhere.
        """
        assert self.offer
        delivered = sum(self.secret.found([_alone(answer)]) is not None for answer in _all_answers(exchanges))
        sign = self.secret.found(exchanges)
        if self.books:
            settled, charged = self.books.settled(payer.address, self.offer.terms), self.books.charged(payer.address)
        else:
            settled = charged = sum(_has_receipt(answer) for answer in _all_answers(exchanges)) if good else 0
        if sign and max(delivered, 1) > settled:
            return leak(f"delivered {max(delivered, 1)} times, settled {settled} times: {sign}", exchanges)
        if self.origin and self.origin.worked(mark) and not (self.books and self.books.verified(payer.address)):
            return leak("the origin was asked for the priced page before the payment was looked at", exchanges)
        if charged > delivered:
            return refused_though_paid(f"charged {charged} times, delivered {delivered} times", exchanges)
        return held(exchanges)

    async def ask(
        self,
        way: Way,
        path: bytes,
        *,
        method: bytes = b"GET",
        headers: Headers | None = None,
        body: bytes | None = None,
        host: bytes | None = None,
        mark: bytes = b"",
        patience: float = PATIENCE_SECONDS,
        door: Door | None = None,
    ) -> Exchange:
        """Asks for a path and reads the answer to its end, on a connection of its own."""
        door = door or self.target.door(way)
        if door is None:
            raise ValueError(f"no address for {way}")
        data = self.written(way, door, path, method, headers or [], body, host, mark)
        async with Connection(door, alpn="h2" if way is Way.H2 else "http/1.1", patience=patience) as connection:
            await connection.send(data, method)
            return await connection.read(answered(1))

    def written(
        self, way: Way, door: Door, path: bytes, method: bytes = b"GET", headers: Headers | None = None,
        body: bytes | None = None, host: bytes | None = None, mark: bytes = b"",
    ) -> bytes:  # fmt: skip
        """The bytes of one request on a connection of its own."""
        host = self.target.host if host is None else host
        fields = [(TRY_HEADER, mark)] if mark else []
        fields += headers or []
        if way in (Way.H2, Way.H2C):
            lower = [(name.lower(), value) for name, value in fields]
            scheme = b"https" if door.tls else b"http"
            return http2.start() + http2.request(method, path, host, scheme, lower, body)
        return self.head(way, path, method, [(b"Host", host), *fields], body)

    @staticmethod
    def head(way: Way, path: bytes, method: bytes, fields: Headers, body: bytes | None) -> bytes:
        """A request of HTTP/1 for one of its ways."""
        fields = list(fields)
        if way is Way.UPGRADE:
            fields += upgrade_headers()
        elif not any(name.lower() == b"connection" for name, _ in fields):
            fields.append((b"Connection", b"close"))
        if body is not None:
            fields.append((b"Content-Length", b"%d" % len(body)))
        version = b"HTTP/1.0" if way is Way.HTTP10 else b"HTTP/1.1"
        data = http1.request(method, path, fields, body or b"", version)
        # A server that switches answers on stream 1 and waits for the client's preface (RFC 7540 §3.2).
        return data + http2.start() if way is Way.UPGRADE else data

    def new_payer(self) -> pay.Payer:
        """An account for one try: one made up, where such accounts can pay; else the one with funds."""
        assert self.payer
        return pay.Payer.made_up(self.random) if self.any_payer else self.payer

    async def buy(self, payment: pay.Json | None = None, *, way: Way = Way.HTTP11, **ask: object) -> Exchange:
        """Asks for the priced page with a payment; without one given, with a new one of the payer."""
        assert self.payer and self.offer
        if payment is None:
            payment = self.payer.payment(self.offer, self.random)
        return await self.ask(way, self.target.path, headers=[(PAYMENT, pay.encode(payment))], **ask)


def _all_answers(exchanges: list[Exchange]) -> list[Message]:
    return [answer for exchange in exchanges for answer in exchange.answers()]


def _alone(answer: Message) -> Exchange:
    """An exchange with nothing but an answer's body."""
    return Exchange(received=answer.body)


def _has_receipt(answer: Message) -> bool:
    """Whether an answer says that a payment was settled."""
    for name in ("payment-response", "x-payment-response"):
        try:
            if json.loads(base64.b64decode(answer.header(name) or b"")).get("success") is True:
                return True
        except (ValueError, AttributeError):
            continue
    return False
