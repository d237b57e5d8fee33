"""What is measured: each scenario's cases, run in turn so that what disturbs one disturbs all."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace

import load
from load import Load, Load2, Measured
from machine import PROCESSORS, Answer, Failed, ask
from systems import FREE, LARGE, PAGE, PRICED, ROOT, Running, Site, Wish, start

SERVERS = ["nginx", "HAProxy", "Pingora", "tollgate"]
GATEWAYS = ["tollgate", "x402-axum", "@x402/express"]
IDLE = 10_000
SETTLED = 10_000_000
ROUTES = [10, 1_000, 100_000]


@dataclass
class Plan:
    site: Site
    seconds: float
    rounds: int
    settled: int
    say: Callable[[str], None]


@dataclass
class Case:
    """A system, what it is to be, and how it is measured."""

    system: str
    wish: Wish
    measure: Callable[[Site, Running, float], Measured]


def in_turn(plan: Plan, cases: dict[str, Case]) -> dict[str, list[Measured]]:
    results: dict[str, list[Measured]] = {name: [] for name in cases}
    for _ in range(plan.rounds):
        for name, case in cases.items():
            running = start(case.system, plan.site, case.wish)
            try:
                measured = case.measure(plan.site, running, plan.seconds)
            except (Failed, AssertionError) as failed:
                raise Failed(f"{name}: {failed}\n{running.process.log.read_text()[-2000:]}") from failed
            finally:
                running.stop()
            told = f"{measured.per_second:>9.0f}/s {measured.cpu_us:>8.1f} us" if measured.per_second else f"{measured.memory:>9} bytes"
            plan.say(f"{name:<36} {told}")
            results[name].append(measured)
    return results


def own_challenge(plan: Plan) -> Answer:
    """What tollgate answers without payment, which the others answer as well."""
    running = start("tollgate", plan.site, Wish())
    try:
        return load.challenge(running)
    finally:
        running.stop()


def same_size(plan: Plan, system: str, wish: Wish) -> Wish:
    """The wish with the trim that makes the system's challenge as long as the wished one."""
    for _ in range(2):
        running = start(system, plan.site, wish)
        try:
            answer = ask(running.port, PRICED, tls=wish.tls)
        finally:
            running.stop()
        assert wish.challenge and (answer.status, answer.body) == (402, wish.challenge.body), answer
        if answer.size == wish.challenge.size:
            return wish
        wish = replace(wish, trim=wish.trim + answer.size - wish.challenge.size)
    raise Failed(f"{system} cannot answer with {wish.challenge.size} bytes")


def challenges(plan: Plan, systems: list[str], measure: Callable, **wish) -> dict[str, Case]:
    answer = own_challenge(plan)
    cases = {}
    for system in systems:
        wished = Wish(**wish) if system in GATEWAYS else same_size(plan, system, Wish(answer, **wish))
        cases[system] = Case(system, wished, measure(None if system in GATEWAYS[1:] else answer.size))
    return cases


def challenge(plan: Plan) -> dict:
    measure = lambda size: Load(above399=1, size=size).run  # noqa: E731
    return in_turn(plan, challenges(plan, SERVERS + GATEWAYS[1:], measure))


def challenge_h2(plan: Plan) -> dict:
    return in_turn(plan, challenges(plan, SERVERS, lambda _: Load2(above399=1).run, tls=True))


def challenge_logged(plan: Plan) -> dict:
    measure = lambda size: Load(above399=1, size=size).run  # noqa: E731
    return in_turn(plan, challenges(plan, ["nginx", "tollgate"], measure, log=True))


def free(plan: Plan, path: str, expected: bytes) -> dict:
    def measure(site: Site, running: Running, seconds: float) -> Measured:
        answer = ask(running.port, path)
        assert (answer.status, answer.body) == (200, expected), answer.head
        return Load(path, size=answer.size).run(site, running, seconds)

    return in_turn(plan, {system: Case(system, Wish(), measure) for system in SERVERS})


def free_small(plan: Plan) -> dict:
    return free(plan, FREE, PAGE)


def free_large(plan: Plan) -> dict:
    return free(plan, LARGE, b"x" * (1 << 20))


def paid(plan: Plan, delay_ms: int, connections: int, seconds_min: float) -> dict:
    fresh = Load(turns=["$" + PRICED], connections=connections, seconds_min=seconds_min)

    def measure(site: Site, running: Running, seconds: float) -> Measured:
        _, bought = load.pay(site, running)
        assert bought.status == 200 and bought.body == PAGE and bought.header("payment-response"), bought
        return fresh.run(site, running, seconds)

    return in_turn(plan, {system: Case(system, Wish(delay_ms=delay_ms), measure) for system in GATEWAYS})


def paid_0(plan: Plan) -> dict:
    return paid(plan, 0, load.CONNECTIONS, 0)


def paid_20(plan: Plan) -> dict:
    return paid(plan, 20, 256, 0)


def paid_500(plan: Plan) -> dict:
    return paid(plan, 500, 1000, 10)


