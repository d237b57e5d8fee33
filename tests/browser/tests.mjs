// What the paywall page promises to the person in front of it.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { HOSTILE, PAY_TO, USDC } from './gateway.mjs';
import { BASE_SEPOLIA, giveWallet } from './wallet.mjs';

export const tests = [];

function test(name, body, options = {}) {
  tests.push({ name, body, options });
}

const payButton = (page) => page.getByRole('button', { name: /^Pay with/ });
const resendButton = (page) => page.getByRole('button', { name: /^Send the same payment again$/ });
const problem = (page) => page.getByRole('alert');
const decode = (header) => JSON.parse(Buffer.from(header, 'base64').toString('utf8'));

/** Answers the first `count` paying requests in the gateway's place, and lets the others through. */
async function answerPayments(page, count, answer) {
  let left = count;
  await page.route('**/*', async (route) => {
    if (route.request().headers()['payment-signature'] === undefined || left === 0) return route.continue();
    left -= 1;
    return answer === 'abort' ? route.abort() : route.fulfill(answer);
  });
}

// Compliance 62.
test('a reader signs once and the article takes the place of the paywall', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  const unpaid = await page.goto(`${origin}/articles/x402?from=home#top`);
  assert.equal(unpaid.status(), 402);
  assert.match(unpaid.headers()['content-type'], /^text\/html/);
  assert.equal(decode(unpaid.headers()['payment-required']).x402Version, 2);
  await page.getByText('0.01 USDC', { exact: true }).waitFor();
  await page.getByText('Base Sepolia', { exact: true }).waitFor();
  await page.getByText(PAY_TO).waitFor();
  await page.getByText('One article, to read once').waitFor();
  assert.equal(seen.requests.length, 1, 'the paywall page is one request');

  const paid = page.waitForResponse((response) => response.request().headers()['payment-signature'] !== undefined);
  await payButton(page).click();
  const receipt = decode((await paid).headers()['payment-response']);
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();

  assert.equal(receipt.success, true);
  assert.equal(receipt.payer.toLowerCase(), wallet.address.toLowerCase());
  assert.equal(page.url(), `${origin}/articles/x402?from=home#top`);
  assert.match(await page.title(), /^x402 in five minutes/);
  await page.waitForFunction(() => getComputedStyle(document.querySelector('footer')).borderTopStyle === 'solid');
  assert.equal(await page.getByText('This page has a price').count(), 0);
  assert.equal(seen.payments.length, 1);
});

test('the wallet is asked for exactly the transfer that is offered', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  await page.goto(`${origin}/articles/http-402`);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'The status code that waited' }).waitFor();

  assert.equal(wallet.signed.length, 1);
  const [{ domain, primaryType, message }] = wallet.signed;
  assert.deepEqual(domain, { name: 'USDC', version: '2', chainId: BASE_SEPOLIA, verifyingContract: USDC });
  assert.equal(primaryType, 'TransferWithAuthorization');
  assert.equal(message.to, PAY_TO);
  assert.equal(message.value, '10000');
  assert.equal(message.validAfter, '0');
  assert.match(message.nonce, /^0x[0-9a-f]{64}$/);
  const seconds = Number(message.validBefore) - Date.now() / 1000;
  assert.ok(seconds > 200 && seconds <= 300, `valid for ${seconds} s`);

  const payment = decode(seen.payments[0]);
  assert.equal(payment.x402Version, 2);
  assert.equal(payment.resource.url, `${origin}/articles/http-402`);
  assert.deepEqual(payment.payload.authorization, message);
});

test('a wallet that announces itself is offered under its name', async ({ page, origin }) => {
  await giveWallet(page, { announcedAs: 'Blue <b>Wallet</b>' });
  await page.goto(`${origin}/articles/x402`);
  await page.getByRole('button', { name: 'Pay with Blue <b>Wallet</b>', exact: true }).click();
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
});

