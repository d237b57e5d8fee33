"""Pays one request with PyPI x402 1.0.0 over httpx or requests; see ../lib/clients.mjs for the contract."""

import asyncio
import json
import os
import sys
from pathlib import Path

from eth_account import Account
from x402.clients import decode_x_payment_response, x402_requests, x402HttpxClient

TIMEOUT_SECONDS = 30


def report(response) -> None:
    header = response.headers.get("X-PAYMENT-RESPONSE")
    receipt = decode_x_payment_response(header) if header else None
    print(json.dumps({"status": response.status_code, "body": response.text, "receipt": receipt}))


async def pay_with_httpx(account, method: str, url: str, body: bytes | None) -> None:
    async with x402HttpxClient(account, timeout=TIMEOUT_SECONDS) as http:
        response = await http.request(method, url, content=body)
        await response.aread()
        report(response)


def pay_with_requests(account, method: str, url: str, body: bytes | None) -> None:
    with x402_requests(account) as http:
        report(http.request(method, url, data=body, timeout=TIMEOUT_SECONDS))


def main() -> None:
    library, url, *file = sys.argv[1:]
    body = Path(file[0]).read_bytes() if file else None
    method = "POST" if file else "GET"
    account = Account.from_key(os.environ["PAYER_KEY"])
    if library == "httpx":
        asyncio.run(pay_with_httpx(account, method, url, body))
    else:
        pay_with_requests(account, method, url, body)


main()
