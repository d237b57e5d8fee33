"""Payments that are wrong in one thing.

One member of a payment is not what it should be: the amount, the recipient, the account that signed, the time, the network,
the version. Each is sent by an account of its own; nothing may come back unless the facilitator has moved the right amount
to the right place.
"""

import time
from collections.abc import Iterator

from core import buyer, pay
from core.attack import Attack, Try
from core.buyer import V1, Buyer, Made, Make, changed, changed_v1, one
from core.pay import Offer, Payer
from core.scene import PAYMENT, Scene

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1: with a signature (r, s, v) there is (r, ORDER - s, v flipped), which recovers the same account."""
OTHER = "0x" + "66" * 20
ODD: list[object] = ["", "0", "-1", "1e4", "0x2710", "10000.0", "010000", " 10000", "１００００", "1" * 80, str(1 << 256), 0, 1, -1,
    1.5,
                     True, None, [], {}, ["10000"], {"a": 1}, "null", "\u0000", "9" * 5000]  # fmt: skip
AUTHORIZATION = ("payload", "authorization")
MEMBERS = ("from", "to", "value", "validAfter", "validBefore", "nonce")


def tries(scene: Scene) -> Iterator[Try]:
    return buyer.tries(scene, [authorizations, cheap, signatures, domains, accepted, versions, payloads, several])


def authorizations(_: Scene, offer: Offer) -> Made:
    """Members of what is signed: signed so, and changed after signing."""
    now, amount = int(time.time()), int(offer.terms["amount"])
    signed: dict[str, list[str]] = {
        "value": ["0", "1", str(amount - 1), str(amount + 1), str(amount * 2), str((1 << 256) - 1), str((1 << 255) + amount)],
        "to": [OTHER, "0x" + "00" * 20, offer.terms["asset"]],
        "validAfter": [str(now + 60), str(now + 100_000), str((1 << 256) - 1), str(1 << 64)],
        "validBefore": ["0", "1", str(now - 1), str(now), str(now + 1), str(now + 4), str(now - 100_000)],
        "from": [OTHER, "0x" + "00" * 20, offer.terms["payTo"]],
    }
    for member, values in signed.items():
        for value in values:
            yield f"{member} = {value}, signed so", lambda who, member=member, value=value: one(who.good(**{member: value}))
            yield f"{member} = {value}, not signed so", changed((*AUTHORIZATION, member), value)
    for member in MEMBERS:
        for value in (*ODD, ..., "0x", "0x0", "0x" + "00" * 32, "0x" + "11" * 31, "0x" + "11" * 33, "0x" + "zz" * 32, OTHER):
            yield f"{member} = {value!r:.40}", changed((*AUTHORIZATION, member), value)


def cheap(_: Scene, offer: Offer) -> Made:
    """Payments that are right in themselves, for terms of the client's own."""
    terms = [
        {"amount": "1"}, {"amount": "0"}, {"asset": OTHER}, {"network": "eip155:1"}, {"extra": {"name": "Free", "version": "1"}},
        {"payTo": OTHER}, {"payTo": OTHER, "amount": "0"}, {"maxTimeoutSeconds": 100_000_000},
        {"extra": {**offer.terms["extra"], "version": "1"}},
    ]  # fmt: skip
    for changes in terms:
        yield f"for terms with {changes!r}", lambda who, changes=changes: one(who.for_terms(**changes))
    yield "paid to oneself", lambda who: one(who.for_terms(payTo=who.payer.address))
    yield "for the terms of v1 with an amount of 1", lambda who: [(V1, pay.encode(who.good_v1(value="1")))]


