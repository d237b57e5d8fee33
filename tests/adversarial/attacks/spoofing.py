"""Lies to the site about who asks, and who has paid.

A server that sells for a site tells it things in headers: which offer applied, who paid, where the request came from. A
client that can send such a header itself, in any spelling that the site reads as the same, is believed. The suite looks at
what the site sees of honest requests, and then whether a lie in any of those headers arrives.
"""

import asyncio
import re
from collections.abc import Iterator

from attacks.overrides import spellings_of
from core import http1, pay
from core.attack import Attack, Need, Outcome, Try, held, inapplicable, leak
from core.http1 import Headers
from core.scene import PAYMENT, TRY_HEADER, Scene
from core.target import WAYS, Way
from core.wire import Connection, Exchange, answered

EVIL = b"203.0.113.66"
"""What every lie says; no honest request has it."""
NAMES = [b"X-402-Payer", b"X-402-Amount", b"X-402-Asset", b"X-402-Network", b"X-402-Scheme", b"X-402-Transaction", b"X-402-Route",
         b"X-402-Anything", b"PAYMENT-SIGNATURE", b"X-PAYMENT", b"PAYMENT-RESPONSE", b"PAYMENT-REQUIRED", b"X-PAYMENT-RESPONSE",
         b"Settlement-Overrides", b"EXTENSION-RESPONSES", b"SIGN-IN-WITH-X", b"X-Forwarded-For", b"X-Forwarded-Proto",
         b"X-Forwarded-Host",
         b"X-Real-IP", b"Forwarded"]  # fmt: skip
LISTS = {b"x_forwarded_for", b"forwarded"}
"""Headers that every server in a chain adds to: what counts is the last entry."""
NEEDS = (Need.ORIGIN, Need.FREE)


def tries(scene: Scene) -> Iterator[Try]:
    honest = _Honest(scene)
    for paid in (False, True):
        needs = (*NEEDS, Need.PAYMENT) if paid else NEEDS
        for name in NAMES:
            if paid and name in (b"PAYMENT-SIGNATURE", b"X-PAYMENT"):
                continue  # A second payment header is another attack.
            for way in WAYS if not paid else (Way.HTTP11, Way.H2C):
                every = spellings_of(name)
                for spelled in every if way is Way.HTTP11 else scene.sampled(every, 6):
                    lie = _Lie(scene, honest, way, paid, name, [(spelled, EVIL)])
                    yield Try(
                        f"{way.value} {'paid' if paid else 'free'} {spelled!r}", lie.run, (*needs, *scene.target.needs(way))
                    )
                tricks = _tricks(name)
                for headers in tricks if way is Way.HTTP11 else scene.sampled(tricks, 6):
                    lie = _Lie(scene, honest, way, paid, name, headers)
                    yield Try(
                        f"{way.value} {'paid' if paid else 'free'} {headers!r}", lie.run, (*needs, *scene.target.needs(way))
                    )
            for line in (
                b"%s: y\r\n z",
                b"X: y\r\n %s: z",
                b"X: y\n%s: z",
                b"X: y\r%s: z",
                b"%s : z",
                b"%s\0: z",
                b"\0%s: z",
                b"%s\x0b: z",
            ):
                lie = _Lie(scene, honest, Way.HTTP11, paid, name, [], line.replace(b"%s", name).replace(b"z", EVIL))
                yield Try(f"{'paid' if paid else 'free'} {line!r} {name!r}", lie.run, needs)
            lie = _Lie(scene, honest, Way.HTTP11, paid, name, [], trailer=name + b": " + EVIL)
            yield Try(f"{'paid' if paid else 'free'} {name!r} as a trailer", lie.run, needs)


def _tricks(name: bytes) -> list[Headers]:
    """A lie twice, and headers of the connection that would take the truth away."""
    quoted = b'for="' + EVIL if name == b"Forwarded" else EVIL
    return [
        [(name, b"x"), (name, EVIL)],
        [(name, EVIL), (name, b"")],
        [(name.lower(), EVIL), (name.upper(), EVIL)],
        [(name, quoted + b",")],
        [(name, quoted + b', "')],
        [(name, quoted + b"\\")],
        [(b"Connection", name)],
        [(b"Connection", b"close, " + name)],
        [(b"Connection", b"close"), (b"Connection", name)],
        [(b"Connection", name.lower() + b", " + name)],
        [(b"Connection", b"close," + name.replace(b"-", b"_")), (name.replace(b"-", b"_"), EVIL)],
        [(b"Connection", b"close,\t" + name), (name, EVIL)],
        [(b"Connection", b'"' + name + b'"')],
        [(b"Connection", name + b";q=1")],
        [(b"Proxy-Connection", name), (name, EVIL)],
        [(b"Keep-Alive", name), (name, EVIL)],
        [(b"Trailer", name), (name, EVIL)],
        [(b"TE", name)],
        [(b"Upgrade", name), (b"Connection", b"Upgrade, " + name), (name, EVIL)],
    ]


