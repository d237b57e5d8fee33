// Every client against a facilitator that settles on a real local chain: money moves, once, or not at all.
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm";
import { privateKeyToAccount } from "viem/accounts";
import { startChain } from "../lib/chain.mjs";
import { CLIENTS, FETCH_V1, FETCH_V2, newPayer, pay } from "../lib/clients.mjs";
import { PRICE, startGateway } from "../lib/gateway.mjs";
import { startOrigin } from "../lib/origin.mjs";
import { ready, start, stop } from "../lib/processes.mjs";
import { holds, same } from "../lib/report.mjs";
import { assertDelivered, assertSeenOnce } from "./checks.mjs";

const PAYMENT_HEADER = { 1: "X-PAYMENT", 2: "PAYMENT-SIGNATURE" };
const FUNDS = PRICE * 5n;

export function localChain({ binary, folder }) {
  return {
    setUp: context => setUp(context, { binary, folder }),
    cases: [
      ...CLIENTS.map((client, index) =>
        [`${client.name}: one payment moves exactly the price`, context => movesThePrice(context, client, `/paid/${index}`)]),
      ...[FETCH_V2, FETCH_V1].map(client =>
        [`${client.name}: a payment presented again is neither charged nor delivered`, context => refusesReplays(context, client)]),
      ["a payment presented 20 times at once is charged and delivered once", chargesOnce],
      ["a payment already on the chain is refused by a gateway that never saw it", refusesForeignReplays],
      ["a payer without money is refused before the origin is asked", refusesTheUnfunded],
      ["an origin error is not charged", chargesNoErrors],
    ],
    async tearDown({ gateway, facilitator, chain, origin }) {
      await gateway?.stop();
      if (facilitator) await stop(facilitator);
      await chain?.stop();
      await origin?.stop();
    },
  };
}

async function setUp(context, { binary, folder }) {
  context.payTo = newPayer().address;
  context.chain = await startChain();
  const sponsor = newPayer();
  context.sponsor = sponsor.address;
  await context.chain.giveGas(sponsor.address);
  const program = new URL("../facilitator.mjs", import.meta.url).pathname;
  const env = { RPC_URL: context.chain.rpcUrl, FACILITATOR_KEY: sponsor.key };
  context.facilitator = start("facilitator", [process.execPath, program], { env });
  const facilitator = await ready(context.facilitator, 30_000, () => context.facilitator.stdout.match(/^http:\S+/)?.[0]);
  context.origin = await startOrigin();
  context.startGateway = publicUrl =>
    startGateway({ binary, folder, upstream: context.origin.url, facilitator, payTo: context.payTo, publicUrl });
  context.gateway = await context.startGateway();
}

async function movesThePrice(context, client, path) {
  const { gateway, origin, chain, payTo } = context;
  const payer = await funded(context);
  const before = await books(context);
  const answer = await pay(client, payer, gateway.url + path);
  assertDelivered({ client, payer, answer, origin, method: "GET", path });
  await assertCharged(context, before, 1);
  same(await chain.balanceOf(payer.address), FUNDS - PRICE, "balance of the payer");
  const transfers = await chain.transfers(payer.address, payTo);
  same(transfers.map(transfer => transfer.transactionHash), [answer.receipt.transaction], "transactions on the chain");
}

async function refusesReplays(context, client) {
  const { gateway, origin } = context;
  const path = `/paid/replayed/${client.generation}`;
  const payment = await deliveredPayment(context, client, path);
  const before = await books(context);
  const answers = await present(gateway.url + path, { [PAYMENT_HEADER[client.generation]]: payment }, 5);
  assertNoneDelivered(answers, origin);
  assertSeenOnce({ origin, method: "GET", path });
  await assertCharged(context, before, 0);
}

async function chargesOnce(context) {
  const { gateway, origin } = context;
  const path = "/paid/concurrent";
  const headers = await signedPayment(gateway.url + path, await funded(context));
  const before = await books(context);
  const answers = await present(gateway.url + path, headers, 20);
  const delivered = answers.filter(answer => answer.status === 200);
  same(delivered.map(answer => answer.body), [origin.answerTo("GET", path)], "bodies delivered");
  assertNoneDelivered(answers.filter(answer => answer.status !== 200), origin);
  assertSeenOnce({ origin, method: "GET", path });
  await assertCharged(context, before, 1);
}

async function refusesForeignReplays(context) {
  const { gateway, origin } = context;
  const path = "/paid/foreign";
  const payment = await deliveredPayment(context, FETCH_V2, path);
  const before = await books(context);
  const other = await context.startGateway(gateway.url);
  try {
    const answers = await present(other.url + path, { "PAYMENT-SIGNATURE": payment }, 1);
    same(answers.map(answer => answer.status), [402], "status of the replay");
    assertNoneDelivered(answers, origin);
  } finally {
    await other.stop();
  }
  assertSeenOnce({ origin, method: "GET", path });
  await assertCharged(context, before, 0);
}

async function refusesTheUnfunded(context) {
  const { gateway, origin } = context;
  const before = await books(context);
  const answer = await pay(FETCH_V2, newPayer(), `${gateway.url}/paid/unfunded`);
  same(answer.status, 402, "status");
  same(origin.requestsFor("/paid/unfunded").length, 0, "requests the origin saw");
  await assertCharged(context, before, 0);
}

async function chargesNoErrors(context) {
  const { gateway, origin, chain } = context;
  const payer = await funded(context);
  const before = await books(context);
  const answer = await pay(FETCH_V2, payer, `${gateway.url}/paid/broken`);
  same([answer.status, answer.receipt], [500, null], "status and receipt");
  assertSeenOnce({ origin, method: "GET", path: "/paid/broken" });
  await assertCharged(context, before, 0);
  same(await chain.balanceOf(payer.address), FUNDS, "balance of the payer");
}

// Pays once and returns the payment header that was sent.
async function deliveredPayment(context, client, path) {
  const payer = await funded(context);
  const answer = await pay(client, payer, context.gateway.url + path);
  assertDelivered({ client, payer, answer, origin: context.origin, method: "GET", path });
  holds(answer.payment, `${client.name} sent no ${PAYMENT_HEADER[client.generation]}`);
  return answer.payment;
}

async function funded({ chain }) {
  const payer = newPayer();
  await chain.mint(payer.address, FUNDS);
  return payer;
}

// The facilitator's transactions are counted as well: one that fails on the chain moves no money but is a second attempt.
async function books({ chain, payTo, sponsor }) {
  return { balance: await chain.balanceOf(payTo), transactions: await chain.transactionsOf(sponsor) };
}

async function assertCharged(context, before, payments) {
  const after = await books(context);
  same(after.balance - before.balance, PRICE * BigInt(payments), "rise of the payee's balance");
  same(after.transactions - before.transactions, payments, "transactions of the facilitator");
}

function assertNoneDelivered(answers, origin) {
  for (const { status, body } of answers) {
    holds(status >= 400, `a second presentation was answered with ${status}`);
    holds(!body.includes(origin.secret), "a second presentation got the origin's answer");
  }
}

function present(url, headers, times) {
  return Promise.all(Array.from({ length: times }, async () => {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(60_000) });
    return { status: response.status, body: await response.text() };
  }));
}

async function signedPayment(url, payer) {
  const client = new x402HTTPClient(new x402Client().register("eip155:*", new ExactEvmScheme(privateKeyToAccount(payer.key))));
  const challenge = await fetch(url);
  const required = client.getPaymentRequiredResponse(name => challenge.headers.get(name), await challenge.json());
  return client.encodePaymentSignatureHeader(await client.createPaymentPayload(required));
}
