"""HTTP/1 as bytes: requests are written as they are given, answers are read as leniently as possible.

Nothing here repairs or refuses what an attack wants to send. Answers are split into messages so that what hides in
chunks, trailers or interim answers is seen; the raw bytes are kept as well, and searched too.
"""

from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """One answer: of HTTP/1, or of a stream of HTTP/2."""

    status: int
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    complete: bool = False

    def header(self, name: str) -> bytes | None:
        wanted = name.encode().lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


def request(method: bytes, target: bytes, headers: Headers, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A request exactly as told: no header is added."""
    lines = [method + b" " + target + b" " + version]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def messages(received: bytes, methods: list[bytes] | None = None, closed: bool = False) -> list[Message]:
    """All answers in what was received, interim ones included; the last may be incomplete.

    `methods` are those of the requests, in order: an answer to HEAD has no body. `closed`: nothing more will come.
    """
    found: list[Message] = []
    asked = list(methods or [])
    rest = received
    while rest:
        head, separator, after = rest.partition(b"\r\n\r\n")
        message = _head(head)
        if message is None:
            break
        found.append(message)
        if not separator:
            break
        interim = 100 <= message.status < 200
        method = (asked[0] if asked else b"GET") if interim else (asked.pop(0) if asked else b"GET")
        if message.status == 101:
            message.complete, message.body = closed, after
            break
        if interim:
            message.complete, rest = True, after
            continue
        rest = _body(message, method, after, closed)
    return found


def final(found: list[Message]) -> list[Message]:
    """The answers that are not interim."""
    return [message for message in found if not 100 <= message.status < 200 or message.status == 101]


def _head(head: bytes) -> Message | None:
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ", 2)
    if not words[0].startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        return None
    return Message(int(words[1]), parse_fields(lines[1:]))


def parse_fields(lines: list[bytes]) -> Headers:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name.strip(), value.strip()))
    return fields


def _body(message: Message, method: bytes, after: bytes, closed: bool) -> bytes:
    """Gives a message its body, and returns what follows it."""
    if method == b"HEAD" or message.status in (204, 304) or (method == b"CONNECT" and message.status == 200):
        message.complete = True
        return after
    coding = message.header("transfer-encoding") or b""
    if b"chunked" in coding.lower():
        return _chunks(message, after)
    length = message.header("content-length")
    if length is not None and length.isdigit():
        message.body, rest = after[: int(length)], after[int(length) :]
        message.complete = len(message.body) == int(length)
        return rest
    message.body, message.complete = after, closed
    return b""


def _chunks(message: Message, after: bytes) -> bytes:
    rest = after
    while True:
        line, found, rest = rest.partition(b"\r\n")
        digits = line.split(b";")[0].strip()
        if not found or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            return b""
        size = int(digits, 16)
        if size == 0:
            break
        message.body += rest[:size]
        if len(rest) < size + 2:
            return b""
        rest = rest[size + 2 :]
    trailers = []
    while True:
        line, found, rest = rest.partition(b"\r\n")
        if not found:
            message.trailers = parse_fields([*trailers, line])
            return b""
        if not line:
            message.trailers, message.complete = parse_fields(trailers), True
            return rest
        trailers.append(line)
