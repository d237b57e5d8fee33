"""The whole proof on this machine: each server in front of each origin, attacked with everything that fits."""

import asyncio
import dataclasses
import random
import sys
import tempfile
from argparse import Namespace
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from core import pay, runner
from core.attack import Attack
from core.report import Report
from core.runner import Bounds
from core.scene import Inside, Scene
from core.target import Refused, Target, Way
from kit import caching, market, reference, stages, tollgate
from kit.chain import ChainFacilitator
from kit.facilitator import Facilitator
from kit.nginx import Nginx
from kit.origin import KINDS, Origin
from kit.pages import HOST, Pages
from kit.processes import NotReady, twice

ROOT = Path(__file__).resolve().parents[3]
MARKETS = ["market", "chain"]
"""Sites made for attacks on payments: see `kit.market`."""
BUSY_SECONDS = 45
"""How long a server may say that payments cannot be taken at present."""
ON_A_CHAIN = 0.2
"""So many of the usual tries are made where money is on a chain."""
FUNDS = 1_000_000
OWN_ROUTES = "its own routes"
AROUND_THE_MATCH = 5


@dataclass(frozen=True)
class Site:
    """What stands behind a server: one of the kit's origins, or what the server serves itself."""

    name: str
    fits: frozenset[str]
    """Kinds of attacks that are worth running; see `core.attack.Attack.origins`."""
    port: int | None
    log: Origin | None
    place: market.Market | None = None

    @property
    def host(self) -> bytes | None:
        """The host under which alone the page is there."""
        return HOST if self.log and self.log.kind.by_host else None


