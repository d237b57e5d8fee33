// Sends a signed payment, finds out what became of it, and shows what was bought.

const pageUrl = location.origin + location.pathname + location.search;
// Also for the scripts of a paid HTML page, which inherits this page's policy.
const pageNonce = document.currentScript.nonce;

const PREVIEW_BYTES_MAX = 512 * 1024;
const RETRY_SECONDS = 5;
const RETRY_SECONDS_MAX = 600;

const USED = /nonce|duplicate|already|in.use/i;

// What a refusal means for the person in front of the screen; codes differ between facilitators. The first match wins.
const REASONS = [
  [/insufficient/i, "The account does not hold enough of this token on this network."],
  [/valid_before|expired/i, "The payment came too late. If this happens again, check the clock of this device."],
  [/valid_after/i, "The payment is not valid yet. Check the clock of this device."],
  [USED, "This payment was used before. A payment buys the page once."],
  [/matching|requirements|value|amount|recipient/i, "The offer has changed meanwhile. Above is the current one."],
  [/network|chain/i, "The payment was signed for another network."],
  [/signature|domain|token_name|token_version/i, "The signature was not accepted. The wallet may have used another account."],
  [/simulation|transaction|settle|transfer/i, "The network did not carry out the transfer."],
];

/**
 * Sends a signed payment. It is kept until its fate is known, so that a lost answer never leads to a second payment.
 */
async function send(payment) {
  enter("busy");
  say("Paying…");
  payment.timesSent = (payment.timesSent ?? 0) + 1;
  remember(payment);
  const headers = { "PAYMENT-SIGNATURE": payment.header, Accept: "text/html,application/xhtml+xml,*/*;q=0.8" };
  const request = (redirect) => fetch(pageUrl, { headers, cache: "no-store", credentials: "same-origin", redirect });
  let response = null;
  try {
    response = await request("manual");
    // A redirect is no delivery, so the payment is still good. The policy keeps it on this site when it is followed.
    if (response.type === "opaqueredirect") response = await request("follow");
  } catch {
    const words = response === null
      ? "The connection broke before an answer arrived, so it is not known whether the payment was taken."
      : "The site sends the visitors of this page on to another site. The payment was not sent there.";
    offerSameAgain(payment, new Problem("No answer", words), 0);
    return;
  }
  await judge(response, payment);
}

async function judge(response, payment) {
  const receipt = fromBase64Json(response.headers.get("PAYMENT-RESPONSE"));
  const answered = `The site answered ${response.status} ${response.statusText}`.trim();
  if (response.ok) {
    forget();
    await deliver(response, receipt);
  } else if (receipt?.success === true) {
    forget();
    const words = `${answered}, although the payment was taken. Ask the site for help and show it the transaction.`;
    stop(new Problem("Paid, but not delivered", words, receipt.transaction));
  } else if (response.status === 503 || receipt?.errorReason === "settlement_pending") {
    const words = "The site cannot tell yet what becomes of the payment. Send the same one again; it cannot be charged twice.";
    const problem = new Problem("Not settled yet", words, await errorIn(response));
    offerSameAgain(payment, problem, secondsToWait(response.headers.get("Retry-After")));
  } else if (response.status === 402) {
    forget();
    await refused(response, receipt, payment);
  } else {
    const words = `${answered} and did not charge for it. You can send the same payment again.`;
    offerSameAgain(payment, new Problem("Nothing was delivered", words, await errorIn(response)), 0);
  }
}

async function refused(response, receipt, { timesSent }) {
  const current = parseOffer(fromBase64Json(response.headers.get("PAYMENT-REQUIRED")));
  const reasons = [receipt?.errorReason, current?.error, await errorIn(response)];
  const reason = reasons.find((text) => typeof text === "string" && text !== "");
  const known = REASONS.find(([pattern]) => pattern.test(reason ?? ""));
  if (current !== null) renderOffer(current);
  enter("choosing");
  if (timesSent > 1 && USED.test(reason ?? "")) {
    const words = "The site has used this payment, perhaps for an answer that never reached you. "
      + "Look in your wallet, and ask the site for help before you pay again.";
    report(new Problem("This payment was taken before", words, reason));
  } else {
    report(new Problem("The payment was refused", known?.[1] ?? "The site did not accept the payment.", reason));
  }
}

async function errorIn(response) {
  try {
    const body = await response.json();
    return typeof body?.error === "string" ? body.error : undefined;
  } catch {
    return undefined;
  }
}

/** Retry-After is a number of seconds or a date (RFC 9110, section 10.2.3). */
function secondsToWait(retryAfter) {
  const isNumber = /^\d+$/.test(retryAfter ?? "");
  const seconds = isNumber ? Number(retryAfter) : Math.ceil((Date.parse(retryAfter) - Date.now()) / 1000);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), RETRY_SECONDS_MAX) : RETRY_SECONDS;
}

// The tab's own storage, because a reload must not lose a payment whose fate is unknown. Where a browser
// refuses storage, the payment lives as long as the page.
const storageKey = `x402 payment without an answer: ${pageUrl}`;

function remember(payment) {
  try {
    sessionStorage.setItem(storageKey, JSON.stringify(payment));
  } catch {
    console.info("x402: this browser stores nothing for the page");
  }
}

function recall() {
  try {
    return JSON.parse(sessionStorage.getItem(storageKey));
  } catch {
    return null;
  }
}

