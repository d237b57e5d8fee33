// What the page is asked to pay, and how a wallet signs it. Runs first of the page's three scripts, in one scope with them.

const NETWORKS = {
  1: ["Ethereum"],
  137: ["Polygon"],
  143: ["Monad"],
  1329: ["Sei"],
  8453: ["Base"],
  42161: ["Arbitrum"],
  42220: ["Celo"],
  43114: ["Avalanche"],
  1328: ["Sei Testnet", true],
  43113: ["Avalanche Fuji", true],
  80002: ["Polygon Amoy", true],
  84532: ["Base Sepolia", true],
  421614: ["Arbitrum Sepolia", true],
  11142220: ["Celo Sepolia", true],
};

const USDC_DECIMALS = 6;

// Known by chain and address, because anyone can call a token USDC.
const USDC = new Set([
  "1/0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
  "137/0x3c499c542cef5e3811e1192ce70d8cc03d5c3359",
  "143/0x754704bc059f8c67012fed69bc8a327a5aafb603",
  "1328/0x4fcf1784b31630811181f670aea7a7bef803eaed",
  "1329/0xe15fc38f6d8c56af07bbcbe3baf5708a2bf42392",
  "8453/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
  "42161/0xaf88d065e77c8cc2239327c5edb3a432268e5831",
  "42220/0xceba9300f2b948710d2653dd7b07f33a8b32118c",
  "43113/0x5425890298aed601595a70ab815c96711a31bc65",
  "43114/0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e",
  "80002/0x41e94eb019c0762f9bfcf9fb1e58725bfb0e7582",
  "84532/0x036cbd53842c5426634e7929541ec2318f3dcf7e",
  "421614/0x75faf114eafb1bdbe2f0316df893fd58ce46aa4d",
  "11142220/0x01c5c0122039549ad1493b8220cabedd739bc44e",
]);

const ADDRESS = /^0x[0-9a-f]{40}$/i;

/** An error whose words are meant for the person in front of the screen. */
class Problem extends Error {
  constructor(title, message, reason) {
    super(message);
    this.title = title;
    this.reason = reason;
  }
}

/** The offer in a PaymentRequired object, or null when it is none. */
function parseOffer(value) {
  if (!isObject(value) || !Array.isArray(value.accepts)) return null;
  return {
    resource: isObject(value.resource) ? value.resource : {},
    options: value.accepts.map(readOption).filter((option) => option !== null),
    extensions: isObject(value.extensions) ? value.extensions : null,
    error: value.error,
  };
}

/** An entry of `accepts` that a browser wallet can pay, an exact EIP-3009 transfer on an EVM network; null otherwise. */
function readOption(accepted) {
  const { scheme, network, amount, asset, payTo, maxTimeoutSeconds, extra } = accepted ?? {};
  const chain = /^eip155:([1-9]\d{0,14})$/.exec(network);
  const understood = scheme === "exact" && chain !== null
    && (extra?.assetTransferMethod ?? "eip3009") === "eip3009"
    && ["authorization", "upfront"].includes(extra?.paymentFlow ?? "authorization");
  const complete = typeof amount === "string" && /^\d{1,78}$/.test(amount)
    && ADDRESS.test(asset) && ADDRESS.test(payTo) && maxTimeoutSeconds >= 1
    && typeof extra?.name === "string" && typeof extra.version === "string";
  if (!understood || !complete) return null;

  const chainId = Number(chain[1]);
  const [networkName, isTest] = NETWORKS[chainId] ?? [`Chain ${chainId}`];
  const isUsdc = USDC.has(`${chainId}/${asset.toLowerCase()}`);
  return {
    accepted, chainId, networkName, isUsdc,
    isTest: isTest === true,
    price: isUsdc ? inUnits(amount, USDC_DECIMALS) : String(BigInt(amount)),
    unit: isUsdc ? "USDC" : `smallest units of the token “${extra.name}”`,
  };
}

/** A whole number of the smallest unit as decimal text with at least two decimals, without floating point. */
function inUnits(amount, decimals) {
  const digits = String(BigInt(amount)).padStart(decimals + 1, "0");
  const fraction = digits.slice(-decimals).replace(/0+$/, "").padEnd(2, "0");
  return `${digits.slice(0, -decimals)}.${fraction}`;
}

function isObject(value) {
  return typeof value === "object" && value !== null;
}