def signatures(scene: Scene, offer: Offer) -> Made:
    """Signatures that are none, or of somebody or something else."""
    forms = {
        "of 63 bytes": lambda r, s, v: r + s[:31], "of 64 bytes": lambda r, s, v: r + s, "of 66 bytes": lambda r, s,
        v: r + s + bytes([v, 0]),
        "with zero before": lambda r, s, v: b"\0" + r + s + bytes([v]), "s and r": lambda r, s, v: s + r + bytes([v]),
        "with the other v": lambda r, s, v: r + s + bytes([55 - v]), "v + 2": lambda r, s, v: r + s + bytes([v + 2]),
        "v + 8": lambda r, s, v: r + s + bytes([v + 8]),
        "v = 255": lambda r, s, v: r + s + b"\xff", "r = 0": lambda r, s, v: bytes(32) + s + bytes([v]), "s = 0": lambda r, s,
        v: r + bytes(33),
        "s = order": lambda r, s, v: r + ORDER.to_bytes(32, "big") + bytes([v]), "r = order": lambda r, s, v: ORDER.to_bytes(32,
        "big") + s + bytes([v]),
        "high s, same v": lambda r, s, v: r + (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big") + bytes([v]),
        "of a wallet": lambda r, s, v: r + s + bytes([v]) + b"\x64\x92" * 16, "of a wallet, zeros": lambda r, s,
        v: bytes(96) + b"\x64\x92" * 16,
        "twice": lambda r, s, v: (r + s + bytes([v])) * 2, "empty": lambda r, s, v: b"", "zeros": lambda r, s, v: bytes(65),
        "ones": lambda r, s, v: b"\xff" * 65,
        "of 6,000 bytes": lambda r, s, v: b"\x11" * 6000,
    }  # fmt: skip
    for name, form in forms.items():
        yield f"the signature {name}", _signed(form)
    texts = {
        "without 0x": lambda text: text[2:], "with 0X": lambda text: "0X" + text[2:],
        "with a digit too few": lambda text: text[:-1], "with no digits": lambda _: "0x" + "zz" * 65,
        "in a list": lambda text: [text], "in an object": lambda text: {"signature": text}, "null": lambda _: None,
        "a number": lambda text: int(text[:12], 16),
        "with a space": lambda text: text + " ", "in capitals": lambda text: "0x" + text[2:].upper(), "left out": lambda _: ...,
    }  # fmt: skip
    for name, form in texts.items():
        yield f"the signature {name}", _written(form)
    for name in ("somebody else's", "random"):
        yield f"the signature {name}", _foreign(name)


def _signed(form: object) -> Make:
    def make(who: Buyer) -> list[tuple[bytes, bytes]]:
        payment = who.good()
        right = bytes.fromhex(payment["payload"]["signature"][2:])
        return one(buyer.replaced(payment, ("payload", "signature"), "0x" + form(right[:32], right[32:64], right[64]).hex()))

    return make


def _written(form: object) -> Make:
    def make(who: Buyer) -> list[tuple[bytes, bytes]]:
        payment = who.good()
        return one(buyer.replaced(payment, ("payload", "signature"), form(payment["payload"]["signature"])))

    return make


def _foreign(kind: str) -> Make:
    def make(who: Buyer) -> list[tuple[bytes, bytes]]:
        payment = who.good()
        random = who.scene.random
        other = Payer.made_up(random).sign(who.offer.domain(), payment["payload"]["authorization"])
        signature = random.randbytes(65) if kind == "random" else other
        return one(buyer.replaced(payment, ("payload", "signature"), "0x" + signature.hex()))

    return make


def domains(_: Scene, offer: Offer) -> Made:
    """Signatures for another contract, chain, or token."""
    changes = [("name", "USDD"), ("name", ""), ("name", "usdc"), ("version", "1"), ("version", ""), ("chainId", 1), ("chainId",
        0), ("chainId", 8453),
               ("verifyingContract", OTHER), ("verifyingContract", "0x" + "00" * 20), ("verifyingContract",
               offer.terms["payTo"])]  # fmt: skip
    for member, value in changes:
        if str(offer.domain()[member]).lower() != str(value).lower():
            yield f"signed for the {member} {value!r}", _for_domain(member, value)


def _for_domain(member: str, value: object) -> Make:
    def make(who: Buyer) -> list[tuple[bytes, bytes]]:
        authorization = who.payer.authorization(who.offer, who.scene.random)
        signature = who.payer.sign({**who.offer.domain(), member: value}, authorization)
        return one(pay.message(who.offer, authorization, signature))

    return make


def accepted(_: Scene, offer: Offer) -> Made:
    """What the client says it has accepted, with an authorization for what was offered, and for 1."""
    for signed in ({}, {"value": "1"}):
        for member in ("scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"):
            for value in (
                *ODD,
                ...,
                "1",
                "upto",
                "Exact",
                "exact ",
                "EXACT",
                "base-sepolia",
                "eip155:1",
                "eip155:84532 ",
                "EIP155:84532",
                OTHER,
            ):
                if value != offer.terms.get(member):
                    yield f"accepted.{member} = {value!r:.40}, {signed}", changed(("accepted", member), value, **signed)
    for extra in ({"amount": "1"}, {"maxAmountRequired": "1"}, {"price": "0"}, {"extra": {**offer.terms["extra"],
        "amount": "1"}}, {"discount": "100%"},
                  {"payTo ": OTHER}, {"PayTo": OTHER}, {"settled": True}, {"free": True}):  # fmt: skip
        yield f"accepted with {extra!r}, value 1", changed(("accepted",), {**offer.terms, **extra}, value="1")
    for value in (*ODD, ..., [offer.terms], "exact"):
        yield f"accepted = {value!r:.40}", changed(("accepted",), value, value="1")


def versions(_: Scene, __: Offer) -> Made:
    """Versions, schemes and networks of both generations, with a payment of 1."""
    for value in (0, 1, 3, -1, 2.0, 2.5, "2", "1", None, [], [2], {}, True, 1 << 64, ...):
        if value != 2:
            yield f"x402Version = {value!r}", changed(("x402Version",), value, value="1")
        yield f"v1 x402Version = {value!r}", changed_v1(("x402Version",), value, value="1")
    for member in ("scheme", "network"):
        for value in (*ODD, ..., "upto", "base", "BASE-SEPOLIA", "eip155:84532", "exact"):
            yield f"v1 {member} = {value!r:.40}", changed_v1((member,), value, value="1")


def payloads(_: Scene, __: Offer) -> Made:
    """What is inside or around a payment of 1."""
    for value in (
        *ODD,
        ...,
        "0x",
        [{}],
        {"transaction": "AAAA"},
        {"authorization": {}, "signature": "0x"},
        {"permit2Authorization": {}, "signature": "0x"},
    ):
        yield f"payload = {value!r:.40}", changed(("payload",), value, value="1")
        yield f"v1 payload = {value!r:.40}", changed_v1(("payload",), value, value="1")
    for member in ("authorization", "signature"):
        yield f"without {member}", changed(("payload", member), ...)
    wraps = {
        "a list": lambda it: [it], "lists": lambda it: [[it]], "payment": lambda it: {"payment": it},
        "paymentPayload": lambda it: {"paymentPayload": it},
        "its payload": lambda it: it["payload"], "text": lambda it: str(it), "nothing": lambda _: {}, "null": lambda _: None,
        "true": lambda _: True,
    }  # fmt: skip
    for name, wrap in wraps.items():
        yield f"the document is {name}", lambda who, wrap=wrap: one(wrap(who.good(value="1")))
    for extensions in (
        {"payment-identifier": {"info": {"id": "x" * 5000}}},
        {"x": None},
        None,
        [],
        "x",
        {"sign-in-with-x": {"info": {}}},
        {str(n): n for n in range(300)},
    ):
        yield f"extensions {extensions!r:.40}, value 1", changed(("extensions",), extensions, value="1")
    for resource in ({"url": "https://other.example/"}, {}, None, "x", [], {"url": None}):
        yield f"resource {resource!r}, value 1", changed(("resource",), resource, value="1")


def several(_: Scene, __: Offer) -> Made:
    """Several payments of 1, and both generations at once."""

    def v2(who: Buyer) -> bytes:
        return pay.encode(who.good(value="1"))

    def v1(who: Buyer) -> bytes:
        return pay.encode(who.good_v1(value="1"))

    yield "v1 in the header of v2", lambda who: [(PAYMENT, v1(who))]
    yield "v2 in the header of v1", lambda who: [(V1, v2(who))]
    yield "both generations", lambda who: [(PAYMENT, v2(who)), (V1, v1(who))]
    yield "both generations, v1 first", lambda who: [(V1, v1(who)), (PAYMENT, v2(who))]
    yield "one of 1, one right", lambda who: [(PAYMENT, v2(who)), (PAYMENT, pay.encode(who.good()))]
    yield "one right, one of 1", lambda who: [(PAYMENT, pay.encode(who.good())), (PAYMENT, v2(who))]
    yield "100 of them", lambda who: [(PAYMENT, v2(who))] * 100
    yield "nothing, then one", lambda who: [(PAYMENT, b""), (PAYMENT, v2(who))]
    yield "one, then nothing", lambda who: [(PAYMENT, v2(who)), (PAYMENT, b"")]
    yield "joined with a comma", lambda who: [(PAYMENT, v2(who) + b", " + v2(who))]


ATTACK = Attack("wrong-fields", 4, "payments that are wrong in one thing", tries)
