"""tollgate as a server under test: one process in front of each origin."""

import signal
from dataclasses import dataclass
from pathlib import Path

from core.target import Target, free_port, reachable
from core.wire import Connection, Door
from kit.pages import ALSO_PRICED, FREE, OTHER_HOST, PRICED, UPFRONT
from kit.processes import Process, output_of

PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
CONFIGURATION = """
public_url  = "http://127.0.0.1:{public}"
upstream    = "http://127.0.0.1:{origin}"
pay_to      = "{pay_to}"
network     = "base-sepolia"
facilitator = "{facilitator}"

[[listeners]]
address = "127.0.0.1:{plain}"
h2c     = true
[[listeners]]
address = "127.0.0.1:{tls}"
tls     = [{{ cert = "certificate.pem", key = "key.pem" }}]

[ledger]
url = "{ledger}"

[admin]
listen = "127.0.0.1:{admin}"

[log]
{log}

[limits]
shutdown_grace_seconds = 1

[[routes]]
path  = "{priced}"
price = "$0.01"
{more}
"""


MORE_PAGES = "".join(f'\n[[routes]]\npath  = "{path.decode()}"\nprice = "$0.01"\n' for path in ALSO_PRICED)
MORE_PAGES += f"""
[[routes]]
path   = "{UPFRONT.decode()}"
price  = "$0.01"
settle = "before-request"

[[routes]]
host  = "{OTHER_HOST.decode()}"
path  = "{PRICED.decode()}"
price = "$0.01"
"""
"""Routes of the market."""


@dataclass(frozen=True)
class Replica:
    """What makes a gateway one of several."""

    ledger: str
    """URL of the ledger they share."""
    public: int | None = None
    """Port by which offers name them all; the first one's own."""


class Tollgate:
    """A running gateway, and the target it is."""

    def __init__(self, binary: Path, configuration: Path, admin: int, target: Target):
        self.binary, self.configuration, self.admin, self.target = binary, configuration, admin, target
        self.process: Process
        self.text, self.turn = configuration.read_text(), 0

    async def run(self) -> None:
        """Starts it, the first time or again."""
        name, folder = self.configuration.stem, self.configuration.parent
        self.process = await Process.start(name, folder, str(self.binary), "-c", str(self.configuration))
        for door in (Door("127.0.0.1", self.admin), *self.target.doors[:2]):
            await self.process.ready(lambda door=door: reachable(door))

    def reload(self, right: bool) -> None:
        """Writes its configuration anew, with a mistake or without, and has it read."""
        self.turn += 1
        more = f"\n# {self.turn}\n" if right else '\n[[routes]]\npath = "/**"\nfree = maybe\n'
        self.configuration.write_text(self.text + more)
        self.process.process.send_signal(signal.SIGHUP)

    def memory(self) -> int:
        return self.process.memory()

    def log(self) -> bytes:
        return self.process.log.read_bytes()

    async def metrics(self) -> bytes:
        async with Connection(Door("127.0.0.1", self.admin)) as connection:
            await connection.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"GET")
            return (await connection.read()).answers()[0].body

    async def exported(self) -> dict[str, bytes]:
        lists = {
            "ledger export --format csv": ["ledger", "export", "--format", "csv"],
            "ledger export --format jsonl": ["ledger", "export", "--format", "jsonl"],
            "ledger list": ["ledger", "list"],
        }
        command, named = str(self.binary), ["-c", str(self.configuration)]
        return {name: (await output_of(command, *words, *named)).encode() for name, words in lists.items()}

    async def stop(self, at_once: bool = False) -> None:
        await self.process.stop(at_once)


@dataclass(frozen=True)
class Plan:
    """How gateways are started."""

    binary: Path
    folder: Path
    facilitator: str

    async def start(
        self,
        name: str,
        origin: int | None,
        host: bytes | None = None,
        more: str = "",
        replica: Replica | None = None,
        log: str = 'level = "warn"',
    ) -> Tollgate:
        """Starts one in front of an origin; with a host, the page is priced under that host alone.

        `more` is further configuration, of the priced route to begin with; `log` that of the log.
        """
        plain, tls, admin = free_port(), free_port(), free_port()
        name = "tollgate-" + name.replace(" ", "-").replace(",", "")
        configuration = self.folder / f"{name}.toml"
        text = CONFIGURATION.format(plain=plain, tls=tls, admin=admin, origin=origin, facilitator=self.facilitator,
                                    pay_to=PAY_TO, priced=PRICED.decode(), log=log,
                                    public=(replica and replica.public) or plain,
                                    ledger=replica.ledger if replica else f"sqlite://{name}.db",
                                    more=(f'host = "{host.decode()}"' if host else "") + more)  # fmt: skip
        configuration.write_text(text)
        doors = [Door("127.0.0.1", plain), Door("127.0.0.1", tls, tls=True)]
        target = Target(name, doors, PRICED, FREE, host=host or b"127.0.0.1:%d" % plain)
        gateway = Tollgate(self.binary, configuration, admin, target)
        await gateway.run()
        await target.probe()
        return gateway


async def version(binary: Path) -> str:
    return (await output_of(str(binary), "--version")).strip()


async def make_certificate(folder: Path) -> None:
    """A certificate of this machine's own, for the addresses with TLS."""
    await output_of(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem"),
    )  # fmt: skip
