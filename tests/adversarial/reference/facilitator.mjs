// A facilitator of the reference implementation: verifies and settles `exact` payments on the chain behind RPC_URL.
import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { createWalletClient, http, publicActions } from "viem";
import { nonceManager, privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

const { PORT, RPC_URL, KEY } = process.env;
const account = privateKeyToAccount(KEY, { nonceManager });
const wallet = createWalletClient({ account, chain: baseSepolia, transport: http(RPC_URL), pollingInterval: 100 })
  .extend(publicActions);
const signer = toFacilitatorEvmSigner({ ...wallet, address: account.address }, { confirmationTimeoutMs: 20_000 });
const facilitator = new x402Facilitator()
  .register("eip155:84532", new ExactEvmScheme(signer))
  .registerV1("base-sepolia", new ExactEvmSchemeV1(signer));

async function answer({ method, url }, body) {
  if (method === "GET" && url === "/supported") return [200, facilitator.getSupported()];
  const call = { "/verify": "verify", "/settle": "settle" }[url];
  if (!call) return [404, { error: "not found" }];
  try {
    const { paymentPayload, paymentRequirements } = JSON.parse(body);
    return [200, await facilitator[call](paymentPayload, paymentRequirements)];
  } catch (error) {
    return [500, { error: String(error) }];
  }
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const [status, body] = await answer(request, Buffer.concat(chunks).toString());
  console.error(request.url, status, JSON.stringify(body).slice(0, 500));
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}).listen(Number(PORT), "127.0.0.1");
