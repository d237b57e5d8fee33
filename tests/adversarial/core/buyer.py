"""Payments with something wrong about them, made anew for each try so that no two share an account or a nonce."""

import base64
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from core import pay
from core.attack import Need, Outcome, Try
from core.http1 import Headers
from core.pay import Json, Offer, Payer
from core.scene import PAID_SECONDS, PAYMENT, Scene
from core.target import Way

V1 = b"X-PAYMENT"
NEEDS = (Need.PAYMENT, Need.SECRET)


@dataclass
class Buyer:
    """An account that makes a payment for one try."""

    scene: Scene
    offer: Offer
    payer: Payer

    def good(self, **signed: object) -> Json:
        """A payment of the second generation; `signed` replaces members of what is signed."""
        return self.payer.payment(self.offer, self.scene.random, **signed)

    def good_v1(self, **signed: object) -> Json:
        return self.payer.payment_v1(self.offer, self.scene.random, **signed)

    def for_terms(self, **terms: object) -> Json:
        """A payment that is right in itself, for terms that nobody offered."""
        other = Offer(self.offer.required, {**self.offer.terms, **terms}, self.offer.body_v1)
        return self.payer.payment(other, self.scene.random)


Make = Callable[[Buyer], Headers]
Made = Iterator[tuple[str, Make]]
"""Names of payments, and how their headers are made."""


def one(payment: object) -> Headers:
    """A payment in its header."""
    return [(PAYMENT, pay.encode(payment))]


def changed(path: tuple[str, ...], value: object, /, **signed: object) -> Make:
    """A payment with a member replaced after signing, or left out for `...`."""
    return lambda buyer: one(replaced(buyer.good(**signed), path, value))


def changed_v1(path: tuple[str, ...], value: object, /, **signed: object) -> Make:
    return lambda buyer: [(V1, pay.encode(replaced(buyer.good_v1(**signed), path, value)))]


def replaced(payment: Json, path: tuple[str, ...], value: object) -> Json:
    """A copy with a member replaced, or left out for `...`."""
    copied = copy.deepcopy(payment)
    place = copied
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        place.pop(path[-1], None)
    else:
        place[path[-1]] = value
    return copied


def tries(scene: Scene, makers: list[Callable[[Scene, Offer], Made]]) -> Iterator[Try]:
    """A try for each payment of the makers over HTTP/1.1, and for every fourth over h2c."""
    if scene.offer is None or not scene.funded:
        for maker in makers:
            yield Try(
                maker.__name__, partial(_send, scene, Way.HTTP11, [], b"", scene.payer or Payer.made_up(scene.random)), NEEDS
            )
        return
    number = 0
    for maker in makers:
        for name, make in maker(scene, scene.offer):
            number += 1
            for way in (Way.HTTP11, Way.H2C) if number % 4 == 0 else (Way.HTTP11,):
                payer = scene.new_payer()
                fields = make(Buyer(scene, scene.offer, payer))
                run = partial(_send, scene, way, fields, scene.mark(), payer)
                yield Try(f"{way.value} {name}", run, (*NEEDS, *scene.target.needs(way)))


async def _send(scene: Scene, way: Way, fields: Headers, mark: bytes, payer: Payer) -> Outcome:
    exchange = await scene.ask(way, scene.target.path, headers=fields, mark=mark, patience=PAID_SECONDS)
    return scene.judge_paid([exchange], mark, payer, good=_is_good(scene, fields, payer))


def _is_good(scene: Scene, fields: Headers, payer: Payer) -> bool:
    """Whether a payment is worth the price after all, in some reading: the other hexadecimal, a member said twice."""
    return any(_is_worth(scene, value, payer, first) for _, value in fields for first in (True, False))


def _is_worth(scene: Scene, value: bytes, payer: Payer, first: bool) -> bool:
    def members(pairs: list[tuple[str, object]]) -> Json:
        return dict(reversed(pairs)) if first else dict(pairs)

    assert scene.offer
    try:
        payload = json.loads(base64.b64decode(value), object_pairs_hook=members)["payload"]
        authorization, signature = payload["authorization"], payload["signature"].lower()
        signed = pay.recovered(scene.offer.domain(), authorization, bytes.fromhex(signature.removeprefix("0x")))
        price = int(scene.offer.terms["amount"])
        return int(authorization["value"]) == price and signed == payer.address.lower()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
