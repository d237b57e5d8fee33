"""What stays behind on a connection.

A connection carries many requests, of which some are paid, some are refused, and some are broken off. A server that answers
early, that loses count of what it has read, or that remembers a payment longer than its request gives the page away to the
next one.
"""

from collections.abc import Iterator
from functools import partial

from core import http1, http2, pay
from core.attack import Attack, Need, Outcome, Try, held, leak
from core.http1 import Headers
from core.scene import PAID_SECONDS, PATIENCE_SECONDS, PAYMENT, TRY_HEADER, Scene
from core.target import Way
from core.wire import Connection, Exchange, answered

PAID = (Need.PAYMENT, Need.SECRET)


def tries(scene: Scene) -> Iterator[Try]:
    yield from _pipelines(scene)
    yield from _bodies_behind_402(scene)
    if scene.funded:
        yield from _paid_and_unpaid(scene)
        yield from _broken_off(scene)
    else:
        yield Try("payments that are broken off", partial(_nothing), PAID)


async def _nothing() -> Outcome:
    return held()


def _request(
    scene: Scene, mark: bytes, path: bytes, *more: tuple[bytes, bytes], method: bytes = b"GET", body: bytes = b""
) -> bytes:
    fields: Headers = [(b"Host", scene.target.host), (TRY_HEADER, mark), *more]
    return http1.request(method, path, fields, body)


