// What both parts ask of one paid request.
import { holds, same } from "../lib/report.mjs";

const PAYMENT_HEADERS = ["payment-signature", "x-payment", "payment-required", "payment-response", "x-payment-response"];
const NETWORK = { 1: "base-sepolia", 2: "eip155:84532" };

/** The client was served by the origin, once, and holds a receipt of its own generation. */
export function assertDelivered({ client, payer, answer, origin, method, path, body }) {
  same(answer.status, 200, "status of the paid request");
  same(answer.body, origin.answerTo(method, path, body), "body of the paid request");
  same(answer.receipt?.success, true, `success in the receipt ${JSON.stringify(answer.receipt)}`);
  same(answer.receipt.network, NETWORK[client.generation], "network in the receipt");
  same(answer.receipt.payer?.toLowerCase(), payer.address.toLowerCase(), "payer in the receipt");
  holds(/^0x[0-9a-f]{64}$/i.test(answer.receipt.transaction), `no transaction hash in the receipt: ${answer.receipt.transaction}`);
  assertSeenOnce({ origin, method, path, body });
}

/** The origin saw one request, whole and without a trace of the payment. */
export function assertSeenOnce({ origin, method, path, body = Buffer.alloc(0) }) {
  const requests = origin.requestsFor(path);
  same(requests.length, 1, "requests the origin saw");
  same(requests[0].method, method, "method the origin saw");
  holds(requests[0].body.equals(body), `the origin got ${requests[0].body.length} of ${body.length} body bytes`);
  const leaked = PAYMENT_HEADERS.filter(name => name in requests[0].headers);
  same(leaked, [], "payment headers the origin saw");
}
