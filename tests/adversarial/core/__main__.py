"""Entry point; `run.sh` starts it."""

import asyncio
import signal
import sys
from pathlib import Path

from attacks import ALL
from core import arguments, single
from core.attack import Attack
from core.report import Report
from core.target import Refused


def main() -> int:
    given = arguments.parse()
    if given.list:
        for attack in ALL:
            print(f"{attack.name:<22} {attack.group:>2}  {attack.about}")
        return 0
    unknown = set(given.only) - {attack.name for attack in ALL}
    if unknown:
        print(f"no such attack: {', '.join(sorted(unknown))}; --list shows them", file=sys.stderr)
        return 2
    chosen = [attack for attack in ALL if not given.only or attack.name in given.only]
    try:
        report = asyncio.run(_until_told(given, chosen))
    except (Refused, OSError) as error:
        print(f"The run did not come to its end: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("The run was stopped.", file=sys.stderr)
        return 2
    return _tell(report, given)


async def _until_told(given: arguments.argparse.Namespace, chosen: list[Attack]) -> Report:
    """Runs everything; a signal ends it, and with it all that was started."""
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await _report(given, chosen)


async def _report(given: arguments.argparse.Namespace, chosen: list[Attack]) -> Report:
    if given.url:
        return await single.attack(given, chosen)
    from kit import proof

    return await proof.run(given, chosen)


def _tell(report: Report, given: arguments.argparse.Namespace) -> int:
    print(report.text())
    kept = report.kept()
    Path(given.leaks).unlink(missing_ok=True)
    if kept:
        Path(given.leaks).write_text(kept)
        print(f"bytes of leaks: {given.leaks}")
        if given.show_leaks:
            print(kept)
    if given.json:
        Path(given.json).write_text(report.json())
    if given.markdown:
        Path(given.markdown).write_text(report.markdown())
    return report.status()


sys.exit(main())
