"""Shared caches as they are in use: a real nginx and a real Varnish, and a site that asks them to keep everything."""

import re
import shutil
from pathlib import Path

from core.http1 import Headers
from core.target import free_port, reachable
from core.wire import Door
from kit.framing import Request
from kit.origin import Kind, Origin
from kit.pages import Pages
from kit.processes import Process, output_of

HABITS: list[Headers] = [
    [],
    [(b"Cache-Control", b"public, max-age=600, s-maxage=600")],
    [(b"Cache-Control", b"max-age=600"), (b"Vary", b"Accept-Encoding")],
    [(b"Cache-Control", b"public"), (b"Expires", b"Tue, 19 Jan 2038 03:14:07 GMT")],
    [(b"Expires", b"Tue, 19 Jan 2038 03:14:07 GMT")],
    [(b"X-Accel-Expires", b"600")],
    [(b"Surrogate-Control", b"max-age=600"), (b"CDN-Cache-Control", b"max-age=600")],
    [(b"Surrogate-Control", b'content="ESI/1.0", max-age=600'), (b"Cache-Control", b"no-cache")],
    [(b"Netlify-CDN-Cache-Control", b"public, max-age=600"), (b"X-LiteSpeed-Cache-Control", b"public, max-age=600")],
    [(b"Cache-Control", b"max-age=600, must-revalidate, immutable, stale-while-revalidate=600, stale-if-error=600")],
    [(b"Cache-Control", b'private="set-cookie", max-age=600, s-maxage=600')],
    [(b"Cache-Control", b"max-age=600"), (b"Cache-Control", b"public, s-maxage=600")],
    [(b"Cache-Control", b'x="y, max-age=600, s-maxage=600, public')],
    [(b"Pragma", b"public"), (b"Cache-Control", b"PUBLIC,MAX-AGE=600,S-MAXAGE=600")],
    [
        (b"Cache-Control", b"max-age=600"),
        (b"Age", b"0"),
        (b"X-Cache", b"HIT"),
        (b"Last-Modified", b"Thu, 01 Jan 1970 00:00:01 GMT"),
    ],
]
"""What the site says to caches, chosen by `habit=` in the query."""
KIND = Kind("caching", "asks every cache to keep its pages")


class Cacheable(Origin):
    """A running origin of this kind. With `fails=` in the query it fails the first time, and asks to keep that, too."""

    def __init__(self, pages: Pages):
        super().__init__(KIND, pages)
        self._failed: set[bytes] = set()

    def _priced(self, request: Request, head_only: bool) -> bytes:
        query = request.target.partition(b"?")[2]
        if b"fails=" in query and query not in self._failed:
            self._failed.add(query)
            return _written(b"404 Not Found", [(b"Cache-Control", b"public, max-age=600")], b"not yet\n", head_only)
        habit = re.search(rb"habit=(\d+)", query)
        fields = [(b"ETag", b'"%s"' % self.pages.token.encode()), (b"X-Summary", self.pages.token.encode())]
        fields += HABITS[int(habit[1]) % len(HABITS)] if habit else []
        return _written(b"200 OK", fields, self.pages.priced, head_only)


def _written(status: bytes, fields: Headers, body: bytes, head_only: bool) -> bytes:
    fields = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(body)), *fields]
    lines = [b"HTTP/1.1 " + status] + [name + b": " + value for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)


NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=pages:4m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_cache pages;
            proxy_cache_key $request_uri;
            proxy_cache_valid 10m;
            proxy_cache_valid 402 404 500 502 503 10m;
            proxy_cache_lock on;
            proxy_cache_revalidate on;
            proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_404;
            add_header X-Cache-Status $upstream_cache_status always;
        }}
    }}
}}
"""
VARNISH = """
vcl 4.1;
backend behind {{ .host = "127.0.0.1"; .port = "{behind}"; }}
sub vcl_deliver {{ set resp.http.X-Cache-Status = obj.hits; }}
"""


class Cache:
    """A running cache. `port` is where it listens."""

    def __init__(self, name: str, process: Process, port: int):
        self.name, self.process, self.port = name, process, port

    async def stop(self) -> None:
        await self.process.stop()


async def start_nginx(folder: Path, behind: int, name: str) -> Cache:
    """nginx with `proxy_cache`, told to keep answers of every status unless their headers forbid it."""
    folder = folder / name.replace(" ", "-")
    folder.mkdir()
    for each in (folder.parent, folder):
        each.chmod(each.stat().st_mode | 0o055)
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, behind=behind))
    process = await Process.start(name.replace(" ", "-"), folder, "nginx", "-p", str(folder), "-c", str(configuration))
    await process.ready(lambda: reachable(Door("127.0.0.1", port)))
    return Cache(name, process, port)


async def start_varnish(folder: Path, behind: int, name: str) -> Cache:
    """Varnish with its built-in rules."""
    folder = folder / name.replace(" ", "-")
    folder.mkdir()
    for each in (folder.parent, folder):
        each.chmod(each.stat().st_mode | 0o055)
    rules = folder / "rules.vcl"
    rules.write_text(VARNISH.format(behind=behind))
    rules.chmod(0o644)
    port = free_port()
    command = [
        "varnishd",
        "-F",
        "-j",
        "none",
        "-n",
        str(folder / "state"),
        "-a",
        f"127.0.0.1:{port}",
        "-f",
        str(rules),
        "-s",
        "default,16m",
        "-t",
        "600",
        "-p",
        "thread_pool_min=10",
    ]
    process = await Process.start(name.replace(" ", "-"), folder, *command)
    await process.ready(lambda: reachable(Door("127.0.0.1", port)))
    return Cache(name, process, port)


STARTERS = {"nginx": start_nginx, "Varnish": start_varnish}


async def versions() -> str:
    nginx = (await output_of("nginx", "-v")).strip().rpartition("/")[2]
    varnish = re.search(r"varnish-([\d.]+)", await output_of("varnishd", "-V"))
    return f"The shared caches are nginx {nginx} and Varnish {varnish[1] if varnish else '?'}."


def missing() -> str | None:
    """Which of the programs is not installed."""
    return next((program for program in ("nginx", "varnishd") if shutil.which(program) is None), None)