function forget() {
  try {
    sessionStorage.removeItem(storageKey);
  } catch {
    console.info("x402: this browser stores nothing for the page");
  }
}

async function deliver(response, receipt) {
  const contentType = response.headers.get("Content-Type") ?? "";
  const live = contentType.startsWith("text/event-stream") ? addResult("pre", { tabIndex: 0 }) : null;
  let blob;
  try {
    say("Paid. Receiving the answer…");
    blob = await receive(response, contentType, live);
  } catch {
    const words = "The payment was taken, but the connection broke while the answer was arriving. "
      + "Ask the site for help and show it the transaction.";
    stop(new Problem("Paid, but cut short", words, receipt?.transaction));
    return;
  }
  if (/^text\/html\b/i.test(contentType)) {
    console.info("x402: paid", receipt);
    replaceDocument(await textOf(blob, contentType), response);
  } else {
    await showFile(blob, response, receipt, live !== null);
  }
}

/** Reads the body into a Blob, which the browser may keep on disk, and shows how far it has come. */
async function receive(response, type, live) {
  const total = Number(response.headers.get("Content-Length") ?? 0);
  const mebibytes = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  const blobs = [];
  let chunks = [];
  let length = 0;
  for (let part = await reader?.read(); part?.done === false; part = await reader.read()) {
    length += part.value.length;
    chunks.push(part.value);
    if (chunks.length === 256) {
      blobs.push(new Blob(chunks));
      chunks = [];
    }
    if (live !== null && length <= PREVIEW_BYTES_MAX) live.append(decoder.decode(part.value, { stream: true }));
    if (length > 1024 * 1024) sayProgress(`${mebibytes(length)}${total > length ? ` of ${mebibytes(total)}` : ""}`);
  }
  sayProgress("");
  return new Blob([...blobs, ...chunks], { type });
}

async function textOf(blob, contentType) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const start = new TextDecoder("latin1").decode(bytes.subarray(0, 1024));
  const charset = /charset\s*=\s*["']?([\w.:-]+)/i;
  const label = charset.exec(contentType)?.[1] ?? charset.exec(/<meta[^>]+charset[^>]+/i.exec(start)?.[0])?.[1];
  try {
    return new TextDecoder(label ?? "utf-8").decode(bytes);
  } catch {
    return new TextDecoder().decode(bytes);
  }
}

/**
 * Puts the paid page in this page's place, under the same address. The new document keeps this page's policy; the
 * site's own policy, if it sent one, is added to it, and the scripts that the site allows get this page's nonce.
 */
function replaceDocument(html, response) {
  const policy = response.headers.get("Content-Security-Policy") ?? "";
  const nonces = [...policy.matchAll(/'nonce-([^']+)'/g)].map((match) => match[1]);
  const isAllowed = (tag) => nonces.length === 0 || nonces.some((nonce) => tag.includes(nonce));
  const page = html.replace(/<script(?=[\s/>])[^>]*/gi, (tag) => {
    // A script with two nonces counts as one without any.
    const attributes = tag.slice("<script".length).replace(/\snonce\s*=\s*(?:"[^"]*"|'[^']*'|[^\s>]+)/gi, "");
    return isAllowed(tag) ? `<script nonce=${pageNonce} ${attributes}` : tag;
  });
  const metas = policy.split(",").filter((part) => part.trim() !== "").map((part) => {
    const extended = part.replace(/'nonce-[^']+'/g, (source) => `${source} 'nonce-${pageNonce}'`);
    const attribute = extended.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
    return `<meta http-equiv="Content-Security-Policy" content="${attribute}">`;
  });
  // The escaped exclamation mark keeps the sequence out of this script that HTML takes for the start of a comment.
  const doctype = /^(?:\uFEFF|\s|<\!--[^]*?-->)*<!doctype[^>]*>/i.exec(page)?.[0] ?? "";
  if (response.redirected) history.replaceState(null, "", response.url);
  document.open();
  document.write(doctype + metas.join("") + page.slice(doctype.length));
  document.close();
}

/** Shows a result that is no HTML page: a preview where that makes sense, and a way to save it. */
async function showFile(blob, response, receipt, isShown) {
  enter("done");
  const address = URL.createObjectURL(blob);
  const type = blob.type.split(";")[0].trim();
  const isText = /^text\/|[/+](json|xml)$|javascript/.test(type) && blob.size <= PREVIEW_BYTES_MAX;
  if (type.startsWith("image/")) {
    addResult("img", { src: address, alt: "The image that you bought" });
  } else if (isText && blob.size > 0 && !isShown) {
    const text = await textOf(blob, blob.type);
    addResult("pre", { tabIndex: 0 }, /json$/.test(type) ? indented(text) : text);
  }
  if (blob.size > 0) {
    const name = fileName(response);
    addResult("a", { href: address, download: name, className: "button" }, `Save ${name}`);
  } else {
    addResult("p", {}, "The site’s answer is empty.");
  }
  if (typeof receipt?.transaction === "string" && receipt.transaction !== "") {
    addResult("p", { className: "reason" }, `Transaction: ${receipt.transaction}`);
  }
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function fileName(response) {
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const given = /filename="([^"\\/]+)"/i.exec(disposition)?.[1];
  const last = location.pathname.split("/").findLast((segment) => segment !== "") ?? "page";
  try {
    return given ?? decodeURIComponent(last);
  } catch {
    return last;
  }
}
