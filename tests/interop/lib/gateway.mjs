// Starts the gateway under test with a configuration of its own on free ports.
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { ready, start, stop } from "./processes.mjs";

export const PRICE = 10_000n;

/** Starts `binary` and waits for /readyz. `publicUrl` defaults to the address it listens on. */
export async function startGateway({ binary, folder, upstream, facilitator, payTo, publicUrl }) {
  const [port, adminPort] = await freePorts(2);
  const url = `http://127.0.0.1:${port}`;
  const file = join(folder, `gateway-${port}.toml`);
  writeFileSync(file, `
listen      = "127.0.0.1:${port}"
public_url  = "${publicUrl ?? url}"
upstream    = "${upstream}"
network     = "base-sepolia"
pay_to      = "${payTo}"
facilitator = "${facilitator}"

[ledger]
url = "sqlite://ledger-${port}.db"

[admin]
listen = "127.0.0.1:${adminPort}"

[limits]
shutdown_grace_seconds = 1

[[routes]]
path        = "/paid/**"
price       = "$0.01"
description = "What the interop clients buy"
mime_type   = "text/plain"
`);
  const started = start("tollgate", [binary, "-c", file]);
  await ready(started, 30_000, () =>
    fetch(`http://127.0.0.1:${adminPort}/readyz`).then(response => response.status === 200, () => false));
  return { url, stop: () => stop(started) };
}

// All are held open together, so that no two are the same.
async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () =>
    new Promise((resolve, reject) => {
      const server = createServer().on("error", reject).listen(0, "127.0.0.1", () => resolve(server));
    })));
  const ports = servers.map(server => server.address().port);
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))));
  return ports;
}
