// Every client against the built-in sandbox facilitator, which gives each new payer test money.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLIENTS, newPayer, pay } from "../lib/clients.mjs";
import { PRICE, startGateway } from "../lib/gateway.mjs";
import { startOrigin } from "../lib/origin.mjs";
import { run } from "../lib/processes.mjs";
import { holds, same } from "../lib/report.mjs";
import { assertDelivered } from "./checks.mjs";

const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const BODY = randomBytes(256 * 1024);

export function sandbox({ binary, folder }) {
  const upload = join(folder, "upload.bin");
  return {
    async setUp(context) {
      writeFileSync(upload, BODY);
      context.payTo = newPayer().address;
      context.origin = await startOrigin();
      context.gateway = await startGateway({
        binary, folder, upstream: context.origin.url, facilitator: "sandbox", payTo: context.payTo,
      });
    },
    cases: [
      ["curl: what is free passes through", freePasses],
      ["curl: an unpaid GET is told the price in both generations", challenge],
      ["curl: an unpaid HEAD is told the price without a body", headChallenge],
      ["curl: an unpaid POST does not reach the origin", postChallenge],
      ...CLIENTS.map((client, index) =>
        [`${client.name}: a GET is paid and delivered`, context => buy(context, client, `/paid/get/${index}`)]),
      ...CLIENTS.map((client, index) =>
        [`${client.name}: a POST is paid and delivered whole`, context => buy(context, client, `/paid/post/${index}`, upload)]),
    ],
    async tearDown({ gateway, origin }) {
      await gateway?.stop();
      await origin?.stop();
    },
  };
}

async function buy({ gateway, origin }, client, path, file) {
  const payer = newPayer();
  const answer = await pay(client, payer, gateway.url + path, file);
  const [method, body] = file ? ["POST", BODY] : ["GET", undefined];
  assertDelivered({ client, payer, answer, origin, method, path, body });
}

async function freePasses({ gateway, origin }) {
  const { status, headers, body } = await curl(`${gateway.url}/free`);
  same(status, 200, "status");
  same(body, origin.answerTo("GET", "/free"), "body");
  holds(!headers.has("payment-required"), "a free answer carries PAYMENT-REQUIRED");
}

async function challenge({ gateway, origin, payTo }) {
  const url = `${gateway.url}/paid/unpaid`;
  const { status, headers, body } = await curl(url);
  same(status, 402, "status");
  holds(headers.get("cache-control")?.includes("no-store"), `Cache-Control is ${headers.get("cache-control")}`);

  const required = decode(headers.get("payment-required"));
  same([required.x402Version, required.resource?.url, required.accepts?.length], [2, url, 1], "version, resource and offers");
  const { scheme, network, amount, asset, payTo: recipient, extra } = required.accepts[0];
  same([scheme, network, amount, asset, recipient], ["exact", "eip155:84532", `${PRICE}`, USDC, payTo], "v2 offer");
  same([extra?.name, extra?.version], ["USDC", "2"], "EIP-712 domain of the v2 offer");

  const v1 = JSON.parse(body);
  same([v1.x402Version, typeof v1.error, v1.accepts?.length], [1, "string", 1], "version, error and offers in the v1 body");
  const offer = v1.accepts[0];
  same(
    [offer.scheme, offer.network, offer.maxAmountRequired, offer.asset, offer.payTo, offer.resource],
    ["exact", "base-sepolia", `${PRICE}`, USDC, payTo, url],
    "v1 offer",
  );
  same(origin.requestsFor("/paid/unpaid").length, 0, "unpaid requests the origin saw");
}

async function headChallenge({ gateway, origin }) {
  const { status, headers, body } = await curl("--head", `${gateway.url}/paid/head`);
  same(status, 402, "status");
  same(decode(headers.get("payment-required")).x402Version, 2, "version in PAYMENT-REQUIRED");
  same(body, "", "body");
  same(origin.requestsFor("/paid/head").length, 0, "unpaid requests the origin saw");
}

async function postChallenge({ gateway, origin }) {
  const { status } = await curl("--data", "unpaid", `${gateway.url}/paid/unpaid-post`);
  same(status, 402, "status");
  same(origin.requestsFor("/paid/unpaid-post").length, 0, "unpaid requests the origin saw");
}

async function curl(...args) {
  const command = ["curl", "--silent", "--show-error", "--include", "--max-time", "20", ...args];
  const output = await run("curl", command, { deadlineMs: 30_000 });
  const end = output.indexOf("\r\n\r\n");
  const [statusLine, ...lines] = output.slice(0, end).split("\r\n");
  const headers = new Map(lines.map(line => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { status: Number(statusLine.split(" ")[1]), headers, body: output.slice(end + 4) };
}

function decode(header) {
  holds(header, "PAYMENT-REQUIRED is missing");
  return JSON.parse(Buffer.from(header, "base64"));
}
