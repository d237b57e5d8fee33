// The reference server as a target: @x402/express with routes of its own or, with UPSTREAM, in front of another site.
import { readFileSync } from "node:fs";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import express from "express";
import { createProxyMiddleware } from "http-proxy-middleware";

const { PORT, FACILITATOR, PAY_TO, PRICED, FREE, CONTENT, TOKEN, UPSTREAM, ALSO_PRICED, UPFRONT } = process.env;
const facilitator = new HTTPFacilitatorClient({ url: FACILITATOR });
const server = new x402ResourceServer(facilitator).register("eip155:84532", new ExactEvmScheme());
const accepts = { scheme: "exact", price: "$0.01", network: "eip155:84532", payTo: PAY_TO };
const app = express();

if (UPFRONT) {
  // Handlers as their authors write them; what they answer is fetched, so that the suite sees when they work.
  const pages = [PRICED, ...ALSO_PRICED.split(","), UPFRONT];
  const entry = { accepts, description: "for sale", mimeType: "text/plain" };
  const routes = Object.fromEntries(pages.map(page => [page, entry]));
  routes[UPFRONT] = { ...entry, accepts: { ...accepts, extra: { paymentFlow: "upfront" } } };
  app.use(paymentMiddleware(routes, server));
  app.all([...pages, FREE], async (request, response) => {
    const headers = new Headers();
    for (const name of ["x-try", "range", "if-none-match", "if-modified-since"])
      if (request.get(name)) headers.set(name, request.get(name));
    const answer = await fetch(UPSTREAM + request.url, { method: request.method, headers });
    for (const name of ["content-type", "etag", "last-modified", "set-cookie", "x-summary", "accept-ranges", "content-range"])
      if (answer.headers.get(name)) response.set(name, answer.headers.get(name));
    response.status(answer.status).send(Buffer.from(await answer.arrayBuffer()));
  });
} else if (UPSTREAM) {
  app.use(paymentMiddleware({ [PRICED]: { accepts, description: "for sale", mimeType: "text/plain" } }, server));
  app.use(createProxyMiddleware({ target: UPSTREAM }));
} else {
  const content = readFileSync(CONTENT);
  app.use(paymentMiddleware({ [`GET ${PRICED}`]: { accepts, description: "for sale", mimeType: "text/plain" } }, server));
  app.get(PRICED, (request, response) => {
    response.set({ "X-Summary": TOKEN, "Content-Type": "text/plain" }).send(content);
  });
  app.get(FREE, (request, response) => response.type("text/plain").send("A page that costs nothing.\n"));
}
app.listen(Number(PORT), "127.0.0.1");
