"""A facilitator that really checks what it is asked about, keeps a ledger of it all, and can be told to misbehave.

Money is kept in its head: every account begins with a balance, a settlement moves the amount once, an authorization is
used once. `script` changes what it does; see `Script`. `kit.chain` has one whose money is on a chain.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from core import pay, signatures
from core.habits import Habit
from core.http1 import Headers
from kit.framing import Framing, Malformed, RequestReader

NETWORK, CHAIN = "eip155:84532", 84532
BALANCE = 1_000_000_000
USED = "invalid_exact_evm_nonce_already_used"
"""What the facilitators of the reference implementation say of an authorization that was used."""
Json = dict
Answer = tuple[int, Json | bytes] | None
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
    lenient: bool = False
    """Whether signatures are taken in any form (`core.signatures`)."""


@dataclass
class Facilitator:
    """A running facilitator. `settled` and `verified` are what `core.scene.Books` asks for."""

    balances: dict[str, int] = field(default_factory=dict)
    used: set[tuple[str, str]] = field(default_factory=set)
    """Authorizations that cannot be used again: payer and nonce."""
    moved: list[tuple[str, Json]] = field(default_factory=list)
    """Every time that money has moved: the payer, and the terms that the server asked to have settled."""
    ahead: dict[str, int] = field(default_factory=dict)
    """Seconds by which the clock is ahead when payments of a payer are settled: the site took so long."""
    calls: list[Call] = field(default_factory=list)
    script: Script = field(default_factory=Script)
    """Where no payer is told apart."""
    scripts: dict[str, Script] = field(default_factory=dict)
    """Scripts of single payers, in lower case: so that attacks do not disturb each other."""
    port: int = 0
    _anew: int = 0

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

    def asked_to_settle(self, payer: str) -> int:
        return Counter(call.path for call in self.calls if call.payer == payer.lower())["/settle"]

    def spend(self, payer: str, nonce: str) -> None:
        """Uses an authorization up, as its payer or anybody can on the chain, without the payee's getting anything."""
        self.used.add((payer.lower(), nonce.lower()))

    async def fund(self, payer: pay.Payer, amount: int) -> None:
        """Gives an account so much, and no more."""
        self.balances[payer.address.lower()] = amount

    async def cancel(self, payer: pay.Payer, payment: Json) -> None:
        """Has a payer cancel an authorization (EIP-3009)."""
        self.spend(payer.address, payment["payload"]["authorization"]["nonce"])

    async def submit(self, payment: Json) -> None:
        """Has somebody who saw a payment submit it: the money reaches the payee."""
        authorization = payment["payload"]["authorization"]
        payer, nonce = authorization["from"].lower(), authorization["nonce"].lower()
        if (payer, nonce) not in self.used and self.balance(payer) >= int(authorization["value"]):
            self._move(payer, nonce, payment["accepted"])

    @staticmethod
    def script_of(**parts: object) -> Script:
        """A script, for attacks, which know nothing of the kit."""
        return Script(**parts)

    def take_on(self, payer: str, habit: Habit) -> Script:
        """Has a habit towards one payer."""
        script = Script(lenient=habit is Habit.BLIND)
        if habit is not Habit.ITS_OWN:
            script.verify, script.settle = self._overlooks_use, self._repeats
        if habit is Habit.BLIND:
            script.settle = self._settles_anew
        self.scripts[payer.lower()] = script
        return script

    async def _overlooks_use(self, asked: Json, honest: Answer) -> Answer:
        assert honest and isinstance(honest[1], dict)
        if honest[1].get("invalidReason") not in (USED, "insufficient_funds"):
            return honest
        return 200, {"isValid": True, "payer": asked["paymentPayload"]["payload"]["authorization"]["from"]}

    async def _repeats(self, asked: Json, honest: Answer) -> Answer:
        assert honest and isinstance(honest[1], dict)
        if honest[1].get("errorReason") not in (USED, "insufficient_funds"):
            return honest
        authorization = asked["paymentPayload"]["payload"]["authorization"]
        return self._success(asked, _account(authorization), str(authorization["nonce"]).lower())

    async def _settles_anew(self, asked: Json, honest: Answer) -> Answer:
        self._anew += 1
        answer = await self._repeats(asked, honest)
        assert answer and isinstance(answer[1], dict)
        if answer[1].get("success"):
            answer[1]["transaction"] = "0x" + pay.keccak256(b"%d" % self._anew).hex()
        return answer

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
            payer, nonce = _account(authorization), str(authorization["nonce"]).lower()
        except (ValueError, KeyError, TypeError, RecursionError):
            return 400, {"isValid": False, "invalidReason": "invalid_payload", "success": False,
                         "errorReason": "invalid_payload", "transaction": "", "network": NETWORK}  # fmt: skip
        script = self.scripts.get(payer, self.script)
        call = Call(path, payer, nonce, None, time.monotonic())
        self.calls.append(call)
        call.answer = await (self._verify if path == "/verify" else self._settle)(asked, payer, nonce, script)
        return call.answer

    async def _verify(self, asked: Json, payer: str, nonce: str, script: Script) -> Answer:
        reason = self.check(asked, payer, nonce, lenient=script.lenient)
        body = {"isValid": True, "payer": payer} if reason is None else {"isValid": False, "invalidReason": reason}
        answer = (200, body)
        return await script.verify(asked, answer) if script.verify else answer

    async def _settle(self, asked: Json, payer: str, nonce: str, script: Script) -> Answer:
        if script.before_settle:
            await script.before_settle(asked)
        reason = self.check(asked, payer, nonce, lenient=script.lenient, ahead=self.ahead.get(payer, 0))
        if reason is None:
            self._move(payer, nonce, asked["paymentRequirements"])
            answer = self._success(asked, payer, nonce)
        else:
            network = asked["paymentRequirements"]["network"]
            failed = {"success": False, "errorReason": reason, "payer": payer, "transaction": "", "network": network}
            answer = (200, failed)
        return await script.settle(asked, answer) if script.settle else answer

    def _move(self, payer: str, nonce: str, terms: Json) -> None:
        self.used.add((payer, nonce))
        self.moved.append((payer, terms))
        self.balances[payer] = self.balance(payer) - _amount(terms)

    @staticmethod
    def _success(asked: Json, payer: str, nonce: str) -> Answer:
        transaction = "0x" + pay.keccak256(f"{payer}{nonce}".encode()).hex()
        network = asked["paymentRequirements"]["network"]
        return 200, {"success": True, "payer": payer, "transaction": transaction, "network": network}

    def balance(self, payer: str) -> int:
        return self.balances.get(payer.lower(), BALANCE)

    def check(self, asked: Json, payer: str, nonce: str, *, lenient: bool = False, ahead: int = 0) -> str | None:
        """Why a payment is not good for the requirements; `None` when it is."""
        try:
            terms, payment = asked["paymentRequirements"], asked["paymentPayload"]
            authorization = payment["payload"]["authorization"]
            if terms["scheme"] != "exact" or terms["network"] not in (NETWORK, "base-sepolia"):
                return "invalid_network"
            domain = {"name": terms["extra"]["name"], "version": terms["extra"]["version"], "chainId": CHAIN,
                      "verifyingContract": terms["asset"]}  # fmt: skip
            signature = bytes.fromhex(payment["payload"]["signature"].removeprefix("0x"))
            forms = signatures.readings(signature) if lenient else [signature]
            if payer not in [pay.recovered(domain, authorization, form) for form in forms]:
                return "invalid_exact_evm_payload_signature"
            if authorization["to"].lower() != terms["payTo"].lower():
                return "invalid_exact_evm_payload_recipient_mismatch"
            if int(authorization["value"]) != _amount(terms):
                return "invalid_exact_evm_payload_authorization_value"
            now = int(time.time()) + ahead
            if int(authorization["validBefore"]) < now + 6:
                return "invalid_exact_evm_payload_authorization_valid_before"
            if int(authorization["validAfter"]) > now:
                return "invalid_exact_evm_payload_authorization_valid_after"
            if (payer, nonce) in self.used:
                return USED
            if self.balance(payer) < _amount(terms):
                return "insufficient_funds"
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return "invalid_payload"
        return None


def _are_same(offered: Json, settled: Json) -> bool:
    """Whether the money went where the offer says, in either generation of the protocol."""
    places = all(offered[name].lower() == settled[name].lower() for name in ("payTo", "asset"))
    return places and _amount(offered) == _amount(settled)


def _account(authorization: Json) -> str:
    """An address as accounts are known by."""
    return "0x" + str(authorization["from"]).lower().removeprefix("0x")


def _amount(terms: Json) -> int:
    return int(terms["amount"] if "amount" in terms else terms["maxAmountRequired"])


def _written(answer: tuple[int, Json]) -> bytes:
    status, body = answer
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields: Headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(text))]
    lines = [b"HTTP/1.1 %d Answer" % status] + [name + b": " + value for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + text
