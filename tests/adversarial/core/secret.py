"""What gives priced content away: text of it, and what its headers say about it."""

import contextlib
import gzip
import zlib
from dataclasses import dataclass, field

from core.http1 import Message
from core.wire import Exchange

LENGTH_MIN = 500
"""Shorter contents may share their length with an error page by chance."""
LINE_BYTES_MIN = 12
LINES_MAX = 40


@dataclass(frozen=True)
class Deliveries:
    """Answers that gave the content away."""

    by_body: int = 0
    by_headers: int = 0
    """By headers alone."""
    served: int = 0
    """Those of either kind that were successes: whoever paid got what they paid for."""

    def __add__(self, other: "Deliveries") -> "Deliveries":
        return Deliveries(self.by_body + other.by_body, self.by_headers + other.by_headers, self.served + other.served)

    @property
    def all(self) -> int:
        return self.by_body + self.by_headers


@dataclass
class Secret:
    """Signs of the priced content. Each is enough."""

    texts: list[bytes] = field(default_factory=list)
    """Parts of the content, or of its headers, that stand nowhere else; letter case does not count."""
    lengths: list[int] = field(default_factory=list)
    """Lengths of the whole content."""

    def __bool__(self) -> bool:
        return bool(self.texts)

    def found(self, exchanges: list[Exchange]) -> str | None:
        """Which sign there is in what was received."""
        for exchange in exchanges:
            sign = self._in_bytes(exchange.received)
            if sign:
                return sign
            for message in exchange.messages():
                sign = self._in_message(message)
                if sign:
                    return sign
        return None

    def deliveries(self, exchange: Exchange) -> "Deliveries":
        """How many answers gave the content away, in full or in part."""
        answers = exchange.answers()
        bodies = [any(self._in_bytes(body) for body in _readings(answer.body)) for answer in answers]
        told = [self._in_message(answer) is not None for answer in answers]
        served = sum(tells and 200 <= answer.status < 300 for tells, answer in zip(told, answers, strict=True))
        by_body, by_headers = sum(bodies), sum(told) - sum(bodies)
        if not by_body + by_headers and self.found([exchange]):
            by_headers = 1
        return Deliveries(by_body, by_headers, served)

    def _in_bytes(self, data: bytes) -> str | None:
        lower = data.lower()
        for text in self.texts:
            if text.lower() in lower:
                return f"{text.decode(errors='replace')!r} came back"
        return None

    def _in_message(self, message: Message) -> str | None:
        for name, value in message.headers + message.trailers:
            if name.lower() == b"content-length" and value.isdigit() and int(value) in self.lengths:
                return f"the answer {message.status} tells the content's length"
            if name.lower() == b"content-range" and value.rpartition(b"/")[2] in [b"%d" % n for n in self.lengths]:
                return f"the answer {message.status} tells the content's length by Content-Range"
            sign = self._in_bytes(name + b": " + value)
            if sign:
                return f"in the header {name.decode(errors='replace')} of the answer {message.status}: {sign}"
        for body in _readings(message.body):
            sign = self._in_bytes(body)
            if sign:
                return f"in the body of the answer {message.status}: {sign}"
        return None


def learn(paid: Message, public_answers: list[Exchange]) -> Secret:
    """Signs of content that was bought, without what stands in answers that cost nothing."""
    said = [body for exchange in public_answers for answer in exchange.messages() for body in _readings(answer.body)]
    public = b"\0".join([*said, *(exchange.received for exchange in public_answers)]).lower()
    lines = sorted({line.strip() for line in _readings(paid.body)[-1].split(b"\n")}, key=len, reverse=True)
    secret = Secret()
    for line in lines[:LINES_MAX]:
        if len(line) >= LINE_BYTES_MIN and line.lower() not in public:
            secret.texts.append(line[:200])
    for name in ("etag", "last-modified"):
        value = paid.header(name)
        if value and len(value) >= LINE_BYTES_MIN and value.lower() not in public:
            secret.texts.append(value)
    if secret.texts and len(paid.body) >= LENGTH_MIN:
        secret.lengths.append(len(paid.body))
    return secret


def _readings(body: bytes) -> list[bytes]:
    """A body as it is, and unpacked where it is packed."""
    found = [body]
    if body[:2] == b"\x1f\x8b":
        with contextlib.suppress(OSError, EOFError, zlib.error):
            found.append(gzip.decompress(body))
    elif body[:1] == b"\x78":
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj().decompress(body))
    return found
