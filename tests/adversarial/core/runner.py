"""Runs attacks: several tries at a time, not faster than told, not longer than told."""

import asyncio
import re
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from core.attack import Attack, Kind, Need, Outcome, Try
from core.scene import Scene

TRY_SECONDS = 90.0
PAID_EVERY = 10
"""Of tries that pay with an account that was given, one in so many is made."""
LEAKS_KEPT_MAX = 20
"""Leaks of one row that are kept with their bytes."""


@dataclass
class Bounds:
    """What a run may cost."""

    rate: float = 2000.0
    """Tries begun a second."""
    seconds: float = 600.0
    """Time for everything."""
    at_once: int = 16
    """Tries under way at a time."""
    matching: re.Pattern[str] = re.compile("")
    """Only tries are made whose names have this in them."""

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    def over(self) -> bool:
        return time.monotonic() - self.started > self.seconds


@dataclass
class Leak:
    name: str
    outcome: Outcome


@dataclass
class Row:
    """What came of one attack on one target."""

    attack: Attack
    server: str
    origin: str
    tries: int = 0
    leaks: int = 0
    headers_only: int = 0
    """Leaks of headers alone."""
    refused: int = 0
    unpaid_work: int = 0
    inapplicable: Counter[str] = field(default_factory=Counter)
    """Tries that were not run, by reason."""
    broken: list[str] = field(default_factory=list)
    """Tries that ended in an error of the suite or of the connection to the server."""
    unfinished: int = 0
    """Tries left when the time was over."""
    kept: list[Leak] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    """Names of all tries that leaked."""
    seconds: float = 0.0


async def run(attack: Attack, scene: Scene, bounds: Bounds, server: str, origin: str) -> Row:
    """Runs all tries of an attack against a target."""
    row = Row(attack, server, origin)
    began = time.monotonic()
    at_once = asyncio.Semaphore(1 if attack.alone else bounds.at_once)
    running: set[asyncio.Task[None]] = set()
    for number, one in enumerate(attack.tries(scene)):
        if not bounds.matching.search(one.name):
            continue
        missing = next((need for need in one.needs if not scene.has(need)), None)
        if missing:
            row.inapplicable[missing.value] += 1
            continue
        if Need.PAYMENT in one.needs and not scene.any_payer and number % PAID_EVERY:
            # Somebody's own money is spent: on a sample only.
            continue
        if bounds.over():
            row.unfinished += 1
            continue
        due = began + number / bounds.rate - time.monotonic()
        if due > 0:
            await asyncio.sleep(due)
        await at_once.acquire()
        task = asyncio.create_task(_run_one(one, row))
        running.add(task)
        task.add_done_callback(lambda done: (running.discard(done), at_once.release()))
    await asyncio.gather(*running)
    row.seconds = time.monotonic() - began
    return row


async def _run_one(one: Try, row: Row) -> None:
    try:
        outcome = await asyncio.wait_for(one.run(), TRY_SECONDS)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not the run was stopped, but something that the try itself had started.
        row.broken.append(f"{one.name}: a part of it was cancelled")
        return
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        row.broken.append(f"{one.name}: {error!r} at {where.filename.rpartition('/')[2]}:{where.lineno}")
        return
    match outcome.kind:
        case Kind.INAPPLICABLE:
            row.inapplicable[outcome.why] += 1
            return
        case Kind.LEAK:
            row.leaks += 1
            row.leaked.append(one.name)
            row.headers_only += outcome.headers_only
        case Kind.REFUSED:
            row.refused += 1
        case Kind.HELD:
            pass
    row.tries += 1
    row.unpaid_work += outcome.unpaid_work
    if outcome.kind in (Kind.LEAK, Kind.REFUSED) and len(row.kept) < LEAKS_KEPT_MAX:
        row.kept.append(Leak(one.name, outcome))
