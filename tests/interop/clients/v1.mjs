// Pays one request with x402-fetch or x402-axios; see ../lib/clients.mjs for the contract.
import { readFileSync } from "node:fs";
import axios from "axios";
import { decodeXPaymentResponse as decodeAxiosReceipt, withPaymentInterceptor } from "x402-axios";
import { createSigner, decodeXPaymentResponse as decodeFetchReceipt, wrapFetchWithPayment } from "x402-fetch";

const [library, url, file] = process.argv.slice(2);
const method = file ? "POST" : "GET";
const body = file ? readFileSync(file) : undefined;
const signer = await createSigner("base-sepolia", process.env.PAYER_KEY);

async function payWithFetch() {
  let payment = null;
  const recordingFetch = (input, init) => {
    payment = init.headers?.["X-PAYMENT"] ?? payment;
    return fetch(input, init);
  };
  const response = await wrapFetchWithPayment(recordingFetch, signer)(url, { method, body });
  const header = response.headers.get("X-PAYMENT-RESPONSE");
  const receipt = header && decodeFetchReceipt(header);
  return { status: response.status, body: await response.text(), receipt, payment };
}

async function payWithAxios() {
  const client = withPaymentInterceptor(axios.create(), signer);
  const response = await client.request({ url, method, data: body });
  const header = response.headers["x-payment-response"];
  return { status: response.status, body: response.data, receipt: header && decodeAxiosReceipt(header) };
}

console.log(JSON.stringify(await { fetch: payWithFetch, axios: payWithAxios }[library]()));