function fromBase64Json(text) {
  try {
    const bytes = Uint8Array.from(atob(text ?? ""), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

function toBase64Json(value) {
  let binary = "";
  for (const byte of new TextEncoder().encode(JSON.stringify(value))) binary += String.fromCharCode(byte);
  return btoa(binary);
}

// Wallets announce themselves (EIP-6963); an older one is only found as window.ethereum (EIP-1193).
const announced = new Map();

function rememberWallet({ detail }) {
  const { info, provider } = detail ?? {};
  if (typeof info?.uuid !== "string" || typeof info.name !== "string") return;
  if (typeof provider?.request !== "function") return;
  const icon = typeof info.icon === "string" && info.icon.startsWith("data:image/") ? info.icon : null;
  announced.set(info.uuid, { name: info.name.slice(0, 60), icon, provider });
}

function availableWallets() {
  if (announced.size > 0) return [...announced.values()];
  const provider = window.ethereum;
  return typeof provider?.request === "function" ? [{ name: "your browser wallet", icon: null, provider }] : [];
}

/**
 * Asks the wallet for an account, the right network and one signature, and makes the payment out of them.
 * `tell` says what the person has to do now; `still` throws once the person has started over.
 */
async function sign({ provider }, option, { resource, extensions }, tell, still) {
  tell("Choose an account in your wallet.");
  const accounts = await provider.request({ method: "eth_requestAccounts" });
  still();
  const from = Array.isArray(accounts) ? accounts[0] : undefined;
  if (!ADDRESS.test(from)) throw new Problem("No account", "Your wallet did not share an account. Nothing was paid.");
  await switchChain(provider, option, tell, still);

  tell(`Check the payment of ${option.price} ${option.unit} in your wallet, and sign it.`);
  const { accepted } = option;
  const now = Math.floor(Date.now() / 1000);
  const authorization = {
    from,
    to: accepted.payTo,
    value: accepted.amount,
    validAfter: "0",
    validBefore: String(now + Math.floor(accepted.maxTimeoutSeconds)),
    nonce: randomNonce(),
  };
  const params = [from, JSON.stringify(typedData(option, authorization))];
  const signature = await provider.request({ method: "eth_signTypedData_v4", params });
  still();
  if (!/^0x(?:[0-9a-f]{2})+$/i.test(signature)) {
    throw new Problem("No signature", "Your wallet’s answer is no signature. Nothing was paid.");
  }
  const payload = { signature: withRecoveryByte(signature), authorization };
  const payment = { x402Version: 2, resource, accepted, payload };
  if (extensions !== null) payment.extensions = extensions;
  return { header: toBase64Json(payment), validBefore: Number(authorization.validBefore) };
}

function typedData({ accepted, chainId }, message) {
  const { name, version } = accepted.extra;
  return {
    domain: { name, version, chainId, verifyingContract: accepted.asset },
    primaryType: "TransferWithAuthorization",
    types: {
      EIP712Domain: [
        { name: "name", type: "string" },
        { name: "version", type: "string" },
        { name: "chainId", type: "uint256" },
        { name: "verifyingContract", type: "address" },
      ],
      TransferWithAuthorization: [
        { name: "from", type: "address" },
        { name: "to", type: "address" },
        { name: "value", type: "uint256" },
        { name: "validAfter", type: "uint256" },
        { name: "validBefore", type: "uint256" },
        { name: "nonce", type: "bytes32" },
      ],
    },
    message,
  };
}

/** Some hardware wallets end a signature with 0 or 1, where token contracts expect 27 or 28. */
function withRecoveryByte(signature) {
  if (signature.length !== 132 || !/0[01]$/.test(signature)) return signature;
  return signature.slice(0, 130) + (signature.endsWith("0") ? "1b" : "1c");
}

function randomNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function switchChain(provider, { chainId, networkName }, tell, still) {
  const isThere = async () => Number(await provider.request({ method: "eth_chainId" })) === chainId;
  if (!await isThere()) {
    tell(`Allow your wallet to switch to ${networkName}.`);
    const params = [{ chainId: `0x${chainId.toString(16)}` }];
    try {
      await provider.request({ method: "wallet_switchEthereumChain", params });
    } catch (error) {
      if (errorCode(error) !== 4902) throw error;
      const words = `Add the network with the chain ID ${chainId} in your wallet’s settings. Nothing was paid.`;
      throw new Problem(`Your wallet does not know ${networkName}`, words);
    }
    if (!await isThere()) {
      throw new Problem("Wrong network", `Your wallet did not switch to ${networkName}. Nothing was paid.`);
    }
  }
  still();
}

/** Wallets on phones wrap the code that says “unknown chain” into a general one. */
function errorCode(error) {
  return error?.data?.originalError?.code ?? error?.code;
}

function walletProblem(error) {
  if (error instanceof Problem) return error;
  switch (errorCode(error)) {
    case 4001:
      return new Problem("Not signed", "You declined in your wallet. Nothing was paid.");
    case 4100:
      return new Problem("Not allowed", "Your wallet does not let this page use the account. Nothing was paid.");
    case 4200:
    case -32601:
      return new Problem("This wallet cannot pay here", "It cannot sign this kind of payment. Nothing was paid.");
    case -32002:
      return new Problem("Your wallet is waiting", "Answer the question that it has open, then try again. Nothing was paid.");
    default:
      return new Problem("Your wallet reported an error", "Nothing was paid.", String(error?.message ?? error));
  }
}
