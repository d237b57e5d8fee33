"""Addresses that a client names, for the server to fetch or to show.

A listener of the suite's own, on this machine, is named wherever an address could stand: as host and target, in forwarding
headers, in every member of a payment, in what contract wallets call. Nothing may ever connect to it. And the offer must not
name a host of the client's choice: whoever pays for it would pay for something else, and a cache would keep it for others.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from core import pay
from core.attack import Attack, Need, Outcome, Try, held, leak
from core.http1 import Headers
from core.scene import Scene
from core.target import Way
from core.wire import Exchange

EVIL = b"evil.example"
LINGER_SECONDS = 1.0
"""How long it is waited at the end for what comes late."""
ADDRESS_HEADERS = [
    b"X-Forwarded-Host",
    b"X-Forwarded-Server",
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Port",
    b"X-Original-Host",
    b"X-Original-URL",
    b"X-Rewrite-URL",
    b"X-Host",
    b"X-HTTP-Host-Override",
    b"Forwarded",
    b"X-Real-IP",
    b"True-Client-IP",
    b"Client-IP",
    b"CF-Connecting-IP",
    b"X-Wap-Profile",
    b"Profile",
    b"Referer",
    b"Origin",
    b"From",
    b"Via",
    b"Link",
    b"Location",
    b"Content-Location",
    b"Destination",
    b"Base-Url",
    b"Request-Uri",
    b"X-Proxy-Url",
    b"Proxy-Host",
    b"X-Backend",
    b"X-Upstream",
    b"X-Accel-Redirect",
    b"X-Sendfile",
    b"Signature-Agent",
    b"SIGN-IN-WITH-X",
    b"PAYMENT-REQUIRED",
    b"PAYMENT-RESPONSE",
    b"X-Facilitator",
    b"X-Facilitator-Url",
    b"X-Callback-Url",
    b"X-Webhook-Url",
    b"Report-To",
    b"NEL",
    b"X-Forwarded-Prefix",
    b"X-Envoy-Original-Path",
    b"X-Amz-Website-Redirect-Location",
    b"Access-Control-Request-Headers",
]
MEMBERS = [
    "url",
    "callback",
    "webhook",
    "facilitator",
    "facilitatorUrl",
    "rpc",
    "rpcUrl",
    "notify",
    "outputSchema",
    "$ref",
    "$schema",
    "icon",
    "iconUrl",
    "jwks",
    "keyId",
    "agent",
    "discovery",
]
SCHEMES = ["http://{}", "https://{}", "//{}", "{}", "http://user@{}", "http://{}#", "gopher://{}", "ftp://{}"]
HOSTS = [
    EVIL,
    b"evil.example:80",
    b"user@evil.example",
    b"evil.example#",
    b"evil.example/x",
    b"evil.example?x",
    b"127.0.0.1:1@evil.example",
]
Json = dict


@dataclass
class Canary:
    """A listener nobody has a reason to connect to."""

    visits: list[bytes] = field(default_factory=list)
    server: asyncio.Server | None = None

    async def address(self) -> str:
        if self.server is None:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append(b"a connection")
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            self.visits[-1] = await asyncio.wait_for(reader.read(1000), 1)
        writer.close()

    def verdict(self, exchanges: list[Exchange]) -> Outcome:
        if self.visits:
            return leak(f"the server connected to where a client told it to: {self.visits[0][:200]!r}", exchanges)
        return held(exchanges)


def tries(scene: Scene) -> Iterator[Try]:
    canary = Canary()
    for path in (scene.target.path, scene.target.free_path):
        if path is None:
            continue
        for name in ADDRESS_HEADERS:
            for scheme in ("http://{}/x", "{}"):
                run = partial(_by_header, scene, canary, path, name, scheme, scene.mark())
                yield Try(f"{path.decode()}: {name.decode()}: {scheme}", run)
        for scheme in SCHEMES:
            run = partial(_by_target, scene, canary, path, scheme, scene.mark())
            yield Try(f"target {scheme}, {path.decode()}", run, (*scene.target.needs(Way.HTTP11),))
    for member in MEMBERS:
        for place in PLACES:
            run = partial(_by_payment, scene, canary, member, place, pay.Payer.made_up(scene.random), scene.mark())
            yield Try(f"{place}.{member} of a payment", run, (Need.PAYMENT,))
    for kind in ("ERC-6492", "EIP-1271"):
        run = partial(_by_wallet, scene, canary, kind, pay.Payer.made_up(scene.random), scene.mark())
        yield Try(f"what a wallet calls, {kind}", run, (Need.PAYMENT,))
    for way in (Way.HTTP11, Way.H2, Way.H2C):
        for host in HOSTS:
            run = partial(_offer_by_host, scene, way, host, [])
            yield Try(f"{way.value}: the offer for Host {host.decode()}", run, scene.target.needs(way))
        for name in ADDRESS_HEADERS:
            value = b"host=" + EVIL if name == b"Forwarded" else EVIL
            run = partial(_offer_by_host, scene, way, None, [(name, value)])
            yield Try(f"{way.value}: the offer with {name.decode()}", run, scene.target.needs(way))
    yield Try("nothing came late", partial(_late, canary))


async def _by_header(scene: Scene, canary: Canary, path: bytes, name: bytes, scheme: str, mark: bytes) -> Outcome:
    value = scheme.format(await canary.address()).encode()
    exchange = await scene.ask(Way.HTTP11, path, headers=[(name, value)], mark=mark)
    return canary.verdict([exchange])


async def _by_target(scene: Scene, canary: Canary, path: bytes, scheme: str, mark: bytes) -> Outcome:
    address = await canary.address()
    target = scheme.format(address).encode() + path
    exchanges = [
        await scene.ask(Way.HTTP11, target, host=host, method=method, mark=mark)
        for host in (scene.target.host, address.encode())
        for method in (b"GET", b"CONNECT")
    ]
    return canary.verdict(exchanges)


def _in_resource(payment: Json, member: str, url: str) -> None:
    payment["resource"] = {**payment.get("resource", {}), member: url}


def _in_top(payment: Json, member: str, url: str) -> None:
    payment[member] = url


def _in_payload(payment: Json, member: str, url: str) -> None:
    payment["payload"][member] = url


def _in_extra(payment: Json, member: str, url: str) -> None:
    accepted = payment["accepted"]
    payment["accepted"] = {**accepted, "extra": {**accepted.get("extra", {}), member: url}}


def _in_extensions(payment: Json, member: str, url: str) -> None:
    payment["extensions"] = {"bazaar": {"info": {member: url}, "schema": {"$ref": url}}}


PLACES = {
    "payment": _in_top,
    "resource": _in_resource,
    "payload": _in_payload,
    "accepted.extra": _in_extra,
    "extensions": _in_extensions,
}


async def _by_payment(scene: Scene, canary: Canary, member: str, place: str, payer: pay.Payer, mark: bytes) -> Outcome:
    payment = json.loads(json.dumps(payer.payment(scene.offer, scene.random)))
    PLACES[place](payment, member, f"http://{await canary.address()}/{member}")
    return canary.verdict([await _present(scene, payment, mark)])


async def _by_wallet(scene: Scene, canary: Canary, kind: str, payer: pay.Payer, mark: bytes) -> Outcome:
    """A signature of a contract, with an address of ours in everything that is called."""
    url = f"http://{await canary.address()}/wallet".encode()
    authorization = payer.authorization(scene.offer, scene.random)
    words = pay.address_word("0x" + "11" * 20) + pay.word(96) + pay.word(192) + pay.word(len(url)) + url.ljust(96, b"\0")
    signature = words + (b"\x64\x92" * 16 if kind == "ERC-6492" else b"")
    return canary.verdict([await _present(scene, pay.message(scene.offer, authorization, signature), mark)])


async def _present(scene: Scene, payment: Json, mark: bytes) -> Exchange:
    headers: Headers = [(b"PAYMENT-SIGNATURE", pay.encode(payment))]
    return await scene.ask(Way.HTTP11, scene.target.path, headers=headers, mark=mark, patience=15)


async def _offer_by_host(scene: Scene, way: Way, host: bytes | None, headers: Headers) -> Outcome:
    exchange = await scene.ask(way, scene.target.path, host=host, headers=headers)
    for answer in exchange.answers():
        header = answer.header("payment-required") or b""
        try:
            said = base64.b64decode(header)
        except ValueError:
            said = header
        if EVIL in said or EVIL in answer.body:
            return leak("the offer is for a host that the client chose", [exchange])
    return held([exchange])


async def _late(canary: Canary) -> Outcome:
    await canary.address()
    await asyncio.sleep(LINGER_SECONDS)
    canary.server.close()
    return canary.verdict([])


ATTACK = Attack("forged-requests", 10, "addresses that a client names", tries, origins=frozenset({"plain"}))
