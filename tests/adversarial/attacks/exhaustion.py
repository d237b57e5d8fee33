"""Floods: many, slow, large, endless or hostile requests, and payments that cost more to check than to make.

While each goes on, a process beside the suite asks for a free page. Every such request must be answered, the middle one not
much later than beside as many clients who mean no harm; nothing priced may come back meanwhile; the server's memory must
stay bounded; and when the flood is over a payment must buy again.
"""

import asyncio
import contextlib
import json
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

from attacks import floods, floods_h2
from core import pay
from core.attack import Attack, Need, Outcome, Try, held, leak, refused_though_paid
from core.scene import Scene
from core.target import Way
from core.wire import Exchange

RATIO_MAX = 25.0
"""How much later the middle free request may be answered than beside a crowd of ordinary clients."""
USUAL_SECONDS_MIN = 0.01
"""An answer counts as no faster than this: below it a ratio says more of the machine than of the server."""
PROBES = 12
USUAL_PROBES = 6
MEMORY_BYTES_MAX = 512 << 20
"""How much more memory a server may have taken after a flood. Whoever holds on to what clients send takes far more."""
BEGIN_SECONDS = 12.0
"""How long a flood may take to be under way."""
RECOVERY_TRIES = 10

Seen = TypeVar("Seen")
Flood = Callable[[Scene, floods.Progress], Awaitable[None]]


def tries(scene: Scene) -> Iterator[Try]:
    for table in (floods.FLOODS, floods_h2.FLOODS):
        for name, (flood, needs) in table.items():
            run = partial(_endure, scene, flood, pay.Payer.made_up(scene.random))
            yield Try(name, run, (Need.FREE, Need.SECRET, *needs))


async def _endure(scene: Scene, flood: Flood, payer: pay.Payer) -> Outcome:
    usual, _ = await _beside(scene, floods.ordinary, lambda: probe(scene, USUAL_PROBES))
    before = scene.inside.memory() if scene.inside else 0
    unpaid: list[Exchange] = []

    async def look() -> tuple[list[tuple[int, float]], int]:
        results, _ = await asyncio.gather(probe(scene, PROBES), _ask_meanwhile(scene, unpaid))
        return results, scene.inside.memory() - before if scene.inside else 0

    (loud, taken), progress = await _beside(scene, flood, look)
    exchanges = progress.exchanges + unpaid
    if sign := scene.secret.found(exchanges):
        return leak(f"without a payment, {sign}", exchanges)
    if why := _suffered(usual, loud) or _grew(taken):
        return leak(why, exchanges[-3:])
    return await _recovered(scene, payer)


async def _beside(scene: Scene, flood: Flood, look: Callable[[], Awaitable[Seen]]) -> tuple[Seen, floods.Progress]:
    """Looks while a flood goes on."""
    progress = floods.Progress()
    flooding = asyncio.create_task(flood(scene, progress))
    waiting = asyncio.create_task(progress.under_way.wait())
    try:
        await asyncio.wait({flooding, waiting}, timeout=BEGIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        seen = await look()
    finally:
        waiting.cancel()
        await _end(flooding, progress)
    if not flooding.cancelled() and (error := flooding.exception()) and not isinstance(error, OSError):
        raise error
    return seen, progress


async def _end(flooding: asyncio.Task[None], progress: floods.Progress) -> None:
    progress.over = True
    while not flooding.done():
        # More than once: `wait_for` of Python 3.11 can lose a cancellation.
        flooding.cancel()
        await asyncio.wait({flooding}, timeout=1)


async def probe(scene: Scene, count: int) -> list[tuple[int, float]]:
    """Asks for the free page from another process."""
    aim = scene.target
    door, path = aim.plain or aim.doors[0], aim.free_path or b"/"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "core.probe",
        door.host,
        str(door.port),
        path.decode(),
        aim.host.decode(),
        str(count),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return [(status, seconds) for status, seconds in json.loads(output)]


async def _ask_meanwhile(scene: Scene, found: list[Exchange]) -> None:
    for _ in range(3):
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            found.append(await scene.ask(Way.HTTP11, scene.target.path))


def _suffered(usual: list[tuple[int, float]], loud: list[tuple[int, float]]) -> str | None:
    unanswered = sum(status == 0 or status >= 500 for status, _ in loud)
    if unanswered:
        return f"{unanswered} of {len(loud)} requests for the free page were not answered"
    bound = max(statistics.median(seconds for _, seconds in usual), USUAL_SECONDS_MIN)
    ratio = statistics.median(seconds for _, seconds in loud) / bound
    if ratio > RATIO_MAX:
        return f"the free page took {ratio:.0f} times as long"
    return None


def _grew(taken: int) -> str | None:
    return f"the server took {taken >> 20} MiB more" if taken > MEMORY_BYTES_MAX else None


async def _recovered(scene: Scene, payer: pay.Payer) -> Outcome:
    if not scene.funded or scene.offer is None:
        return held()
    if not scene.any_payer:
        payer = scene.payer or payer
    exchange = Exchange()
    for _ in range(RECOVERY_TRIES):
        fields = [(b"PAYMENT-SIGNATURE", pay.encode(payer.payment(scene.offer, scene.random)))]
        exchange = await scene.ask(Way.HTTP11, scene.target.path, headers=fields, patience=10)
        if exchange.status() == 200 and scene.secret.found([exchange]):
            return held()
        # Told to come again: comes again.
        await asyncio.sleep(1)
    return refused_though_paid(f"after the flood a payment was answered with {exchange.status()}", [exchange])


ATTACK = Attack("exhaustion", 9, "floods, while a free page is asked for", tries, origins=frozenset({"crowd"}), alone=True)
