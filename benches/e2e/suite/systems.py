"""The systems that are compared: how each is configured and started."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from machine import LOAD, PATIENCE, SERVER, Answer, Failed, Process, ask, free_port

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
PAYEE = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
PRICED, FREE, LARGE = "/paid/page", "/free/page", "/free/large"
PAGE = (b"A page of the site that stands behind every gateway. " * 20)[:1013]
REFERENCE = ROOT / "tests" / "adversarial" / "reference"


@dataclass
class Site:
    """What stands behind the gateways, and where files are kept."""

    folder: Path
    programs: Path
    axum: Path

    def __post_init__(self) -> None:
        content = self.folder / "content"
        for path in (PRICED, FREE):
            (content / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (content / path[1:]).write_bytes(PAGE)
        (content / LARGE[1:]).write_bytes(b"x" * (1 << 20))
        self.origin = free_port()
        command = nginx(self.folder, "origin", f"""
            server {{
                listen 127.0.0.1:{self.origin} backlog=4096;
                root {content}; default_type text/plain; sendfile on; tcp_nopush on;
                open_file_cache max=100; open_file_cache_valid 1h;
            }}""")
        self.processes = [Process(command, LOAD, self.folder)]
        self.processes[0].wait_for(self.origin)
        self.facilitators: dict[int, int] = {}
        self.certificate, self.key = self.folder / "site.pem", self.folder / "site.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", self.key, "-out",
             self.certificate], check=True, capture_output=True,
        )  # fmt: skip
        (self.folder / "both.pem").write_bytes(self.certificate.read_bytes() + self.key.read_bytes())

    def facilitator(self, delay_ms: int) -> int:
        """The port of a stub facilitator that takes so long for each call."""
        if delay_ms not in self.facilitators:
            port = free_port()
            command = [str(self.programs / "tollgate-bench"), "facilitator", f"127.0.0.1:{port}", str(delay_ms)]
            self.processes.append(Process(command, LOAD, self.folder))
            self.processes[-1].wait_for(port)
            self.facilitators[delay_ms] = port
        return self.facilitators[delay_ms]

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


@dataclass
class Wish:
    """What a scenario wants of a system."""

    challenge: Answer | None = None
    """Answer everything with this, where a system is no gateway; otherwise forward everything."""
    trim: int = 0
    """Bytes the answer is to be shorter by, so that all answers have the same length."""
    tls: bool = False
    delay_ms: int = 0
    routes: int = 0
    """Further priced routes."""
    log: bool = False
    """A line in a file for each request."""


@dataclass
class Running:
    name: str
    process: Process
    port: int

    def stop(self) -> None:
        self.process.stop()


def nginx(folder: Path, name: str, servers: str) -> list[str]:
    """One process of nginx, in the foreground."""
    file = folder / f"nginx-{name}.conf"
    temporary = "".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file.write_text(f"""
        daemon off; master_process off; pid {folder}/nginx-{name}.pid; error_log stderr crit;
        events {{ worker_connections 16000; }}
        http {{
            {temporary}
            access_log off; server_tokens off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nodelay on;
            {servers}
        }}""")
    return ["nginx", "-p", str(folder), "-c", str(file)]


def headers_of(wish: Wish) -> list[tuple[str, str]]:
    """The headers of the challenge that a server does not set by itself, its largest one trimmed or filled up."""
    assert wish.challenge
    lines = [line.partition(": ") for line in wish.challenge.head.decode().strip().split("\r\n")[1:]]
    own = ("date", "connection", "content-length", "content-type", "server")
    headers = [(name, value) for name, _, value in lines if name.lower() not in own]
    sized = {name: len(value) for name, value in headers}
    largest = max(sized, key=sized.__getitem__)
    fitted = lambda value: value[: len(value) - wish.trim] + "=" * max(0, -wish.trim)  # noqa: E731
    return [(name, fitted(value) if name == largest else value) for name, value in headers]


def start_nginx(site: Site, wish: Wish) -> Running:
    port = free_port()
    listen = f"listen 127.0.0.1:{port} backlog=4096"
    if wish.tls:
        listen += f" ssl http2; ssl_certificate {site.certificate}; ssl_certificate_key {site.key}; ssl_protocols TLSv1.3"
    log = f"access_log {site.folder}/nginx-access.log;" if wish.log else ""
    if wish.challenge:
        added = "".join(f"add_header {name} '{value}' always; " for name, value in headers_of(wish))
        does = f"default_type {wish.challenge.header('content-type')}; {added} location / {{ return 402 '{wish.challenge.body.decode()}'; }}"
        servers = f"server {{ {listen}; {log} {does} }}"
    else:
        servers = f"""
            upstream site {{ server 127.0.0.1:{site.origin}; keepalive 512; keepalive_requests 100000000; }}
            server {{ {listen}; {log} location / {{ proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}"""
    return Running("nginx", Process(nginx(site.folder, "measured", servers), SERVER, site.folder), port)


def start_haproxy(site: Site, wish: Wish) -> Running:
    port = free_port()
    tls = f" ssl crt {site.folder}/both.pem alpn h2,http/1.1" if wish.tls else ""
    quoted = lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'  # noqa: E731
    if wish.challenge:
        added = " ".join(f"hdr {name} {quoted(value)}" for name, value in headers_of(wish))
        body = site.folder / "haproxy-body"
        body.write_bytes(wish.challenge.body)
        does = f"http-request return status 402 content-type {wish.challenge.header('content-type')} file {body} {added}"
    else:
        does = f"http-reuse always\n  server site 127.0.0.1:{site.origin}"
    file = site.folder / "haproxy.cfg"
    file.write_text(f"""
global
  maxconn 12000
  nbthread 1
  # It asks for two files for each connection, whatever it does.
  no strict-limits
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  timeout http-keep-alive 600s
listen measured
  bind 127.0.0.1:{port}{tls}
  {does}
""")
    return Running("HAProxy", Process(["haproxy", "-db", "-f", str(file)], SERVER, site.folder), port)


def start_pingora(site: Site, wish: Wish) -> Running:
    port = free_port()
    if wish.challenge:
        file = site.folder / "answer"
        # Pingora adds Date and Connection itself.
        headers = [("Content-Type", wish.challenge.header("content-type")), ("Content-Length", str(len(wish.challenge.body)))]
        lines = ["HTTP/1.1 402 Payment Required", *(f"{name}: {value}" for name, value in headers + headers_of(wish))]
        file.write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n" + wish.challenge.body)
        does = ["answer", str(file)]
    else:
        does = ["upstream", f"127.0.0.1:{site.origin}"]
    tls = [str(site.certificate), str(site.key)] if wish.tls else []
    command = [str(site.programs / "tollgate-bench"), "bare", f"127.0.0.1:{port}", *does, *tls]
    return Running("Pingora", Process(command, SERVER, site.folder), port)


def start_tollgate(site: Site, wish: Wish) -> Running:
    port, admin = free_port(), free_port()
    listeners = f'listen = "127.0.0.1:{port}"'
    if wish.tls:
        listeners = f'listeners = [{{ address = "127.0.0.1:{port}", tls = [{{ cert = "{site.certificate}", key = "{site.key}" }}] }}]'
    # On one line each: a hundred thousand routes fit into the largest configuration there may be.
    priced = '{path="/paid/*",price="$0.01",name="paid"}'
    routes = ",\n".join([priced, *(f'{{path="/r/{number}",price="$1"}}' for number in range(wish.routes))])
    file = site.folder / "gateway.toml"
    file.write_text(f"""
upstream = "http://127.0.0.1:{site.origin}"
facilitator = "stub"
network = "base-sepolia"
pay_to = "{PAYEE}"
public_url = "http://127.0.0.1:{port}"
{listeners}
routes = [{routes}]
[admin]
listen = "127.0.0.1:{admin}"
[facilitators.stub]
url = "http://127.0.0.1:{site.facilitator(wish.delay_ms)}"
# Longer than any run: payments that hang are not given up while it is measured what they do to others.
verify_timeout_ms = 90000
[log]
level = "{"info" if wish.log else "warn"}"
""")
    for name in ("tollgate.db", "tollgate.db-wal", "tollgate.db-shm"):
        (site.folder / name).unlink(missing_ok=True)
    process = Process([str(site.programs / "tollgate"), "--config", str(file)], SERVER, site.folder)
    process.wait_for(admin)
    wait_until(lambda: ask(admin, "/readyz").status == 200, process)
    return Running("tollgate", process, port)


def start_express(site: Site, wish: Wish) -> Running:
    port = free_port()
    env = {
        "PORT": str(port), "FACILITATOR": f"http://127.0.0.1:{site.facilitator(wish.delay_ms)}", "PAY_TO": PAYEE,
        "PRICED": PRICED, "FREE": FREE, "CONTENT": str(site.folder / "content" / PRICED[1:]), "TOKEN": "x",
        "UPSTREAM": "", "ALSO_PRICED": "", "UPFRONT": "", "NODE_ENV": "production",
    }  # fmt: skip
    return Running("@x402/express", Process(["node", str(REFERENCE / "server.mjs")], SERVER, site.folder, env), port)


def start_axum(site: Site, wish: Wish) -> Running:
    port = free_port()
    facilitator = f"http://127.0.0.1:{site.facilitator(wish.delay_ms)}"
    content = site.folder / "content" / PRICED[1:]
    command = [str(site.axum), f"127.0.0.1:{port}", facilitator, PAYEE, str(content)]
    return Running("x402-axum", Process(command, SERVER, site.folder), port)


START = {
    "nginx": start_nginx,
    "HAProxy": start_haproxy,
    "Pingora": start_pingora,
    "tollgate": start_tollgate,
    "@x402/express": start_express,
    "x402-axum": start_axum,
}


def start(name: str, site: Site, wish: Wish) -> Running:
    running = START[name](site, wish)
    running.process.wait_for(running.port)
    return running


def wait_until(holds, process: Process) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if process.child.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{process.command} is not ready:\n{process.log.read_text()[-2000:]}")
        time.sleep(0.02)
