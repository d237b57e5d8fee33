"""Other forms of an ECDSA signature: what some wallets write and some contracts and libraries read."""

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
UNDEPLOYED = bytes.fromhex("6492" * 16)
"""What ends a signature of a wallet that is not on the chain yet (ERC-6492)."""
TOP_BIT = 1 << 255


def forms(signature: bytes) -> dict[str, bytes]:
    """Every form of a signature (r, s, and 27 or 28), by name."""
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    parity, high = v - 27, (ORDER - s).to_bytes(32, "big")
    other = 28 - parity
    compact = r + (s | TOP_BIT if parity else s).to_bytes(32, "big")
    der = _der(signature[:32], signature[32:64])
    found = {
        "as it is": signature,
        "v counted from 0": signature[:64] + bytes([parity]),
        "s in the upper half": r + high + bytes([other]),
        "s in the upper half, v counted from 0": r + high + bytes([other - 27]),
        "s in the upper half, v as before": r + high + bytes([v]),
        "s beyond the order": r + ((s + ORDER) % (1 << 256)).to_bytes(32, "big") + bytes([v]),
        "compact (ERC-2098)": compact,
        "compact of the upper half": r + (int.from_bytes(high, "big") | TOP_BIT).to_bytes(32, "big"),
        "without v": signature[:64],
        "v first": bytes([v]) + signature[:64],
        "DER": der,
        "for an account that is not deployed (ERC-6492)": _undeployed(signature),
        "twice wrapped (ERC-6492)": _undeployed(_undeployed(signature)),
        "wrapped, compact": _undeployed(compact),
        "with the owner's number, as smart wallets write": _abi([bytes(32), signature]),
    }
    for name, wrong in (("other v", other), ("v 29", 29), ("v 2", 2), ("v 255", 255)):
        found[name] = signature[:64] + bytes([wrong])
    for chain in (1, 8453, 84532):
        found[f"v of EIP-155 for chain {chain}"] = signature[:64] + (parity + 35 + 2 * chain).to_bytes(4, "big").lstrip(b"\0")
    tails = {"a zero": b"\0", "a byte": b"\x01", "a word": bytes(32), "itself": signature, "65 zeros": bytes(65)}
    for name, tail in tails.items():
        found[f"followed by {name}"] = signature + tail
    for name, head in (("a zero", b"\0"), ("a word", bytes(32))):
        found[f"after {name}"] = head + signature
    return found


def readings(signature: bytes) -> list[bytes]:
    """What a reader that is very lenient may take bytes for: signatures in the usual form."""
    found = [signature[at : at + 64] + bytes([v]) for at in _starts(signature) for v in (27, 28)]
    for at in _starts(signature):
        s = int.from_bytes(signature[at + 32 : at + 64], "big")
        if s & TOP_BIT:
            found.append(signature[at : at + 32] + (s ^ TOP_BIT).to_bytes(32, "big") + b"\x1c")
    return found


def _starts(signature: bytes) -> list[int]:
    """A signature may stand at whole words, or behind a byte."""
    return [at for at in (0, 1, *range(32, 1024, 32)) if at + 64 <= len(signature)]


def _undeployed(signature: bytes) -> bytes:
    return _abi([bytes(12) + b"\x11" * 20, b"", signature]) + UNDEPLOYED


def _abi(values: list[bytes]) -> bytes:
    """The ABI's encoding of one word and byte strings."""
    heads, tails = values[0], b""
    for value in values[1:]:
        heads += (32 * len(values) + len(tails)).to_bytes(32, "big")
        tails += len(value).to_bytes(32, "big") + value + bytes(-len(value) % 32)
    return heads + tails


def _der(r: bytes, s: bytes) -> bytes:
    parts = b""
    for number in (r, s):
        number = number.lstrip(b"\0")
        number = b"\0" + number if number[:1] >= b"\x80" else number
        parts += b"\x02" + bytes([len(number)]) + number
    return b"\x30" + bytes([len(parts)]) + parts
