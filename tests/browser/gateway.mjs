// Starts what the tests need besides a browser: a small site, and a gateway in front of it and of the demo site.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const PAY_TO = '0x209693Bc6afc0C5328bA36FaF03C514EF312287C';
export const USDC = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';
export const HOSTILE = '</script><script>window.attacked=1</script><img src=x onerror="window.attacked=2">\u2028window.attacked=3';

const START_SECONDS_MAX = 30;
const STOP_SECONDS_MAX = 10;

/** A page with a policy of its own: one script that it allows, and one that it does not. */
const SCRIPTED_PAGE = `<!-- a comment first --><!doctype html>
<html lang="de"><head><title>Scripts</title><meta charset="utf-8">
<script nonce="the-site's-own">document.documentElement.dataset.allowed = document.compatMode;</script>
<script>document.documentElement.dataset.injected = "yes";</script>
<style>h1 { color: rgb(1, 2, 3); }</style></head>
<body><h1>Größe</h1><script nonce="the-site's-own" src="/script.js"></script></body></html>`.replaceAll("the-site's-own", 'c2l0ZQ');

const SITE = {
  '/site/scripted': ['text/html', SCRIPTED_PAGE, { 'Content-Security-Policy': "script-src 'nonce-c2l0ZQ', base-uri 'none'" }],
  '/site/latin1': ['text/html; charset=iso-8859-1', Buffer.from('<!doctype html><h1>Größe</h1>', 'latin1')],
  '/site/picture.svg': ['image/svg+xml', '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="teal"/></svg>'],
  '/script.js': ['text/javascript', 'document.documentElement.dataset.external = "yes";'],
};

async function startSite() {
  const server = http.createServer((request, response) => {
    const [type, body, headers] = SITE[new URL(request.url, 'http://site').pathname] ?? ['text/plain', 'nothing here'];
    response.writeHead(type === 'text/plain' ? 404 : 200, { 'Content-Type': type, ...headers });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** A port that was free a moment ago. */
async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const configuration = ({ port, adminPort, sitePort }) => `
listen      = "127.0.0.1:${port}"
upstream    = "demo"
pay_to      = "${PAY_TO}"
network     = "base-sepolia"
facilitator = "sandbox"

[admin]
listen = "127.0.0.1:${adminPort}"

[upstreams.site]
url = "http://127.0.0.1:${sitePort}"

[[routes]]
path        = "/articles/*"
price       = "$0.01"
description = "One article, to read once"

[[routes]]
path        = "/articles/signed-payments"
price       = "$0.02"
description = ${JSON.stringify(HOSTILE)}

[[routes]]
path        = "/api/*"
price       = "$0.003"

[[routes]]
path        = "/download/*"
price       = "$1.50"

[[routes]]
path        = "/events"
price       = "$0.01"

[[routes]]
path        = "/redirect"
price       = "$0.01"

[[routes]]
path        = "/broken"
price       = "$0.01"

[[routes]]
path        = "/slow"
price       = "$1000000"

[[routes]]
path        = "/site/*"
price       = "$0.01"
upstream    = "site"

[[routes]]
path        = "/script.js"
free        = true
upstream    = "site"
`;

/** Starts the gateway and resolves to its origin, once it is ready, and a function that stops everything. */
export async function startGateway(tollgate) {
  const site = await startSite();
  const directory = await mkdtemp(join(tmpdir(), 'tollgate-browser-'));
  const [port, adminPort] = [await freePort(), await freePort()];
  const file = join(directory, 'gateway.toml');
  await writeFile(file, configuration({ port, adminPort, sitePort: site.address().port }));

  const gateway = spawn(tollgate, ['run', '--config', file], { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [gateway.stdout, gateway.stderr]) stream.on('data', (data) => { output += data; });
  let exit = null;
  const exited = new Promise((resolve) => {
    gateway.on('error', (error) => resolve(error.message));
    gateway.on('exit', (code, signal) => resolve(`exit status ${code ?? signal}`));
  }).then((how) => { exit = how; });

  const stop = async () => {
    site.close();
    site.closeAllConnections();
    gateway.kill('SIGTERM');
    const killer = setTimeout(() => gateway.kill('SIGKILL'), STOP_SECONDS_MAX * 1000);
    await exited;
    clearTimeout(killer);
    await rm(directory, { recursive: true, force: true });
  };

  const deadline = Date.now() + START_SECONDS_MAX * 1000;
  while (!await isReady(`http://127.0.0.1:${adminPort}/readyz`)) {
    if (exit !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`the gateway did not become ready (${exit ?? 'no answer'}):\n${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { origin: `http://127.0.0.1:${port}`, stop, output: () => output };
}

async function isReady(url) {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}
