// Pays one request with @x402/fetch or @x402/axios; see ../lib/clients.mjs for the contract.
import { readFileSync } from "node:fs";
import axios from "axios";
import { decodePaymentResponseHeader as decodeAxiosReceipt, wrapAxiosWithPaymentFromConfig } from "@x402/axios";
import { ExactEvmScheme } from "@x402/evm";
import { decodePaymentResponseHeader as decodeFetchReceipt, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

const [library, url, file] = process.argv.slice(2);
const method = file ? "POST" : "GET";
const body = file ? readFileSync(file) : undefined;
const signer = privateKeyToAccount(process.env.PAYER_KEY);
const config = { schemes: [{ network: "eip155:*", client: new ExactEvmScheme(signer) }] };

async function payWithFetch() {
  let payment = null;
  const recordingFetch = request => {
    payment = request.headers.get("PAYMENT-SIGNATURE") ?? payment;
    return fetch(request);
  };
  const response = await wrapFetchWithPaymentFromConfig(recordingFetch, config)(url, { method, body });
  const header = response.headers.get("PAYMENT-RESPONSE");
  const receipt = header && decodeFetchReceipt(header);
  return { status: response.status, body: await response.text(), receipt, payment };
}

async function payWithAxios() {
  const client = wrapAxiosWithPaymentFromConfig(axios.create(), config);
  const response = await client.request({ url, method, data: body });
  const header = response.headers["payment-response"];
  return { status: response.status, body: response.data, receipt: header && decodeAxiosReceipt(header) };
}

console.log(JSON.stringify(await { fetch: payWithFetch, axios: payWithAxios }[library]()));
