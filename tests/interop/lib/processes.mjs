// Child processes with deadlines. Everything started here is ended by its pid, however the suite ends.
import { spawn } from "node:child_process";

const STOP_DEADLINE_MS = 15_000;
const OUTPUT_LIMIT = 256 * 1024;
const running = new Set();

process.on("exit", () => running.forEach(started => started.child.kill("SIGKILL")));

/** Starts a long-running program; `stop` it when done. */
export function start(name, command, { env = {} } = {}) {
  const child = spawn(command[0], command.slice(1), {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const started = { name, child, stdout: "", stderr: "", exit: null, exited: null };
  const keep = stream => chunk => (started[stream] = (started[stream] + chunk).slice(-OUTPUT_LIMIT));
  child.stdout.setEncoding("utf8").on("data", keep("stdout"));
  child.stderr.setEncoding("utf8").on("data", keep("stderr"));
  running.add(started);
  started.exited = new Promise(resolve => {
    const ended = reason => {
      running.delete(started);
      started.exit ??= reason;
      resolve(started.exit);
    };
    child.on("error", error => ended(error.message));
    child.on("close", (code, signal) => ended(signal ?? code));
  });
  return started;
}

/** Asks a program to end; fails when it had to be killed. */
export async function stop(started) {
  if (started.exit !== null) return;
  started.child.kill("SIGTERM");
  if (await within(STOP_DEADLINE_MS, started.exited)) return;
  started.child.kill("SIGKILL");
  await started.exited;
  throw new Error(`${started.name} did not end ${STOP_DEADLINE_MS} ms after SIGTERM`);
}

/** Runs a program to its end and returns what it printed; fails on a non-zero exit or past the deadline. */
export async function run(name, command, { env, deadlineMs }) {
  const started = start(name, command, { env });
  if (!(await within(deadlineMs, started.exited))) {
    started.child.kill("SIGKILL");
    await started.exited;
    throw new Error(`${name} did not finish within ${deadlineMs} ms: ${tail(started)}`);
  }
  if (started.exit !== 0) throw new Error(`${name} ended with ${started.exit}: ${tail(started)}`);
  return started.stdout;
}

/** Waits until `probe` returns a value; fails when the program ends before or at the deadline. */
export async function ready(started, deadlineMs, probe) {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (started.exit !== null) throw new Error(`${started.name} ended with ${started.exit}: ${tail(started)}`);
    if (Date.now() > deadline) throw new Error(`${started.name} was not ready after ${deadlineMs} ms: ${tail(started)}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** The last lines of a program's output, in one line. */
export function tail(started) {
  const lines = `${started.stdout}\n${started.stderr}`.split("\n").filter(line => line.trim());
  return lines.slice(-8).join(" | ") || "(no output)";
}

async function within(deadlineMs, promise) {
  let timer;
  const late = new Promise(resolve => (timer = setTimeout(resolve, deadlineMs, false)));
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
