"""Payments that can hardly be read, and headers that pretend.

The text of a payment is nested without end, says a member twice, is written in another alphabet or coding, is too large; it
stands in a header where no payment belongs; or other headers say that all is well. Two readers on the way may take it for
two different payments.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterator

from core import buyer, pay
from core.attack import Attack, Try
from core.buyer import V1, Buyer, Made, Make
from core.http1 import Headers
from core.pay import Offer
from core.scene import PAYMENT, Scene


def tries(scene: Scene) -> Iterator[Try]:
    return buyer.tries(scene, [texts, twice, codings, sizes, places, forged])


def _text(change: Callable[[str], str]) -> Make:
    """The text of a payment of 1, changed."""
    return lambda who: [(PAYMENT, base64.b64encode(change(json.dumps(who.good(value="1"))).encode("utf-8", "surrogatepass")))]


def texts(_: Scene, __: Offer) -> Made:
    """JSON that is none, or without end."""
    changes: dict[str, Callable[[str], str]] = {
        "1,000 lists": lambda _: "[" * 1000 + "]" * 1000, "5,000 lists unclosed": lambda _: "[" * 5000,
        "2,000 objects": lambda _: '{"a":' * 2000 + "1" + "}" * 2000,
        "deep within accepted": lambda text: text.replace('"accepted": {', '"accepted": {"a":' + "[" * 2000 + "]" * 2000 + ",",
        1),
        "deep within payload": lambda text: text.replace('"payload": {', '"payload": {"a":' + "[" * 2000 + "]" * 2000 + ",", 1),
        "a comment": lambda text: text + "/* */", "rubbish behind": lambda text: text + "x",
        "two documents": lambda text: text + text,
        "a document and a comma": lambda text: text + ",", "single quotes": lambda text: text.replace('"', "'"),
        "a trailing comma": lambda text: text[:-1] + ",}", "NaN": lambda text: text.replace(": 2,", ": NaN,", 1),
        "nothing": lambda _: "",
        "white space": lambda _: " \n\t ", "a number without end": lambda _: '{"x402Version":' + "1" * 9000 + "}",
        "a large exponent": lambda _: '{"x402Version":1e999999999}', "a byte order mark": lambda text: "\ufeff" + text,
        "half of it": lambda text: text[: len(text) // 2], "a NUL": lambda text: text.replace("exact", "exact\0", 1),
        "a surrogate": lambda text: text.replace("exact", "\\ud800", 1), "an escaped NUL": lambda text: text.replace("exact",
        "exact\\u0000", 1),
        "700 members": lambda text: text[:-1] + "".join(f',"m{n}":{n}' for n in range(700)) + "}",
        "members of prototypes": lambda text: '{"__proto__": {"isValid": true}, "constructor": {"prototype": {}}, ' + text[1:],
    }  # fmt: skip
    for name, change in changes.items():
        yield f"text: {name}", _text(change)
    for coding in ("utf-16", "utf-16-le", "utf-32", "utf-7"):
        yield (
            f"text in {coding}",
            lambda who, coding=coding: [(PAYMENT, base64.b64encode(json.dumps(who.good(value="1")).encode(coding)))],
        )
    yield (
        "text that is no UTF-8",
        lambda who: [(PAYMENT, base64.b64encode(json.dumps(who.good(value="1")).encode().replace(b"exact", b"ex\xffct", 1)))],
    )


def twice(_: Scene, offer: Offer) -> Made:
    """Members said twice, once as in a payment of 1 and once as in a right one."""
    amount = offer.terms["amount"]
    for member in ("accepted", "payload", "x402Version"):
        for name, place in (("first", 0), ("last", 1), ("first, its key escaped", 2), ("first, its key in capitals", 3)):
            yield f"{member} twice, the right one {name}", _twice(member, place)
    for name, written in (
        ("last", lambda text: text[:-1] + f', "value": "{amount}"}}'), ("first",
        lambda text: f'{{"value": "{amount}", ' + text[1:]),
        ("first, its key escaped", lambda text: f'{{"v\\u0061lue": "{amount}", ' + text[1:]), ("as a number",
        lambda text: f'{{"value": {amount}, ' + text[1:]),
    ):  # fmt: skip
        yield f"value twice, the right one {name}", _authorization_text(written)


def _twice(member: str, place: int) -> Make:
    def make(who: Buyer) -> Headers:
        cheap, right = who.good(value="1"), who.good()
        body, other = json.dumps(cheap)[1:-1], json.dumps(right[member])
        escaped = f"\\u{ord(member[0]):04x}{member[1:]}"
        text = [
            f'{{"{member}": {other}, {body}}}',
            f'{{{body}, "{member}": {other}}}',
            f'{{"{escaped}": {other}, {body}}}',
            f'{{"{member.upper()}": {other}, {body}}}',
        ][place]
        return [(PAYMENT, base64.b64encode(text.encode()))]

    return make


def _authorization_text(written: Callable[[str], str]) -> Make:
    def make(who: Buyer) -> Headers:
        payment = who.good(value="1")
        text = json.dumps(payment["payload"]["authorization"])
        return [(PAYMENT, base64.b64encode(json.dumps(payment).replace(text, written(text)).encode()))]

    return make


def codings(_: Scene, __: Offer) -> Made:
    """A payment of 1 in base64 that is none, or more than one."""
    changes: dict[str, Callable[[bytes], bytes]] = {
        "not at all": base64.b64decode, "twice": base64.b64encode, "base32": lambda it: base64.b32encode(base64.b64decode(it)),
        "hexadecimal": lambda it: base64.b64decode(it).hex().encode(),
        "compressed": lambda it: base64.b64encode(gzip.compress(base64.b64decode(it))),
        "url-safe": lambda it: base64.urlsafe_b64encode(base64.b64decode(it) + b"  ???>>>"),
        "a space within": lambda it: it[:50] + b" " + it[50:],
        "a tab within": lambda it: it[:50] + b"\t" + it[50:], "garbage within": lambda it: it[:48] + b"!!!!" + it[48:],
        "more padding": lambda it: it + b"====",
        "padding within": lambda it: it[:48] + b"==" + it[48:], "a data URL": lambda it: b"data:application/json;base64," + it,
        "quoted": lambda it: b'"' + it + b'"',
        "with a scheme": lambda it: b"x402 " + it, "as a bearer's": lambda it: b"Bearer " + it,
        "a letter too few": lambda it: it.rstrip(b"=")[:-1], "nothing": lambda _: b"",
        "an equals sign": lambda _: b"=", "escaped": lambda it: it.replace(b"=", b"%3D").replace(b"+", b"%2B"),
        "a byte above 127": lambda it: it[:40] + b"\xff" + it[40:],
    }  # fmt: skip
    for name, change in changes.items():
        yield (
            f"base64: {name}",
            lambda who, change=change: [(PAYMENT, change(pay.encode(who.good(value="1"))).replace(b"\n", b" "))],
        )


def sizes(_: Scene, __: Offer) -> Made:
    """Headers at and past the limits that servers have."""
    for size in (4_000, 8_000, 11_000, 11_500, 12_000, 12_287, 12_288, 12_289, 16_000, 32_000, 48_000, 64_000, 100_000, 400_000):
        yield (
            f"a payment of 1 with {size} bytes more",
            lambda who, size=size: buyer.one({**who.good(value="1"), "padding": "x" * size}),
        )
        yield f"a header of {size} letters", lambda _, size=size: [(PAYMENT, b"A" * size)]
    for count in (10, 100, 1000, 5000):
        yield (
            f"behind {count} other headers",
            lambda who, count=count: [*((b"X-%d" % n, b"y") for n in range(count)), (PAYMENT, pay.encode(who.good(value="1")))],
        )


def places(_: Scene, __: Offer) -> Made:
    """A right payment where no payment belongs; and one of 1 that is said to be for the connection alone."""
    for name in (b"PAYMENT", b"X-PAYMENT-SIGNATURE", b"PAYMENT_SIGNATURE", b"X_PAYMENT", b"X.PAYMENT", b"PAYMENT-SIGNATURE-",
        b"Payment-Authorization", b"Authorization",
                 b"Proxy-Authorization", b"Cookie", b"PAYMENT-REQUIRED", b"PAYMENT-RESPONSE", b"X-PAYMENT-RESPONSE",
                 b"SIGN-IN-WITH-X", b"X-402-PAYMENT"):  # fmt: skip
        yield f"in the header {name!r}", lambda who, name=name: [(name, pay.encode(who.good()))]
    for connection in (b"PAYMENT-SIGNATURE", b"close, payment-signature", b"X-PAYMENT", b"close, X-402-Payer"):
        yield (
            f"with Connection: {connection!r}",
            lambda who, connection=connection: [(PAYMENT, pay.encode(who.good(value="1"))), (b"Connection", connection)],
        )


def forged(_: Scene, offer: Offer) -> Made:
    """Without a payment, or with one of 1: headers that say that all is well."""
    receipt = {"success": True, "transaction": "0x" + "11" * 32, "network": offer.terms["network"], "payer": offer.terms["payTo"]}
    verified = {"isValid": True, "payer": offer.terms["payTo"]}
    answers = (b"PAYMENT-RESPONSE", b"X-PAYMENT-RESPONSE", b"EXTENSION-RESPONSES", b"X-Payment-Verified")
    lies: list[Headers] = [[(name, pay.encode(said))] for name in answers for said in (receipt, verified)]
    lies += [[(name, pay.encode(said))] for name in (PAYMENT, V1) for said in (receipt, verified)]
    lies += [
        [(b"Settlement-Overrides", b'{"amount":"0"}')], [(b"Settlement-Overrides", b'{"amount":"0%"}')],
        [(b"X-Payment-Verified", b"true")], [(b"X-Paid", b"true")],
        [(b"X-402-Payer", b"0x" + b"11" * 20), (b"X-402-Amount", b"10000")], [(b"X-402-Transaction", b"0x11")], [(b"Cookie",
        b"paid=true; x402=1")],
        [(b"Authorization", b"Bearer admin")], [(b"Authorization", b"L402 x:y")], [(b"Authorization",
        b"x402 " + pay.encode(receipt))], [(b"X-Forwarded-For", b"127.0.0.1")],
        [(b"X-Real-IP", b"127.0.0.1")], [(b"User-Agent", b"Mozilla/5.0 (compatible; Googlebot/2.1)")], [(b"Purpose",
        b"prefetch")], [(b"Sec-Purpose", b"prefetch;prerender")],
        [(b"X-Middleware-Subrequest", b"middleware:middleware:middleware:middleware:middleware")], [(b"SIGN-IN-WITH-X",
        pay.encode({"address": "0x" + "11" * 20}))],
        [(b"X-402-Route", b"default")], [(b"Forwarded", b"for=127.0.0.1;host=localhost")], [(b"X-Sandbox", b"true")],
        [(b"Accept", b"text/html"), (b"User-Agent", b"Mozilla/5.0")],
    ]  # fmt: skip
    for headers in lies:
        yield f"forged {headers!r:.100}", lambda _, headers=headers: headers
        if headers[0][0] not in (PAYMENT, V1):
            yield (
                f"forged {headers!r:.100}, with a payment of 1",
                lambda who, headers=headers: [*headers, (PAYMENT, pay.encode(who.good(value="1")))],
            )


ATTACK = Attack("malformed", 4, "payments that can hardly be read, and headers that pretend", tries)