test('the keyboard alone is enough to pay', async ({ page, origin }) => {
  await giveWallet(page);
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).waitFor();
  await page.keyboard.press('Tab');
  assert.match(await page.evaluate(() => document.activeElement.textContent), /^Pay with/);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
});

test('declining in the wallet pays nothing, says so, and leaves the way open', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page, { declines: 'eth_signTypedData_v4' });
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).click();
  await problem(page).getByText('You declined in your wallet. Nothing was paid.').waitFor();
  assert.equal(seen.payments.length, 0);
  assert.equal(seen.requests.length, 1);

  wallet.declines = undefined;
  await payButton(page).click();
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
  assert.equal(seen.payments.length, 1);
});

test('a signature that arrives after starting over is thrown away unsent', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  let release;
  wallet.hold = new Promise((resolve) => { release = resolve; });
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).click();
  await page.getByText('Check the payment of 0.01 USDC in your wallet').waitFor();
  await page.getByRole('button', { name: 'Start over' }).click();
  await payButton(page).waitFor();
  release();
  wallet.hold = null;
  await payButton(page).click();
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
  assert.equal(wallet.signed.length, 2);
  assert.equal(seen.payments.length, 1);
  assert.equal(decode(seen.payments[0]).payload.authorization.nonce, wallet.signed[1].message.nonce);
});

test('a wallet on another network is switched before it signs', async ({ page, origin }) => {
  const wallet = await giveWallet(page, { chainId: 1 });
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
  const order = ['eth_requestAccounts', 'eth_chainId', 'wallet_switchEthereumChain', 'eth_chainId', 'eth_signTypedData_v4'];
  assert.deepEqual(wallet.asked, order);
});

test('a wallet that does not know the network is told which one to add, and signs nothing', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page, { chainId: 1, knows: [1] });
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).click();
  await problem(page).getByText('Your wallet does not know Base Sepolia').waitFor();
  await problem(page).getByText('chain ID 84532').waitFor();
  assert.equal(wallet.signed.length, 0);
  assert.equal(seen.payments.length, 0);
});

test('without a wallet the page names a command that a shell reads as one address', async ({ page, origin }) => {
  await page.goto(`${origin}/articles/x402?a=1&b=$(id)&c='`);
  await page.getByText('No wallet was found in this browser.').waitFor();
  const command = await page.locator('#command').textContent();
  assert.equal(command, `tollgate pay '${origin}/articles/x402?a=1&b=$(id)&c=%27'`);
  assert.ok(await page.locator('#command').isVisible());
  await page.goto(`${origin}/articles/o'clock`);
  assert.equal(await page.locator('#command').textContent(), `tollgate pay '${origin}/articles/o'\\''clock'`);
  assert.equal(await page.getByRole('link', { name: 'What is x402?' }).getAttribute('href'), 'https://www.x402.org/');
});

// Compliance 61.
test('a hostile description and address stay text', async ({ page, origin, seen }) => {
  await giveWallet(page);
  await page.goto(`${origin}/articles/signed-payments?q=</script><script>window.attacked=4</script>&r=<img src=x onerror=window.attacked=5>`);
  await payButton(page).waitFor();
  assert.equal(await page.locator('#description').textContent(), HOSTILE);
  assert.equal(await page.locator('img').count(), 0);
  assert.equal(await page.evaluate(() => window.attacked), undefined);
  assert.equal(seen.requests.length, 1);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'What a signed payment promises' }).waitFor();
  assert.equal(await page.evaluate(() => window.attacked), undefined);
});

test('an unknown outcome leads to the same payment again, also after a reload, and never to a new one', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  await answerPayments(page, 2, { status: 503, headers: { 'Retry-After': '1' }, json: { error: 'settlement_unknown' } });
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).click();
  await problem(page).getByText('Not settled yet').waitFor();
  assert.ok(await page.getByRole('button', { name: 'Send the same payment again in 1 s' }).isDisabled());
  await resendButton(page).click();
  await page.getByRole('button', { name: /again in 1 s/ }).waitFor();
  assert.equal(await payButton(page).count(), 0);

  await page.reload();
  await problem(page).getByText('An earlier payment has no answer yet').waitFor();
  assert.equal(await payButton(page).count(), 0);
  await resendButton(page).click();
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
  assert.equal(seen.payments.length, 3);
  assert.equal(new Set(seen.payments).size, 1);
  assert.equal(wallet.signed.length, 1);

  await page.reload();
  await payButton(page).waitFor();
});