def refused(plan: Plan) -> dict:
    """Payments that buy nothing, beside no payment at all."""
    static = lambda value: Load(header=f"PAYMENT-SIGNATURE: {value}", above399=1).run  # noqa: E731

    def repeated(site: Site, running: Running, seconds: float) -> Measured:
        payment, answer = load.pay(site, running)
        assert answer.status == 200, answer
        # What it bought is delivered again a few times, should it have been lost on the way.
        for _ in range(10):
            if ask(running.port, PRICED, f"PAYMENT-SIGNATURE: {payment}\r\n").status == 402:
                return static(payment)(site, running, seconds)
        raise Failed("a payment buys without end")

    ways = {
        "no payment": Load(above399=1).run,
        "not base64": static("junk " * 200),
        "no payment inside": static("eyJ4NDAyVmVyc2lvbiI6Mn0="),
        "another account's signature": Load(turns=["$" + PRICED], kind="forged", above399=1).run,
        "a payment used before": repeated,
    }
    return in_turn(plan, {name: Case("tollgate", Wish(), way) for name, way in ways.items()})


def mixed(plan: Plan) -> dict:
    """Of 25 requests 20 without payment, 4 for what is free, and one paid for."""
    turns = ([PRICED] * 5 + [FREE]) * 4 + ["$" + PRICED]
    way = Load(turns=turns, above399=20 / 25).run
    return in_turn(plan, {system: Case(system, Wish(), way) for system in ("tollgate", "@x402/express")})


def idle(plan: Plan) -> dict:
    """Memory for each connection; there is no rate."""

    def measure(_site: Site, running: Running, _seconds: float) -> Measured:
        return Measured(0, 0, 0, 0, 0, 0, round(load.idle_connections(running, IDLE)))

    return in_turn(plan, challenges(plan, SERVERS, lambda _: measure))


def routes(plan: Plan) -> dict:
    def case(count: int) -> Case:
        return Case("tollgate", Wish(routes=count), Load(turns=[f"/r/#{count}"], above399=1).run)

    return in_turn(plan, {f"{count:,} routes": case(count) for count in ROUTES})


def hanging(plan: Plan) -> dict:
    """What is free, alone and while payments wait for a facilitator that never answers."""
    way = Load(FREE).run

    def beside(site: Site, running: Running, seconds: float) -> Measured:
        payers = load.background(site, running)
        site.processes.append(payers)
        try:
            return way(site, running, seconds)
        finally:
            site.processes.remove(payers)
            payers.stop()

    hangs = Wish(delay_ms=3_600_000)
    return in_turn(plan, {"alone": Case("tollgate", hangs, way), "beside payments that hang": Case("tollgate", hangs, beside)})


def added_latency(plan: Plan) -> dict:
    """A paid request at half load: through the gateway, and what facilitator and origin take without it."""
    results: dict[str, list[Measured]] = {"through the gateway": [], "facilitator and origin alone": []}
    for _ in range(plan.rounds):
        running = start("tollgate", plan.site, Wish())
        try:
            full = Load(turns=["$" + PRICED]).run(plan.site, running, plan.seconds).per_second
            for name, way in zip(results, (running, None), strict=True):
                file = load.payments(plan.site, running, int(full / 2 * plan.seconds * 1.2) + 100)
                said = load.pace(plan.site, way, full / 2, plan.seconds, file)
                results[name].append(Measured(said["count"] / plan.seconds, 0, said["p50"], said["p99"], 0, 0))
                plan.say(f"{name:<36} p50 {said['p50']} us, p99 {said['p99']} us")
        finally:
            running.stop()
    return results


def ledger(plan: Plan) -> dict:
    """Claims of an empty ledger and of a large one, sixteen at a time, by the ledger's own benchmark."""
    results = {}
    for settled in (0, plan.settled):
        command = ["cargo", "bench", "--locked", "--quiet", "--bench", "ledger", "--", "--seconds", str(round(plan.seconds)),
                   "--settled", str(settled), "sqlite://bench.db"]  # fmt: skip
        output = subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, PROCESSORS),
        ).stdout  # fmt: skip
        row = re.search(r"claim +16 +(\d+) +([\d.]+) ms +([\d.]+) ms", output)
        memory = re.search(r"resident memory at the most: (\d+) MiB", output)
        per_second, p50, p99 = int(row[1]), float(row[2]) * 1e3, float(row[3]) * 1e3
        name = f"{settled:,} payments"
        plan.say(f"{name:<36} {per_second:>9}/s")
        results[name] = [Measured(per_second, 0, p50, p99, 0, 0, int(memory[1]) << 20)]
    return results


SCENARIOS: dict[str, tuple[str, Callable[[Plan], dict]]] = {
    "challenge": ("A challenge, HTTP/1", challenge),
    "challenge-h2": ("A challenge, HTTP/2 with TLS", challenge_h2),
    "challenge-logged": ("A challenge, HTTP/1, each with a line in a log file", challenge_logged),
    "free-small": ("What is free passes: 1 KB", free_small),
    "free-large": ("What is free passes: 1 MiB", free_large),
    "paid-0": ("A fresh `exact` payment for each request, the facilitator answers at once", paid_0),
    "paid-20": ("The same, the facilitator takes 20 ms to verify and 20 ms to settle", paid_20),
    "paid-500": ("The same, 500 ms each", paid_500),
    "refused": ("Payments that are refused", refused),
    "mixed": ("Of 25 requests 20 unpaid, 4 free, 1 paid", mixed),
    "latency": ("How long a paid request takes at half load, the facilitator answers at once", added_latency),
    "routes": ("Challenges of many routes in turn", routes),
    "ledger": ("Claims, 16 at a time", ledger),
    "idle": (f"Memory for each of {IDLE:,} idle connections", idle),
    "hanging": ("What is free passes while the facilitator hangs", hanging),
}
