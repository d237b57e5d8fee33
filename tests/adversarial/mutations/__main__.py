"""Entry point; `run.sh mutations` starts it."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from attacks import ALL as ATTACKS
from mutations import ALL
from mutations.build import build
from mutations.mutation import Mutation, Stale, check, check_page
from mutations.trial import Control, Trial, Unfinished, run_all

DESCRIPTION = """\
Switches each defence of tollgate off in a copy of it, and runs the rows of the suite that must notice. Exit status: 0 every
mutation made its rows leak, and without one nothing leaked; 1 a mutation survived, or something leaked without one; 2 the
list does not fit the source any more, or a run did not come to its end.
"""
SEED = 1
PAGE = Path(__file__).resolve().parents[1] / "THREATS.md"


def main() -> int:
    given = _arguments()
    rows = {attack.name for attack in ATTACKS}
    try:
        check(ALL, rows)
        check_page(ALL, PAGE.read_text())
        if unknown := set(given.only) - {mutation.name for mutation in ALL}:
            raise Stale(f"no such mutations: {', '.join(sorted(unknown))}; --list shows them")
        chosen = [mutation for mutation in ALL if mutation.rows and (not given.only or mutation.name in given.only)]
        if given.list:
            for mutation in chosen:
                print(f"{mutation.name:<24} {', '.join(mutation.rows)}: {mutation.defence}")
            return 0
        began = time.monotonic()
        binary = Path(given.mutant).resolve() if given.mutant else build(ALL)
        print(f"built in {time.monotonic() - began:.0f} s", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
            return asyncio.run(_until_told(chosen, binary, Path(folder)))
    except (Stale, Unfinished) as why:
        print(why, file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("The run was stopped.", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("run.sh mutations", description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--only", action="append", default=[], metavar="MUTATION", help="this one alone; may be given again")
    parser.add_argument("--list", action="store_true", help="print the mutations and end")
    parser.add_argument("--mutant", metavar="PATH", help="the copy of tollgate, if it was built before")
    return parser.parse_args()


async def _until_told(chosen: list[Mutation], binary: Path, folder: Path) -> int:
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    began = time.monotonic()
    try:
        trials, controls = await run_all(chosen, binary, folder, SEED)
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    return _tell(trials, controls, time.monotonic() - began)


def _tell(trials: list[Trial], controls: list[Control], seconds: float) -> int:
    """Prints what came of it; the exit status."""
    print(f"{'switched off':<24} {'row':<20}{'tries':>7}{'leaks':>7}  seconds  what is off")
    survived = []
    for trial in trials:
        if trial.why:
            survived.append(f"{trial.mutation.name}: {trial.why}")
        for count, row in enumerate(trial.rows):
            first = count == 0
            name, took = (trial.mutation.name, f"{trial.seconds:>7.1f}") if first else ("", " " * 7)
            about = trial.mutation.defence if first else ""
            print(f"{name:<24} {row.name:<20}{row.tries:>7}{row.leaks:>7}  {took}  {about}")
            if not row.leaks:
                broken = f", and {row.broken} tries could not be made" if row.broken else ""
                survived.append(f"{trial.mutation.name}: {row.name} did not notice{broken}")
    leaked = [f"with nothing off, {row.name} leaked {row.leaks} times" for control in controls if not control.switches
              for row in control.rows if row.leaks]  # fmt: skip
    tries = sum(row.tries for control in controls if not control.switches for row in control.rows)
    print(f"{'nothing':<24} {'all of these rows':<20}{tries:>7}{len(leaked):>7}")
    print(f"{len(trials)} mutations in {seconds:.0f} s, {len(survived)} rows did not notice", *survived, *leaked, sep="\n")
    return 1 if survived or leaked else 0


sys.exit(main())
