"""Money on a chain: anvil as base-sepolia with a token where USDC lives there, and the reference facilitator on it.

The kit's facilitator stands between that one and the servers, and can lose its answers or have something happen before it
settles. What was paid is what the chain says.
"""

import asyncio
import json
import re
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from core import pay
from core.habits import Habit
from core.target import Door, free_port, reachable
from kit.facilitator import Answer, Facilitator, Script
from kit.processes import Process, output_of
from kit.reference import FOLDER
from kit.tollgate import PAY_TO

Json = dict
ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "target" / "tools" / "chain"
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
MULTICALL = "0xcA11bde05977b3631167028862bE2a173976CA11"
SOMEBODY = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
"""An account of anvil's own, with gas."""
GAS_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
"""Another one's key, which anvil prints for everybody."""
BALANCES_SLOT = 1
"""Where the token's contract keeps balances."""
DOMAIN = {"name": "USDC", "version": "2", "chainId": 84532, "verifyingContract": TOKEN}
CANCEL = b"CancelAuthorization(address authorizer,bytes32 nonce)"
SECONDS = 30.0


def selector(signature: str) -> bytes:
    return pay.keccak256(signature.encode())[:4]


class Node:
    """A running chain."""

    def __init__(self, process: Process, url: str):
        self.process, self.url = process, url
        self._turn = asyncio.Lock()

    @staticmethod
    async def start(folder: Path) -> "Node":
        await output_of(str(ROOT / "tests/tools/anvil.sh"), str(TOOLS))
        process = await Process.start(
            "anvil", folder, str(TOOLS / "anvil"), "--host", "127.0.0.1", "--port", "0", "--chain-id", "84532",
            # A block every second, as chains have: with one for each transaction its time would run ahead.
            "--block-time", "1", "--auto-impersonate",
        )  # fmt: skip
        found: list[str] = []

        async def listens() -> bool:
            found.extend(re.findall(r"Listening on 127\.0\.0\.1:(\d+)\n", process.tail()))
            return bool(found)

        await process.ready(listens)
        node = Node(process, f"http://127.0.0.1:{found[0]}")
        code = json.loads((TOOLS / "contracts.json").read_text())
        for name, address in (("TestUsdc", TOKEN), ("Multicall", MULTICALL)):
            await node.ask("anvil_setCode", address, code[name])
        return node

    def ask_now(self, method: str, *params: object) -> object:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            told = json.load(answer)
        if "error" in told:
            raise OSError(f"{method}: {told['error']}")
        return told["result"]

    async def ask(self, method: str, *params: object) -> object:
        return await asyncio.to_thread(self.ask_now, method, *params)

    async def send(self, data: bytes) -> bool:
        """Has somebody call the token, and waits for the block; whether the call succeeded."""
        call = {"from": SOMEBODY, "to": TOKEN, "data": "0x" + data.hex(), "gas": "0x100000"}
        # Two at once for one account may be given one nonce.
        async with self._turn:
            transaction = await self.ask("eth_sendTransaction", call)
        while (receipt := await self.ask("eth_getTransactionReceipt", transaction)) is None:
            await asyncio.sleep(0.1)
        return receipt["status"] == "0x1"


@dataclass
class ChainFacilitator(Facilitator):
    """The reference facilitator, with the kit's in front of it."""

    node: Node | None = None
    backend: int = 0

    @staticmethod
    async def open(folder: Path, stack: AsyncExitStack) -> "ChainFacilitator":
        node = await Node.start(folder)
        stack.push_async_callback(node.process.stop)
        port = free_port()
        env = {"PORT": str(port), "RPC_URL": node.url, "KEY": GAS_KEY, "NODE_ENV": "production"}
        process = await Process.start("facilitator", folder, "node", str(FOLDER / "facilitator.mjs"), env=env)
        stack.push_async_callback(process.stop)
        await process.ready(lambda: reachable(Door("127.0.0.1", port)))
        facilitator = ChainFacilitator(node=node, backend=port)
        await facilitator.start()
        stack.push_async_callback(facilitator.stop)
        return facilitator

    def settled(self, payer: str, terms: Json) -> int:
        return sum(value == int(terms["amount"]) for value in self._received(payer))

    def charged(self, payer: str) -> int:
        return len(self._received(payer))

    def _received(self, payer: str) -> list[int]:
        """What the payee has got of a payer."""
        transfers = {"fromBlock": "0x0", "toBlock": "latest", "address": TOKEN, "topics": [
            "0x" + pay.keccak256(b"Transfer(address,address,uint256)").hex(),
            "0x" + pay.address_word(payer).hex(), "0x" + pay.address_word(PAY_TO).hex(),
        ]}  # fmt: skip
        assert self.node
        return [int(log["data"], 16) for log in self.node.ask_now("eth_getLogs", transfers)]

    async def fund(self, payer: pay.Payer, amount: int) -> None:
        # As if it had received or sent as much: the same to everybody who asks, and at once.
        assert self.node
        slot = "0x" + pay.keccak256(pay.address_word(payer.address) + pay.word(BALANCES_SLOT)).hex()
        await self.node.ask("anvil_setStorageAt", TOKEN, slot, "0x" + pay.word(amount).hex())

    async def cancel(self, payer: pay.Payer, payment: Json) -> None:
        nonce = bytes.fromhex(payment["payload"]["authorization"]["nonce"][2:])
        message = pay.keccak256(pay.keccak256(CANCEL) + pay.address_word(payer.address) + nonce)
        signature = payer.sign_digest(pay.keccak256(b"\x19\x01" + pay.separator(DOMAIN) + message))
        call = selector("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)")
        call += pay.address_word(payer.address) + nonce + pay.word(signature[64]) + signature[:64]
        assert self.node
        await self.node.send(call)

    async def submit(self, payment: Json) -> None:
        signed = payment["payload"]["authorization"]
        signature = bytes.fromhex(payment["payload"]["signature"][2:])
        call = selector("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)")
        call += pay.address_word(signed["from"]) + pay.address_word(signed["to"])
        call += b"".join(pay.word(int(signed[name])) for name in ("value", "validAfter", "validBefore"))
        call += bytes.fromhex(signed["nonce"][2:]) + pay.word(signature[64]) + signature[:64]
        assert self.node
        await self.node.send(call)

    def take_on(self, payer: str, habit: Habit) -> Script:
        """It has its own habits."""
        return self.scripts.setdefault(payer.lower(), Script())

    async def _verify(self, asked: Json, payer: str, nonce: str, script: Script) -> Answer:
        answer = await asyncio.to_thread(self._ask_backend, "/verify", asked)
        return await script.verify(asked, answer) if script.verify else answer

    async def _settle(self, asked: Json, payer: str, nonce: str, script: Script) -> Answer:
        if script.before_settle:
            await script.before_settle(asked)
        answer = await asyncio.to_thread(self._ask_backend, "/settle", asked)
        return await script.settle(asked, answer) if script.settle else answer

    def _ask_backend(self, path: str, asked: Json) -> Answer:
        url = f"http://127.0.0.1:{self.backend}{path}"
        request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read()
