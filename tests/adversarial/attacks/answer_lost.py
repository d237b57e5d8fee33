"""The money moves, and the facilitator's answer does not arrive, or cannot be read.

Whoever takes that for a no asks to be paid twice, or has been paid and delivers nothing; whoever gives the payment back
delivers twice. The payer comes again with the same payment, alone or many times at once, until it is served.
"""

from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.habits import Habit
from core.payments import Presentation, Wallet
from core.scene import Scene

LOST: dict[str, object] = {
    "no answer": None, "500": (500, b"Internal Server Error"), "502": (502, b"<html>Bad Gateway</html>"),
    "503": (503, b""), "504": (504, b"Gateway Timeout"), "nothing": (200, b""), "half of it": (200, b'{"success":tr'),
    "a page": (200, b"<html></html>"), "no word of success": (200, {"transaction": "0x" + "cd" * 32}),
    "no JSON, 400": (400, b"?"), "429": (429, b"slow down"), "null": (200, b"null"), "a list": (200, b"[]"),
    "pending": (200, {"success": False, "errorReason": "settlement_pending", "transaction": "0x" + "cd" * 32,
                      "network": "eip155:84532"}),
    "pending, without a transaction": (200, {"success": False, "errorReason": "settlement_pending", "transaction": "",
                                             "network": "eip155:84532"}),
    "an error of its own": (200, {"success": False, "errorReason": "unexpected_settle_error", "transaction": "",
                                  "network": "eip155:84532"}),
    "an error, and a transaction": (200, {"success": False, "errorReason": "timeout", "transaction": "0x" + "cd" * 32,
                                          "network": "eip155:84532"}),
}  # fmt: skip
TIMES = [1, 2, 3]
"""How often the answer is lost."""
NOT_ASKED = {"429"}
"""What a facilitator says that has done nothing: money that moved all the same cannot be suspected."""


def tries(scene: Scene) -> Iterator[Try]:
    for name in scene.sampled(list(LOST), len(LOST)):
        for times in TIMES:
            for at_once in (1, 6):
                can_know = name not in NOT_ASKED
                run = partial(_lose, Wallet(scene), LOST[name], times, at_once, can_know)
                yield Try(f"{name}, {times} times, then presented {at_once} at once", run,
                          (Need.PAYMENT, Need.FACILITATOR))  # fmt: skip


async def _lose(wallet: Wallet, answer: object, times: int, at_once: int, can_know: bool) -> Outcome:
    facilitator = wallet.scene.facilitator
    await facilitator.fund(wallet.payer, int(wallet.scene.offer.terms["amount"]))
    left = [times]
    script = facilitator.take_on(wallet.payer.address, Habit.REPEATING)
    repeat = script.settle

    async def settle(asked: pay.Json, honest: object) -> object:
        if left[0] > 0:
            left[0] -= 1
            return answer
        return await repeat(asked, honest) if repeat else honest

    script.settle = settle
    value = pay.encode(wallet.pay())
    await wallet.present_for_settlement(value)
    await wallet.all_at_once([Presentation(value) for _ in range(at_once)])
    outcome = await wallet.verdict(can_know=can_know)
    for _ in range(2):
        await wallet.present(value)
    after = await wallet.verdict(can_know=can_know)
    return outcome if outcome.why else after


ATTACK = Attack("answer-lost", 1, "the money moves, and the facilitator's answer is lost", tries,
                origins=frozenset({"market", "chain"}))  # fmt: skip