@dataclass
class Proof:
    """A run of the proof."""

    given: Namespace
    attacks: list[Attack]
    folder: Path
    pages: Pages
    facilitator: Facilitator
    stack: AsyncExitStack
    report: Report
    bounds: Bounds
    sites: list[Site] = field(default_factory=list)
    markets: dict[str, tuple[Origin, Facilitator]] = field(default_factory=dict)
    """Where payments are attacked: with money in the facilitator's head, and on a chain."""
    more: list[stages.Stage] = field(default_factory=list)

    async def start_sites(self) -> None:
        wanted = set(self.given.origin)
        fitting = {fits for attack in self.attacks for fits in attack.origins}
        if "nginx" in wanted or (not wanted and fitting & {"path", "framing"}):
            nginx = await Nginx.start(self.folder, self.pages)
            self.stack.push_async_callback(nginx.stop)
            self.sites.append(Site("nginx", frozenset({"path", "framing"}), nginx.port, None))
            self.report.notes.append(f"One of the origins is nginx {nginx.version}.")
        for kind in KINDS:
            if kind.name in wanted or (not wanted and kind.fits & fitting):
                origin = await Origin(kind, self.pages).start()
                self.stack.push_async_callback(origin.stop)
                self.sites.append(Site(kind.name, kind.fits, origin.port, origin))
        await self._open_markets({name for name in MARKETS if name in fitting and (not wanted or name in wanted)})
        await self._build_stages(
            {name for name, fits in stages.FITS.items() if fits & fitting and (not wanted or name in wanted)}
        )
        unknown = wanted - {site.name for site in self.sites} - {OWN_ROUTES, *MARKETS, *stages.FITS}
        if unknown:
            names = ["nginx", OWN_ROUTES, *MARKETS, *(kind.name for kind in KINDS), *stages.FITS]
            raise Refused(f"no such origin: {', '.join(sorted(unknown))}; there are {', '.join(names)}")

    async def _open_markets(self, wanted: set[str]) -> None:
        if wanted:
            origin = await Origin(market.KIND, self.pages).start()
            self.stack.push_async_callback(origin.stop)
        if "market" in wanted:
            self.markets["market"] = (origin, self.facilitator)
        if "chain" in wanted:
            self.markets["chain"] = (origin, await ChainFacilitator.open(self.folder, self.stack))

    async def _build_stages(self, wanted: set[str]) -> None:
        self.more = await stages.build(self.folder, self.pages, wanted, self.stack)
        if any("cache" in stage.fits for stage in self.more):
            self.report.notes.append(await caching.versions())

    async def attack_tollgate(self) -> None:
        binary = Path(self.given.tollgate or ROOT / "target/debug/tollgate").resolve()
        if not binary.is_file():
            raise Refused(f"{binary} is not there: build it with cargo build, or name one with --tollgate")
        await tollgate.make_certificate(self.folder)
        self.report.servers["tollgate"] = f"{await tollgate.version(binary)}, settling before it releases an answer"
        plan = tollgate.Plan(binary, self.folder, self.facilitator.url)
        servers = await asyncio.gather(
            *(twice(lambda site=site: plan.start(site.name, site.port, site.host)) for site in self.sites)
        )
        for server in servers:
            self.stack.push_async_callback(server.stop)
        for site, server in zip(self.sites, servers, strict=True):
            await self._attack("tollgate", site, server.target, server)
        for stage in self.more:
            start = partial(plan.start, stage.name, stage.port, more=stage.more, log=stage.server_log)
            await self._attack_on(stage, "tollgate", await twice(start))
        for name, (origin, facilitator) in self.markets.items():
            plan = tollgate.Plan(binary, self.folder, facilitator.url)
            place = await market.of_tollgate(plan, origin, facilitator, self.stack)
            await self._attack_market("tollgate", name, place)

    async def attack_reference(self) -> None:
        self.report.servers[reference.NAME] = reference.about()
        if self.given.server != "reference":
            self.report.compared.add(reference.NAME)
        plan = reference.Plan(self.folder, self.facilitator.url, self.pages)
        own = Site(OWN_ROUTES, frozenset({"plain", "path", "leaks"}), None, None)
        if not self.given.origin or OWN_ROUTES in self.given.origin:
            await self._attack_one_reference(plan, own)
        for site in self.sites:
            if site.fits & {"plain", "path"}:
                await self._attack_one_reference(plan, site)
        for stage in self.more:
            if stage.fits_own_routes:
                server = await twice(partial(plan.start, stage.name, None))
                await self._attack_on(dataclasses.replace(stage, port=None, log=None), reference.NAME, server)
        for name, (origin, facilitator) in self.markets.items():
            plan = reference.Plan(self.folder, facilitator.url, self.pages)
            place = await market.of_reference(plan, origin, facilitator, self.stack)
            await self._attack_market(reference.NAME, name, place)

    async def _attack_one_reference(self, plan: reference.Plan, site: Site) -> None:
        server = await twice(lambda: plan.start(site.name, site.port))
        try:
            await self._attack(reference.NAME, site, server.target, server)
        finally:
            await server.stop()

    async def _attack_on(self, stage: stages.Stage, name: str, server: stages.Server) -> None:
        try:
            aim = await stage.seen(server.target, self.folder, self.stack)
            await self._attack(name, Site(stage.name, stage.fits, stage.port, stage.log), aim, server)
        finally:
            await server.stop()

    async def _attack_market(self, server: str, name: str, place: market.Market) -> None:
        site = Site(name, frozenset({name}), None, place.origin, place)
        try:
            await self._attack(server, site, place.target, place.servers[0])
        finally:
            await place.stop()

    async def _attack(self, server: str, site: Site, aim: Target, inside: Inside) -> None:
        for attack in self.attacks:
            # The reference is a part of a server. What forwards for it is not its own, and only what is asked for is attacked.
            is_borrowed = server == reference.NAME and site.port is not None
            if not site.fits & attack.origins or (is_borrowed and attack.group != AROUND_THE_MATCH):
                continue
            # Every row has random choices of its own, so that --only repeats them.
            scene = await self._scene(f"{self.given.seed} {server} {site.name} {attack.name}", site, aim)
            scene.inside, scene.reload = inside, getattr(inside, "reload", None)
            row = await runner.run(attack, scene, self.bounds, server, site.name)
            self.report.rows.append(row)
            counts = f"{row.tries:>6} tries {row.leaks:>5} leaks {row.seconds:>7.1f} s"
            print(f"{server:<15} {site.name:<16} {attack.name:<22} {counts}", file=sys.stderr)

    async def _scene(self, seed: str, site: Site, aim: Target) -> Scene:
        source = random.Random(seed)
        scene = Scene(aim, self.pages.secret(), source, self.given.tries, payer=pay.Payer.made_up(source), any_payer=True)
        facilitator = site.place.facilitator if site.place else self.facilitator
        scene.origin, scene.books, scene.facilitator = site.log, facilitator, facilitator
        scene.restart = site.place.restart if site.place else None
        if isinstance(facilitator, ChainFacilitator):
            # A block takes a second, and each payment several.
            scene.chain, scene.scale = True, self.given.tries * ON_A_CHAIN
            await facilitator.fund(scene.payer, FUNDS)
        answers = (await scene.ask(Way.HTTP11, aim.path)).answers()
        if not answers:
            raise Refused(f"{aim.name} does not answer")
        try:
            scene.offer = pay.read_offer(answers[0])
        except pay.Unpayable as why:
            raise Refused(f"{aim.name} does not sell: {why}") from why
        if aim.upfront_path:
            scene.upfront_offer = pay.read_offer((await scene.ask(Way.HTTP11, aim.upfront_path)).answers()[0])
        bought = await scene.buy(patience=30)
        for _ in range(BUSY_SECONDS):
            if bought.status() != 503:
                break
            # It leaves a facilitator alone that kept failing in the attack before.
            await asyncio.sleep(1)
            bought = await scene.buy(patience=30)
        if bought.status() != 200 or self.pages.token.encode() not in bought.received:
            raise Refused(f"{aim.name} does not deliver what was paid for: {bought.received[:500]!r} {bought.note}")
        scene.funded = True
        return scene


async def run(given: Namespace, attacks: list[Attack]) -> Report:
    """Starts everything, attacks it, ends everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adversarial-")))
        facilitator = await Facilitator().start()
        stack.push_async_callback(facilitator.stop)
        pages, bounds = Pages.of(random.Random(given.seed)), Bounds(given.rate, given.seconds, matching=given.matching)
        proof = Proof(given, attacks, folder, pages, facilitator, stack, Report(given.seed), bounds)
        try:
            await proof.start_sites()
            if given.server != "reference":
                await proof.attack_tollgate()
            if given.server != "tollgate":
                await proof.attack_reference()
        except NotReady as error:
            raise Refused(str(error)) from error
        return proof.report
