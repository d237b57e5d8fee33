"""Paying as an x402 client does: reads an offer, signs an EIP-3009 authorization, writes the header.

An independent reading of the protocol; nothing here knows any particular server. Time and randomness are arguments.
"""

import base64
import binascii
import json
import random
import time
from dataclasses import dataclass

from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak

from core.http1 import Message

Json = dict
TRANSFER = (
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
DOMAIN = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
V1_CHAINS = {"base": 8453, "base-sepolia": 84532, "avalanche": 43114, "avalanche-fuji": 43113}

salt = b""
"""Goes into every nonce: a server that remembers an earlier run with the same seed has not seen these payments."""


def keccak256(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def address_word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def address_of(key: PublicKey) -> str:
    return "0x" + keccak256(key.format(compressed=False)[1:])[-20:].hex()


def checksummed(address: str) -> str:
    """With the letter case of EIP-55."""
    digits = address[2:].lower()
    hashed = keccak256(digits.encode()).hex()
    return "0x" + "".join(d.upper() if int(h, 16) >= 8 else d for d, h in zip(digits, hashed, strict=False))


def separator(domain: Json) -> bytes:
    """The EIP-712 separator of a domain with name, version, chainId and verifyingContract."""
    return keccak256(
        keccak256(DOMAIN)
        + keccak256(domain["name"].encode())
        + keccak256(domain["version"].encode())
        + word(domain["chainId"])
        + address_word(domain["verifyingContract"])
    )


def digest(domain: Json, authorization: Json) -> bytes:
    """The EIP-712 digest of an authorization."""
    message = keccak256(
        keccak256(TRANSFER)
        + address_word(authorization["from"])
        + address_word(authorization["to"])
        + b"".join(word(int(authorization[name])) for name in ("value", "validAfter", "validBefore"))
        + bytes.fromhex(authorization["nonce"][2:])
    )
    return keccak256(b"\x19\x01" + separator(domain) + message)


@dataclass
class Offer:
    """A server's answer 402, as far as it can be paid."""

    required: Json
    """The decoded `PAYMENT-REQUIRED`."""
    terms: Json
    """The entry of `accepts` that is paid."""
    body_v1: Json | None = None
    """The body of the first generation, where there is one."""

    @property
    def chain(self) -> int:
        return int(self.terms["network"].partition(":")[2])

    def domain(self) -> Json:
        extra = self.terms["extra"]
        return {
            "name": extra["name"],
            "version": extra["version"],
            "chainId": self.chain,
            "verifyingContract": self.terms["asset"],
        }


class Unpayable(Exception):
    """Why an answer cannot be paid by this suite."""


def read_offer(message: Message) -> Offer:
    """The offer of a 402: the first entry that is `exact` with EIP-3009 on an EVM network."""
    if message.status != 402:
        raise Unpayable(f"the answer is {message.status}, not 402")
    header = message.header("payment-required")
    if header is None:
        raise Unpayable("the 402 has no PAYMENT-REQUIRED")
    try:
        required = json.loads(base64.b64decode(header))
        terms = [entry for entry in required["accepts"] if _is_payable(entry)]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Unpayable(f"PAYMENT-REQUIRED cannot be read: {error}") from error
    if not terms:
        raise Unpayable("no entry of accepts is `exact` with EIP-3009 on an EVM network")
    try:
        body = json.loads(message.body)
    except ValueError:
        body = None
    first = body if isinstance(body, dict) and body.get("x402Version") == 1 else None
    return Offer(required, terms[0], first)


def _is_payable(terms: Json) -> bool:
    extra = terms.get("extra") or {}
    eip3009 = extra.get("assetTransferMethod", "eip3009") == "eip3009" and {"name", "version"} <= extra.keys()
    return terms["scheme"] == "exact" and terms["network"].startswith("eip155:") and eip3009


@dataclass
class Payer:
    """An account that signs."""

    key: PrivateKey

    @staticmethod
    def made_up(source: random.Random) -> "Payer":
        return Payer(PrivateKey(source.randbytes(32)))

    @staticmethod
    def from_file(path: str) -> "Payer":
        with open(path, encoding="ascii") as file:
            return Payer(PrivateKey(bytes.fromhex(file.read().strip().removeprefix("0x"))))

    @property
    def address(self) -> str:
        return checksummed(address_of(self.key.public_key))

    def authorization(self, offer: Offer, source: random.Random, **changes: object) -> Json:
        """An authorization for an offer; `changes` replace its members, before it is signed."""
        now = int(time.time())
        return {
            "from": self.address,
            "to": offer.terms["payTo"],
            "value": offer.terms["amount"],
            "validAfter": "0",
            "validBefore": str(now + int(offer.terms["maxTimeoutSeconds"])),
            "nonce": "0x" + keccak256(source.randbytes(32) + salt).hex(),
            **changes,
        }

    def sign(self, domain: Json, authorization: Json) -> bytes:
        """Signs an authorization: r, s, v."""
        return self.sign_digest(digest(domain, authorization))

    def sign_digest(self, hashed: bytes) -> bytes:
        signed = self.key.sign_recoverable(hashed, hasher=None)
        return signed[:64] + bytes([signed[64] + 27])

    def payment(self, offer: Offer, source: random.Random, **changes: object) -> Json:
        """A whole payment of the second generation."""
        authorization = self.authorization(offer, source, **changes)
        return message(offer, authorization, self.sign(offer.domain(), authorization))

    def payment_v1(self, offer: Offer, source: random.Random, **changes: object) -> Json:
        """A whole payment of the first generation."""
        authorization = self.authorization(offer, source, **changes)
        names = {chain: name for name, chain in V1_CHAINS.items()}
        return {
            "x402Version": 1,
            "scheme": "exact",
            "network": names.get(offer.chain, offer.terms["network"]),
            "payload": {
                "signature": "0x" + self.sign(offer.domain(), authorization).hex(),
                "authorization": authorization,
            },
        }


def message(offer: Offer, authorization: Json, signature: bytes) -> Json:
    """A payment of the second generation from its parts."""
    paid = {"x402Version": 2, "accepted": offer.terms}
    if "resource" in offer.required:
        paid["resource"] = offer.required["resource"]
    paid["payload"] = {"signature": "0x" + signature.hex(), "authorization": authorization}
    if offer.required.get("extensions"):
        paid["extensions"] = offer.required["extensions"]
    return paid


def first_generation(offer: Offer, payment: Json) -> Json | None:
    """The same payment in the form of the first generation; `None` where that is not offered."""
    names = {chain: name for name, chain in V1_CHAINS.items()}
    offered = (offer.body_v1 or {}).get("accepts", [])
    if not any(entry.get("network") == names.get(offer.chain) for entry in offered):
        return None
    return {"x402Version": 1, "scheme": "exact", "network": names[offer.chain], "payload": payment["payload"]}


def encode(payment: object) -> bytes:
    """A payment as the value of its header."""
    return base64.b64encode(json.dumps(payment, separators=(",", ":")).encode())


def recovered(domain: Json, authorization: Json, signature: bytes) -> str | None:
    """Who signed an authorization; `None` when that cannot be told."""
    if len(signature) != 65 or signature[64] not in (0, 1, 27, 28):
        return None
    try:
        public = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] % 27]), digest(domain, authorization), hasher=None
        )
        return address_of(public)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
        return None
