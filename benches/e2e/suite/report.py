"""The results as tables, a plot, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from load import Measured
from scenarios import SCENARIOS

Results = dict[str, dict[str, list[Measured]]]


def middle(runs: list[Measured], what: str = "per_second") -> float:
    return median(getattr(run, what) for run in runs)


@dataclass(frozen=True)
class Goal:
    scenario: str
    text: str
    reference: str
    at_least: bool
    bound: float
    unit: str
    value: Callable[[dict[str, list[Measured]]], float]


def rate(one: str, other: str) -> Callable[[dict], float]:
    return lambda cases: middle(cases[one]) / middle(cases[other])


def added(quantile: str) -> Callable[[dict], float]:
    def value(cases: dict) -> float:
        through, alone = cases.values()
        return (middle(through, quantile) - middle(alone, quantile)) / 1e3

    return value


def last_by_first(what: str) -> Callable[[dict], float]:
    def value(cases: dict) -> float:
        runs = list(cases.values())
        return middle(runs[-1], what) / middle(runs[0], what)

    return value


def slowest_refusal(cases: dict) -> float:
    return min(middle(cases[name]) for name in ("not base64", "no payment inside")) / middle(cases["no payment"])


GOALS = [
    Goal("challenge", "unpaid challenge, HTTP/1", "nginx `return 402`, same bytes", True, 0.85, "×", rate("tollgate", "nginx")),
    Goal("challenge", "the same, the aim", "nginx `return 402`, same bytes", True, 1.0, "×", rate("tollgate", "nginx")),
    Goal("challenge-h2", "unpaid challenge, HTTP/2", "nginx, same bytes", True, 0.85, "×", rate("tollgate", "nginx")),
    Goal("free-small", "free, 1 KB", "bare Pingora", True, 0.97, "×", rate("tollgate", "Pingora")),
    Goal("free-small", "free, 1 KB", "nginx", True, 0.70, "×", rate("tollgate", "nginx")),
    Goal("paid-0", "fresh payments, facilitator 0 ms", "`@x402/express`, which keeps no ledger", True, 20, "×",
         rate("tollgate", "@x402/express")),
    Goal("paid-0", "fresh payments, facilitator 0 ms", "`x402-axum`, which keeps no ledger", True, 3, "×", rate("tollgate", "x402-axum")),
    Goal("paid-0", "fresh payments a second on one core, all durable", "–", True, 6000, "/s", lambda cases: middle(cases["tollgate"])),
    Goal("latency", "added to a paid request at half load, p50", "facilitator and origin alone", False, 0.3, "ms", added("p50_us")),
    Goal("latency", "the same, p99", "facilitator and origin alone", False, 1.0, "ms", added("p99_us")),
    Goal("refused", "junk payments refused, the slowest kind", "unpaid challenge", True, 0.5, "×", slowest_refusal),
    Goal("refused", "another account's signature refused", "unpaid challenge", True, 0.5, "×",
         rate("another account's signature", "no payment")),
    Goal("routes", "processor time, 10 to 100,000 routes", "itself", False, 1.3, "×", last_by_first("cpu_us")),
    Goal("ledger", "time of a claim, empty to full ledger", "itself", False, 1.2, "×", lambda cases: 1 / last_by_first("per_second")(cases)),
    Goal("ledger", "memory, empty to full ledger", "itself", False, 1.2, "×", last_by_first("memory")),
    Goal("idle", "memory of an idle connection", "bare Pingora", False, 1.0, "×",
         lambda cases: middle(cases["tollgate"], "memory") / middle(cases["Pingora"], "memory")),
    Goal("idle", "the same, the aim", "bare Pingora", False, 0.5, "×",
         lambda cases: middle(cases["tollgate"], "memory") / middle(cases["Pingora"], "memory")),
    Goal("hanging", "free beside payments that hang", "alone", True, 0.97, "×", rate("beside payments that hang", "alone")),
]  # fmt: skip


def goals(results: Results) -> str:
    lines = ["| Goal | Reference in the same run | Wanted | Measured | |", "|---|---|--:|--:|---|"]
    for goal in GOALS:
        if goal.scenario not in results:
            continue
        value = goal.value(results[goal.scenario])
        met = value >= goal.bound if goal.at_least else value <= goal.bound
        shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
        wanted = f"{'≥' if goal.at_least else '≤'} {goal.bound:g}{goal.unit if goal.unit != 'ms' else ' ms'}"
        unit = " ms" if goal.unit == "ms" else goal.unit
        lines.append(f"| {goal.text} | {goal.reference} | {wanted} | {shown}{unit} | {'met' if met else '**missed**'} |")
    return "\n".join(lines)


def table(cases: dict[str, list[Measured]]) -> str:
    first = next(iter(cases.values()))
    if not middle(first):
        lines = ["| | KiB each, median (least – most) |", "|---|--:|"]
        for name, runs in cases.items():
            sizes = [run.memory / 1024 for run in runs]
            lines.append(f"| {name} | {median(sizes):.1f} ({min(sizes):.1f} – {max(sizes):.1f}) |")
        return "\n".join(lines)
    lines = [
        "| | per second, median (least – most) | ratio | processor time each | ratio | p50 | p99 | server busy | others' load |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    ratio_to, cpu_ratio_to = middle(first), middle(first, "cpu_us")
    for name, runs in cases.items():
        rates = [run.per_second for run in runs]
        cpu, busy, p50, p99, others = (middle(runs, what) for what in ("cpu_us", "busy", "p50_us", "p99_us", "foreign"))
        cells = [
            name, f"{median(rates):,.0f} ({min(rates):,.0f} – {max(rates):,.0f})", f"{median(rates) / ratio_to:.2f}",
            f"{cpu:.1f} µs" if cpu else "–", f"{cpu_ratio_to / cpu:.2f}" if cpu else "–", f"{p50 / 1e3:.2f} ms" if p50 else "–", f"{p99 / 1e3:.2f} ms" if p99 else "–",
            f"{busy:.0%}" if busy else "–", f"{others:.0%}" if busy else "–",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(results: Results, about: list[str]) -> str:
    parts = ["\n".join(f"- {line}" for line in about), goals(results), "![Requests per second](e2e.svg)"]
    others = max(run.foreign for cases in results.values() for runs in cases.values() for run in runs)
    if others > OTHERS_MAX:
        warning = f"**Disturbed: in one of the runs other programs took {others:.0%} of the processors. No figure here counts.**"
        parts.insert(0, warning)
    for name, (title, _) in SCENARIOS.items():
        if name in results:
            parts.append(f"### {title}\n\n{table(results[name])}")
    return "\n\n".join(parts)


OTHERS_MAX = 0.1
"""Above this share of the processors for other programs a run says little."""
BAR, LEFT, WIDTH = 22, 210, 420


def plot(results: Results) -> str:
    """Bars of the medians with the spread as a line, each scenario to its own scale."""
    rows, y = [], 10
    for name, (title, _) in SCENARIOS.items():
        cases = results.get(name, {})
        if not cases or not middle(next(iter(cases.values()))):
            continue
        rows.append(f'<text x="10" y="{y + 16}" font-weight="bold">{escaped(title)}, per second</text>')
        y += 26
        scale = WIDTH / max(run.per_second for runs in cases.values() for run in runs)
        for case, runs in cases.items():
            rates = [run.per_second * scale for run in runs]
            own = case in ("tollgate", "through the gateway")
            rows.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escaped(case)}</text>')
            rows.append(f'<rect x="{LEFT}" y="{y + 3}" width="{median(rates):.1f}" height="{BAR - 8}" fill="{"#1f6feb" if own else "#9aa5b1"}"/>')
            rows.append(f'<path d="M{LEFT + min(rates):.1f} {y + 10}H{LEFT + max(rates):.1f}" stroke="#24292f" stroke-width="2"/>')
            rows.append(f'<text x="{LEFT + max(rates) + 8:.1f}" y="{y + 14}">{middle(runs):,.0f}</text>')
            y += BAR
        y += 14
    style = 'font-family="system-ui, sans-serif" font-size="13" fill="#24292f"'
    size = f'width="{LEFT + WIDTH + 90}" height="{y}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect {size} fill="#ffffff"/>\n' + "\n".join(rows) + "\n</svg>\n"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("`", "")
