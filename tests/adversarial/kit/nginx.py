"""A real nginx as an origin: static files, with what it does to paths by itself."""

import os
from pathlib import Path

from core.target import free_port, reachable
from core.wire import Door
from kit.pages import FREE, PRICED, Pages
from kit.processes import Process, output_of

CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/plain txt php; }}
    keepalive_timeout 60;
    gzip on;
    gzip_types text/plain;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/site;
        location /free/ {{ }}
        location / {{ try_files $uri $uri/ =404; }}
    }}
}}
"""


class Nginx:
    """A running nginx."""

    name = "nginx"

    def __init__(self, process: Process, port: int, version: str):
        self.process, self.port, self.version = process, port, version

    @staticmethod
    async def start(folder: Path, pages: Pages) -> "Nginx":
        version = (await output_of("nginx", "-v")).strip().rpartition("/")[2]
        folder = folder / "nginx"
        site = folder / "site"
        for path, content in ((PRICED, pages.priced), (FREE, pages.free)):
            file = site / path.decode().lstrip("/")
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
        os.utime(site / PRICED.decode().lstrip("/"), (pages.changed, pages.changed))
        # Its workers run as another user when it is started by root.
        for each in (folder.parent, folder, *site.rglob("*"), site):
            each.chmod(each.stat().st_mode | 0o055)
        port = free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, port=port))
        process = await Process.start("nginx", folder, "nginx", "-p", str(folder), "-c", str(configuration))
        await process.ready(lambda: reachable(Door("127.0.0.1", port)))
        return Nginx(process, port, version)

    async def stop(self) -> None:
        await self.process.stop()
