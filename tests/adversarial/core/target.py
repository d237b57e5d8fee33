"""The server under attack: where it listens, what it speaks, which of its pages is priced."""

import base64
import ipaddress
import socket
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from core import http1, http2
from core.attack import Need
from core.wire import Connection, Door


class Way(Enum):
    """How a request is spoken."""

    HTTP10 = "HTTP/1.0"
    HTTP11 = "HTTP/1.1"
    TLS11 = "HTTP/1.1 over TLS"
    H2 = "h2"
    H2C = "h2c"
    UPGRADE = "h2c by upgrade"


WAYS = [Way.HTTP10, Way.HTTP11, Way.H2, Way.H2C, Way.UPGRADE]
"""The ways that differ; HTTP/1.1 over TLS is the same code in every server known."""
HTTP2_SETTINGS = base64.urlsafe_b64encode(http2.settings_payload()).rstrip(b"=")


class Refused(Exception):
    """The target may not be attacked, or is none."""


@dataclass
class Target:
    """A server and its priced page."""

    name: str
    doors: list[Door]
    path: bytes
    """Path of the priced page, with its query, as one writes it."""
    free_path: bytes | None = None
    other_paths: list[bytes] = field(default_factory=list)
    """Other pages of the same price; their content, too, holds what gives the priced page away."""
    upfront_path: bytes | None = None
    """One of them that is settled before the site is asked."""
    host: bytes = b"localhost"
    """What requests name as Host."""
    h2: Door | None = None
    h2c: Door | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def plain(self) -> Door | None:
        return next((door for door in self.doors if not door.tls), None)

    @property
    def tls(self) -> Door | None:
        return next((door for door in self.doors if door.tls), None)

    @property
    def replicas(self) -> list[Door]:
        """Addresses without TLS: several, when there are several replicas of the server."""
        return [door for door in self.doors if not door.tls]

    def door(self, way: Way) -> Door | None:
        """Where a way is spoken. An upgrade is tried at any address without TLS."""
        match way:
            case Way.HTTP10 | Way.HTTP11 | Way.UPGRADE:
                return self.plain or (None if way is Way.UPGRADE else self.tls)
            case Way.TLS11:
                return self.tls
            case Way.H2:
                return self.h2
            case Way.H2C:
                return self.h2c

    def needs(self, way: Way) -> tuple[Need, ...]:
        match way:
            case Way.HTTP10 | Way.HTTP11:
                return ()
            case Way.UPGRADE:
                return (Need.PLAIN,)
            case Way.TLS11:
                return (Need.TLS,)
            case Way.H2:
                return (Need.HTTP2,)
            case Way.H2C:
                return (Need.H2C,)

    async def probe(self) -> None:
        """Finds out where HTTP/2 is spoken."""
        for door in self.doors:
            if door.tls and self.h2 is None and await _negotiates_http2(door):
                self.h2 = door
            if not door.tls and self.h2c is None and await _speaks_http2(door, "http/1.1"):
                self.h2c = door


async def _negotiates_http2(door: Door) -> bool:
    async with Connection(door, alpn="h2", patience=3) as connection:
        return connection.negotiated == "h2"


async def _speaks_http2(door: Door, alpn: str) -> bool:
    async with Connection(door, alpn=alpn, patience=3) as connection:
        await connection.send(http2.start())
        exchange = await connection.read(lambda exchange: len(exchange.received) >= 9)
        return http2.is_http2(exchange.received)


def from_urls(urls: list[str], free_url: str | None, *, owned: bool) -> Target:
    """A target from the addresses of one page: `http://` and `https://` ones, the first is the main one.

    Raises `Refused` for what is no such address, and for addresses that are not loopback unless `owned`.
    """
    doors = []
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(f"{url} is no http:// or https:// address")
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        doors.append(Door(checked_address(parts.hostname, port, owned=owned), port, tls))
    first = urlsplit(urls[0])
    free = urlsplit(free_url) if free_url else None
    if free and (free.hostname, free.scheme) != (first.hostname, first.scheme):
        raise Refused("--free-url must be a page of the same server")
    free_path = path_of(free_url) if free_url else None
    return Target(str(doors[0]), doors, path_of(urls[0]), free_path, host=first.netloc.rpartition("@")[2].encode())


def path_of(url: str) -> bytes:
    """Path and query of an address."""
    parts = urlsplit(url)
    return ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode()


def checked_address(host: str, port: int, *, owned: bool) -> str:
    """The address of a host. A host any of whose addresses is not this machine's own is refused, unless its owner has
    said so. What was checked is what is connected to: the name is not looked up again.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Refused(f"{host} cannot be looked up: {error}") from error
    foreign = sorted({str(entry[4][0]) for entry in found if not _is_loopback(str(entry[4][0]))})
    if foreign and not owned:
        raise Refused(
            f"{host} is {', '.join(foreign)}, which is not this machine. This suite sends thousands of hostile "
            "requests. If the server is yours, say so: --i-own-this-server"
        )
    return str(found[0][4][0])


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def reachable(door: Door) -> bool:
    try:
        async with Connection(door):
            return True
    except (OSError, TimeoutError):
        return False


def upgrade_headers() -> http1.Headers:
    """What asks for HTTP/2 on a connection of HTTP/1.1 (RFC 7540 §3.2)."""
    return [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", HTTP2_SETTINGS)]
