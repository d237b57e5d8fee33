"""One payment in other spellings: of its JSON, its numbers, its letters' case, its base64, its signature.

Whoever tells payments apart by the text of the header, or by that of the nonce, takes one payment for two. Each spelling is
presented after the usual one, before it, and at the same time; signatures also in every form that some reader takes:
the malleable one, other recovery ids, compact, wrapped, with something behind it.
"""

from collections.abc import Callable, Iterator
from functools import partial

from core import pay, signatures
from core.attack import Attack, Need, Outcome, Try
from core.habits import HABITS, Habit
from core.json_spellings import spellings
from core.payments import Presentation, Wallet
from core.scene import Scene

Spell = Callable[[pay.Json], dict[str, bytes]]
ORDERS = {"after": [0, 1, 1], "before": [1, 0, 1], "at once": [0, 1, 0, 1, 0, 1]}
"""Which of the two, usual and other, is presented when."""
EACH = 4
"""Of the nine ways to present a spelling, chosen by chance."""


def tries_of(spell: Spell, scene: Scene) -> Iterator[Try]:
    if not scene.offer:
        yield Try("any", partial(_present, None, spell, "", "after", Habit.ITS_OWN), (Need.PAYMENT,))
        return
    names = list(spell(Wallet(scene).pay()))
    combinations = [(order, habit) for order in ORDERS for habit in HABITS]
    for name in scene.sampled(names, len(names)):
        for order, habit in scene.sampled(combinations, EACH):
            run = partial(_present, Wallet(scene), spell, name, order, habit)
            yield Try(f"{name}: {order}, {habit.value}", run, (Need.PAYMENT, *habit.needs))


async def _present(wallet: Wallet, spell: Spell, name: str, order: str, habit: Habit) -> Outcome:
    habit.of(wallet)
    payment = wallet.pay()
    both = [pay.encode(payment), spell(payment)[name]]
    values = [both[which] for which in ORDERS[order]]
    if order == "at once":
        await wallet.all_at_once([Presentation(value) for value in values])
    else:
        for value in values:
            await wallet.present(value)
    return await wallet.verdict()


def _signed(payment: pay.Json) -> dict[str, bytes]:
    signature = bytes.fromhex(payment["payload"]["signature"][2:])
    forms = signatures.forms(signature)
    return {
        name: pay.encode(payment | {"payload": payment["payload"] | {"signature": "0x" + form.hex()}})
        for name, form in forms.items()
    }


ATTACK = Attack("replay-spelled", 2, "one payment, spelled otherwise", partial(tries_of, spellings),
                origins=frozenset({"market"}))  # fmt: skip
SIGNATURES = Attack("replay-signature", 2, "one payment, with other forms of its signature", partial(tries_of, _signed),
                    origins=frozenset({"market"}))  # fmt: skip
