// Runs the tests one after the other, each in a browser profile of its own, and counts.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

import { startGateway } from './gateway.mjs';
import { tests } from './tests.mjs';

const TEST_MS_MAX = 60_000;
const FAILURE_CHARACTERS_MAX = 3000;

const tollgate = process.argv[2];
if (tollgate === undefined) {
  console.error('usage: node run.mjs path-to-tollgate');
  process.exit(2);
}

/** What the page did that no test may allow silently: errors, policy violations, and requests to elsewhere. */
function watch(page, origin) {
  const seen = { violations: [], errors: [], elsewhere: [], payments: [], requests: [] };
  page.on('console', (message) => {
    if (/Content.Security.Policy|violates the following/i.test(message.text())) seen.violations.push(message.text());
  });
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('dialog', (dialog) => { seen.errors.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => {
    const url = request.url();
    if (/^(data|blob):/.test(url)) return;
    seen.requests.push(url);
    if (!url.startsWith(`${origin}/`)) seen.elsewhere.push(url);
    const payment = request.headers()['payment-signature'];
    if (payment !== undefined) seen.payments.push(payment);
  });
  return seen;
}

async function runTest({ body, options }, browser, origin) {
  const context = await browser.newContext(options);
  let timer;
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    const seen = watch(page, origin);
    const tooLong = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not finished after ${TEST_MS_MAX} ms`)), TEST_MS_MAX);
    });
    await Promise.race([body({ page, origin, seen }), tooLong]);
    for (const kind of ['violations', 'errors', 'elsewhere']) {
      if (seen[kind].length > 0) throw new Error(`${kind}: ${seen[kind].join('\n')}`);
    }
  } finally {
    clearTimeout(timer);
    await context.close();
  }
}

async function main() {
  const gateway = await startGateway(tollgate);
  const profile = await mkdtemp(join(tmpdir(), 'tollgate-chromium-'));
  let passed = 0;
  let failed = 0;
  try {
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [
        '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync',
      ],
      env: { ...process.env, HOME: profile },
    });
    try {
      for (const test of tests) {
        try {
          await runTest(test, browser, gateway.origin);
          passed += 1;
          console.log(`ok      ${test.name}`);
        } catch (error) {
          failed += 1;
          const words = String(error.stack ?? error).slice(0, FAILURE_CHARACTERS_MAX);
          console.log(`FAILED  ${test.name}\n${words.replace(/^/gm, '        ')}`);
        }
      }
    } finally {
      await browser.close();
    }
  } finally {
    await gateway.stop();
    await rm(profile, { recursive: true, force: true });
  }
  if (failed > 0) console.log(`\nWhat the gateway said:\n${gateway.output()}`);
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 && passed === tests.length ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
});
