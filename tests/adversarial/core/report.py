"""How results are told: a table, JSON, Markdown, and the bytes of leaks."""

import json
from collections import Counter
from dataclasses import dataclass, field

from core.runner import Leak, Row

SHOWN_BYTES_MAX = 4096
"""Bytes of one direction of an exchange that are shown."""


@dataclass
class Report:
    seed: int
    servers: dict[str, str] = field(default_factory=dict)
    """What was attacked: name, and in words what it was."""
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)
    """Servers that were attacked for comparison only: what they give away is told, and does not count."""

    def status(self) -> int:
        """The exit status."""
        rows = [row for row in self.rows if row.server not in self.compared]
        if any(row.leaks for row in rows):
            return 1
        incomplete = any(row.broken or row.unfinished for row in rows)
        return 2 if incomplete or not any(row.tries for row in rows) else 0

    def merged(self) -> list["Line"]:
        """A line for each attack on each server, whatever the origin."""
        lines: dict[tuple[str, str], Line] = {}
        for row in self.rows:
            lines.setdefault((row.server, row.attack.name), Line(row.server, row.attack.name, row.attack.group,
                                                                 row.attack.about)).add(row)  # fmt: skip
        order = list(self.servers)
        return sorted(lines.values(), key=lambda line: (order.index(line.server), line.group))

    def text(self) -> str:
        lines = []
        for server, about in self.servers.items():
            lines += ["", f"{server}: {about}", ""]
            lines.append(f"{'attack':<22}{'tries':>8}{'leaks':>8}{'refused':>9}{'unpaid work':>13}{'n/a':>8}  seconds")
            for line in self.merged():
                if line.server == server:
                    lines.append(f"{line.name:<22}{line.tries:>8}{line.leaks:>8}{line.refused:>9}"
                                 f"{line.unpaid_work:>13}{line.inapplicable.total():>8}  {line.seconds:.1f}")  # fmt: skip
            lines += self._remarks(server)
        return "\n".join([*lines, "", *self.notes, f"seed {self.seed}"])

    def _remarks(self, server: str) -> list[str]:
        remarks = []
        for line in self.merged():
            if line.server != server:
                continue
            remarks += [f"  {line.name}: {count} not applicable: {why}" for why, count in line.inapplicable.items()]
            remarks += [f"  {line.name}: leaks behind {origin}: {count}" for origin, count in line.leaks_by_origin.items()]
            if line.headers_only:
                remarks.append(f"  {line.name}: {line.headers_only} of the leaks are of headers alone")
            if line.broken:
                remarks.append(f"  {line.name}: {len(line.broken)} tries could not be made: {line.broken[0]}")
            if line.unfinished:
                remarks.append(f"  {line.name}: {line.unfinished} tries were not made: the time was over")
        return ["", *remarks] if remarks else []

    def markdown(self) -> str:
        servers = list(self.servers)
        lines = [
            "| Attack | "
            + " | ".join(f"{server}: tries | leaks | refused though paid | work unpaid" for server in servers)
            + " |"
        ]
        lines.append("|---|" + "---:|---:|---:|---:|" * len(servers))
        table: dict[tuple[int, str, str], dict[str, Line]] = {}
        for line in self.merged():
            table.setdefault((line.group, line.name, line.about), {})[line.server] = line
        for (group, _, about), cells in sorted(table.items()):
            row = [f"{group}. {about}"]
            for server in servers:
                line = cells.get(server)
                applies = line and line.tries
                row += map(str, [line.tries, line.told_leaks(), line.refused, line.unpaid_work] if applies else ["–"] * 4)
            lines.append("| " + " | ".join(row) + " |")
        lines += ["", *(f"- {server}: {about}" for server, about in self.servers.items())]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        rows = [
            {
                "attack": row.attack.name, "group": row.attack.group, "about": row.attack.about, "server": row.server,
                "origin": row.origin, "tries": row.tries, "leaks": row.leaks, "leaks_of_headers_alone": row.headers_only, "refused_though_paid": row.refused,
                "unpaid_work": row.unpaid_work,
                "inapplicable": dict(row.inapplicable), "broken": row.broken, "unfinished": row.unfinished,
                "seconds": round(row.seconds, 2),
                "leaked": row.leaked,
                "kept": [{"name": leak.name, "kind": leak.outcome.kind.value, "why": leak.outcome.why} for leak in row.kept],
            }
            for row in self.rows
        ]  # fmt: skip
        return json.dumps({"seed": self.seed, "servers": self.servers, "notes": self.notes, "rows": rows}, indent=1)

    def kept(self) -> str:
        """Every leak that was kept, with its bytes."""
        return "\n".join(told(row, leak) for row in self.rows for leak in row.kept)


@dataclass
class Line:
    server: str
    name: str
    group: int
    about: str
    tries: int = 0
    leaks: int = 0
    headers_only: int = 0
    refused: int = 0
    unpaid_work: int = 0
    seconds: float = 0.0
    unfinished: int = 0
    inapplicable: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    leaks_by_origin: dict[str, int] = field(default_factory=dict)

    def told_leaks(self) -> str:
        """Leaks, and how many of them are of headers alone, such as cookies: less than the content, and not nothing."""
        return f"{self.leaks} ({self.headers_only} of headers)" if self.headers_only else str(self.leaks)

    def add(self, row: Row) -> None:
        self.tries += row.tries
        self.leaks += row.leaks
        self.headers_only += row.headers_only
        self.refused += row.refused
        self.unpaid_work += row.unpaid_work
        self.seconds += row.seconds
        self.unfinished += row.unfinished
        self.inapplicable.update(row.inapplicable)
        self.broken += row.broken
        if row.leaks:
            self.leaks_by_origin[row.origin] = row.leaks


def told(row: Row, leak: Leak) -> str:
    lines = [f"== {leak.outcome.kind.value}: {row.attack.name} at {row.server}, {row.origin}", leak.name, leak.outcome.why]
    for exchange in leak.outcome.exchanges:
        lines += ["-- sent", _shown(exchange.sent), "-- received", _shown(exchange.received)]
        if exchange.note:
            lines.append(f"-- {exchange.note}")
    return "\n".join(lines) + "\n"


def _shown(data: bytes) -> str:
    """Bytes so that each can be told from any other."""
    text = data[:SHOWN_BYTES_MAX].decode("latin-1").replace("\\", "\\\\").replace("\r\n", "\\r\\n\n")
    shown = "".join(letter if letter == "\n" or " " <= letter <= "~" else f"\\x{ord(letter):02x}" for letter in text)
    return shown + (f"\n… {len(data) - SHOWN_BYTES_MAX} bytes more" if len(data) > SHOWN_BYTES_MAX else "")
