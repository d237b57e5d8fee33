"""The whole-system benchmarks; ../run.sh tells how they are started."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import report
from load import Measured
from machine import LOAD, PROCESSORS, SERVER, Failed
from scenarios import SCENARIOS, SETTLED, Plan
from systems import REFERENCE, ROOT, Site

PAGE, PLOT, HEADING = ROOT / "benches" / "RESULTS.md", ROOT / "benches" / "e2e.svg", "## Whole systems"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches/e2e/run.sh", description="The whole-system benchmarks.")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=4, help="how long each run takes (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case, in turn with the others (default 5)")
    parser.add_argument("--settled", type=int, default=SETTLED, help="payments of the large ledger (default 10 million)")
    parser.add_argument("--target", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "")


def about(options: argparse.Namespace) -> list[str]:
    model = re.search(r"^model name.*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[1]) >> 20
    wanted = json.loads((REFERENCE / "package.json").read_text())["dependencies"]
    version = lambda text: re.search(r"\d+\.[\w.+-]*", text)[0]  # noqa: E731
    return [
        f"machine: {len(PROCESSORS)} processors, {model[1] if model else platform.machine()}, {memory} GiB, "
        f"{platform.system()} {platform.release()}; the measured server has {len(SERVER)} of them, the load, the origin and "
        f"the facilitator the other {len(LOAD)}",
        f"{options.rounds} runs of {options.seconds:g} s for each line, in turn with those it is compared to, after a warm-up; "
        "a run with a single answer of another status or length than expected ends all",
        f"tollgate {said('git', 'rev-parse', '--short', 'HEAD')}, {said('rustc', '--version')}",
        f"nginx {version(said('nginx', '-v'))}, HAProxy {version(said('haproxy', '-v'))}, wrk {version(said('wrk', '-v'))}, "
        f"h2load {version(said('h2load', '--version').replace('nghttp2', ''))}",
        f"`@x402/express` {wanted['@x402/express']} on express {wanted['express']} and Node {platform_node()}, `x402-axum` 2.0.2: "
        "both hold the page themselves and ask no origin, and both keep no ledger",
        "ratio: of the first line of a table, by requests a second and by processor time for each; server busy: of its processor, where it is far below 100 % the load was the limit; "
        "others' load: what of all processors went to programs outside the benchmark",
    ]


def platform_node() -> str:
    return said("node", "--version").lstrip("v")


def kept(file: Path, commit: str) -> report.Results:
    """Results of scenarios that ran before, of the same commit."""
    if not file.exists() or (old := json.loads(file.read_text()))["commit"] != commit:
        return {}
    return {
        name: {case: [Measured(**run) for run in runs] for case, runs in cases.items()} for name, cases in old["results"].items()
    }


def write(section: str) -> None:
    """Puts the section into the page, in place of the one there was."""
    before, _, rest = PAGE.read_text().partition(HEADING + "\n")
    after = rest.partition("\n## ")[2]
    PAGE.write_text(f"{before.rstrip()}\n\n{HEADING}\n\n{section}\n" + (f"\n## {after}" if after else ""))


def main() -> int:
    options = arguments()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if not LOAD:
        print("one processor for the server and at least one more for the load are needed", file=sys.stderr)
        return 2
    release = options.target / "release"
    commit = said("git", "describe", "--always", "--dirty", "--abbrev=40")
    file = options.target / "e2e.json"
    results = kept(file, commit)
    (options.target / "tmp").mkdir(exist_ok=True)
    # The load of this process itself stays away from the server.
    os.sched_setaffinity(0, LOAD)
    with tempfile.TemporaryDirectory(prefix="e2e.", dir=options.target / "tmp") as folder:
        site = Site(Path(folder), release, options.target / "x402-axum" / "release" / "bench-x402-axum")
        try:
            plan = Plan(site, options.seconds, options.rounds, options.settled, lambda line: print(line, flush=True))
            for name in options.only:
                title, scenario = SCENARIOS[name]
                print(f"\n{name}: {title}", flush=True)
                results[name] = scenario(plan)
                raw = {name: {case: [asdict(run) for run in runs] for case, runs in cases.items()} for name, cases in results.items()}
                file.write_text(json.dumps({"commit": commit, "results": raw}, indent=1))
        except Failed as failed:
            print(f"FAILED {name}: {failed}", file=sys.stderr)
            return 1
        finally:
            site.stop()
    dated = f"Written by `benches/e2e/run.sh` on {datetime.now(UTC):%F}."
    write(dated + "\n\n" + report.page(results, about(options)))
    PLOT.write_text(report.plot(results))
    print("\n" + report.goals(results))
    return 0


sys.exit(main())
