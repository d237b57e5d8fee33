"""HTTP/2 as frames: written without any of a client's checks, so that attacks can break every rule.

Header fields are literals without indexing and without Huffman coding (RFC 7541 §6.2.2), so any byte can stand in them.
"""

import struct

import hpack

from core.http1 import Headers, Message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20
FRAME_BYTES_MAX = 16_384
_WINDOW = 1 << 24


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(pairs: dict[int, int] | None = None) -> bytes:
    return frame(SETTINGS, 0, 0, settings_payload(pairs))


def settings_payload(pairs: dict[int, int] | None = None) -> bytes:
    pairs = {2: 0, 4: _WINDOW} if pairs is None else pairs
    return b"".join(struct.pack(">HI", key, value) for key, value in pairs.items())


def start() -> bytes:
    """What a connection begins with: preface, settings without push, and windows that never fill."""
    return PREFACE + settings() + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW)) + frame(SETTINGS, ACK, 0)


def block(fields: Headers) -> bytes:
    """A header block of literals."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(text: bytes) -> bytes:
    length, encoded = len(text), b""
    if length < 127:
        return bytes([length]) + text
    length -= 127
    while length >= 128:
        encoded += bytes([length % 128 + 128])
        length //= 128
    return b"\x7f" + encoded + bytes([length]) + text


def headers(fields: Headers, stream: int = 1, end: bool = True) -> bytes:
    """A HEADERS frame, with as many CONTINUATION frames as it needs."""
    whole = block(fields)
    pieces = [whole[at : at + FRAME_BYTES_MAX] for at in range(0, len(whole), FRAME_BYTES_MAX)] or [b""]
    frames = b""
    for index, piece in enumerate(pieces):
        last = END_HEADERS if index == len(pieces) - 1 else 0
        if index == 0:
            frames += frame(HEADERS, last | (END_STREAM if end else 0), stream, piece)
        else:
            frames += frame(CONTINUATION, last, stream, piece)
    return frames


def request(
    method: bytes, path: bytes, authority: bytes, scheme: bytes, fields: Headers, body: bytes | None = None, stream: int = 1
) -> bytes:
    """A request on a stream; header names as they are given."""
    pseudo = [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path)]
    sent = headers(pseudo + fields, stream, end=body is None)
    if body is not None:
        sent += frame(DATA, END_STREAM, stream, body)
    return sent


def frames(received: bytes) -> list[tuple[int, int, int, bytes]]:
    """The complete frames in what was received: kind, flags, stream, payload."""
    found, at = [], 0
    while len(received) >= at + 9:
        length = int.from_bytes(received[at : at + 3], "big")
        if len(received) < at + 9 + length:
            break
        kind, flags = received[at + 3], received[at + 4]
        stream = int.from_bytes(received[at + 5 : at + 9], "big") & 0x7FFFFFFF
        found.append((kind, flags, stream, received[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


def is_http2(received: bytes) -> bool:
    """Whether this begins as a server of HTTP/2 does: with SETTINGS."""
    return len(received) >= 9 and received[3] == SETTINGS and received[5:9] == b"\0\0\0\0"


def messages(received: bytes) -> dict[int, list[Message]]:
    """The answers by stream, interim ones included; a reset or refused stream has an incomplete message or none."""
    found: dict[int, list[Message]] = {}
    for stream, fields, data, ended in events(received):
        if fields is not None:
            _add_fields(found.setdefault(stream, []), fields, ended)
        elif found.get(stream):
            found[stream][-1].body += data
            found[stream][-1].complete = ended
    return found


def events(received: bytes) -> list[tuple[int, Headers | None, bytes, bool]]:
    """Header blocks and data as they came: stream, decoded fields or `None`, data, whether the stream ended."""
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 20
    found: list[tuple[int, Headers | None, bytes, bool]] = []
    pending, ended = b"", False
    for kind, flags, stream, payload in frames(received):
        if kind in (HEADERS, CONTINUATION):
            pending += _unpadded(kind, flags, payload)
            ended = bool(flags & END_STREAM) if kind == HEADERS else ended
            if flags & END_HEADERS:
                found.append((stream, _decoded(decoder, pending), b"", ended))
                pending = b""
        elif kind == DATA:
            found.append((stream, None, _unpadded(kind, flags, payload), bool(flags & END_STREAM)))
    return found


def ended_streams(received: bytes) -> set[int]:
    """Streams that the server has ended: with an answer, or by resetting them; all, when it sent GOAWAY."""
    ended: set[int] = set()
    for kind, flags, stream, _ in frames(received):
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            ended.add(stream)
    return ended


def said_goodbye(received: bytes) -> bool:
    return any(kind == GOAWAY for kind, _, _, _ in frames(received))


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    if kind == CONTINUATION:
        return payload
    if flags & PADDED and payload:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if kind == HEADERS and flags & PRIORITY_FLAG else payload


def _decoded(decoder: hpack.Decoder, encoded: bytes) -> Headers:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(encoded, raw=True)]
    except hpack.HPACKError:
        return []


def _add_fields(stream: list[Message], fields: Headers, ended: bool) -> None:
    status = next((value for name, value in fields if name == b":status"), None)
    if status is None and stream:
        stream[-1].trailers, stream[-1].complete = fields, ended
        return
    number = int(status) if status and status.isdigit() else 0
    stream.append(Message(number, [field for field in fields if not field[0].startswith(b":")], complete=ended))
