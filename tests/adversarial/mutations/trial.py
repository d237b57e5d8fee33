"""Runs the suite against the copy, with something switched off or with nothing."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mutations.mutation import VARIABLE, Mutation

SUITE = Path(__file__).resolve().parents[1]
SECONDS = 240
"""How long one run of the suite may take."""
CONTROL_TRIES = 0.1


class Unfinished(Exception):
    """A run of the suite did not come to its end."""


@dataclass
class Row:
    """What a row of the suite counted."""

    name: str
    tries: int = 0
    leaks: int = 0
    """Of those that count."""
    broken: int = 0
    """Tries that could not be made."""


@dataclass(frozen=True)
class Plan:
    """A run of the suite."""

    switches: tuple[str, ...]
    rows: frozenset[str]
    origins: frozenset[str]
    tries: float
    matching: str = ""


@dataclass
class Control:
    """A run without the mutation that is looked at: with nothing off, or with what is off beside it."""

    switches: tuple[str, ...]
    rows: list[Row]
    leaked: set[tuple[str, str]]
    """Row and try of what leaked."""


@dataclass
class Trial:
    """A mutation, and what its rows counted with it."""

    mutation: Mutation
    told: list[dict] = field(default_factory=list)
    """Rows of the run, as JSON has them."""
    rows: list[Row] = field(default_factory=list)
    why: str = ""
    """Why the run did not come to its end, if it did not."""
    seconds: float = 0.0


@dataclass
class Bench:
    """Where the runs are made."""

    binary: Path
    folder: Path
    seed: int
    count: int = 0

    async def run(self, plan: Plan) -> list[dict]:
        """The rows of a run as JSON has them."""
        self.count += 1
        report = self.folder / f"{self.count}.json"
        command = [
            sys.executable, "-m", "core", "--server", "tollgate", "--tollgate", str(self.binary), "--seed", str(self.seed),
            "--tries", str(plan.tries), "--seconds", str(SECONDS), "--json", str(report),
            "--leaks", str(report.with_suffix(".txt")), f"--matching={plan.matching}",
            *(f"--only={row}" for row in sorted(plan.rows)), *(f"--origin={origin}" for origin in sorted(plan.origins)),
        ]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(SUITE), VARIABLE: ",".join(plan.switches)}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, cwd=self.folder, env=env, stdout=pipe,
                                                       stderr=asyncio.subprocess.STDOUT)  # fmt: skip
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if not report.is_file():
            what = ", ".join(plan.switches) or "nothing"
            raise Unfinished(f"with {what} switched off the suite ended with {process.returncode}:\n"
                             f"{output.decode(errors='replace')[-3000:]}")  # fmt: skip
        return json.loads(report.read_text())["rows"]


async def run_all(mutations: list[Mutation], binary: Path, folder: Path, seed: int) -> tuple[list[Trial], list[Control]]:
    """Runs everything, as many at a time as there are processors, and what measures time alone."""
    bench = Bench(binary, folder, seed)
    plans = control_plans(mutations)
    controls: dict[Key, Control] = {}
    trials: dict[str, Trial] = {}

    async def control(key: Key, plan: Plan) -> None:
        controls[key] = _controlled(plan, await bench.run(plan))

    async def trial(mutation: Mutation) -> None:
        trials[mutation.name] = await _try(bench, mutation)

    together, alone = [], []
    for key, plan in plans.items():
        (alone if key.alone else together).append(partial(control, key, plan))
    for mutation in mutations:
        (alone if mutation.alone else together).append(partial(trial, mutation))
    # One more than there are processors: some runs do little but wait.
    await _some_at_a_time(together, (os.cpu_count() or 1) + 1)
    await _some_at_a_time(alone, 1)
    for mutation in mutations:
        _judge(trials[mutation.name], controls[_key(mutation)])
    return [trials[mutation.name] for mutation in mutations], list(controls.values())


@dataclass(frozen=True)
class Key:
    """What mutations have the same control."""

    beside: tuple[str, ...]
    matching: str
    alone: bool
    tries: float


def _key(mutation: Mutation) -> Key:
    if not mutation.beside and not mutation.alone and "chain" not in mutation.origins:
        return Key((), "", False, CONTROL_TRIES)
    # What leaks beside is compared try by try, so that it must be the same tries.
    return Key(mutation.beside, mutation.matching, mutation.alone, mutation.tries)


def control_plans(mutations: list[Mutation]) -> dict[Key, Plan]:
    """One control for all mutations that have the same."""
    plans: dict[Key, Plan] = {}
    for mutation in mutations:
        key = _key(mutation)
        before = plans.get(key, Plan(key.beside, frozenset(), frozenset(), key.tries, key.matching))
        plans[key] = replace(before, rows=before.rows | set(mutation.rows), origins=before.origins | set(mutation.origins))
    return plans


def _controlled(plan: Plan, rows: list[dict]) -> Control:
    leaked = {(row["attack"], name) for row in rows for name in row["leaked"]}
    return Control(plan.switches, [_counted(name, rows, re.compile(""), set()) for name in sorted(plan.rows)], leaked)


async def _try(bench: Bench, mutation: Mutation) -> Trial:
    began = time.monotonic()
    rows, origins = frozenset(mutation.rows), frozenset(mutation.origins)
    told, why = [], ""
    try:
        told = await bench.run(Plan(mutation.switches, rows, origins, mutation.tries, mutation.matching))
    except Unfinished as error:
        why = str(error)
    print(f"{mutation.name:<24} {sum(row['leaks'] for row in told)} leaks", file=sys.stderr)
    return Trial(mutation, told, why=why, seconds=time.monotonic() - began)


def _judge(trial: Trial, control: Control) -> None:
    """Counts what leaked because of this mutation alone."""
    beside = control.leaked if control.switches else set()
    shows = re.compile(trial.mutation.shows)
    trial.rows = [_counted(name, trial.told, shows, beside) for name in trial.mutation.rows]


def _counted(name: str, rows: list[dict], shows: re.Pattern[str], beside: set[tuple[str, str]]) -> Row:
    row = Row(name)
    for told in rows:
        if told["attack"] == name:
            row.tries += told["tries"]
            row.leaks += sum(bool(shows.search(one)) and (name, one) not in beside for one in told["leaked"])
            row.broken += len(told["broken"]) + told["unfinished"]
    return row


async def _some_at_a_time(jobs: list[Callable[[], Awaitable[None]]], most: int) -> None:
    slots = asyncio.Semaphore(most)

    async def one(job: Callable[[], Awaitable[None]]) -> None:
        async with slots:
            await job()

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(one(job))
