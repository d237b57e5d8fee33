#!/usr/bin/env bash
# Checks what the gateway is built of (deny.toml): licences, sources, versions that are there twice, and
# known vulnerabilities. Installs cargo-deny below target/ when it is not there: two minutes on two cores.
# The list of vulnerabilities is fetched from GitHub; where there is no way to it, that part is not done,
# and said so.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

version=0.20.2
database=https://github.com/rustsec/advisory-db
deny="$CARGO_TARGET_DIR/tools/bin/cargo-deny"
unchecked="$CARGO_TARGET_DIR/tools/advisories-not-checked"

if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
    # In a folder of its own: the gateway's target would be rebuilt for other flags.
    CARGO_TARGET_DIR="$CARGO_TARGET_DIR/tools/build" cargo install --quiet --locked \
        --root "$CARGO_TARGET_DIR/tools" --version "$version" cargo-deny
    rm -rf "$CARGO_TARGET_DIR/tools/build"
fi

"$deny" --locked --workspace check bans licenses sources
rm -f "$unchecked"
if curl --silent --show-error --fail --location --max-time 30 --output /dev/null \
    "$database/info/refs?service=git-upload-pack"; then
    "$deny" --locked --workspace check advisories
else
    touch "$unchecked"
    echo "NOT CHECKED: known vulnerabilities. Their list at $database cannot be reached from here." >&2
fi
