"""An origin that says of its priced page all that HTTP lets a site say: before the answer, behind it, and instead of it."""

import asyncio
import gzip
import re
from email.utils import parsedate_to_datetime

from core.http1 import Headers
from kit.framing import Request
from kit.origin import Kind, Origin
from kit.pages import Pages

WORK_SECONDS = 0.01
KIND = Kind("talkative", "interim answers, phrases, trailers, conditions, ranges, compression; takes OPTIONS for GET")


class Talkative(Origin):
    """A running origin of this kind."""

    def __init__(self, pages: Pages):
        super().__init__(KIND, pages)
        self._packed = gzip.compress(pages.priced, mtime=0)

    async def send(self, answer: bytes, writer: asyncio.StreamWriter) -> None:
        """Interim answers at once, the answer when the site has worked for it, as is their point."""
        while re.match(rb"HTTP/1\.1 1\d\d ", answer):
            interim, end, answer = answer.partition(b"\r\n\r\n")
            await super().send(interim + end, writer)
            await asyncio.sleep(WORK_SECONDS)
        await super().send(answer, writer)

    def _priced(self, request: Request, head_only: bool) -> bytes:
        token = self.pages.token.encode()
        fields = self.pages.headers() + [
            (b"Vary", b"Accept-Encoding"),
            (b"Content-Digest", b"sha-256=:%s:" % token),
            (b"Link", b"</%s.css>; rel=preload" % token),
            (b"Server-Timing", b"db;desc=%s" % token),
            (b"Cache-Control", b"max-age=60"),
            (b"Allow", b"GET, HEAD, OPTIONS"),
        ]
        interim = b"" if request.version != b"HTTP/1.1" else b"".join(self._interim(status) for status in (100, 102, 103))
        status, more, body = self._selected(request)
        return interim + _written(status, fields + more, body, token, head_only)

    def _interim(self, status: int) -> bytes:
        token = self.pages.token.encode()
        fields = b"Link: </%s.css>; rel=preload\r\nX-Summary: %s\r\n" % (token, token)
        return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, token, fields)

    def _selected(self, request: Request) -> tuple[int, Headers, bytes]:
        """Status, headers and body after conditions and ranges (RFC 9110 §13.2.2, §14)."""
        whole, more = self.pages.priced, []
        if b"gzip" in b",".join(request.all(b"accept-encoding")):
            whole, more = self._packed, [(b"Content-Encoding", b"gzip")]
        if not self._holds(request):
            return 412, [], b"not so\n"
        if self._is_unchanged(request):
            return 304, more, b""
        part = re.fullmatch(rb"bytes=(\d*)-(\d*)", (request.all(b"range") or [b""])[0])
        if part is None or not self._range_applies(request):
            return 200, more, whole
        first, last = part[1], part[2]
        begin = int(first) if first else max(0, len(whole) - int(last or 0))
        end = min(int(last), len(whole) - 1) if first and last else len(whole) - 1
        if begin > end:
            return 416, [(b"Content-Range", b"bytes */%d" % len(whole))], b"no such part\n"
        return 206, [*more, (b"Content-Range", b"bytes %d-%d/%d" % (begin, end, len(whole)))], whole[begin : end + 1]

    def _names_it(self, values: list[bytes]) -> bool:
        return any(b"*" in value or self.pages.token.encode() in value for value in values)

    def _holds(self, request: Request) -> bool:
        if (wanted := request.all(b"if-match")) and not self._names_it(wanted):
            return False
        return not any(_seconds(value) < self.pages.changed - 1 for value in request.all(b"if-unmodified-since"))

    def _is_unchanged(self, request: Request) -> bool:
        if names := request.all(b"if-none-match"):
            return self._names_it(names)
        return any(_seconds(value) >= self.pages.changed - 1 for value in request.all(b"if-modified-since"))

    def _range_applies(self, request: Request) -> bool:
        conditions = request.all(b"if-range")
        return not conditions or self._names_it(conditions)


def _seconds(date: bytes) -> float:
    try:
        return parsedate_to_datetime(date.decode()).timestamp()
    except (ValueError, TypeError):
        return 0.0


def _written(status: int, fields: Headers, body: bytes, token: bytes, head_only: bool) -> bytes:
    """An answer; a whole one in chunks, with trailers behind it."""
    lines = [b"HTTP/1.1 %d %s" % (status, token)] + [name + b": " + value for name, value in fields]
    if status == 304:
        return b"\r\n".join(lines) + b"\r\n\r\n"
    if status != 200 or head_only:
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)
    # Not announced: there are servers that an announced trailer makes fall over, and that is another matter.
    lines.append(b"Transfer-Encoding: chunked")
    chunk = b"%x\r\n%s\r\n0\r\nX-Checksum: %s\r\n\r\n" % (len(body), body, token)
    return b"\r\n".join(lines) + b"\r\n\r\n" + chunk
