"""The whole proof on this machine: each server in front of each origin, attacked with everything that fits."""

import asyncio
import random
import sys
import tempfile
from argparse import Namespace
from contextlib import AsyncExitStack
from pathlib import Path

from core import pay, runner
from core.attack import Attack
from core.report import Report
from core.runner import Bounds
from core.scene import Scene
from core.target import Refused, Target, Way
from kit import reference, tollgate
from kit.facilitator import Facilitator
from kit.nginx import Nginx
from kit.origin import KINDS, Origin
from kit.pages import Pages
from kit.processes import NotReady

ROOT = Path(__file__).resolve().parents[3]


class Kit:
    """What stands behind the servers."""

    def __init__(self, folder: Path, pages: Pages, facilitator: Facilitator):
        self.folder, self.pages, self.facilitator = folder, pages, facilitator
        self.origins: list[tuple[str, frozenset[str], int, Origin | None]] = []
        """Name, the attacks that fit, port, and the log where there is one."""


async def run(given: Namespace, attacks: list[Attack]) -> Report:
    """Starts everything, attacks it, ends everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adversarial-")))
        source = random.Random(given.seed)
        pages = Pages.of(source)
        facilitator = await Facilitator().start()
        stack.push_async_callback(facilitator.stop)
        kit = Kit(folder, pages, facilitator)
        report = Report(given.seed)
        try:
            await _start_origins(kit, given, stack, report)
            bounds = Bounds(given.rate, given.seconds)
            if given.server != "reference":
                await _attack_tollgate(kit, given, attacks, bounds, report, stack)
            if given.server != "tollgate":
                await _attack_reference(kit, given, attacks, bounds, report, stack)
        except NotReady as error:
            raise Refused(str(error)) from error
        return report


async def _start_origins(kit: Kit, given: Namespace, stack: AsyncExitStack, report: Report) -> None:
    wanted = set(given.origin)
    if not wanted or "nginx" in wanted:
        nginx = await Nginx.start(kit.folder, kit.pages)
        stack.push_async_callback(nginx.stop)
        kit.origins.append(("nginx", frozenset({"path", "framing"}), nginx.port, None))
        report.notes.append(f"nginx {nginx.version} is one of the origins.")
    for kind in KINDS:
        if not wanted or kind.name in wanted:
            origin = await Origin(kind, kit.pages).start()
            stack.push_async_callback(origin.stop)
            kit.origins.append((kind.name, kind.fits, origin.port, origin))
    if not kit.origins:
        raise Refused(f"no such origin; there are nginx, {', '.join(kind.name for kind in KINDS)}")


async def _attack_tollgate(
    kit: Kit, given: Namespace, attacks: list[Attack], bounds: Bounds, report: Report, stack: AsyncExitStack
) -> None:
    binary = Path(given.tollgate or ROOT / "target/debug/tollgate").resolve()
    if not binary.is_file():
        raise Refused(f"{binary} is not there: build it with cargo build, or name one with --tollgate")
    await tollgate.make_certificate(kit.folder)
    report.servers["tollgate"] = f"{await tollgate.version(binary)}, settles before it releases an answer"
    starting = [
        tollgate.Tollgate.start(binary, kit.folder, name, port, kit.facilitator.url) for name, _, port, _ in kit.origins
    ]
    servers = await asyncio.gather(*starting)
    for server in servers:
        stack.push_async_callback(server.stop)
    for (name, fits, _, log), server in zip(kit.origins, servers, strict=True):
        await _attack(kit, given, attacks, bounds, report, "tollgate", name, fits, log, server.target)


async def _attack_reference(
    kit: Kit, given: Namespace, attacks: list[Attack], bounds: Bounds, report: Report, stack: AsyncExitStack
) -> None:
    report.servers[reference.NAME] = reference.about()
    for name, fits, port, log in [("its own routes", frozenset({"plain", "path"}), None, None), *kit.origins]:
        server = await reference.Reference.start(kit.folder, name, port, kit.facilitator.url, kit.pages)
        stack.push_async_callback(server.stop)
        await _attack(kit, given, attacks, bounds, report, reference.NAME, name, fits, log, server.target)
        await server.stop()


async def _attack(
    kit: Kit, given: Namespace, attacks: list[Attack], bounds: Bounds, report: Report,
    server: str, origin: str, fits: frozenset[str], log: Origin | None, aim: Target,
) -> None:  # fmt: skip
    for attack in attacks:
        if not fits & attack.origins:
            continue
        # Every row has random choices of its own, so that --only repeats them.
        scene = await _scene(kit, given, f"{given.seed} {server} {origin} {attack.name}", log, aim)
        row = await runner.run(attack, scene, bounds, server, origin)
        report.rows.append(row)
        print(f"{server:<15} {origin:<16} {attack.name:<22} {row.tries:>6} tries {row.leaks:>5} leaks", file=sys.stderr)


async def _scene(kit: Kit, given: Namespace, seed: str, log: Origin | None, aim: Target) -> Scene:
    source = random.Random(seed)
    scene = Scene(aim, kit.pages.secret(), source, given.tries, payer=pay.Payer.made_up(source), any_payer=True)
    scene.origin, scene.books, scene.facilitator = log, kit.facilitator, kit.facilitator
    answers = (await scene.ask(Way.HTTP11, aim.path)).answers()
    if not answers:
        raise Refused(f"{aim.name} does not answer")
    try:
        scene.offer = pay.read_offer(answers[0])
    except pay.Unpayable as why:
        raise Refused(f"{aim.name} does not sell: {why}") from why
    bought = await scene.buy(patience=30)
    if bought.status() != 200 or kit.pages.token.encode() not in bought.received:
        raise Refused(f"{aim.name} does not deliver what was paid for: {bought.received[:500]!r} {bought.note}")
    scene.funded = True
    return scene