def _pipelines(scene: Scene) -> Iterator[Try]:
    """Many requests in one write, none of them paid."""
    free, path = scene.target.free_path or b"/", scene.target.path
    for shape in ("pp", "ppp", "pppppppp", "fp", "pf", "fpf", "pfp", "ffp", "ppf", "pfpfpfpf", "fffffffp"):
        for close in (False, True):
            mark = scene.mark()
            parts = [_request(scene, mark, path if letter == "p" else free) for letter in shape]
            if close:
                parts[0] = parts[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            for piece in (1 << 20, 100, 7):
                run = partial(_in_pieces, scene, b"".join(parts), len(parts), piece, mark)
                yield Try(f"pipelined {shape}{', closing' * close}, {piece} bytes at a time", run, (Need.SECRET,))


async def _in_pieces(scene: Scene, data: bytes, count: int, piece: int, mark: bytes) -> Outcome:
    door = scene.target.door(Way.HTTP11)
    assert door
    async with Connection(door, patience=PATIENCE_SECONDS / 4) as connection:
        for at in range(0, len(data), piece):
            await connection.send(data[at : at + piece])
        connection.exchange.methods += [b"GET"] * count
        return scene.judge([await connection.read(answered(count))], mark)


def _bodies_behind_402(scene: Scene) -> Iterator[Try]:
    """Requests that are refused before their body is read: the body must not be taken for the next request."""
    path, free = scene.target.path, scene.target.free_path or b"/"
    for method in (b"POST", b"PUT", b"GET", b"HEAD", b"OPTIONS", b"DELETE"):
        for expect in (False, True):
            for padding in (0, 3000, 70_000, 300_000):
                for chunked in (False, True):
                    mark = scene.mark()
                    inner = b"x" * padding + b"\r\n\r\n" + _request(scene, mark, free + b"?body") + _request(scene, mark, path)
                    more: Headers = [(b"Expect", b"100-continue")] if expect else []
                    if chunked:
                        more.append((b"Transfer-Encoding", b"chunked"))
                        body = b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"
                    else:
                        more.append((b"Content-Length", b"%d" % len(inner)))
                        body = inner
                    head = _request(scene, mark, path, *more, method=method)
                    for late in (False, True):
                        run = partial(_body_behind, scene, head, body, method, mark, late)
                        name = f"{method.decode()} {padding} bytes{', chunked' * chunked}{', expecting 100' * expect}"
                        yield Try(name + ", the body after the answer" * late, run, (Need.SECRET,))


async def _body_behind(scene: Scene, head: bytes, body: bytes, method: bytes, mark: bytes, late: bool) -> Outcome:
    """Two requests, the first with a body that looks like others. More than two answers: the body was taken for some."""
    door = scene.target.door(Way.HTTP11)
    assert door
    last = _request(scene, mark, scene.target.free_path or b"/", (b"Connection", b"close"))
    async with Connection(door, patience=PATIENCE_SECONDS / 4) as connection:
        await connection.send(head, method, b"GET")
        if late:
            await connection.read(lambda exchange: bool(exchange.messages()))
        await connection.send(body + last)
        exchange = await connection.read(None)
    if len(exchange.answers()) > 2:
        return leak("the body of a request that was refused was taken for further requests", [exchange])
    return scene.judge([exchange], mark)


def _paid_and_unpaid(scene: Scene) -> Iterator[Try]:
    """A payment is for its request, not for its connection or its neighbours."""
    assert scene.offer
    path = scene.target.path
    for shape in ("$p", "p$", "$pp", "p$p", "$fp", "fp$", "pf$f", "$$", "p$p$p"):
        for piece in (1 << 20, 50):
            payer, mark = scene.new_payer(), scene.mark()
            parts = []
            for letter in shape:
                payment = (PAYMENT, pay.encode(payer.payment(scene.offer, scene.random)))
                target = (scene.target.free_path or b"/") if letter == "f" else path
                parts.append(_request(scene, mark, target, *([payment] if letter == "$" else [])))
            run = partial(_judged_pipeline, scene, b"".join(parts), len(parts), piece, mark, payer)
            yield Try(f"paid ($) and unpaid (p): {shape}, {piece} bytes at a time", run, PAID)
    for way in (Way.H2, Way.H2C):
        for order in ("$p", "p$", "$pppp", "pp$pp"):
            for reset in (False, True):
                payer, mark = scene.new_payer(), scene.mark()
                payment = pay.encode(payer.payment(scene.offer, scene.random))
                run = partial(_streams, scene, way, order, payment, reset, mark, payer)
                yield Try(f"{way.value} streams {order}{', the paid one reset' * reset}", run, (*PAID, *scene.target.needs(way)))


async def _judged_pipeline(scene: Scene, data: bytes, count: int, piece: int, mark: bytes, payer: pay.Payer) -> Outcome:
    door = scene.target.door(Way.HTTP11)
    assert door
    async with Connection(door, patience=PAID_SECONDS) as connection:
        for at in range(0, len(data), piece):
            await connection.send(data[at : at + piece])
        connection.exchange.methods += [b"GET"] * count
        return scene.judge_paid([await connection.read(answered(count))], mark, payer)


async def _streams(
    scene: Scene, way: Way, order: str, payment: bytes, reset: bool, mark: bytes, payer: pay.Payer
) -> Outcome:  # fmt: skip
    door = scene.target.door(way)
    assert door
    scheme = b"https" if door.tls else b"http"
    data = http2.start()
    for number, letter in enumerate(order):
        stream = 2 * number + 1
        fields: Headers = [(b"x-try", mark)]
        if letter == "$":
            fields.append((PAYMENT.lower(), payment))
        data += http2.request(b"GET", scene.target.path, scene.target.host, scheme, fields, stream=stream)
        if letter == "$" and reset:
            data += http2.frame(http2.RST_STREAM, 0, stream, bytes([0, 0, 0, 8]))
    async with Connection(door, alpn="h2", patience=PAID_SECONDS) as connection:
        await connection.send(data)
        exchange = await connection.read(answered(len(order) - reset))
    if reset:
        # Who hangs up may have been charged; what was paid for is owed then, and is not lost.
        return await _fetched(scene, payment, mark, payer, [exchange])
    return scene.judge_paid([exchange], mark, payer)


def _broken_off(scene: Scene) -> Iterator[Try]:
    """Paid requests that are broken off at any byte; then somebody asks unpaid, and the payer asks again."""
    assert scene.offer
    for body in (None, b"x" * 50):
        length = len(_paid_head(scene, scene.mark(), b"", body)) + 900
        for cut in [*range(0, length, max(1, length // round(40 * scene.scale + 1))), -1, -2, -3, -4, 1 << 20]:
            payer, mark = scene.new_payer(), scene.mark()
            payment = pay.encode(payer.payment(scene.offer, scene.random))
            run = partial(_cut, scene, _paid_head(scene, mark, payment, body), cut, payment, mark, payer, body)
            yield Try(f"broken off at byte {cut}{' of a POST' * bool(body)}", run, PAID)


def _paid_head(scene: Scene, mark: bytes, payment: bytes, body: bytes | None) -> bytes:
    method = b"GET" if body is None else b"POST"
    more: Headers = [(PAYMENT, payment)] + ([(b"Content-Length", b"%d" % len(body))] if body else [])
    return _request(scene, mark, scene.target.path, *more, method=method, body=body or b"")


async def _cut(
    scene: Scene, data: bytes, cut: int, payment: bytes, mark: bytes, payer: pay.Payer, body: bytes | None
) -> Outcome:  # fmt: skip
    door = scene.target.door(Way.HTTP11)
    assert door
    async with Connection(door, patience=PAID_SECONDS) as connection:
        await connection.send(data[:cut])
    other = await scene.ask(Way.HTTP11, scene.target.path, mark=mark)
    if sign := scene.secret.found([other]):
        return leak(f"somebody else got it: {sign}", [connection.exchange, other])
    return await _fetched(scene, payment, mark, payer, [connection.exchange], body)


async def _fetched(
    scene: Scene, payment: bytes, mark: bytes, payer: pay.Payer, before: list[Exchange], body: bytes | None = None
) -> Outcome:  # fmt: skip
    """The same request again until it is neither in use (503) nor unknown: what was charged must be delivered, once."""
    method = b"GET" if body is None else b"POST"
    for _ in range(50):
        exchange = await scene.ask(Way.HTTP11, scene.target.path, method=method, headers=[(PAYMENT, payment)], body=body,
        mark=mark,
                                   patience=PAID_SECONDS)  # fmt: skip
        if exchange.status() not in (503, None):
            break
    return scene.judge_paid([*before, exchange], mark, payer)


ATTACK = Attack("connections", 6, "pipelining behind a 402, bodies of refused requests, payments broken off", tries)
