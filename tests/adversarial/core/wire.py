"""Connections: what goes out, what comes back, both kept byte by byte."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from core import http1, http2
from core.http1 import Message

KEPT_BYTES_MAX = 1 << 20
"""Most that is kept of what one try received; a server that sends more is not read on."""
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Door:
    """One address at which a server listens."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass
class Exchange:
    """What was said on one connection."""

    sent: bytes = b""
    received: bytes = b""
    closed: bool = False
    methods: list[bytes] = field(default_factory=list)
    """Methods of the requests sent, so that answers to HEAD are read rightly."""
    note: str = ""
    """What ended it, when that was no answer."""

    def messages(self) -> list[Message]:
        """Every answer, interim ones included."""
        if http2.is_http2(self.received):
            return [message for stream in http2.messages(self.received).values() for message in stream]
        found = http1.messages(self.received, self.methods, self.closed)
        if found and found[-1].status == 101 and http2.is_http2(found[-1].body):
            streams = http2.messages(found[-1].body).values()
            found += [message for stream in streams for message in stream]
        return found

    def answers(self) -> list[Message]:
        """Final answers."""
        return http1.final(self.messages())

    def status(self) -> int | None:
        """Status of the first final answer."""
        answers = self.answers()
        return answers[0].status if answers else None


def tls_context(protocols: list[str]) -> ssl.SSLContext:
    """Any certificate will do: the server under test is at a known address, and nothing secret is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    return context


class Connection:
    """An open connection and its exchange. Use as an async context manager."""

    def __init__(self, door: Door, *, alpn: str = "http/1.1", patience: float = 5.0, buffer_bytes: int | None = None):
        self.door, self.alpn, self.patience, self.buffer_bytes = door, alpn, patience, buffer_bytes
        self.exchange = Exchange()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "Connection":
        context = tls_context([self.alpn]) if self.door.tls else None
        where: dict[str, object] = {"host": self.door.host, "port": self.door.port}
        limit = 1 << 16
        if self.buffer_bytes:
            # So small that most of an answer waits at the server.
            limit = self.buffer_bytes
            where = {"sock": await self._small_socket(self.buffer_bytes)}
        opening = asyncio.open_connection(**where, limit=limit, ssl=context, server_hostname="localhost" if context else None)
        self._reader, self._writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
        return self

    async def _small_socket(self, buffer_bytes: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.door.host else socket.AF_INET
        raw = socket.socket(family, socket.SOCK_STREAM)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (self.door.host, self.door.port))
        return raw

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 1)

    @property
    def raw(self) -> socket.socket | None:
        return self._writer.get_extra_info("socket")

    @property
    def negotiated(self) -> str | None:
        tls = self._writer.get_extra_info("ssl_object")
        return tls.selected_alpn_protocol() if tls else None

    async def send(self, data: bytes, *methods: bytes) -> None:
        """Sends bytes; a server that has hung up is no error here, reading tells."""
        self.exchange.sent += data
        self.exchange.methods += methods
        if self._writer.transport.is_closing():
            self.exchange.note = self.exchange.note or "while sending: the connection was closed"
            return
        try:
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), self.patience)
        except (OSError, TimeoutError) as error:
            self.exchange.note = f"while sending: {error!r}"

    def end(self) -> None:
        """Says that nothing more will be sent, where the transport can (not with TLS)."""
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def read(self, enough: Callable[[Exchange], bool] | None = None, patience: float | None = None) -> Exchange:
        """Reads until `enough` says so, the server closes, or nothing has come for `patience` seconds."""
        exchange = self.exchange
        while not exchange.closed and not (enough and enough(exchange)):
            try:
                data = await asyncio.wait_for(self._reader.read(65536), patience or self.patience)
            except TimeoutError:
                exchange.note = "nothing more came"
                break
            except OSError as error:
                exchange.note, exchange.closed = f"while reading: {error!r}", True
                break
            if not data or len(exchange.received) > KEPT_BYTES_MAX:
                exchange.closed = True
                break
            exchange.received += data
        return exchange


def answered(count: int) -> Callable[[Exchange], bool]:
    """Whether so many final answers are complete, or the server has said that it will close behind one."""

    def enough(exchange: Exchange) -> bool:
        answers = exchange.answers()
        if http2.is_http2(exchange.received):
            return len(http2.ended_streams(exchange.received)) >= count or http2.said_goodbye(exchange.received)
        if answers and answers[-1].status == 101 and http2.is_http2(answers[-1].body):
            return len(http2.ended_streams(answers[-1].body)) >= 1 or http2.said_goodbye(answers[-1].body)
        return sum(answer.complete for answer in answers) >= count

    return enough
