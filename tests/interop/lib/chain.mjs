// A local chain that the facilitator takes for base-sepolia, with our token where USDC lives there.
import { readFileSync } from "node:fs";
import solc from "solc";
import { createTestClient, http, publicActions, walletActions } from "viem";
import { baseSepolia } from "viem/chains";
import { ready, start, stop } from "./processes.mjs";

const ANVIL = new URL("../node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil", import.meta.url).pathname;
const TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11";

/** Starts anvil with a block every second, as a chain has, and places the contracts. */
export async function startChain() {
  const anvil = start("anvil", [ANVIL, "--host", "127.0.0.1", "--port", "0", "--chain-id", "84532", "--block-time", "1"]);
  const port = await ready(anvil, 30_000, () => anvil.stdout.match(/Listening on 127\.0\.0\.1:(\d+)/)?.[1]);
  const rpcUrl = `http://127.0.0.1:${port}`;
  const client = createTestClient({ mode: "anvil", chain: baseSepolia, transport: http(rpcUrl), pollingInterval: 100 })
    .extend(publicActions)
    .extend(walletActions);
  const { TestUsdc, Multicall } = compile();
  await client.setCode({ address: TOKEN, bytecode: TestUsdc.bytecode });
  await client.setCode({ address: MULTICALL3, bytecode: Multicall.bytecode });
  const [minter] = await client.getAddresses();
  const token = { address: TOKEN, abi: TestUsdc.abi };

  return {
    rpcUrl,
    balanceOf: owner => client.readContract({ ...token, functionName: "balanceOf", args: [owner] }),
    giveGas: address => client.setBalance({ address, value: 10n ** 18n }),
    mint: async (owner, value) => {
      const hash = await client.writeContract({ ...token, account: minter, functionName: "mint", args: [owner, value] });
      await client.waitForTransactionReceipt({ hash, timeout: 20_000 });
    },
    transactionsOf: address => client.getTransactionCount({ address, blockTag: "pending" }),
    /** The Transfer events between two addresses since the chain began. */
    transfers: (from, to) =>
      client.getContractEvents({ ...token, eventName: "Transfer", args: { from, to }, fromBlock: 0n }),
    stop: () => stop(anvil),
  };
}

function compile() {
  const content = readFileSync(new URL("../contracts.sol", import.meta.url), "utf8");
  const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: { "contracts.sol": { content } },
    settings: { outputSelection: { "*": { "*": ["abi", "evm.deployedBytecode.object"] } } },
  })));
  if (output.errors?.length) throw new Error(output.errors.map(error => error.formattedMessage).join("\n"));
  return Object.fromEntries(Object.entries(output.contracts["contracts.sol"]).map(([name, contract]) =>
    [name, { abi: contract.abi, bytecode: `0x${contract.evm.deployedBytecode.object}` }]));
}
