"""Loads: what is asked of a running system, how fast it answers, and what that costs it."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from machine import LOAD, PROCESSORS, SERVER, Answer, Failed, Process, ask, idle_seconds
from systems import HERE, PRICED, Running, Site

WARM_SECONDS = 1.0
CONNECTIONS = 64
PAYMENTS_A_SECOND = 4000
"""Signed at the least: a warm-up that was disturbed tells too little."""


@dataclass
class Measured:
    """One run. Times in microseconds; shares of processors between 0 and 1."""

    per_second: float
    cpu_us: float
    """Processor time of the server for one request."""
    p50_us: float
    p99_us: float
    busy: float
    """How busy the server kept its processor. Far below 1: something else was the limit."""
    foreign: float
    """What of all processors went to programs that have nothing to do with the run."""
    memory: int = 0


@dataclass
class Load:
    """Requests over HTTP/1, as many as the connections carry."""

    path: str = PRICED
    header: str = ""
    above399: float = 0
    """Which share of the answers is to have a status of 400 or above."""
    size: int | None = None
    """Bytes each answer is to have."""
    connections: int = CONNECTIONS
    turns: list[str] = field(default_factory=list)
    """Instead of `path`: the arguments of mixed.lua."""
    kind: str = "good"
    """Which payments "$" in `turns` takes."""
    seconds_min: float = 0

    def run(self, site: Site, running: Running, seconds: float) -> Measured:
        pays = any(turn.startswith("$") for turn in self.turns)
        # Where the payments run out while it warms up, what is answered then is answered faster.
        warm = self.once(site, running, WARM_SECONDS, payments(site, running, 10_000, self.kind) if pays else None)[0]
        seconds = max(seconds, self.seconds_min)
        file = None
        if pays:
            share = sum(turn.startswith("$") for turn in self.turns) / len(self.turns)
            per_second = max(2 * warm["requests"] / warm["seconds"] * share, PAYMENTS_A_SECOND)
            file = payments(site, running, int(per_second * seconds) + 2 * self.connections, self.kind)
        said, measured = self.once(site, running, seconds, file)
        self.judge(said)
        return measured

    def once(self, site: Site, running: Running, seconds: float, file: Path | None) -> tuple[dict, Measured]:
        threads = 1 if self.turns else len(LOAD)
        script = ["mixed.lua" if self.turns else "report.lua"]
        arguments = [str(file or "-"), *self.turns] if self.turns else []
        header = ["-H", self.header] if self.header else []
        command = [
            "wrk", f"-t{threads}", f"-c{self.connections}", f"-d{round(seconds)}s", "--timeout", "30s", "--latency",
            "-s", str(HERE / script[0]), *header, f"http://127.0.0.1:{running.port}{self.path}", "--", *arguments,
        ]  # fmt: skip
        watch = Watch(site, running)
        output = run(command)
        said = json.loads(output.splitlines()[-1])
        return said, watch.measured(said["requests"], said["seconds"], said["p50_us"], said["p99_us"])

    def judge(self, said: dict) -> None:
        """A run with other answers than expected measures nothing."""
        requests = said["requests"]
        # Wrk counts what was asked, of which as many as there are connections may not be answered yet.
        slack = self.connections if 0 < self.above399 < 1 else 0
        if abs(said["above399"] - requests * self.above399) > slack or said["broken"] or not requests:
            raise Failed(f"answers that are not expected: {said}")
        if self.size and abs(said["bytes"] - requests * self.size) > self.connections * self.size:
            raise Failed(f"answers are to have {self.size} bytes: {said}")


@dataclass
class Load2:
    """Requests over HTTP/2 with TLS."""

    path: str = PRICED
    above399: float = 0
    connections: int = 32
    streams: int = 16

    def run(self, site: Site, running: Running, seconds: float) -> Measured:
        self.once(site, running, WARM_SECONDS)
        return self.once(site, running, seconds)

    def once(self, site: Site, running: Running, seconds: float) -> Measured:
        # H2load does not count what is asked while connections are made, and we do not either.
        command = [
            "h2load", f"-D{round(seconds)}", f"-c{self.connections}", f"-m{self.streams}", f"-t{len(LOAD)}",
            "--npn-list=h2", f"https://127.0.0.1:{running.port}{self.path}",
        ]  # fmt: skip
        watch = Watch(site, running)
        output = run(command)
        statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
        rest = re.search(r"requests: .* (\d+) failed, (\d+) errored, (\d+) timeout", output)
        if not statuses or not rest or "Application protocol: h2" not in output:
            raise Failed(output)
        success, redirected, refused, broken = map(int, statuses.groups())
        requests = success + refused
        if not requests or refused != requests * self.above399 or redirected + broken or int(rest[2]) or int(rest[3]):
            raise Failed(f"answers that are not expected:\n{output}")
        # H2load does not tell quantiles.
        return watch.measured(requests, seconds, 0, 0)


@dataclass
class Watch:
    """Takes the time of processors from its making on."""

    site: Site
    running: Running

    def __post_init__(self) -> None:
        self.start = self.now()

    def now(self) -> tuple[float, ...]:
        own = self.running.process.cpu_seconds()
        others = sum(process.cpu_seconds() for process in self.site.processes)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        idle = idle_seconds(set(PROCESSORS))
        return time.monotonic(), own, others + children.ru_utime + children.ru_stime, idle

    def measured(self, requests: int, seconds: float, p50: float, p99: float) -> Measured:
        wall, own, others, idle = (now - start for now, start in zip(self.now(), self.start, strict=True))
        capacity = wall * len(PROCESSORS)
        return Measured(
            per_second=requests / seconds, cpu_us=own / requests * 1e6 if requests else 0, p50_us=p50, p99_us=p99,
            busy=own / wall / len(SERVER), foreign=max(0.0, (capacity - idle - own - others) / capacity),
            memory=self.running.process.memory(),
        )  # fmt: skip


def run(command: list[str]) -> str:
    # Where this process itself runs: beside the server.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{command}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def payments(site: Site, running: Running, count: int, kind: str = "good") -> Path:
    """A file of payments that nobody has presented yet, for what the system asks for."""
    file = site.folder / "payments"
    required = challenge(running).header("payment-required")
    command = [str(site.programs / "tollgate-bench"), "payments", kind, str(count), required, str(file)]
    subprocess.run(command, check=True)
    return file


def challenge(running: Running) -> Answer:
    """What the system asks for; waits until it knows."""
    deadline = time.monotonic() + 30
    while True:
        answer = ask(running.port, PRICED)
        if answer.status == 402:
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"{running.name} does not ask for a payment: {answer}")
        time.sleep(0.1)


def pay(site: Site, running: Running) -> tuple[str, Answer]:
    """A payment that was presented once, and what it bought."""
    payment = payments(site, running, 1).read_text().strip()
    return payment, ask(running.port, PRICED, f"PAYMENT-SIGNATURE: {payment}\r\n")


def pace(site: Site, running: Running | None, rate: float, seconds: float, file: Path) -> dict:
    """Paid requests at a pace, through the gateway or directly: their count and quantiles."""
    way = ["gateway", f"127.0.0.1:{running.port}", PRICED] if running else [
        "direct", f"127.0.0.1:{site.facilitator(0)}", f"127.0.0.1:{site.origin}", PRICED,
    ]  # fmt: skip
    command = [str(site.programs / "tollgate-bench"), "pace", str(rate), str(seconds), "32", str(file), *way]
    return json.loads(run(command))


def idle_connections(running: Running, count: int) -> float:
    """Bytes of memory the system keeps for each connection that has asked once and says nothing more."""
    before, streams = running.process.memory(), []
    try:
        for _ in range(count):
            stream = socket.create_connection(("127.0.0.1", running.port), 10)
            streams.append(stream)
            stream.sendall(f"GET {PRICED} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            if not stream.recv(65536).startswith(b"HTTP/1.1 402"):
                raise Failed("an answer that is not expected")
        time.sleep(1)
        return (running.process.memory() - before) / count
    finally:
        for stream in streams:
            stream.close()


def background(site: Site, running: Running) -> Process:
    """Paid requests until it is stopped."""
    file = payments(site, running, 100_000).rename(site.folder / "background")
    command = [
        "wrk", "-t1", "-c200", "-d600s", "--timeout", "600s", "-s", str(HERE / "mixed.lua"),
        f"http://127.0.0.1:{running.port}{PRICED}", "--", str(file), "$" + PRICED,
    ]  # fmt: skip
    return Process(command, LOAD, site.folder)
