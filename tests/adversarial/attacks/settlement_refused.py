"""The site has worked, and settlement is not a yes: nothing of the answer may come out.

Refused for every reason that facilitators give; told in ways that a loose reader takes for a yes; told with odd statuses,
cut off, or not at all. No money has moved in any of these. The request is also one whose answer is small (HEAD, a range),
early (interim answers) or about the content (conditional). Afterwards the payer has money, and comes again.
"""

import json
from collections.abc import Iterator
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try
from core.payments import Wallet
from core.scene import Scene
from core.target import Way

NETWORK = "eip155:84532"
REASONS = [
    "insufficient_funds", "invalid_exact_evm_insufficient_balance", "invalid_exact_evm_transaction_failed",
    "invalid_exact_evm_nonce_already_used", "invalid_exact_evm_payload_authorization_valid_before",
    "invalid_exact_evm_signature", "unexpected_settle_error", "settlement_pending", "duplicate_settlement",
    "authorization is used", "", "x" * 5000, "\r\nSet-Cookie: a=b", "<script>", "success",
]  # fmt: skip


def noes() -> dict[str, object]:
    """Answers that are no yes, by name: status and body; `None` for none."""
    failed = {"success": False, "transaction": "", "network": NETWORK}
    sent = {"success": False, "transaction": "0x" + "ab" * 32, "network": NETWORK}
    yes = {"success": True, "transaction": "0x" + "cd" * 32, "network": NETWORK}
    found: dict[str, object] = {f"reason {reason[:30]!r}": (200, failed | {"errorReason": reason}) for reason in REASONS}
    found |= {f"a transaction, and {reason[:30]!r}": (200, sent | {"errorReason": reason}) for reason in REASONS[:8]}
    found |= {f"status {status}": (status, failed | {"errorReason": "no"})
              for status in (400, 401, 402, 403, 409, 412, 429, 500, 502, 503)}  # fmt: skip
    found |= {f"a yes with the status {status}": (status, yes) for status in (402, 500)}
    found |= {f"success {json.dumps(value)}": (200, yes | {"success": value})
              for value in (None, "true", "false", 1, 0, "", "yes", [True], {"success": True})}  # fmt: skip
    found |= {
        "no word of success": (200, {"transaction": "0x" + "cd" * 32, "network": NETWORK}),
        "Success": (200, {"Success": True, "transaction": "0x" + "cd" * 32, "network": NETWORK}),
        "within another object": (200, {"data": yes}), "in a list": (200, json.dumps([yes]).encode()),
        "as a text": (200, json.dumps(json.dumps(yes)).encode()), "as true": (200, b"true"), "as null": (200, b"null"),
        "an answer to another question": (200, {"isValid": True, "payer": "0x" + "11" * 20}),
        "nothing": (200, b""), "blanks": (200, b"  \n"), "a page": (200, b"<html>success: true</html>"), "OK": (200, b"OK"),
        "cut off": (200, json.dumps(yes).encode()[:-20]), "cut off early": (200, b'{"success":true'),
        "and something behind": (200, json.dumps(yes).encode() + b"}"), "twice": (200, json.dumps(yes).encode() * 2),
        "with a yes and then a no": (200, b'{"success":true,"transaction":"0x1","network":"eip155:84532","success":false}'),
        "a yes with status 500": (500, b"Internal error: success true"), "204": (204, b""),
        "a redirect": (302, b""), "404": (404, b"not found"), "a failed gateway": (502, b"<html>Bad Gateway</html>"),
        "too much": (200, b'{"x":"' + b"x" * 3_000_000 + b'"}'), "deep": (200, b'{"x":' + b"[" * 20000 + b"]" * 20000 + b"}"),
        "not UTF-8": (200, b'{"success":\xff\xfe}'), "none": None,
    }  # fmt: skip
    return found


REQUESTS: list[dict] = [
    {}, {"method": b"HEAD"}, {"method": b"POST", "body": b"x=1"}, {"headers": ((b"Range", b"bytes=0-99"),)},
    {"headers": ((b"Expect", b"100-continue"),)}, {"headers": ((b"TE", b"trailers"), (b"Accept-Encoding", b"gzip"))},
    {"headers": ((b"If-Modified-Since", b"Sat, 01 Jan 2000 00:00:00 GMT"),)},
]  # fmt: skip
WAYS = [Way.HTTP11, Way.H2, Way.H2C, Way.HTTP10]


def tries(scene: Scene) -> Iterator[Try]:
    answers = noes()
    ways = [way for way in WAYS if scene.target.door(way)]
    for number, name in enumerate(scene.sampled(list(answers), len(answers))):
        for request in range(2):
            how = REQUESTS[0] if request == 0 else scene.random.choice(REQUESTS[1:])
            way = ways[(number + request) % len(ways)]
            run = partial(_refuse, Wallet(scene), answers[name], {**how, "way": way})
            yield Try(f"{name}, {way.value}, {how}", run, (Need.PAYMENT, Need.FACILITATOR))


async def _refuse(wallet: Wallet, answer: object, how: dict) -> Outcome:
    scene, account = wallet.scene, wallet.payer.address.lower()
    facilitator, price = scene.facilitator, int(scene.offer.terms["amount"])
    refusing = [True]

    async def before(_: pay.Json) -> None:
        # The money goes just before it would be moved, so that it certainly does not.
        await facilitator.fund(wallet.payer, 0 if refusing[0] else price)

    async def settle(_: pay.Json, honest: object) -> object:
        return answer if refusing[0] else honest

    # Somebody else buys, so that no server leaves the facilitator alone after so many odd answers in a row.
    await scene.buy()
    await facilitator.fund(wallet.payer, price)
    facilitator.scripts[account] = facilitator.script_of(before_settle=before, settle=settle)
    value = pay.encode(wallet.pay())
    await wallet.present_for_settlement(value, **how)
    outcome = await wallet.verdict(can_know=False)
    if outcome.why:
        return outcome
    refusing[0] = False
    await facilitator.fund(wallet.payer, price)
    await wallet.present(value)
    await wallet.present(value)
    return await wallet.verdict()


ATTACK = Attack("settlement-refused", 1, "settlement is no yes after the site has worked", tries,
                origins=frozenset({"market"}), alone=True)  # fmt: skip
