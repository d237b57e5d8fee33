"""Many payments of one payer who can pay for few of them, at once.

Each is good on its own when it is verified. A server that has the site work for all of them is paid for as many as there
is money for; the rest is work done for nothing. More must not be delivered than is settled.
"""

from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.payments import Presentation, Wallet
from core.scene import Scene
from core.target import Way

PAYMENTS = 20
ROUNDS = 3


def tries_at(scene: Scene, path: bytes | None, offer: pay.Offer | None = None) -> Iterator[Try]:
    needs = (Need.PAYMENT, Need.FACILITATOR)
    for affordable in (0, 1, 3, PAYMENTS):
        for number in scene.sampled(list(range(ROUNDS)), ROUNDS):
            for way in (Way.HTTP11, Way.H2C, Way.H2):
                run = partial(_pledge, Wallet(scene, offer=offer), affordable, way, False, path)
                yield Try(f"{PAYMENTS} payments, money for {affordable}, {way.value}, {number}", run,
                          (*needs, *scene.target.needs(way)))  # fmt: skip
            run = partial(_pledge, Wallet(scene, offer=offer), affordable, Way.HTTP11, True, path)
            yield Try(f"{PAYMENTS} payments at all replicas, money for {affordable}, {number}", run, (*needs, Need.REPLICAS))


async def _pledge(wallet: Wallet, affordable: int, way: Way, replicas: bool, path: bytes | None) -> Outcome:
    scene = wallet.scene
    wallet.path = path or wallet.path
    await scene.facilitator.fund(wallet.payer, affordable * int(scene.offer.terms["amount"]))
    doors = scene.target.replicas if replicas else [scene.target.door(way)]
    await wallet.all_at_once([
        Presentation(pay.encode(wallet.pay()), way=way, door=doors[number % len(doors)])
        for number in range(PAYMENTS)
    ])  # fmt: skip
    return await wallet.verdict()


def _first(scene: Scene) -> Iterator[Try]:
    return tries_at(scene, None)


def _upfront(scene: Scene) -> Iterator[Try]:
    for one in tries_at(scene, scene.target.upfront_path, scene.upfront_offer):
        yield Try(one.name, one.run, (*one.needs, Need.UPFRONT))


ATTACK = Attack("pledges", 3, "one balance, pledged many times at once", _first, origins=frozenset({"market", "chain"}))
UPFRONT = Attack("pledges-upfront", 3, "the same, where settlement comes first", _upfront,
                 origins=frozenset({"market", "chain"}))  # fmt: skip
