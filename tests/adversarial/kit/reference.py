"""The reference server, `@x402/express`: with routes of its own, and forwarding to the kit's origins."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.target import Target, free_port, reachable
from core.wire import Door
from kit.pages import FREE, PRICED, Pages
from kit.processes import Process
from kit.tollgate import PAY_TO

NAME = "@x402/express"
FOLDER = Path(__file__).resolve().parents[1] / "reference"


def about() -> str:
    """What it is, with versions."""
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    return (
        f"@x402/express {wanted['@x402/express']} on express {wanted['express']}; once with `GET {PRICED.decode()}` priced "
        "and served by express itself, as its documentation shows, and in front of each origin with that path priced for "
        "every method and all requests forwarded by http-proxy-middleware " + wanted["http-proxy-middleware"]
    )


class Reference:
    """A running reference server, and the target it is."""

    def __init__(self, process: Process, target: Target):
        self.process, self.target = process, target

    async def stop(self) -> None:
        await self.process.stop()


@dataclass(frozen=True)
class Plan:
    """How reference servers are started."""

    folder: Path
    facilitator: str
    pages: Pages

    async def start(self, name: str, origin: int | None) -> Reference:
        """Starts one in front of an origin, or with routes of its own."""
        port = free_port()
        name = "reference-" + name.replace(" ", "-")
        content = self.folder / "priced.txt"
        content.write_bytes(self.pages.priced)
        env = {
            "PORT": str(port), "FACILITATOR": self.facilitator, "PAY_TO": PAY_TO, "PRICED": PRICED.decode(),
            "FREE": FREE.decode(), "CONTENT": str(content), "TOKEN": self.pages.token, "NODE_ENV": "production",
            "UPSTREAM": f"http://127.0.0.1:{origin}" if origin else "",
        }  # fmt: skip
        process = await Process.start(name, self.folder, "node", str(FOLDER / "server.mjs"), env=env)
        door = Door("127.0.0.1", port)
        await process.ready(lambda: reachable(door))
        target = Target(name, [door], PRICED, FREE, host=b"127.0.0.1:%d" % port)
        await target.probe()
        return Reference(process, target)
