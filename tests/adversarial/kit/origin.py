"""The site behind the server under test: serves the priced page to whoever asks, and remembers who did."""

import asyncio
import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core import http2
from core.http1 import Headers
from kit import habits
from kit.framing import Framing, Malformed, Request, RequestReader
from kit.pages import FREE, HOST, PRICED, Pages

MARK = re.compile(rb"try-\d+-[0-9a-f]{8}")
REQUESTS_MAX = 2000
"""Requests that one connection may bring; more is a loop."""
OVERRIDES = (b"x_original_url", b"x_rewrite_url", b"x_original_uri", b"x_forwarded_uri", b"x_forwarded_path",
             b"x_replaced_path", b"x_envoy_original_path", b"x_request_uri", b"x_matched_path", b"x_invoke_path",
             b"x_http_destinationurl")  # fmt: skip
"""Headers that some servers read the target from, as CGI spells them."""


@dataclass(frozen=True)
class Kind:
    """A kind of origin."""

    name: str
    about: str
    reading: habits.Reading = habits.literal
    fits: frozenset[str] = frozenset({"path"})
    """Which attacks are worth running against it."""
    framing: Framing = Framing()
    obeys_overrides: bool = False
    copies: bool = False
    """Whether `?copies=N` has the priced page said so often."""
    upgrades: bool = False
    """Whether it switches to HTTP/2 without TLS when asked (RFC 7540 §3.2)."""
    by_host: bool = False
    """Whether the priced page is there under one host alone."""
    works_seconds: float = 0.0
    """How long it works on the priced page."""


KINDS = [
    Kind("plain", "takes paths as they stand; obeys headers that name another target", fits=frozenset({"plain"}),
         framing=Framing(merges_trailers=True), obeys_overrides=True),
    Kind("any case", "disregards letter case", habits.any_case),
    Kind("decoding", "decodes before it routes, up to four times", habits.decoding),
    Kind("slashes", "merges slashes and back-slashes, drops trailing dots and spaces", habits.slashes),
    Kind("parameters", "cuts ;parameters off", habits.parameters),
    Kind("scripts", "runs a script whatever follows its name", habits.scripts),
    Kind("URL parser", "reads targets as URLs, as browsers do", habits.url),
    Kind("Unicode", "brings text into a normal form", habits.unicode),
    Kind("everything", "has all habits of paths, in any order", habits.everything),
    Kind("virtual hosts", "has the page under one host alone, and takes the host from wherever it is said",
         fits=frozenset({"host"}), by_host=True),
    Kind("chunks first", "reads loosely, Transfer-Encoding first; switches to h2c; merges trailers into headers",
         fits=frozenset({"framing", "overrides"}), upgrades=True,
         framing=Framing(bare_line_feeds=True, loose_fields=True, any_chunked=True, loose_chunks=True,
                         merges_trailers=True), obeys_overrides=True),
    Kind("length first", "reads loosely, Content-Length first", fits=frozenset({"framing"}),
         framing=Framing(bare_line_feeds=True, loose_fields=True, prefers_length=True, loose_chunks=True)),
    Kind("no bodies", "does not expect requests to have a body, and takes its time", fits=frozenset({"framing"}),
         framing=Framing(no_bodies=True), works_seconds=0.02),
]  # fmt: skip


