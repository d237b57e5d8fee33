"""Settings of their own for attacks that need more than a server in front of a site."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.scene import Inside
from core.target import Target
from core.wire import Door
from kit import caching
from kit.nginx import Nginx
from kit.origin import KINDS, Origin
from kit.pages import FREE, PRICED, Pages
from kit.processes import NotReady
from kit.talkative import Talkative


class Server(Inside, Protocol):
    """A running server under test."""

    target: Target

    async def stop(self) -> None:
        """Ends it."""


LEAKS, CACHE, CROWD, LOG = (frozenset({kind}) for kind in ("leaks", "cache", "crowd", "log"))
CACHES = [f"{name} cache {place}" for name in caching.STARTERS for place in ("behind", "in front")]
FITS = {
    "talkative": LEAKS,
    "talkative, paid first": LEAKS,
    **dict.fromkeys(CACHES, CACHE),
    "crowd": CROWD,
    "log as text": LOG,
    "log as JSON": LOG,
}
"""The stages by name, with the kinds of attacks that each is made for."""


@dataclass
class Stage:
    """What stands behind a server, and how the server is set up."""

    name: str
    fits: frozenset[str]
    """Kinds of attacks that are worth running; see `core.attack.Attack.origins`."""
    port: int | None
    """Where what stands behind the server listens; `None`: the server serves the page itself."""
    log: Origin | None = None
    more: str = ""
    """More configuration of tollgate's, within the priced route."""
    server_log: str = 'level = "warn"'
    """What tollgate writes to its log."""
    cache: str | None = None
    """A cache in front of the server."""

    @property
    def fits_own_routes(self) -> bool:
        """Whether it is of use with a server that serves the page itself."""
        return self.cache is not None or bool(self.fits & CROWD)

    async def seen(self, target: Target, folder: Path, stack: AsyncExitStack) -> Target:
        """What clients see of a server: itself, or the cache in front of it."""
        if self.cache is None:
            return target
        assert target.plain
        name = f"{target.name} {self.cache}"
        cache = await caching.STARTERS[self.cache](folder, target.plain.port, name)
        stack.push_async_callback(cache.stop)
        return Target(name, [Door("127.0.0.1", cache.port)], PRICED, FREE, host=target.host)


async def build(folder: Path, pages: Pages, wanted: set[str], stack: AsyncExitStack) -> list[Stage]:
    """The stages that are wanted, with what stands behind the server running."""
    stages: list[Stage] = []
    if any(name.startswith("talkative") for name in wanted):
        talkative = await _running(Talkative(pages), stack)
        stages.append(Stage("talkative", LEAKS, talkative.port, talkative))
        stages.append(Stage("talkative, paid first", LEAKS, talkative.port, talkative, 'settle = "before-request"\n'))
    if any("cache" in name for name in wanted):
        if missing := caching.missing():
            raise NotReady(f"{missing} is not installed")
        site = await _running(caching.Cacheable(pages), stack)
        for name, start in caching.STARTERS.items():
            behind = await start(folder, site.port, f"{name} cache behind")
            stack.push_async_callback(behind.stop)
            stages.append(Stage(f"{name} cache behind", CACHE, behind.port))
            stages.append(Stage(f"{name} cache in front", CACHE, site.port, site, cache=name))
    if "crowd" in wanted:
        (folder / "crowd").mkdir()
        # Its workers run as another user when it is started by root.
        folder.chmod(folder.stat().st_mode | 0o055)
        nginx = await Nginx.start(folder / "crowd", pages)
        stack.push_async_callback(nginx.stop)
        stages.append(Stage("crowd", CROWD, nginx.port))
    for name, settings in (("log as text", 'level = "info"'), ("log as JSON", 'level = "info"\nformat = "json"')):
        if name in wanted:
            plain = await _running(Origin(KINDS[0], pages), stack)
            stages.append(Stage(name, LOG, plain.port, plain, server_log=settings))
    return [stage for stage in stages if stage.name in wanted]


async def _running(origin: Origin, stack: AsyncExitStack) -> Origin:
    await origin.start()
    stack.push_async_callback(origin.stop)
    return origin
