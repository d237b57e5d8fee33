"""A facilitator that really checks what it is asked about, keeps a ledger of it all, and can be told to misbehave.

Money is kept in its head: every account begins with a balance, a settlement moves the amount once, an authorization is
used once. `script` changes what it does; see `Script`.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from core import pay
from core.http1 import Headers
from kit.framing import Framing, Malformed, RequestReader

NETWORK, CHAIN = "eip155:84532", 84532
BALANCE = 1_000_000_000
Json = dict
Answer = tuple[int, Json] | None
"""Status and body; `None`: the connection ends without an answer."""


@dataclass
class Call:
    """One call of the ledger."""

    path: str
    payer: str
    nonce: str
    answer: Answer
    at: float


@dataclass
class Script:
    """What the facilitator does instead of its duty. Each is asked for every call and may wait."""

    verify: Callable[[Json, Answer], Awaitable[Answer]] | None = None
    """Gets the call's body and the honest answer; returns what is answered."""
    before_settle: Callable[[Json], Awaitable[None]] | None = None
    """Runs before the money moves: to wait, or to take the payer's money away."""
    settle: Callable[[Json, Answer], Awaitable[Answer]] | None = None
    """Runs after the money has moved or not, and may hide that."""


@dataclass
class Facilitator:
    """A running facilitator. `settled` and `verified` are what `core.scene.Books` asks for."""

    balances: dict[str, int] = field(default_factory=dict)
    used: set[tuple[str, str]] = field(default_factory=set)
    """Authorizations that cannot be used again: payer and nonce."""
    moved: list[tuple[str, Json]] = field(default_factory=list)
    """Every time that money has moved: the payer, and the terms that the server asked to have settled."""
    calls: list[Call] = field(default_factory=list)
    script: Script = field(default_factory=Script)
    """Where no payer is told apart."""
    scripts: dict[str, Script] = field(default_factory=dict)
    """Scripts of single payers, in lower case: so that attacks do not disturb each other."""
    port: int = 0

    async def start(self) -> "Facilitator":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settled(self, payer: str, terms: Json) -> int:
        return sum(account == payer.lower() and _are_same(terms, paid) for account, paid in self.moved)

    def charged(self, payer: str) -> int:
        return sum(account == payer.lower() for account, _ in self.moved)

    def verified(self, payer: str) -> int:
        return Counter(call.path for call in self.calls if call.payer == payer.lower())["/verify"]

    def spend(self, payer: str, nonce: str) -> None:
        """Uses an authorization up, as its payer or anybody can on the chain, without the payee's getting anything."""
        self.used.add((payer.lower(), nonce.lower()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = RequestReader(reader, Framing())
        with contextlib.suppress(OSError, Malformed, asyncio.IncompleteReadError):
            while request := await requests.next():
                answer = await self._answer(request.target.decode("latin-1"), request.body)
                if answer is None:
                    break
                writer.write(_written(answer))
                await writer.drain()
        writer.close()

    async def _answer(self, path: str, body: bytes) -> Answer:
        if path == "/supported":
            kinds = [
                {"x402Version": 2, "scheme": "exact", "network": NETWORK},
                {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
            ]
            return 200, {"kinds": kinds, "extensions": [], "signers": {}}
        if path not in ("/verify", "/settle"):
            return 404, {"error": "not found"}
        try:
            asked = json.loads(body)
            authorization = asked["paymentPayload"]["payload"]["authorization"]
            payer, nonce = str(authorization["from"]).lower(), str(authorization["nonce"]).lower()
        except (ValueError, KeyError, TypeError, RecursionError):
            return 400, {"isValid": False, "invalidReason": "invalid_payload", "success": False,
                         "errorReason": "invalid_payload", "transaction": "", "network": NETWORK}  # fmt: skip
        script = self.scripts.get(payer, self.script)
        call = Call(path, payer, nonce, None, time.monotonic())
        self.calls.append(call)
        call.answer = await (self._verify if path == "/verify" else self._settle)(asked, payer, nonce, script)
        return call.answer

    async def _verify(self, asked: Json, payer: str, nonce: str, script: Script) -> Answer:
        reason = self.check(asked, payer, nonce)
        body = {"isValid": True, "payer": payer} if reason is None else {"isValid": False, "invalidReason": reason}
        answer = (200, body)
        return await script.verify(asked, answer) if script.verify else answer

    async def _settle(self, asked: Json, payer: str, nonce: str, script: Script) -> Answer:
        if script.before_settle:
            await script.before_settle(asked)
        reason = self.check(asked, payer, nonce)
        network = asked["paymentRequirements"]["network"]
        if reason is None:
            self.used.add((payer, nonce))
            self.moved.append((payer, asked["paymentRequirements"]))
            self.balances[payer] = self.balance(payer) - _amount(asked["paymentRequirements"])
            transaction = "0x" + pay.keccak256(f"{payer}{nonce}".encode()).hex()
            answer = (200, {"success": True, "payer": payer, "transaction": transaction, "network": network})
        else:
            failed = {"success": False, "errorReason": reason, "payer": payer, "transaction": "", "network": network}
            answer = (200, failed)
        return await script.settle(asked, answer) if script.settle else answer

    def balance(self, payer: str) -> int:
        return self.balances.get(payer.lower(), BALANCE)

    def check(self, asked: Json, payer: str, nonce: str) -> str | None:
        """Why a payment is not good for the requirements; `None` when it is."""
        try:
            terms, payment = asked["paymentRequirements"], asked["paymentPayload"]
            authorization = payment["payload"]["authorization"]
            if terms["scheme"] != "exact" or terms["network"] not in (NETWORK, "base-sepolia"):
                return "invalid_network"
            domain = {"name": terms["extra"]["name"], "version": terms["extra"]["version"], "chainId": CHAIN,
                      "verifyingContract": terms["asset"]}  # fmt: skip
            signature = bytes.fromhex(payment["payload"]["signature"].removeprefix("0x"))
            if pay.recovered(domain, authorization, signature) != payer:
                return "invalid_exact_evm_payload_signature"
            if authorization["to"].lower() != terms["payTo"].lower():
                return "invalid_exact_evm_payload_recipient_mismatch"
            if int(authorization["value"]) != _amount(terms):
                return "invalid_exact_evm_payload_authorization_value"
            now = int(time.time())
            if int(authorization["validBefore"]) < now + 6:
                return "invalid_exact_evm_payload_authorization_valid_before"
            if int(authorization["validAfter"]) > now:
                return "invalid_exact_evm_payload_authorization_valid_after"
            if (payer, nonce) in self.used:
                return "invalid_transaction_state"
            if self.balance(payer) < _amount(terms):
                return "insufficient_funds"
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return "invalid_payload"
        return None


def _are_same(offered: Json, settled: Json) -> bool:
    """Whether the money went where the offer says, in either generation of the protocol."""
    places = all(offered[name].lower() == settled[name].lower() for name in ("payTo", "asset"))
    return places and _amount(offered) == _amount(settled)


def _amount(terms: Json) -> int:
    return int(terms["amount"] if "amount" in terms else terms["maxAmountRequired"])


def _written(answer: tuple[int, Json]) -> bytes:
    status, body = answer
    text = json.dumps(body).encode()
    fields: Headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(text))]
    lines = [b"HTTP/1.1 %d Answer" % status] + [name + b": " + value for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + text