test('a lost connection counts as an unknown outcome', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  await answerPayments(page, 1, 'abort');
  await page.goto(`${origin}/articles/x402`);
  await payButton(page).click();
  await problem(page).getByText('it is not known whether the payment was taken').waitFor();
  assert.equal(await payButton(page).count(), 0);
  await resendButton(page).click();
  await page.getByRole('heading', { name: 'x402 in five minutes' }).waitFor();
  assert.equal(seen.payments[0], seen.payments[1]);
  assert.equal(wallet.signed.length, 1);
});

test('a refused payment is explained in plain words and may be tried anew', async ({ page, origin }) => {
  const wallet = await giveWallet(page);
  await page.goto(`${origin}/slow?ms=0`);
  await page.getByText('1000000.00 USDC', { exact: true }).waitFor();
  await payButton(page).click();
  await problem(page).getByText('The payment was refused').waitFor();
  await problem(page).getByText('The account does not hold enough of this token on this network.').waitFor();
  await payButton(page).click();
  await problem(page).getByText('The payment was refused').waitFor();
  assert.equal(wallet.signed.length, 2);
  assert.notEqual(wallet.signed[0].message.nonce, wallet.signed[1].message.nonce);
});

test('a payment whose answer was lost is not served twice, and the reader is warned before paying anew', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  await page.goto(`${origin}/articles/x402`);
  let isLost = false;
  await page.route('**/*', async (route) => {
    if (isLost || route.request().headers()['payment-signature'] === undefined) return route.continue();
    isLost = true;
    const answer = await route.fetch();
    assert.equal(answer.status(), 200);
    return route.abort();
  });
  await payButton(page).click();
  await resendButton(page).click();
  await problem(page).getByText('This payment was taken before').waitFor();
  await problem(page).getByText('ask the site for help before you pay again').waitFor();
  assert.equal(new Set(seen.payments).size, 1);
  assert.equal(wallet.signed.length, 1);
});

test('an error of the site is not charged, and the same payment can be sent again', async ({ page, origin, seen }) => {
  const wallet = await giveWallet(page);
  await page.goto(`${origin}/broken`);
  await payButton(page).click();
  await problem(page).getByText('The site answered 500 Internal Server Error and did not charge for it.').waitFor();
  await resendButton(page).click();
  await page.waitForFunction(() => document.getElementById('problem').textContent.includes('did not charge'));
  assert.equal(new Set(seen.payments).size, 1);
  assert.equal(wallet.signed.length, 1);
});

test('a redirect within the site is followed with the same payment', async ({ page, origin }) => {
  const wallet = await giveWallet(page);
  await page.goto(`${origin}/redirect`);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'A site behind a toll gate' }).waitFor();
  assert.equal(page.url(), `${origin}/`);
  assert.equal(wallet.signed.length, 1);
});

test('bought data is shown and can be saved', async ({ page, origin }) => {
  await giveWallet(page);
  await page.goto(`${origin}/api/weather?city=Lisbon`);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'Paid' }).waitFor();
  assert.equal(JSON.parse(await page.locator('#result pre').textContent()).city, 'Lisbon');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Save weather' }).click()]);
  assert.equal(JSON.parse(await readFile(await download.path(), 'utf8')).city, 'Lisbon');
});

