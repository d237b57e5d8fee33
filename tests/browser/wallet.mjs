// A wallet for the tests: window.ethereum in the page, the key and the decisions in Node.

import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';

export const BASE_SEPOLIA = 84532;

/**
 * Gives the page a wallet, before any of its scripts run.
 *
 * `chainId` is the network it starts on, `knows` the networks it can switch to, `declines` a method it refuses,
 * `announcedAs` a name under which it announces itself by EIP-6963 instead of being found as window.ethereum.
 * The result records what the page asked for.
 */
export async function giveWallet(page, { chainId = BASE_SEPOLIA, knows = [BASE_SEPOLIA], declines, announcedAs } = {}) {
  const account = privateKeyToAccount(generatePrivateKey());
  const wallet = { address: account.address, asked: [], signed: [], declines, hold: null };
  let current = chainId;

  const methods = {
    eth_requestAccounts: () => [account.address.toLowerCase()],
    eth_chainId: () => `0x${current.toString(16)}`,
    wallet_switchEthereumChain: ([{ chainId: wanted }]) => {
      if (!knows.includes(Number(wanted))) return refusal(4902, 'Unrecognized chain ID');
      current = Number(wanted);
      return null;
    },
    eth_signTypedData_v4: async ([from, text]) => {
      if (wallet.hold !== null) await wallet.hold;
      const { EIP712Domain, ...types } = JSON.parse(text).types;
      const { domain, primaryType, message } = JSON.parse(text);
      if (from.toLowerCase() !== account.address.toLowerCase()) return refusal(4100, 'Unknown account');
      if (domain.chainId !== current || EIP712Domain.length !== 4) return refusal(-32603, 'Another chain is active');
      wallet.signed.push({ domain, primaryType, message });
      return account.signTypedData({ domain, types, primaryType, message });
    },
  };

  await page.exposeFunction('testWalletRequest', async ({ method, params }) => {
    wallet.asked.push(method);
    if (method === wallet.declines) return refusal(4001, 'User rejected the request.');
    if (methods[method] === undefined) return refusal(4200, 'Unsupported method');
    const answer = await methods[method](params);
    return answer?.refused ? answer : { result: answer };
  });
  await page.addInitScript(installProvider, announcedAs ?? null);
  return wallet;
}

function refusal(code, message) {
  return { refused: { code, message } };
}

/** Runs in the page. */
function installProvider(announcedAs) {
  const provider = {
    async request(call) {
      const { result, refused } = await window.testWalletRequest(call);
      if (refused) throw Object.assign(new Error(refused.message), { code: refused.code });
      return result;
    },
  };
  if (announcedAs === null) {
    window.ethereum = provider;
    return;
  }
  const icon = 'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"/>';
  const info = { uuid: `id of ${announcedAs}`, name: announcedAs, icon, rdns: 'test.wallet' };
  const announce = () => window.dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail: Object.freeze({ info, provider }) }));
  window.addEventListener('eip6963:requestProvider', announce);
  announce();
}