class Origin:
    """A running origin. `worked` and `seen` are what `core.scene.OriginLog` asks for."""

    def __init__(self, kind: Kind, pages: Pages):
        self.kind, self.pages = kind, pages
        self._worked: Counter[bytes] = Counter()
        self._seen: dict[bytes, list[tuple[bytes, bytes, Headers]]] = defaultdict(list)
        self._server: asyncio.Server
        self._verdicts: dict[bytes, bool] = {}
        self.before: dict[bytes, Callable[[], Awaitable[None]]] = {}
        self.port = 0

    async def start(self) -> "Origin":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()

    def worked(self, mark: bytes) -> int:
        return self._worked[mark]

    def seen(self, mark: bytes) -> list[tuple[bytes, bytes, Headers]]:
        return self._seen[mark]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = RequestReader(reader, self.kind.framing)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                for _ in range(REQUESTS_MAX):
                    request = await requests.next()
                    if request is None:
                        break
                    if self._wants_upgrade(request):
                        await self._switch(request, requests, writer)
                        break
                    await self._prepare(request)
                    answer = self.answer(request)
                    if self.kind.works_seconds and self._is_priced(request):
                        await asyncio.sleep(self.kind.works_seconds)
                    await self.send(answer, writer)
                    if request.version == b"HTTP/1.0" or b"close" in b",".join(request.all(b"connection")).lower():
                        break
            except Malformed as malformed:
                writer.write(_answer(400, [(b"Connection", b"close")], str(malformed).encode()))
                await writer.drain()
        writer.close()

    async def _prepare(self, request: Request) -> None:
        """Does what a try wants to happen between a payment's verification and its settlement."""
        if self.before and self._is_priced(request):
            for mark in MARK.findall(request.raw):
                if mark in self.before:
                    await self.before[mark]()

    async def send(self, answer: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    def answer(self, request: Request) -> bytes:
        """The bytes of an answer, interim ones included."""
        marks = set(MARK.findall(request.raw)) | {mark for _, value in request.trailers for mark in MARK.findall(value)}
        for mark in marks:
            self._seen[mark].append((request.method, request.target, request.headers))
        head_only = request.method == b"HEAD"
        if not self._is_priced(request):
            if request.target.partition(b"?")[0] == FREE:
                return _answer(200, [(b"Content-Type", b"text/plain")], self.pages.free, head_only)
            return _answer(404, [(b"Content-Type", b"text/plain")], b"nothing here\n", head_only)
        if request.method != b"OPTIONS":
            self._worked.update(marks)
        return self._priced(request, head_only)

    def _is_priced(self, request: Request) -> bool:
        if self.kind.by_host and not any(HOST in habits.hosts(name.lower(), value) for name, value in request.headers):
            return False
        targets = [request.target]
        if self.kind.obeys_overrides:
            targets += [value for name, value in request.headers if _as_cgi(name) in OVERRIDES]
        return any(self._reads_priced(target) for target in targets)

    def _reads_priced(self, target: bytes) -> bool:
        if target not in self._verdicts:
            self._verdicts[target] = PRICED in self.kind.reading(target)
        return self._verdicts[target]

    def _priced(self, request: Request, head_only: bool) -> bytes:
        """The priced page: with hints before it, and in parts when a part is asked for."""
        token = self.pages.token.encode()
        hints = b""
        if request.version == b"HTTP/1.1":
            hints = b"HTTP/1.1 103 Early Hints\r\nLink: </%s.css>; rel=preload\r\n\r\n" % token
        fields = self.pages.headers()
        tag = b'"%s"' % token
        if tag in request.all(b"if-none-match") or request.all(b"if-modified-since") == [self.pages.last_modified()]:
            return hints + _answer(304, fields, b"", True)
        whole = self.pages.priced * self._copies(request)
        part = re.fullmatch(rb"bytes=(\d+)-(\d*)", (request.all(b"range") or [b""])[0])
        if part and int(part[1]) < len(whole):
            first, last = int(part[1]), min(int(part[2] or len(whole) - 1), len(whole) - 1)
            fields.append((b"Content-Range", b"bytes %d-%d/%d" % (first, last, len(whole))))
            return hints + _answer(206, fields, whole[first : last + 1], head_only)
        return hints + _answer(200, fields, whole, head_only)

    def _copies(self, request: Request) -> int:
        """How long an answer is wanted."""
        wanted = re.search(rb"[?&]copies=(\d{1,3})$", request.target)
        return int(wanted[1]) if wanted and self.kind.copies else 1

    def _wants_upgrade(self, request: Request) -> bool:
        return self.kind.upgrades and b"h2c" in b",".join(request.all(b"upgrade")).lower()

    async def _switch(self, request: Request, requests: RequestReader, writer: asyncio.StreamWriter) -> None:
        """Goes on in HTTP/2: answers the request that asked for it on stream 1, and whatever else comes."""
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        writer.write(http2.settings({}) + self._frames(request, 1))
        await writer.drain()
        received = requests.ahead
        answered: set[int] = set()
        while data := await requests.reader.read(65536):
            received += data
            for stream, fields in _requests(received.removeprefix(http2.PREFACE)).items():
                if stream not in answered:
                    answered.add(stream)
                    pseudo = dict(fields)
                    later = Request(pseudo.get(b":method", b"GET"), pseudo.get(b":path", b"/"), b"HTTP/2.0", fields,
                                    raw=repr(fields).encode())  # fmt: skip
                    writer.write(self._frames(later, stream))
            await writer.drain()

    def _frames(self, request: Request, stream: int) -> bytes:
        priced = self._is_priced(request)
        if priced:
            self._worked.update(set(MARK.findall(request.raw)))
        body = self.pages.priced if priced else self.pages.free
        fields = [(b":status", b"200"), (b"content-length", b"%d" % len(body))]
        return http2.headers(fields, stream, end=False) + http2.frame(http2.DATA, http2.END_STREAM, stream, body)


def _requests(received: bytes) -> dict[int, Headers]:
    """Header fields by stream."""
    return {stream: fields for stream, fields, _, _ in http2.events(received) if fields is not None}


def _as_cgi(name: bytes) -> bytes:
    return re.sub(rb"[^a-z0-9]", b"_", name.lower())


REASONS = {200: b"OK", 206: b"Partial Content", 304: b"Not Modified", 400: b"Bad Request", 404: b"Not Found"}


def _answer(status: int, fields: Headers, body: bytes, head_only: bool = False) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (status, REASONS[status])]
    lines += [name + b": " + value for name, value in fields]
    if status != 304:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)
