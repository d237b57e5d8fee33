"""Other spellings of one payment: the same authorization, so never a second payment.

Some are the same value to every reader, some to lenient readers, some to readers that differ, as where a key stands twice.
A server may take or refuse each of them; what it must not do is take two of them for two payments.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator

Json = dict
OTHER_NONCE = "0x" + "5a" * 32


def spellings(payment: Json) -> dict[str, bytes]:
    """Header values by name. The first is the usual one."""
    text = json.dumps(payment, separators=(",", ":"))
    found = {"as it is": text.encode()}
    found |= {name: spelled.encode("utf-8", "surrogatepass") for name, spelled in _texts(payment, text)}
    found |= {name: json.dumps(changed, separators=(",", ":")).encode() for name, changed in _values(payment)}
    found |= {name: spelled.encode() for name, spelled in _doubles(payment, text)}
    found |= {
        "after a byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "followed by NUL": text.encode() + b"\0",
        "in UTF-16": text.encode("utf-16"),
        "in UTF-16 without a mark": text.encode("utf-16-le"),
        "twice": text.encode() * 2,
        "on two lines": text.encode() + b"\n" + text.encode(),
    }
    values = {name: base64.b64encode(data) for name, data in found.items()}
    return values | _base64(text.encode())


def _base64(data: bytes) -> dict[str, bytes]:
    usual = base64.b64encode(data)
    # Blanks at the end, so that there is padding, and bits in its last letter that mean nothing.
    padded = base64.b64encode(data + b" " * ((1 - len(data)) % 3))
    assert padded.endswith(b"==")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    odd = alphabet[alphabet.index(padded[-3:-2]) | 0b1111 : (alphabet.index(padded[-3:-2]) | 0b1111) + 1]
    middle = len(usual) // 2 // 4 * 4
    return {
        "without padding": padded.rstrip(b"="),
        "with half of its padding": padded[:-1],
        "with more padding": padded + b"==",
        "with bits that mean nothing": padded[:-3] + odd + b"==",
        "url-safe": base64.urlsafe_b64encode(data + b"  "),
        "url-safe, with letters that differ": base64.urlsafe_b64encode(_with_odd_letters(data)),
        "url-safe, without padding": base64.urlsafe_b64encode(data).rstrip(b"="),
        "with a blank within": usual[:middle] + b" " + usual[middle:],
        "with a tab within": usual[:middle] + b"\t" + usual[middle:],
        "with a comma within": usual[:middle] + b"," + usual[middle:],
        "with a letter beyond ASCII within": usual[:middle] + b"\xe9" + usual[middle:],
        "padded within": base64.b64encode(data[:100]) + base64.b64encode(data[100:]),
        "after blanks": b"   \t " + usual,
        "before blanks": usual + b" \t  ",
        "quoted": b'"' + usual + b'"',
        "as a list": usual + b", " + usual,
        "after a word": b"x402 " + usual,
        "percent-encoded": usual.replace(b"=", b"%3D").replace(b"+", b"%2B").replace(b"/", b"%2F"),
        "as base64 of itself": base64.b64encode(usual),
        "as plain JSON": data,
        "in hexadecimal": binascii.hexlify(data),
        "as a data URL": b"data:application/json;base64," + usual,
    }


def _with_odd_letters(data: bytes) -> bytes:
    """The same JSON with a member whose base64 has letters that the alphabets differ in."""
    return data[:-1] + b',"~~~":"???>>>~~~\xc3\xbf\xc3\xbe"}'


def _texts(payment: Json, text: str) -> Iterator[tuple[str, str]]:
    yield "members in reverse", json.dumps(_reversed(payment))
    yield "members sorted", json.dumps(payment, sort_keys=True)
    yield "indented", json.dumps(payment, indent=3)
    yield "with all kinds of white space", _spaced(text)
    yield "within white space", " \t\r\n" * 20 + text + "\r\n\t " * 20
    yield "with slashes escaped", text.replace("/", "\\/")
    for name, escape in (("", "\\u{:04x}"), (" in capitals", "\\u{:04X}")):
        yield f"values escaped{name}", _escaped(payment, escape, keys=False)
        yield f"everything escaped{name}", _escaped(payment, escape, keys=True)
    tails = {"a comma": ",", "a semicolon": ";", "another object": "{}", "a comment": "//x", "null": " null"}
    for name, tail in tails.items():
        yield f"followed by {name}", text + tail
    yield "with a comma at the end", text[:-1] + ",}"
    yield "with a comment", "{/**/" + text[1:]
    yield "in a list", f"[{text}]"
    yield "as a text", json.dumps(text)
    yield "in single quotes", text.replace('"', "'")
    yield "with half a surrogate", text[:-1] + ',"x":"\\ud800"}'
    yield "with a number beyond all", text[:-1] + ',"x":1e999}'
    yield "with no number", text[:-1] + ',"x":NaN}'
    yield "with much within", text[:-1] + ',"x":' + "[" * 60 + "]" * 60 + "}"
    version = '"x402Version":2'
    for other in ("2.0", "2e0", "20e-1", '"2"', "2.0000000000000000001", "true", "[2]"):
        yield f"version {other}", text.replace(version, f'"x402Version":{other}', 1)


def _values(payment: Json) -> Iterator[tuple[str, Json]]:
    """Other texts and numbers for the same values."""

    def changed(change: Callable[[Json], object]) -> Json:
        copy = json.loads(json.dumps(payment))
        change(copy)
        return copy

    def authorized(name: str, value: object) -> Json:
        return changed(lambda copy: copy["payload"]["authorization"].update({name: value}))

    signed = payment["payload"]["authorization"]
    for name in ("from", "to", "nonce"):
        for how, spelled in _hexadecimal(signed[name]).items():
            yield f"{name} {how}", authorized(name, spelled)
    for how, spelled in _hexadecimal(payment["payload"]["signature"]).items():
        yield f"signature {how}", changed(lambda copy, spelled=spelled: copy["payload"].update(signature=spelled))
    for name in ("value", "validAfter", "validBefore"):
        for how, spelled in _decimal(int(signed[name])).items():
            yield f"{name} {how}", authorized(name, spelled)
    accepted = payment["accepted"]
    for how, spelled in _decimal(int(accepted["amount"])).items():
        yield f"accepted amount {how}", changed(lambda copy, spelled=spelled: copy["accepted"].update(amount=spelled))
    for name in ("asset", "payTo"):
        for how, spelled in _hexadecimal(accepted[name]).items():
            yield f"accepted {name} {how}", changed(lambda copy, n=name, s=spelled: copy["accepted"].update({n: s}))
    for where, reach in (
        ("the message", lambda copy: copy), ("payload", lambda copy: copy["payload"]),
        ("accepted", lambda copy: copy["accepted"]),
        ("authorization", lambda copy: copy["payload"]["authorization"]), ("extra", lambda copy: copy["accepted"]["extra"]),
    ):  # fmt: skip
        for value in (None, "x", {"nonce": OTHER_NONCE}):
            yield f"{where} with {json.dumps(value)} more", changed(lambda copy, r=reach, v=value: r(copy).update(more=v))
    yield "with a nonce beside the authorization", changed(lambda copy: copy["payload"].update(nonce=OTHER_NONCE))
    yield "with an authorization beside the payload", changed(lambda copy: copy.update(authorization=signed))
    yield "with extensions", changed(lambda copy: copy.update(extensions={"x": {"info": {}}}))
    yield "with no extensions", changed(lambda copy: copy.update(extensions=None))
    yield "with no resource", changed(lambda copy: copy.update(resource=None))


def _hexadecimal(text: str) -> dict[str, object]:
    digits = text[2:]
    return {
        "in small letters": text.lower(), "in capitals": "0x" + digits.upper(), "all in capitals": "0X" + digits.upper(),
        "of mixed case": "0x" + "".join(d.upper() if n % 3 else d.lower() for n, d in enumerate(digits)),
        "without 0x": digits, "with blanks": f" {text} ", "with zeros in front": "0x00" + digits,
        "with zeros behind": text + "00", "as a number": int(text, 16),
    }  # fmt: skip


def _decimal(number: int) -> dict[str, object]:
    return {
        "as a number": number, "as a fraction": float(number), "with zeros": f"000{number}", "with a sign": f"+{number}",
        "with blanks": f" {number} ", "in hexadecimal": hex(number), "in binary": bin(number),
        "with an exponent": f"{number}e0", "with a point": f"{number}.0", "with underlines": f"{number:_}", "with commas": f"{number:,}",
        "in other digits": "".join(chr(0xFF10 + int(digit)) for digit in str(number)),
        "beyond 256 bits": str(number + (1 << 256)), "as a list": [str(number)],
    }  # fmt: skip


def _doubles(payment: Json, text: str) -> Iterator[tuple[str, str]]:
    """Keys that stand twice, with another value first or last."""
    signed = payment["payload"]["authorization"]
    others = {"nonce": OTHER_NONCE, "value": "1", "to": signed["from"], "from": signed["to"], "validBefore": "1"}
    for name, other in others.items():
        right = f'"{name}":"{signed[name]}"'
        wrong = f'"{name}":"{other}"'
        yield f"{name} twice, the wrong one first", text.replace(right, f"{wrong},{right}", 1)
        yield f"{name} twice, the wrong one last", text.replace(right, f"{right},{wrong}", 1)
        yield f"{name} twice", text.replace(right, f"{right},{right}", 1)
        escaped = f'"\\u{ord(name[0]):04x}{name[1:]}":"{other}"'
        yield f"{name} twice, the wrong one escaped", text.replace(right, f"{right},{escaped}", 1)
        yield f"{name} and {name.upper()}", text.replace(right, f'{right},"{name.upper()}":"{other}"', 1)
    inner = json.dumps(signed, separators=(",", ":"))
    changed = json.dumps(signed | {"nonce": OTHER_NONCE}, separators=(",", ":"))
    both = [(changed, inner), (inner, changed), (inner, inner)]
    for first, last in both:
        name = f"authorization twice, {'right' if first == inner else 'wrong'} and {'right' if last == inner else 'wrong'}"
        yield name, text.replace(f'"authorization":{inner}', f'"authorization":{first},"authorization":{last}', 1)
    whole = json.dumps(payment["payload"], separators=(",", ":"))
    yield "payload twice", text.replace(f'"payload":{whole}', f'"payload":{whole},"payload":{whole}', 1)
    yield "payload twice, empty first", text.replace(f'"payload":{whole}', f'"payload":{{}},"payload":{whole}', 1)


def _reversed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return value


def _spaced(text: str) -> str:
    """White space around everything outside of texts."""
    found, within = "", False
    for letter in text:
        if letter == '"':
            within = not within
        found += letter if within or letter == '"' else f" \n{letter}\t\r"
    return found


def _escaped(value: object, escape: str, *, keys: bool) -> str:
    def text(content: str) -> str:
        return '"' + "".join(escape.format(ord(letter)) for letter in content) + '"'

    if isinstance(value, dict):
        spelled = text if keys else json.dumps
        members = [f"{spelled(key)}:{_escaped(inner, escape, keys=keys)}" for key, inner in value.items()]
        return "{" + ",".join(members) + "}"
    return text(value) if isinstance(value, str) else json.dumps(value)
