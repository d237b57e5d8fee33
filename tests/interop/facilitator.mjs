// A facilitator as an operator would build one from the published packages: it verifies and settles
// `exact` payments of both protocol generations on the chain behind RPC_URL, paying the gas itself.
//
// Environment: RPC_URL, FACILITATOR_KEY. Prints its URL as the first line when it is ready.
import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { createWalletClient, http, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

const account = privateKeyToAccount(process.env.FACILITATOR_KEY);
const wallet = createWalletClient({
  account,
  chain: baseSepolia,
  transport: http(process.env.RPC_URL),
  pollingInterval: 100,
}).extend(publicActions);
const signer = toFacilitatorEvmSigner({ ...wallet, address: account.address }, { confirmationTimeoutMs: 20_000 });
const facilitator = new x402Facilitator()
  .register("eip155:84532", new ExactEvmScheme(signer))
  .registerV1("base-sepolia", new ExactEvmSchemeV1(signer));

const routes = {
  "GET /supported": () => facilitator.getSupported(),
  "POST /verify": ({ paymentPayload, paymentRequirements }) => facilitator.verify(paymentPayload, paymentRequirements),
  "POST /settle": ({ paymentPayload, paymentRequirements }) => facilitator.settle(paymentPayload, paymentRequirements),
};

async function answer(request) {
  const route = routes[`${request.method} ${request.url}`];
  if (!route) return [404, { error: "not found" }];
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    return [200, await route(chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined)];
  } catch (error) {
    console.error(error);
    return [500, { error: String(error) }];
  }
}

const server = createServer(async (request, response) => {
  const [status, body] = await answer(request);
  console.error(request.method, request.url, status, JSON.stringify(body));
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
