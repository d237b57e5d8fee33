"""Attacks on one server that is running already."""

import random
import secrets

from core import pay, runner, secret, target
from core.arguments import argparse
from core.attack import Attack
from core.report import Report
from core.runner import Bounds
from core.scene import Scene
from core.secret import Secret
from core.target import Way
from core.wire import Exchange


async def attack(given: argparse.Namespace, attacks: list[Attack]) -> Report:
    """Runs the attacks against the server of the command line."""
    source = random.Random(given.seed)
    pay.salt = secrets.token_bytes(16)
    aim = target.from_urls(given.url, given.free_url, owned=given.owned)
    aim.other_paths = [target.path_of(url) for url in given.other_url]
    await aim.probe()
    scene = Scene(aim, Secret(), source, given.tries)
    scene.payer = pay.Payer.from_file(given.key_file) if given.key_file else pay.Payer.made_up(source)
    scene.any_payer = not given.key_file
    await _get_to_know(scene, given.marker)
    report = Report(given.seed, {aim.name: "; ".join(_described(scene))})
    bounds = Bounds(given.rate, given.seconds, matching=given.matching)
    for each in attacks:
        report.rows.append(await runner.run(each, scene, bounds, aim.name, "its own site"))
    report.notes += scene.notes
    return report


async def _get_to_know(scene: Scene, marker: str | None) -> None:
    """Asks for the page unpaid, for pages that cost nothing, and then for the page with a payment."""
    unpaid = await scene.ask(Way.HTTP11, scene.target.path)
    answers = unpaid.answers()
    if not answers:
        raise target.Refused(f"{scene.target.name} gives no answer")
    try:
        scene.offer = pay.read_offer(answers[0])
    except pay.Unpayable as why:
        if answers[0].status != 402:
            raise target.Refused(f"the page is not priced: {why}") from why
        scene.notes.append(f"The page was not bought: {why}. Rows that need a payment do not apply.")
    public = [unpaid, *await _public_pages(scene)]
    if scene.offer:
        await _buy_once(scene, public)
    if marker:
        if Secret([marker.encode()]).found(public):
            raise target.Refused("the text of --marker stands in what costs nothing, too")
        scene.secret.texts.insert(0, marker.encode())
    if not scene.secret:
        raise target.Refused("nothing is known that stands in the priced page alone: give --marker or a key with funds")


async def _public_pages(scene: Scene) -> list[Exchange]:
    """What the server says for nothing: pages share their frame, and that of an error page is no secret."""
    browser = [(b"Accept", b"text/html"), (b"User-Agent", b"Mozilla/5.0")]
    front = await scene.ask(Way.HTTP11, b"/")
    status = front.status()
    if scene.target.free_path is None and status is not None and status < 400:
        scene.target.free_path = b"/"
    nowhere = b"/" + scene.random.randbytes(8).hex().encode()
    found = [front, await scene.ask(Way.HTTP11, nowhere), await scene.ask(Way.HTTP11, scene.target.path, headers=browser)]
    found.append(await scene.ask(Way.HTTP11, scene.target.path + b"%"))
    if scene.target.free_path:
        found.append(await scene.ask(Way.HTTP11, scene.target.free_path))
    return found


async def _buy_once(scene: Scene, public: list[Exchange]) -> None:
    bought = await scene.buy(patience=60)
    answers = bought.answers()
    if answers and answers[0].status == 200:
        scene.funded = True
        scene.secret = secret.learn(answers[0], public)
    else:
        scene.any_payer = False
        status = answers[0].status if answers else "no answer"
        scene.notes.append(f"A payment was answered with {status}: rows that need one do not apply.")


def _described(scene: Scene) -> list[str]:
    aim = scene.target
    spoken = ["HTTP/1.1"] + ["h2"] * bool(aim.h2) + ["h2c"] * bool(aim.h2c)
    return [
        f"{aim.path.decode()} at {', '.join(map(str, aim.doors))}",
        "speaks " + ", ".join(spoken),
        "bought once" if scene.funded else "not bought",
        f"{len(scene.secret.texts)} signs of its content",
    ]