test('a bought file arrives complete under its own name', async ({ page, origin }) => {
  await giveWallet(page);
  await page.goto(`${origin}/download/large.bin?mib=20`);
  await page.getByText('1.50 USDC', { exact: true }).waitFor();
  await payButton(page).click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Save large.bin' }).click()]);
  assert.equal(download.suggestedFilename(), 'large.bin');
  const bytes = await readFile(await download.path());
  assert.equal(bytes.length, 20 << 20);
  for (const offset of [0, 65_536, bytes.length - 16]) {
    assert.equal(bytes.toString('latin1', offset, offset + 16), `${offset.toString(16).padStart(15, '0')}\n`);
  }
});

test('a bought event stream is shown while it runs', async ({ page, origin }) => {
  await giveWallet(page);
  await page.goto(`${origin}/events?count=3`);
  await payButton(page).click();
  await page.locator('#result pre').getByText('"number":1').waitFor();
  assert.equal(await page.getByRole('heading', { name: 'Paid' }).count(), 0, 'the stream still runs');
  await page.getByRole('heading', { name: 'Paid' }).waitFor();
  assert.match(await page.locator('#result pre').textContent(), /"number":3/);
});

test('a bought picture is shown', async ({ page, origin }) => {
  await giveWallet(page);
  await page.goto(`${origin}/site/picture.svg`);
  await payButton(page).click();
  const picture = page.getByRole('img', { name: 'The image that you bought' });
  await picture.waitFor();
  await page.waitForFunction(() => document.querySelector('#result img').naturalWidth === 40);
});

test('a bought page keeps its own policy: its scripts run, others do not', async ({ page, origin, seen }) => {
  await giveWallet(page);
  await page.goto(`${origin}/site/scripted`);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'Größe' }).waitFor();
  await page.waitForFunction(() => document.documentElement.dataset.external === 'yes');
  const data = await page.evaluate(() => ({ ...document.documentElement.dataset }));
  assert.deepEqual(data, { allowed: 'CSS1Compat', external: 'yes' });
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'de');
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('h1')).color), 'rgb(1, 2, 3)');
  assert.ok(seen.violations.length > 0, 'the script without the nonce was refused');
  assert.ok(seen.violations.every((text) => text.startsWith('Executing inline script violates')), 'and nothing else');
  seen.violations.length = 0;
});

test('a bought page is read in its own character encoding', async ({ page, origin }) => {
  await giveWallet(page);
  await page.goto(`${origin}/site/latin1`);
  await payButton(page).click();
  await page.getByRole('heading', { name: 'Größe' }).waitFor();
});

test('the page fits the narrowest phone and needs no sideways scrolling', async ({ page, origin }) => {
  await page.goto(`${origin}/articles/signed-payments?${'long'.repeat(60)}`);
  await page.getByText('No wallet was found in this browser.').waitFor();
  const { scroll, width } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
  assert.ok(scroll <= width, `${scroll} px in a window of ${width} px`);
}, { viewport: { width: 320, height: 640 } });

test('only a browser that asks for HTML gets the page, each time with another nonce', async ({ origin }) => {
  const ask = async (accept, agent) => {
    const response = await fetch(`${origin}/articles/x402`, { headers: { Accept: accept, 'User-Agent': agent } });
    assert.equal(response.status, 402);
    assert.ok(response.headers.has('payment-required'));
    assert.equal(response.headers.get('cache-control'), 'no-store');
    return response;
  };
  for (const [accept, agent] of [['text/html', 'curl/8'], ['application/json', 'Mozilla/5.0'], ['*/*', 'curl/8']]) {
    const response = await ask(accept, agent);
    assert.match(response.headers.get('content-type'), /^application\/json/, `${accept} from ${agent}`);
    assert.equal(response.headers.get('content-security-policy'), null);
  }
  const nonces = new Set();
  for (let round = 0; round < 3; round += 1) {
    const response = await ask('text/html,*/*', 'Mozilla/5.0 (X11)');
    const [, nonce] = /script-src 'nonce-([\w-]{22})'/.exec(response.headers.get('content-security-policy'));
    assert.ok((await response.text()).includes(`<script nonce="${nonce}">`));
    nonces.add(nonce);
  }
  assert.equal(nonces.size, 3);
});
