"""Text that becomes something else where the operator reads it: log, metrics, exports.

A line of the log must stay one line, of JSON where the log is JSON, without control characters and without what is secret;
no client may name a series of the metrics; and no cell of an export may be a formula, no line of it move a cursor.
"""

import asyncio
import csv
import io
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try, held, leak
from core.http1 import Headers
from core.scene import Scene
from core.target import Way
from core.wire import Exchange

PIECES = [
    b"%0a%0dforged line",
    b"\rforged",
    b"\nforged",
    b"\r\n2030-01-01T00:00:00Z  INFO request status=200",
    b"\x1b[2J\x1b[31m",
    b"%1b[2J",
    b"\x9b31m",
    b"\xc2\x9b31m",
    b"\xc2\x85forged",
    "\u2028forged".encode(),
    "\u202eforged".encode(),
    b"\0",
    b"%00",
    b"\x08\x08\x7f",
    b'"},{"forged":true}',
    b'\\"',
    b"\\",
    b'" status="200',
    b"' status='200",
    b"{forged}",
    b"%n%s%x",
    b"${jndi:ldap://127.0.0.1:1/x}",
    b"=1+1",
    b"+1+1",
    b"-1+1",
    b"@SUM(1)",
    b"\xff\xfe",
    b"x" * 4000,
]
PLACES = ["path", "priced path", "query", "method", "user-agent", "referer", "origin", "cookie", "payment", "host"]
SECRET = b"s3cret-of-the-query"
LINE = re.compile(rb"^\d{4}-\d\d-\d\dT[\d:.]+Z +[A-Z]+ ")
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9\xae]")
SERIES_MAX = 400
EXPOSITION = re.compile(rb'^[a-zA-Z_:][\w:]*(\{([a-zA-Z_]\w*="([^"\\\n]|\\[\\"n])*",?)*\})? -?[0-9.eE+naif-]+$')
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
METHODS = [b"+1+cmd|'x'!A0", b"-1+1", b"GET|x", b"'x", b"$x", b"!x", b"%0a", b"~x", b"^x", b"`id`"]


@dataclass
class Going:
    """How many tries are not over yet; the last ones look at what all of them left."""

    left: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def counted(self, run: Callable[[], Awaitable[Outcome]]) -> Outcome:
        try:
            return await run()
        finally:
            self.left -= 1
            if self.left == 0:
                self.over.set()

    async def afterwards(self, run: Callable[[], Awaitable[Outcome]]) -> Outcome:
        await self.over.wait()
        return await run()


def tries(scene: Scene) -> Iterator[Try]:
    going = Going()
    first = list(_requests(scene))
    going.left = sum(all(scene.has(need) for need in one.needs) for one in first)
    for one in first:
        yield Try(one.name, partial(going.counted, one.run), one.needs)
    for name, run in (("the whole log", _whole_log), ("the metrics", _metrics), ("the books", _books)):
        yield Try(name, partial(going.afterwards, partial(run, scene)), (Need.INSIDE,))


def _requests(scene: Scene) -> Iterator[Try]:
    for way in (Way.HTTP11, Way.H2C):
        for place in PLACES:
            for piece in PIECES:
                run = partial(_logged, scene, way, place, piece, scene.mark())
                yield Try(f"{way.value}: {piece[:40]!r} in {place}", run, (Need.INSIDE, *scene.target.needs(way)))
    for method in METHODS:
        run = partial(_bought_with, scene, method, pay.Payer.made_up(scene.random), scene.mark())
        yield Try(f"bought with method {method.decode()}", run, (Need.INSIDE, Need.PAYMENT))


async def _logged(scene: Scene, way: Way, place: str, piece: bytes, mark: bytes) -> Outcome:
    written = scene.inside.log().rfind(b"\n") + 1
    exchange = await _ask(scene, way, place, piece, mark)
    log = b""
    for _ in range(10):
        log = scene.inside.log()[written:]
        # A line is written when its request is over; one that was refused before it was understood may have none.
        if mark in log and log.endswith(b"\n") or not exchange.received:
            break
        await asyncio.sleep(0.01)
    return _judged(log, exchange)


