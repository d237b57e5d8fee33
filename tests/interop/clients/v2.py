"""Pays one request with PyPI x402 2.x over httpx or requests; see ../lib/clients.mjs for the contract."""

import asyncio
import json
import os
import sys
from pathlib import Path

from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_requests, x402HttpxClient
from x402.http.utils import decode_payment_response_header
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client

TIMEOUT_SECONDS = 30


def report(response) -> None:
    header = response.headers.get("PAYMENT-RESPONSE")
    receipt = decode_payment_response_header(header).model_dump(mode="json", by_alias=True) if header else None
    print(json.dumps({"status": response.status_code, "body": response.text, "receipt": receipt}))


async def pay_with_httpx(signer: EthAccountSigner, method: str, url: str, body: bytes | None) -> None:
    client = register_exact_evm_client(x402Client(), signer)
    async with x402HttpxClient(client, timeout=TIMEOUT_SECONDS) as http:
        report(await http.request(method, url, content=body))


def pay_with_requests(signer: EthAccountSigner, method: str, url: str, body: bytes | None) -> None:
    client = register_exact_evm_client(x402ClientSync(), signer)
    with x402_requests(client) as http:
        report(http.request(method, url, data=body, timeout=TIMEOUT_SECONDS))


def main() -> None:
    library, url, *file = sys.argv[1:]
    body = Path(file[0]).read_bytes() if file else None
    method = "POST" if file else "GET"
    signer = EthAccountSigner(Account.from_key(os.environ["PAYER_KEY"]))
    if library == "httpx":
        asyncio.run(pay_with_httpx(signer, method, url, body))
    else:
        pay_with_requests(signer, method, url, body)


main()
