"""tollgate as a server under test: one process in front of each origin."""

from dataclasses import dataclass
from pathlib import Path

from core.target import Target, free_port, reachable
from core.wire import Door
from kit.pages import FREE, PRICED
from kit.processes import Process, output_of

PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
CONFIGURATION = """
public_url  = "http://127.0.0.1:{plain}"
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
url = "sqlite://{name}.db"

[admin]
listen = "127.0.0.1:{admin}"

[log]
level = "warn"

[limits]
shutdown_grace_seconds = 1

[[routes]]
path  = "{priced}"
price = "$0.01"
{more}
"""


class Tollgate:
    """A running gateway, and the target it is."""

    def __init__(self, process: Process, target: Target):
        self.process, self.target = process, target

    async def stop(self) -> None:
        await self.process.stop()


@dataclass(frozen=True)
class Plan:
    """How gateways are started."""

    binary: Path
    folder: Path
    facilitator: str

    async def start(self, name: str, origin: int | None, host: bytes | None = None) -> Tollgate:
        """Starts one in front of an origin; with a host, the page is priced under that host alone."""
        plain, tls, admin = free_port(), free_port(), free_port()
        name = "tollgate-" + name.replace(" ", "-")
        configuration = self.folder / f"{name}.toml"
        text = CONFIGURATION.format(plain=plain, tls=tls, admin=admin, origin=origin, facilitator=self.facilitator,
                                    pay_to=PAY_TO, name=name, priced=PRICED.decode(),
                                    more=f'host = "{host.decode()}"' if host else "")  # fmt: skip
        configuration.write_text(text)
        process = await Process.start(name, self.folder, str(self.binary), "-c", str(configuration))
        doors = [Door("127.0.0.1", plain), Door("127.0.0.1", tls, tls=True)]
        await process.ready(lambda: reachable(Door("127.0.0.1", admin)))
        for door in doors:
            await process.ready(lambda door=door: reachable(door))
        target = Target(name, doors, PRICED, FREE, host=host or b"127.0.0.1:%d" % plain)
        await target.probe()
        return Tollgate(process, target)


async def version(binary: Path) -> str:
    return (await output_of(str(binary), "--version")).strip()


async def make_certificate(folder: Path) -> None:
    """A certificate of this machine's own, for the addresses with TLS."""
    await output_of(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem"),
    )  # fmt: skip
