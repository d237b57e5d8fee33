// One line per case, and a count that leaves nothing out: a case that could not run has failed.
import { isDeepStrictEqual } from "node:util";

let passed = 0;
let failed = 0;

/** Sets a group up, runs its cases one after the other, takes it down. */
export async function group(title, { setUp, cases, tearDown }) {
  let context = {};
  let broken = null;
  try {
    await setUp(context);
  } catch (error) {
    broken = new Error(`did not run, the set-up failed: ${error.message}`);
  }
  for (const [name, body] of cases) {
    await one(`${title}: ${name}`, () => (broken ? Promise.reject(broken) : body(context)));
  }
  await one(`${title}: what was started ends when asked`, () => tearDown(context));
}

/** Counts something that went wrong outside a case. */
export function fail(name, reason) {
  failed += 1;
  console.log(`FAILED  ${name} … ${reason.replaceAll("\n", " | ")}`);
}

/** Prints the closing line; true when every case passed. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0;
}

/** Fails unless `actual` equals `expected`; `what` names the promise. */
export function same(actual, expected, what) {
  if (isDeepStrictEqual(actual, expected)) return;
  throw new Error(`${what}: expected ${show(expected)}, got ${show(actual)}`);
}

/** Fails unless `condition` holds; `what` names the promise. */
export function holds(condition, what) {
  if (!condition) throw new Error(what);
}

async function one(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    fail(name, error.message);
  }
}

function show(value) {
  const text = JSON.stringify(value, (_, member) => (typeof member === "bigint" ? `${member}` : member)) ?? String(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
