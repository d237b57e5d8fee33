// The site behind the gateway: knows nothing of payments and remembers every request.
import { createHash, randomUUID } from "node:crypto";
import { createServer } from "node:http";

/** Starts an origin. Its answers carry a secret, so a client that shows it was really served. */
export async function startOrigin() {
  const secret = randomUUID();
  const requests = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    requests.push({ method: request.method, path: request.url, headers: request.headers, body });
    const status = request.url.endsWith("/broken") ? 500 : 200;
    response.writeHead(status, { "content-type": "text/plain" }).end(answerTo(request.method, request.url, body));
  });
  const answerTo = (method, path, body = Buffer.alloc(0)) =>
    `${secret} ${method} ${path} ${createHash("sha256").update(body).digest("hex")}`;
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    secret,
    answerTo,
    requestsFor: path => requests.filter(request => request.path === path),
    stop: () => {
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  };
}
