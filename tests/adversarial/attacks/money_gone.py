"""The payer takes the money away after it was found to be there, and before it is moved (denial of settlement).

While the site works, the payer empties the account, cancels the authorization, or moves the money by other means. Nothing
may come out; what is left is work that the site did for nothing, as often as the payer likes. Where a page is settled
before the site is asked, there is no such moment.
"""

from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.payments import Wallet
from core.scene import Scene
from core.target import Way

TIMES = 5
"""Payments of one payer, one after the other."""
ROUNDS = 8
MEANS = ["the account is emptied", "the authorization is cancelled", "both"]


def tries_at(scene: Scene, path: bytes | None, offer: pay.Offer | None = None) -> Iterator[Try]:
    for means in MEANS:
        for number in scene.sampled(list(range(ROUNDS)), ROUNDS):
            for moment in ("while the site works", "as settlement begins"):
                for way in (Way.HTTP11, Way.H2C):
                    run = partial(_deny, Wallet(scene, offer=offer), means, moment, way, path)
                    needs = (Need.PAYMENT, Need.FACILITATOR, Need.ORIGIN, *scene.target.needs(way))
                    yield Try(f"{means} {moment}, {way.value}, {number}", run, needs)


async def _deny(wallet: Wallet, means: str, moment: str, way: Way, path: bytes | None) -> Outcome:
    scene, facilitator = wallet.scene, wallet.scene.facilitator
    price = int(scene.offer.terms["amount"])
    wallet.path = path or wallet.path

    async def take_away(_: object = None) -> None:
        if means != "the account is emptied":
            await facilitator.cancel(wallet.payer, wallet.payments[-1])
        if means != "the authorization is cancelled":
            await facilitator.fund(wallet.payer, 0)

    if moment == "while the site works":
        scene.origin.before[wallet.mark] = take_away
    else:
        facilitator.scripts[wallet.payer.address.lower()] = facilitator.script_of(before_settle=take_away)
    for _ in range(TIMES):
        await facilitator.fund(wallet.payer, price)
        await wallet.present(pay.encode(wallet.pay()), way=way)
    return await wallet.verdict()


def _first(scene: Scene) -> Iterator[Try]:
    return tries_at(scene, None)


def _upfront(scene: Scene) -> Iterator[Try]:
    for one in tries_at(scene, scene.target.upfront_path, scene.upfront_offer):
        yield Try(one.name, one.run, (*one.needs, Need.UPFRONT))


ATTACK = Attack("money-gone", 1, "the payer takes the money away while the site works", _first,
                origins=frozenset({"market", "chain"}))  # fmt: skip
UPFRONT = Attack("money-gone-upfront", 1, "the same, where settlement comes first", _upfront,
                 origins=frozenset({"market", "chain"}))  # fmt: skip
