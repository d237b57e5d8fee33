#!/usr/bin/env bash
# Installs a local chain for tests, pinned by the lock file beside this script, and compiles the contracts they need.
#
#   tests/tools/anvil.sh FOLDER
#
# Afterwards FOLDER/anvil is the program and FOLDER/contracts.json the contracts' code by name. Does nothing when both
# are there and up to date; of several runs at a time one installs and the others wait. Needs Linux on x86-64, Node 20
# and npm.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$1"
folder="$(cd "$1" && pwd)"
sources=("$here/../interop/contracts.sol" "$here/permit2.sol" "$here/wallets.sol")

exec 9>"$folder/.lock"
flock 9

wanted="$(cat "$here/package-lock.json" "$here/compile.mjs" "${sources[@]}" "${BASH_SOURCE[0]}" | sha256sum)"
[ "$(cat "$folder/.installed" 2>/dev/null)" = "$wanted" ] && exit 0

for program in node npm; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 1; }
done
rm -f "$folder/.installed"
cp "$here/package.json" "$here/package-lock.json" "$folder/"
# Neither package needs an install script. The lock is not for npm's children to keep.
(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) 9>&- >&2
node "$here/compile.mjs" "$folder/node_modules/solc" "$folder/contracts.json" "${sources[@]}" 9>&-
ln -sfn node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil "$folder/anvil"
"$folder/anvil" --version 9>&- >&2
echo "$wanted" >"$folder/.installed"
