"""Processes on chosen processors, and what they cost."""

import os
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

PROCESSORS = sorted(os.sched_getaffinity(0))
# The measured server has one processor, the load and everything the server asks have the others.
SERVER, LOAD = {PROCESSORS[0]}, set(PROCESSORS[1:])
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 120.0


class Failed(Exception):
    """A run that must not count."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Process:
    """A running program, pinned; its output goes to a file."""

    command: list[str]
    processors: set[int]
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = self.folder / f"{Path(self.command[0]).name}-{free_port()}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, env=os.environ | self.env,
                preexec_fn=lambda: os.sched_setaffinity(0, self.processors),
            )  # fmt: skip

    def cpu_seconds(self) -> float:
        """Processor time it has used."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait_for(self, port: int) -> None:
        """Waits until somebody listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{self.command} does not listen:\n{self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


def idle_seconds(processors: set[int]) -> float:
    """Time the processors had nothing to do since the machine started."""
    idle = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name[3:] and int(name[3:]) in processors:
            idle += int(values[3]) + int(values[4])
    return idle / TICKS


@dataclass(frozen=True)
class Answer:
    """An HTTP/1 answer, to the byte."""

    status: int
    head: bytes
    body: bytes

    @property
    def size(self) -> int:
        return len(self.head) + len(self.body)

    def header(self, name: str) -> str:
        for line in self.head.decode().split("\r\n"):
            if line.lower().startswith(name + ":"):
                return line.partition(":")[2].strip()
        return ""


def ask(port: int, path: str, headers: str = "", tls: bool = False) -> Answer:
    """Asks once, and reads the answer by its length or its chunks."""
    with socket.create_connection(("127.0.0.1", port), 30) as stream:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stream = context.wrap_socket(stream)  # noqa: PLW2901
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        file = stream.makefile("rb")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = file.readline()
            if not line:
                raise Failed(f"{path}: no whole answer: {head!r}")
            head += line
        answer = Answer(int(head.split(b" ")[1]), head, b"")
        length = answer.header("content-length")
        if length:
            return Answer(answer.status, head, file.read(int(length)))
        raw = b""
        while not raw.endswith(b"0\r\n\r\n"):
            raw += file.readline()
        return Answer(answer.status, head, raw)
