// The interop suite: published x402 clients against a running gateway. Started by run.sh.
// Compliance 8: each of them pays against the same 402.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fail, finish, group } from "./lib/report.mjs";
import { localChain } from "./parts/local-chain.mjs";
import { sandbox } from "./parts/sandbox.mjs";

const DEADLINE_MS = 8 * 60_000;
const folder = mkdtempSync(join(tmpdir(), "tollgate-interop-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const giveUp = reason => {
  fail("the rest of the suite", `did not run: ${reason}`);
  finish();
  process.exit(1);
};
setTimeout(giveUp, DEADLINE_MS, `${DEADLINE_MS} ms are over`).unref();
for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) process.on(signal, giveUp);
process.on("uncaughtException", error => giveUp(error.stack));

const options = { binary: process.argv[2], folder };
await group("sandbox", sandbox(options));
await group("local chain", localChain(options));
process.exit(finish() ? 0 : 1);
