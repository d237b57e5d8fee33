// The published clients. Each program under clients/ and rust/ keeps one contract:
//
//   PAYER_KEY=0x… PROGRAM [LIBRARY] URL [FILE]
//
// pays for URL (a POST of FILE's bytes when given, else a GET) and prints one line of JSON:
// `status` and `body` of the final answer and `receipt`, the decoded header of its own generation or
// null. The fetch programs add `payment`, the payment header they sent, so it can be presented again.
import { readFileSync } from "node:fs";
import { generatePrivateKey, privateKeyToAddress } from "viem/accounts";
import { run } from "./processes.mjs";

const DEADLINE_MS = 60_000;
const here = new URL("..", import.meta.url).pathname;
const npm = JSON.parse(readFileSync(`${here}package.json`)).dependencies;

const node = (name, generation, library) =>
  ({ name: `${name} ${npm[name]}`, generation, command: [process.execPath, `${here}clients/v${generation}.mjs`, library] });
const python = (generation, library) =>
  ({
    name: `PyPI x402 ${pinned(`requirements-v${generation}.txt`, /^x402==(\S+)$/m)} (${library})`,
    generation,
    command: [`${here}.venv/v${generation}/bin/python`, `${here}clients/v${generation}.py`, library],
  });

export const FETCH_V2 = node("@x402/fetch", 2, "fetch");
export const FETCH_V1 = node("x402-fetch", 1, "fetch");
export const CLIENTS = [
  FETCH_V2,
  node("@x402/axios", 2, "axios"),
  python(2, "httpx"),
  python(2, "requests"),
  {
    name: `x402-reqwest ${pinned("rust/Cargo.lock", /name = "x402-reqwest"\nversion = "(.*)"/)}`,
    generation: 2,
    command: [`${here}rust/target/debug/interop-client`],
  },
  FETCH_V1,
  node("x402-axios", 1, "axios"),
  python(1, "httpx"),
  python(1, "requests"),
];

/** A key that nobody has used before. */
export function newPayer() {
  const key = generatePrivateKey();
  return { key, address: privateKeyToAddress(key) };
}

/** Runs a client program and returns what it printed. */
export async function pay(client, payer, url, file) {
  const command = [...client.command, url, ...(file ? [file] : [])];
  const output = await run(client.name, command, { env: { PAYER_KEY: payer.key }, deadlineMs: DEADLINE_MS });
  return JSON.parse(output.trim().split("\n").at(-1));
}

function pinned(file, pattern) {
  return readFileSync(`${here}${file}`, "utf8").match(pattern)[1];
}
