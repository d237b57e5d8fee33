"""How origins find out where a request ends. Strict ones refuse what is doubtful; the others have a habit each."""

import asyncio
import re
from dataclasses import dataclass, field

from core.http1 import Headers

HEAD_BYTES_MAX = 1 << 18


class Malformed(Exception):
    """The request cannot be read; answered 400, and the connection ends."""


@dataclass(frozen=True)
class Framing:
    """Habits of reading."""

    bare_line_feeds: bool = False
    """A line feed alone ends a line."""
    loose_fields: bool = False
    """Folded lines and white space before a colon are taken for headers."""
    prefers_length: bool = False
    """Content-Length counts, whatever Transfer-Encoding says."""
    any_chunked: bool = False
    """Whatever has `chunked` in it is Transfer-Encoding: chunked; and of two lengths the last counts."""
    no_bodies: bool = False
    """Requests have no body: what follows a head is the next request."""
    loose_chunks: bool = False
    """Chunk sizes in any notation, extensions with anything in them, line feeds alone."""
    merges_trailers: bool = False
    """Trailer fields are treated as headers."""


@dataclass
class Request:
    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    body: bytes = b""
    raw: bytes = b""
    trailers: Headers = field(default_factory=list)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]


class RequestReader:
    """Reads requests of a connection, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, framing: Framing):
        self.reader, self.framing = reader, framing
        self.ahead = b""

    async def next(self) -> Request | None:
        """The next request; `None` at the end of the connection."""
        head = await self._head()
        if head is None:
            return None
        request = parse_head(head, self.framing)
        await self._read_body(request)
        if self.framing.merges_trailers:
            request.headers += request.trailers
        return request

    async def _more(self) -> bool:
        data = await self.reader.read(65536)
        self.ahead += data
        return bool(data)

    async def _head(self) -> bytes | None:
        while True:
            self.ahead = self.ahead.lstrip(b"\r\n")
            ends = [b"\r\n\r\n", b"\n\n", b"\n\r\n"] if self.framing.bare_line_feeds else [b"\r\n\r\n"]
            found = [(at, len(end)) for end in ends if (at := self.ahead.find(end)) >= 0]
            if found:
                at, length = min(found)
                head, self.ahead = self.ahead[:at], self.ahead[at + length :]
                return head
            if len(self.ahead) > HEAD_BYTES_MAX:
                raise Malformed("the head is too large")
            if not await self._more():
                return None

    async def _exactly(self, count: int) -> bytes:
        while len(self.ahead) < count:
            if not await self._more():
                raise Malformed("the body ends early")
        data, self.ahead = self.ahead[:count], self.ahead[count:]
        return data

    async def _line(self) -> bytes:
        end = b"\n" if self.framing.loose_chunks else b"\r\n"
        while end not in self.ahead:
            if len(self.ahead) > HEAD_BYTES_MAX or not await self._more():
                raise Malformed("a line has no end")
        line, _, self.ahead = self.ahead.partition(end)
        return line.rstrip(b"\r") if self.framing.loose_chunks else line

    async def _read_body(self, request: Request) -> None:
        if self.framing.no_bodies:
            return
        lengths, codings = request.all(b"content-length"), request.all(b"transfer-encoding")
        chunked = bool(codings) and (codings == [b"chunked"] or self.framing.any_chunked)
        if self.framing.any_chunked:
            chunked = any(b"chunked" in coding.lower() for coding in codings)
        elif codings and codings[-1].lower() != b"chunked":
            raise Malformed("a Transfer-Encoding that is not known")
        elif codings:
            chunked = True
        if chunked and not (self.framing.prefers_length and lengths):
            await self._read_chunks(request)
        elif lengths:
            request.body = await self._exactly(_length(lengths, self.framing))

    async def _read_chunks(self, request: Request) -> None:
        while size := _chunk_size(await self._line(), self.framing):
            request.body += await self._exactly(size)
            await self._line()
        while line := await self._line():
            name, _, value = line.partition(b":")
            request.trailers.append((name.strip(), value.strip()))


def _length(values: list[bytes], framing: Framing) -> int:
    value = values[-1] if framing.any_chunked else values[0]
    if len(set(values)) > 1 and not (framing.any_chunked or framing.prefers_length):
        raise Malformed("two lengths")
    digits = re.match(rb"\+?(\d+)", value) if framing.loose_chunks else re.fullmatch(rb"(\d+)", value)
    if digits is None:
        raise Malformed("a length that is no number")
    return int(digits[1])


def _chunk_size(line: bytes, framing: Framing) -> int:
    pattern = rb"\s*(?:0x|\+)?([0-9a-fA-F]+)" if framing.loose_chunks else rb"([0-9a-fA-F]+)[ \t]*(?:;[^\r\n]*)?$"
    digits = re.match(pattern, line)
    if digits is None:
        raise Malformed("a chunk without a size")
    return int(digits[1], 16)


def parse_head(head: bytes, framing: Framing) -> Request:
    lines = re.split(rb"\r?\n", head) if framing.bare_line_feeds else head.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) < 3 or not words[-1].startswith(b"HTTP/"):
        raise Malformed("no request line")
    fields: Headers = []
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t") and framing.loose_fields and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + b" " + line.strip())
            continue
        name, colon, value = line.partition(b":")
        if not colon or (name != name.strip() and not framing.loose_fields):
            raise Malformed("a line that is no header")
        fields.append((name.strip(), value.strip(b" \t\r\x0b\x0c") if framing.any_chunked else value.strip(b" \t")))
    return Request(words[0], b" ".join(words[1:-1]), words[-1], fields, raw=head)
