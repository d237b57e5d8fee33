"""Where payments are attacked: two replicas of a server beside each other, which can be ended and started again.

The replicas of tollgate share a ledger in PostgreSQL; those of the reference server share nothing, as it has nothing to
share. Behind them is one site, whose priced page stands at several paths.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.target import Target
from kit import habits, reference, tollgate
from kit.chain import ChainFacilitator
from kit.facilitator import Facilitator
from kit.origin import Kind, Origin
from kit.pages import ALSO_PRICED, PRICED, UPFRONT
from kit.processes import NotReady, twice

SHELF = {PRICED, UPFRONT, *ALSO_PRICED}
DATABASE = Path(__file__).resolve().parents[2] / "tools" / "postgres.sh"
DATABASE_SECONDS = 300.0
"""It may have to be installed first."""


def reading(target: bytes) -> list[bytes]:
    """Paths of the shelf are all the priced page."""
    return [PRICED if path in SHELF else path for path in habits.literal(target)]


KIND = Kind("market", "has the priced page at several paths", reading, fits=frozenset({"market"}), copies=True)


class Database:
    """A PostgreSQL of the run's own; it ends with its standard input."""

    def __init__(self, process: asyncio.subprocess.Process, port: int):
        self.process, self.port = process, port

    @staticmethod
    async def start() -> "Database":
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(str(DATABASE), stdin=pipe, stdout=pipe)
        assert process.stdout
        ready = (await asyncio.wait_for(process.stdout.readline(), DATABASE_SECONDS)).split()
        if len(ready) < 2 or ready[0] != b"ready":
            raise NotReady(f"{DATABASE} did not start a database")
        return Database(process, int(ready[1]))

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    async def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        await self.process.wait()


@dataclass
class Market:
    """A server, twice, and what is behind it."""

    servers: list[tollgate.Tollgate] | list[reference.Reference]
    origin: Origin
    facilitator: Facilitator

    @property
    def target(self) -> Target:
        """The first of the servers, with the addresses of the others, too."""
        target = self.servers[0].target
        target.doors = [door for server in self.servers for door in server.target.doors]
        target.other_paths, target.upfront_path = list(ALSO_PRICED), UPFRONT
        return target

    async def restart(self, at_once: bool) -> None:
        """Ends all servers, in good order or as a crash does, and starts them again."""
        for server in self.servers:
            await server.stop(at_once)
        await asyncio.gather(*(server.run() for server in self.servers))

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers))


async def of_tollgate(plan: tollgate.Plan, origin: Origin, facilitator: Facilitator, stack: AsyncExitStack) -> Market:
    """Two gateways over one database; on a chain one, that can ask the chain itself."""
    if isinstance(facilitator, ChainFacilitator):
        assert facilitator.node
        more = f'{tollgate.MORE_PAGES}\n[chains.base-sepolia]\nrpc = "{facilitator.node.url}"\n'
        servers = [await twice(lambda: plan.start("chain", origin.port, more=more))]
    else:
        database = await Database.start()
        stack.push_async_callback(database.stop)
        servers = []
        for name in ("market", "replica"):
            # The second quotes the first one's address as its own.
            port = servers[0].target.doors[0].port if servers else None
            replica = tollgate.Replica(database.url, port)
            start = partial(plan.start, name, origin.port, more=tollgate.MORE_PAGES, replica=replica)
            servers.append(await twice(start))
    return _opened(servers, origin, facilitator, stack)


async def of_reference(plan: reference.Plan, origin: Origin, facilitator: Facilitator, stack: AsyncExitStack) -> Market:
    """As many of the reference server; each knows what the other does by the facilitator alone."""
    names = ["chain"] if isinstance(facilitator, ChainFacilitator) else ["market", "replica"]
    servers = [await twice(partial(plan.start, name, origin.port, market=True)) for name in names]
    return _opened(servers, origin, facilitator, stack)


def _opened(
    servers: list[tollgate.Tollgate] | list[reference.Reference],
    origin: Origin,
    facilitator: Facilitator,
    stack: AsyncExitStack,
) -> Market:
    market = Market(servers, origin, facilitator)
    stack.push_async_callback(market.stop)
    return market
