"""What a try does with payments: presents them, counts what was delivered and what was settled, and judges.

One payment buys one delivery. Whoever has received more answers with priced content than payments were settled has found
a leak; whoever has paid and, after asking as often as the server wants, was not served, was refused although paid.
"""

import asyncio
import random
from dataclasses import dataclass, field

from core import http2, pay
from core.attack import Outcome, held, leak, refused_though_paid
from core.http1 import Headers, Message
from core.scene import TRY_HEADER, Scene
from core.secret import Deliveries
from core.target import Way
from core.wire import Connection, Door, Exchange, answered

SIGNATURE, V1 = b"PAYMENT-SIGNATURE", b"X-PAYMENT"
COLLECT_SECONDS = 12.0
"""How long a payer whose money has moved comes back for what was bought."""
COLLECT_PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class Presentation:
    """One request with a payment."""

    value: bytes
    """The payment header's value."""
    header: bytes = SIGNATURE
    way: Way = Way.HTTP11
    path: bytes | None = None
    method: bytes = b"GET"
    host: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    door: Door | None = None


@dataclass
class Wallet:
    """One payer, in one try. Made while tries are named: all of its random choices come from there."""

    scene: Scene
    source: random.Random = field(init=False)
    payer: pay.Payer = field(init=False)
    mark: bytes = field(init=False)
    path: bytes = field(init=False)
    """The page that is paid for, where a presentation does not say another."""
    exchanges: list[Exchange] = field(default_factory=list)
    payments: list[pay.Json] = field(default_factory=list)
    """Different payments; each can be settled once."""
    offer: pay.Offer | None = None
    """What is accepted, where that is not the offer for the priced page."""

    def __post_init__(self) -> None:
        self.source = random.Random(self.scene.random.getrandbits(64))
        made_up = self.scene.any_payer or self.scene.payer is None
        self.payer = pay.Payer.made_up(self.source) if made_up else self.scene.payer
        self.mark = self.scene.mark()
        self.path = self.scene.target.path
        self._settled_before = self._settled()

    def pay(self, **changes: object) -> pay.Json:
        """A new payment for the priced page, good anywhere: it does not say what it is for."""
        offer = self.offer or self.scene.offer
        assert offer
        payment = self.payer.payment(offer, self.source, **changes)
        payment.pop("resource", None)
        self.payments.append(payment)
        return payment

    async def present(self, value: bytes, **how: object) -> Exchange:
        """Presents a payment by a request on a connection of its own, and reads the answer to its end."""
        [exchange] = await self.all_at_once([Presentation(value, **how)])
        return exchange

    async def present_for_settlement(self, value: bytes, **how: object) -> None:
        """Presents a payment until the facilitator was asked to settle it: servers leave one alone that keeps failing."""
        deadline = asyncio.get_running_loop().time() + COLLECT_SECONDS
        while True:
            exchange = await self.present(value, **how)
            asked = self.scene.facilitator.asked_to_settle(self.payer.address)
            if asked or exchange.status() != 503 or asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(COLLECT_PAUSE_SECONDS)

    async def all_at_once(self, presentations: list[Presentation]) -> list[Exchange]:
        """Presents on one connection each: all are open before the first request is written."""
        target = self.scene.target
        opened: list[tuple[Connection, Presentation]] = []
        for one in presentations:
            door = one.door or target.door(one.way)
            assert door
            alpn = "h2" if one.way is Way.H2 else "http/1.1"
            opened.append((Connection(door, alpn=alpn, patience=10), one))
        await asyncio.gather(*(connection.__aenter__() for connection, _ in opened))
        try:
            return await asyncio.gather(*(self._present(connection, one) for connection, one in opened))
        finally:
            await asyncio.gather(*(connection.__aexit__() for connection, _ in opened))

    async def _present(self, connection: Connection, one: Presentation) -> Exchange:
        await connection.send(self.written(one, connection.door), one.method)
        self.exchanges.append(connection.exchange)
        return await connection.read(answered(1))

    def written(self, one: Presentation, door: Door) -> bytes:
        """The bytes of a request."""
        return self.scene.written(one.way, door, one.path or self.path, one.method,
                                  [(one.header, one.value), *one.headers], one.body, one.host, self.mark)  # fmt: skip

    async def on_one_connection(self, presentations: list[Presentation], way: Way) -> Exchange:
        """Presents on one connection, all in one write: as streams of HTTP/2, or one behind the other."""
        target, door = self.scene.target, self.scene.target.door(way)
        assert door
        multiplexed = way in (Way.H2, Way.H2C)
        data = http2.start() if multiplexed else b""
        for number, one in enumerate(presentations):
            host, path = one.host or target.host, one.path or self.path
            fields: Headers = [(TRY_HEADER, self.mark), (one.header, one.value), *one.headers]
            if multiplexed:
                lower = [(name.lower(), value) for name, value in fields]
                scheme = b"https" if door.tls else b"http"
                data += http2.request(one.method, path, host, scheme, lower, one.body, stream=2 * number + 1)
            else:
                last = number == len(presentations) - 1
                fields.append((b"Connection", b"close" if last else b"keep-alive"))
                data += self.scene.head(way, path, one.method, [(b"Host", host), *fields], one.body)
        async with Connection(door, alpn="h2" if way is Way.H2 else "http/1.1", patience=10) as connection:
            self.exchanges.append(connection.exchange)
            await connection.send(data, *(one.method for one in presentations))
            return await connection.read(answered(len(presentations)))

    def deliveries(self) -> Deliveries:
        return sum(map(self.scene.secret.deliveries, self.exchanges), Deliveries())

    def settled(self) -> int:
        """How many payments were settled, or could have been where nobody tells."""
        return self._settled() - self._settled_before if self.scene.books else len(self.payments)

    def _settled(self) -> int:
        scene = self.scene
        return scene.books.settled(self.payer.address, scene.offer.terms) if scene.books and scene.offer else 0

    async def verdict(self, *, can_know: bool = True) -> Outcome:
        """What is to be said when all is presented. `can_know`: whether the server has a way to learn that it was paid."""
        found, settled = self.deliveries(), self.settled()
        owes = can_know and self.scene.books is not None
        if found.all <= settled and owes:
            await self._collect()
            found, settled = self.deliveries(), self.settled()
        outcome = held(self.exchanges)
        if found.all > settled:
            gave = f"{found.by_body} answers with the content and {found.by_headers} with headers of it alone"
            outcome = leak(f"{gave}, for {settled} settlements", self.exchanges)
            outcome.headers_only = found.by_body <= settled
        elif found.served < settled and owes:
            why = f"served {found.served} times for {settled} settlements; at last: {_told(self.exchanges[-1])}"
            outcome = refused_though_paid(why, self.exchanges)
        if self.scene.origin and self.scene.books:
            outcome.unpaid_work = max(0, self.scene.origin.worked(self.mark) - settled)
        return outcome

    async def _collect(self) -> None:
        """Comes back for what was paid and not delivered, as long as the server says that it is worth while."""
        waiting = list(self.payments)
        deadline = asyncio.get_running_loop().time() + COLLECT_SECONDS
        while waiting and self.deliveries().served < self.settled():
            for payment in list(waiting):
                exchange = await self.present(pay.encode(payment))
                if exchange.status() != 503 or asyncio.get_running_loop().time() > deadline:
                    waiting.remove(payment)
            await asyncio.sleep(COLLECT_PAUSE_SECONDS)


def _told(exchange: Exchange) -> str:
    answers: list[Message] = exchange.answers()
    return f"{answers[0].status}" if answers else f"no answer {exchange.note}"
