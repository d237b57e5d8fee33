#!/usr/bin/env python3
"""Writes what the fuzzer starts from into a folder, a folder for each target: messages that other
implementations made (tests/vectors), the configuration that is shipped, and what attackers are known
to send. The committed corpora began with these."""

import base64
import hashlib
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
OUT = pathlib.Path(sys.argv[1])


def seed(target, data):
    data = data.encode() if isinstance(data, str) else data
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def vectors(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def compact(value):
    return json.dumps(value, separators=(",", ":"))


messages, evm, svm = vectors("messages"), vectors("exact_evm"), vectors("exact_svm")
PAYMENTS = [case["decoded"] for kind in ("payment_signature", "x_payment") for case in messages[kind]]
USDC, PAY_TO = "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
TERMS = PAYMENTS[0]["accepted"]
PERMIT2_TERMS = {**TERMS, "amount": "20000", "extra": {"assetTransferMethod": "permit2"}}
permit = evm["permit2"][0]["permit2Authorization"]
permit = {**permit, "permitted": {"token": USDC, "amount": "20000"}}
PERMIT2 = {"x402Version": 2, "accepted": PERMIT2_TERMS,
           "payload": {"signature": "0x" + "01" * 65, "permit2Authorization": permit}}
OTHERS = [
    {"x402Version": 2, "payload": {"anything": [1, None, "x"]},
     "accepted": {"scheme": "upto", "network": "eip155:8453", "amount": "70000", "asset": USDC,
                  "payTo": PAY_TO, "maxTimeoutSeconds": 60}},
    {"x402Version": 2, "payload": {"b": 1.5e-7, "a": {"d": 18446744073709551616}},
     "accepted": {"scheme": "exact", "network": "aptos:1", "amount": "5", "asset": "0x1::usdc",
                  "payTo": "0x7a", "maxTimeoutSeconds": 60},
     "extensions": {"e": {"info": {"a": 1, "b": {"c": [2]}}},
                    "payment-identifier": {"info": {"id": "pay_0123456789abcdef"}}}},
]

for message in [*PAYMENTS, PERMIT2, *OTHERS]:
    seed("payment", compact(message))
for case in messages["unreadable"]:
    seed("payment", case["encoded"])

for case in svm["cases"]:
    transaction = base64.b64decode(case["transaction"])
    seed("solana", transaction)
    if transaction and 1 <= transaction[0] <= 8:
        seed("solana", transaction[1 + 64 * transaction[0]:])

for path in """/ /a /a/b /A/B /a/b/ //a//b /%61/b /a%2fb /a%2Fb /a%252fb /a%25252Fb /a/./b /a/x/../b /a/%2e/b
/a/%2e%2e/b /a;x=1/b /a%3Bx/b /a/;x/b /a/..;/b //h/a/b ///h/a/b //h%2Fa/b /a./b%20 /a/b::$DATA /a:$I30:$INDEX/b
/a/b%3Fc /a/b%23c /a/b%2523 /a\\b /a%5cb /a/b%00 /%C0%AF /%c3%a9 /caf%E9 /x/b /x%2fb /a/free /a/FREE /a/%20/b
/a/... /.well-known/x /a%u0062 /100%25 /aa/bb /%41/%42 /é/ſ/b /a/%25%36%32 /..%2fa /a%3b%2f../b * http://h/a/b
/a/%E2%80%AE/b /%ef%bc%8fa /a/%CE%BA/b /a/b%0d%0a /a/%2e%20/b /a,b/c=d&e+f@g:h!i~j /a/b/c/d/e/f""".split():
    seed("path", path)

for host, method, query, *values in [
    ("shop.example", "GET", "tier=gold", "gold"), ("SHOP.example.:8402", "HEAD", "tier=silver&tier=gold"),
    ("[::1]:80", "get", "Tier=gold", "silver", "gold"), ("a_b", "POST", "ti%65r=g%6fld;x", " gold\t"),
    ("[2001:DB8::1]", "GET", "x=1;tier=gold"), ("user@host", "DELETE", "+tier+=+GOLD+"),
    ("10.0.0.1", "GET", "tier", "gold", "gold"), ("", "GET", "tier=gold%FF&&=&tier=", "\xff"),
]:
    lines = [host, method, query, *values]
    seed("conditions", b"\n".join(line.encode("latin-1") for line in lines))

shipped = (HERE.parent.parent / "gateway.toml").read_text().split("\n")
keys = "\n".join(line for line in shipped if line and not line.startswith("# ") and line != "#")
SET = "\n".join(line for line in keys.split("\n") if not line.startswith("#"))
seed("config", b"\xff\0" + SET.encode())
for block in keys.split("#[[routes]]")[1:]:
    written = "\n".join(line.lstrip("#") for line in ("#[[routes]]" + block).split("\n"))
    seed("config", b"\xff\0" + SET.encode() + written.encode())
BASE = 'upstream = "http://site.example"\npay_to = "%s"\n' % PAY_TO
MORE = [
    "network = \"base\"\nfacilitator = \"cdp\"\ndefault = \"$0.01\"\n",
    "allow_plaintext_secrets = true\nfacilitator = \"f\"\n[facilitators.f]\nurl = \"https://f.example\"\n",
    "[chains.base-sepolia]\nconfirmations = 2\nrpc_env = \"RPC\"\n[facilitators.f]\nauth = { kind = \"bearer\", token_env = \"F\" }\n",
    "[assets.X]\nnetwork = \"eip155:137\"\naddress = \"%s\"\ndecimals = 18\n[[routes]]\npath = \"/a\"\nprice = \"1 X\"\n" % USDC,
    "[[routes]]\npath_regex = \"/(a|b){2,5}\"\nprice = { amount = \"10\", asset = \"USDC\" }\nquery = { a = true }\n",
    "[ledger]\nkind = \"postgres\"\nurl_env = \"LEDGER_URL\"\n[limits]\nheader_bytes = 1\n",
    "price = \n[[routes]\nx = [1, \"\n",
]
for number, text in enumerate(MORE):
    seed("config", b"\xff\0" + (BASE + text).encode())
    for which in range(number, 10, 4):
        seed("config", bytes([which, 2 + number]) + (BASE + text).encode())

for status, body in [
    (0, {"success": True, "transaction": "0x1", "network": "base-sepolia", "payer": PAY_TO}),
    (0, {"success": True, "txHash": "0x1", "networkId": "84532", "error": None}),
    (0, {"success": True, "transaction": "0x1", "network": "eip155:84532", "amount": "10000", "extra": {"a": [1]},
         "extensions": {"e": {}}}),
    (0, {"success": False, "errorReason": "insufficient_funds", "transaction": "", "network": "base"}),
    (0, {"success": False, "errorReason": "settlement_pending", "transaction": "0x1", "payer": PAY_TO}),
    (17, {"success": False, "error_reason": "settle_exact_svm_transaction_confirmation_timed_out"}),
    (8, {"error": "credentials of https://k:v@node.example"}), (16, {"message": "slow down"}),
    (0, {"isValid": True, "payer": PAY_TO}), (7, {"isValid": False, "invalidReason": "x", "invalidMessage": "y"}),
    (12, {"isValid": False, "invalid_reason": "permit2_allowance_required"}),
    (0, {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
                   {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
                   {"x402Version": 2, "scheme": "exact", "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
                    "extra": {"feePayer": "AKnL4NNf3DGWZJS6cPknBuEGnVsV4A4m5tgebLHaRSZ9"}},
                   {"x402Version": 2, "scheme": "upto", "network": "base"},
                   {"x402Version": 2, "scheme": "exact", "network": "aptos:1"}],
         "extensions": ["bazaar"], "signers": {"solana:*": ["A"], "eip155:84532": ["0x1"]}}),
]:
    seed("answer", bytes([3, status]) + compact(body).encode())
seed("answer", b'\0\0{"success":false,"success":true,"transaction":"0x1"}')
seed("answer", b"\0\x12<html>busy</html>")

for decimals, text in [(6, "$0.01"), (6, "0.000001 USDC"), (0, "3"), (18, "1.5 usd"), (6, "0.0000001"), (6, "$ 1"),
                       (6, "00010.0100"), (30, "1"), (77, "9"), (255, "0.0"), (6, "9" * 78), (6, "-1"), (2, "1,5"),
                       (6, str(2 ** 256 - 1)), (6, str(2 ** 256)), (18, ".5"), (6, "1e3"), (6, "\u0661")]:
    seed("amount", bytes([decimals]) + text.encode())

for head in [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/b?c HTTP/1.0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 003\r\n\r\nabc",
    "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked \r\n\r\n5;n=\"v\"\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\nGET",
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n", "A\r\n\r\n", "00A\r\n0123456789\r\nfF \r\n", "0\r\n\r\n", "2\r\n0\r\r\n0\r\n\r\n",
]:
    seed("head", head)

for kind in ("payment_required", "v1_body"):
    for case in messages[kind]:
        for flags in range(8):
            seed("wallet", bytes([flags]) + compact(case["decoded"]).encode())
required = {"x402Version": 2, "resource": {"url": "/a"}, "accepts": [TERMS], "error": "x"}
seed("wallet", b"\x02" + compact(required).encode())
for amount in ("100000", "100001"):
    seed("wallet", b"\x02" + compact({**required, "accepts": [{**TERMS, "amount": amount}]}).encode())
unknown = {**TERMS, "asset": PAY_TO, "amount": "7"}
seed("wallet", b"\x03" + compact({**required, "accepts": [unknown]}).encode())
for kind in ("payment_response", "x_payment_response"):
    for case in messages[kind]:
        seed("wallet", b"\0" + compact(case["decoded"]).encode())

V1_TERMS = {"scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000", "asset": USDC, "payTo": PAY_TO,
            "maxTimeoutSeconds": 300, "extra": {"name": "USDC", "version": "2"}, "resource": "https://shop.example/a"}
for payment in [*PAYMENTS, PERMIT2]:
    terms = payment.get("accepted", V1_TERMS)
    seed("service", compact({"x402Version": payment["x402Version"], "paymentPayload": payment,
                             "paymentRequirements": terms}))

TOKEN, PAYER, PAYEE = ("0x" + byte * 20 for byte in ("aa", "bb", "cc"))
word = lambda address: "0x" + "00" * 12 + address[2:]
HASH, NONCE = "0x" + "11" * 32, "0x" + "07" * 32
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
CANCELLED = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"


def log(index, topics, data="0x"):
    return {"address": TOKEN, "topics": topics, "data": data, "blockNumber": "0x3c0", "transactionHash": HASH,
            "logIndex": hex(index), "removed": False}


used, cancelled = (log(0, [event, word(PAYER), NONCE]) for event in (USED, CANCELLED))
moved = log(1, [TRANSFER, word(PAYER), word(PAYEE)], "0x" + f"{10_000:064x}")
receipt = {"transactionHash": HASH, "blockHash": "0x" + f"{0x3c0:064x}", "blockNumber": "0x3c0", "status": "0x1",
           "logs": [used, moved]}
YES, NO = "0x" + f"{1:064x}", "0x" + "00" * 32
for script in [
    {"hint": 1, "states": [YES], "receipt": receipt},
    {"states": [YES, NO], "receipt": receipt, "logs": [used], "pace": 10},
    {"states": [YES, NO], "receipt": {**receipt, "logs": [cancelled]}, "logs": [cancelled]},
    {"states": [NO]}, {"states": [NO], "time": 1_800_000_100}, {"states": [YES], "latest": 5, "time": 1_900_000_000},
    {"permit2": True, "hint": 1, "states": ["0x" + "ff" * 32], "receipt": receipt,
     "transaction": {"hash": HASH, "to": TOKEN, "input": "0x"}},
    {"permit2": True, "states": ["0x" + "ff" * 32, NO], "receipt": receipt, "logs": [moved],
     "transaction": {"hash": HASH, "to": None, "input": "0x"}},
    {"states": [{"error": {"code": -32000, "message": "block range too large"}}]},
    {"chain": "0x1"}, {"latest": 18446744073709551615, "states": [YES, NO], "pace": 1},
    {"blocks": {"latest": {"number": "0x10", "hash": HASH, "timestamp": "0x6b49d2ff"}}, "states": ["0x"]},
]:
    seed("chain", compact(script))
