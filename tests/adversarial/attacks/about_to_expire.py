"""Authorizations that run out while the site works, are not valid yet, or for ever.

A facilitator finds an authorization good that ends in a few seconds; when the site has worked for longer than that, it can
no longer be settled. The site's time is simulated: the facilitator's clock is ahead when it settles.
"""

import time
from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.payments import Wallet
from core.scene import Scene

ENDS = [-3600, -1, *range(11), 12, 14, 16, 18, 19, 20, 21, 22, 25, 30, 60, 299, 300, 301, 3600, 86400, 1 << 40]
BEGINS = [None, -3600, -1, 0, 1, 2, 10, 3600]
SITE_SECONDS = [0, 5, 15]


def tries(scene: Scene) -> Iterator[Try]:
    for took in SITE_SECONDS:
        for ends in scene.sampled(ENDS, len(ENDS)):
            run = partial(_present, Wallet(scene), ends, None, took)
            yield Try(f"ends in {ends} s, the site takes {took} s", run, (Need.PAYMENT, Need.FACILITATOR))
        for begins in scene.sampled(BEGINS, len(BEGINS)):
            run = partial(_present, Wallet(scene), 120, begins, took)
            yield Try(f"begins in {begins} s, the site takes {took} s", run, (Need.PAYMENT, Need.FACILITATOR))


async def _present(wallet: Wallet, ends: int, begins: int | None, took: int) -> Outcome:
    wallet.scene.facilitator.ahead[wallet.payer.address.lower()] = took
    now = int(time.time())
    after = "0" if begins is None else str(now + begins)
    value = pay.encode(wallet.pay(validAfter=after, validBefore=str(now + ends)))
    for _ in range(3):
        await wallet.present(value)
    return await wallet.verdict()


ATTACK = Attack("about-to-expire", 1, "authorizations that run out while the site works", tries,
                origins=frozenset({"market"}))  # fmt: skip
