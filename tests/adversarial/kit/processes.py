"""Child processes: started with their output kept, ended by their id."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

READY_SECONDS = 60.0
END_SECONDS = 10.0
Started = TypeVar("Started")


class NotReady(Exception):
    """A program did not come up."""


class Process:
    """A running program. Its output goes to a file, whose end is shown when it fails."""

    def __init__(self, name: str, log: Path, process: asyncio.subprocess.Process):
        self.name, self.log, self.process = name, log, process

    @staticmethod
    async def start(name: str, folder: Path, *command: str, env: dict[str, str] | None = None) -> "Process":
        log = folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
                env={**os.environ, **(env or {})},
            )  # fmt: skip
        return Process(name, log, process)

    async def ready(self, probe: Callable[[], Awaitable[bool]]) -> None:
        """Waits until `probe` says yes."""
        waited = 0.0
        while not await probe():
            if self.process.returncode is not None or waited > READY_SECONDS:
                raise NotReady(f"{self.name} did not come up:\n{self.tail()}")
            await asyncio.sleep(0.05)
            waited += 0.05

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def memory(self) -> int:
        """Bytes of memory it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:"))

    async def stop(self, at_once: bool = False) -> None:
        """Ends it: in good order, or as a crash does."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.kill() if at_once else self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), END_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def output_of(*command: str) -> str:
    """What a program prints; fails when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise NotReady(f"{command[0]} ended with {process.returncode}:\n{output.decode(errors='replace')[-4000:]}")
    return output.decode(errors="replace")


async def twice(start: Callable[[], Awaitable[Started]]) -> Started:
    """Starts a server, and once more if it did not come up: a port that was free can be taken meanwhile."""
    try:
        return await start()
    except NotReady:
        return await start()