class _Honest:
    """What the site sees of honest requests, by way and by whether they are paid."""

    def __init__(self, scene: Scene):
        self.scene, self.lock = scene, asyncio.Lock()
        self.known: dict[tuple[Way, bool], dict[bytes, list[bytes]]] = {}
        self.marks = {(way, paid): scene.mark() for way in WAYS for paid in (False, True)}

    async def seen(self, way: Way, paid: bool, payment: bytes | None) -> dict[bytes, list[bytes]]:
        """Header values by the name that CGI would give them."""
        async with self.lock:
            if (way, paid) not in self.known:
                self.known[way, paid] = {}
                mark = self.marks[way, paid]
                await _ask(self.scene, way, paid, mark, [], payment)
                self.known[way, paid] = _by_variable(self.scene, mark) or {}
            return self.known[way, paid]


class _Lie:
    def __init__(self, scene: Scene, honest: _Honest, way: Way, paid: bool, name: bytes, headers: Headers,
                 line: bytes = b"", trailer: bytes = b""):  # fmt: skip
        self.scene, self.honest, self.way, self.paid, self.name, self.headers = scene, honest, way, paid, name, headers
        self.line, self.trailer, self.mark = line, trailer, scene.mark()
        self.payments: list[bytes | None] = [None, None]
        if paid and scene.offer:
            payers = (scene.new_payer(), scene.new_payer())
            self.payments = [pay.encode(payer.payment(scene.offer, scene.random)) for payer in payers]

    async def run(self) -> Outcome:
        honest = await self.honest.seen(self.way, self.paid, self.payments[0])
        if not any(name.startswith((b"x_402_", b"x_forwarded_")) for name in honest):
            return inapplicable("the server tells the site nothing in headers")
        if self.line or self.trailer:
            exchange = await self._ask_raw()
        else:
            exchange = await _ask(self.scene, self.way, self.paid, self.mark, self.headers, self.payments[1])
        seen = _by_variable(self.scene, self.mark)
        if seen is None:
            return held([exchange])  # Refused.
        return self._judge(honest, seen, exchange)

    async def _ask_raw(self) -> Exchange:
        target = self.scene.target
        door = target.door(Way.HTTP11)
        assert door
        path = target.path if self.paid else target.free_path or b"/"
        fields = [(b"Host", target.host), (TRY_HEADER, self.mark)]
        if self.paid:
            fields.append((PAYMENT, self.payments[1] or b""))
        if self.trailer:
            fields += [(b"Trailer", self.name), (b"Transfer-Encoding", b"chunked")]
            data = http1.request(b"POST", path, fields, b"1\r\nx\r\n0\r\n" + self.trailer + b"\r\n\r\n")
        else:
            data = http1.request(b"GET", path, fields).replace(b"\r\n\r\n", b"\r\n" + self.line + b"\r\n\r\n")
        async with Connection(door) as connection:
            await connection.send(data)
            return await connection.read(answered(1))

    def _judge(self, honest: dict[bytes, list[bytes]], seen: dict[bytes, list[bytes]], exchange: Exchange) -> Outcome:
        variable = _variable(self.name)
        values = seen.get(variable, [])
        if variable in LISTS:
            entries = _entries if variable == b"forwarded" else _plain_entries
            if entries(b", ".join(values))[-1] != entries(b", ".join(honest.get(variable, [])))[-1]:
                return leak(f"the site reads {self.name!r} as {values!r}", [exchange])
        elif any(EVIL in value for value in values):
            return leak(f"the site reads {self.name!r} as {values!r}", [exchange])
        missing = [name for name in honest if name.startswith((b"x_402_", b"x_forwarded", b"x_real")) and name not in seen]
        if missing:
            return leak(f"the site is not told {missing!r}", [exchange])
        return held([exchange])


async def _ask(scene: Scene, way: Way, paid: bool, mark: bytes, headers: Headers, payment: bytes | None) -> Exchange:
    path = scene.target.path if paid else scene.target.free_path or b"/"
    fields = [*headers, (PAYMENT, payment)] if payment else headers
    return await scene.ask(way, path, mark=mark, headers=fields)


def _by_variable(scene: Scene, mark: bytes) -> dict[bytes, list[bytes]] | None:
    """What the site was told in the request with a mark; `None` when it got none."""
    assert scene.origin
    requests = scene.origin.seen(mark)
    if not requests:
        return None
    told: dict[bytes, list[bytes]] = {}
    for name, value in requests[-1][2]:
        told.setdefault(_variable(name), []).append(value)
    return told


def _variable(name: bytes) -> bytes:
    return re.sub(rb"[^a-z0-9]", b"_", name.lower())


def _plain_entries(value: bytes) -> list[bytes]:
    return [entry.strip() for entry in value.split(b",")]


def _entries(value: bytes) -> list[bytes]:
    """The entries of a list, commas in quotes left alone; what is quoted and never ends is one with all behind it."""
    entries, quoted, escaped = [b""], False, False
    for byte in value:
        letter = bytes([byte])
        if letter == b"," and not quoted:
            entries.append(b"")
            continue
        if letter == b'"' and not escaped:
            quoted = not quoted
        escaped = quoted and letter == b"\\" and not escaped
        entries[-1] += letter
    return [entry.strip() for entry in entries]


ATTACK = Attack("spoofing", 8, "lies to the site about who asks and who has paid", tries, origins=frozenset({"plain"}))