async def _ask(scene: Scene, way: Way, place: str, piece: bytes, mark: bytes) -> Exchange:
    free = scene.target.free_path or b"/"
    path, method, host, headers = free + b"/" + mark, b"GET", None, []
    match place:
        case "path":
            path += b"/" + piece
        case "priced path":
            path = scene.target.path + b"/" + mark + piece
        case "query":
            path += b"?" + piece + b"&token=" + SECRET
        case "method":
            method = piece
        case "host":
            host = piece
        case "payment":
            path, headers = scene.target.path, [(b"PAYMENT-SIGNATURE", piece + b"." + SECRET)]
        case _:
            headers = [(place.encode(), piece)]
    fields: Headers = [(b"Authorization", b"Bearer " + SECRET), *headers]
    return await scene.ask(way, path, method=method, headers=fields, host=host, mark=mark, patience=1)


def _judged(log: bytes, exchange: Exchange) -> Outcome:
    is_json = log.startswith(b"{")
    for line in log.split(b"\n")[:-1]:
        if is_json:
            try:
                json.loads(line)
            except ValueError:
                return leak(f"a line of the log is no JSON: {line[:200]!r}", [exchange])
        elif not LINE.match(line):
            return leak(f"a line of the log does not begin as lines do: {line[:200]!r}", [exchange])
        if control := CONTROL.search(line):
            return leak(f"{control[0]!r} stands in the log: {line[:300]!r}", [exchange])
        if SECRET in line:
            return leak(f"a query or a payment stands in the log: {line[:300]!r}", [exchange])
    return held([exchange])


async def _bought_with(scene: Scene, method: bytes, payer: pay.Payer, mark: bytes) -> Outcome:
    """What is bought stands in the books, with its method."""
    headers = [(b"PAYMENT-SIGNATURE", pay.encode(payer.payment(scene.offer, scene.random)))]
    return held([await scene.ask(Way.HTTP11, scene.target.path, method=method, headers=headers, mark=mark)])


async def _whole_log(scene: Scene) -> Outcome:
    log = scene.inside.log()
    start = log.find(b"\n2") + 1 if not log.startswith(b"{") else 0
    lines = [line for line in log[start:].split(b"\n") if line and not line.startswith(b"  ") and b" request " in line]
    return _judged(b"\n".join([*lines, b""]), Exchange())


async def _metrics(scene: Scene) -> Outcome:
    page = await scene.inside.metrics()
    if page is None:
        return held()
    exchange = Exchange(received=page)
    lines = [line for line in page.split(b"\n") if line and not line.startswith(b"#")]
    wrong = next((line for line in lines if not EXPOSITION.match(line)), None)
    if wrong:
        return leak(f"a line of the metrics cannot be read: {wrong[:200]!r}", [exchange])
    if b"try-" in page or b"forged" in page:
        return leak("a client's words stand in the metrics", [exchange])
    if len(lines) > SERIES_MAX:
        return leak(f"there are {len(lines)} series", [exchange])
    return held([exchange])


async def _books(scene: Scene) -> Outcome:
    for name, output in (await scene.inside.exported()).items():
        exchange = Exchange(sent=name.encode(), received=output)
        if name.endswith("csv"):
            for row in csv.reader(io.StringIO(output.decode(), newline="")):
                if formula := next((cell for cell in row if cell.startswith(FORMULA)), None):
                    return leak(f"a cell is a formula: {formula!r}", [exchange])
        elif control := CONTROL.search(output.replace(b"\n", b"")):
            return leak(f"{control[0]!r} stands in `{name}`", [exchange])
    return held()


ATTACK = Attack("records", 10, "log lines, metrics, exports", tries, origins=frozenset({"log"}))
