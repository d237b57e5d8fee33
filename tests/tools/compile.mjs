// Compiles the test contracts: node compile.mjs SOLC-PACKAGE OUTPUT SOURCE…
// The output is { name: "0x…" }, the code each contract has once it is deployed.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";

const [solcPackage, output, ...files] = process.argv.slice(2);
const solc = createRequire(import.meta.url)(solcPackage);
const sources = Object.fromEntries(files.map(file => [basename(file), { content: readFileSync(file, "utf8") }]));
const settings = {
  optimizer: { enabled: true },
  outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
};
const result = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
if (result.errors?.length) throw new Error(result.errors.map(error => error.formattedMessage).join("\n"));
const contracts = Object.values(result.contracts).flatMap(Object.entries);
const code = Object.fromEntries(contracts.map(([name, contract]) => [name, `0x${contract.evm.deployedBytecode.object}`]));
writeFileSync(output, JSON.stringify(code));
