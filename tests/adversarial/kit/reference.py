"""The reference server, `@x402/express`: with routes of its own, and forwarding to the kit's origins."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.target import Target, free_port, reachable
from core.wire import Door
from kit.pages import ALSO_PRICED, FREE, PRICED, UPFRONT, Pages
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
        f"every method and requests forwarded by http-proxy-middleware {wanted['http-proxy-middleware']} (group 5 alone); "
        "where payments are attacked, with handlers of express that fetch from the site what they answer"
    )


class Reference:
    """A running reference server, and the target it is."""

    def __init__(self, name: str, folder: Path, env: dict[str, str]):
        self.name, self.folder, self.env = name, folder, env
        port = int(env["PORT"])
        self.target = Target(name, [Door("127.0.0.1", port)], PRICED, FREE, host=b"127.0.0.1:%d" % port)
        self.process: Process

    async def run(self) -> None:
        """Starts it, the first time or again."""
        self.process = await Process.start(self.name, self.folder, "node", str(FOLDER / "server.mjs"), env=self.env)
        await self.process.ready(lambda: reachable(self.target.doors[0]))

    def memory(self) -> int:
        return self.process.memory()

    def log(self) -> bytes:
        return self.process.log.read_bytes()

    async def metrics(self) -> None:
        return None

    async def exported(self) -> dict[str, bytes]:
        return {}

    async def stop(self, at_once: bool = False) -> None:
        await self.process.stop(at_once)


@dataclass(frozen=True)
class Plan:
    """How reference servers are started."""

    folder: Path
    facilitator: str
    pages: Pages

    async def start(self, name: str, origin: int | None, *, market: bool = False) -> Reference:
        """Starts one in front of an origin, or with routes of its own; at the market with more pages."""
        content = self.folder / "priced.txt"
        content.write_bytes(self.pages.priced)
        env = {
            "PORT": str(free_port()), "FACILITATOR": self.facilitator, "PAY_TO": PAY_TO, "PRICED": PRICED.decode(),
            "FREE": FREE.decode(), "CONTENT": str(content), "TOKEN": self.pages.token, "NODE_ENV": "production",
            "UPSTREAM": f"http://127.0.0.1:{origin}" if origin else "",
            "ALSO_PRICED": b",".join(ALSO_PRICED).decode() if market else "",
            "UPFRONT": UPFRONT.decode() if market else "",
        }  # fmt: skip
        server = Reference("reference-" + name.replace(" ", "-").replace(",", ""), self.folder, env)
        await server.run()
        await server.target.probe()
        return server
