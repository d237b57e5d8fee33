#!/usr/bin/env bash
# The one test command: installs what is missing on a Debian machine with Rust, Node and Python,
# then checks format, lints and dependencies, runs every Rust test, fuzzes for a while (tests/fuzz),
# cuts the power of the ledger's disk (tests/power), pays through the gateway with the published x402
# clients (tests/interop) and with a wallet in a browser (tests/browser), attacks it (tests/adversarial),
# and attacks copies of it without one of its defences, which must be noticed.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
# Where Debian keeps servers; not everybody looks there.
PATH=$PATH:/usr/sbin:/sbin

step() { printf '\n== %s\n' "$*"; }

install_packages() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null 2>&1 || missing+=("$2")
        shift 2
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    step "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    # Servers are started by the tests that need them; none is by its package.
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then policy=; else
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null || status=$?
    [ -z "$policy" ] || "${as_root[@]}" rm "$policy"
    return $status
}

for tool in cargo node npm python3; do
    command -v "$tool" >/dev/null 2>&1 || { echo "tests/run.sh needs $tool" >&2; exit 2; }
done
# command, then the Debian package it comes in
install_packages gcc gcc g++ g++ make make cmake cmake pkg-config pkg-config curl curl \
    chromium chromium nginx nginx-light haproxy haproxy varnishd varnish openssl openssl

step "format"
cargo fmt --all --check
step "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings
step "what it is built of: licences, sources, duplicates, known vulnerabilities"
tests/tools/deny.sh
step "a database server and a local chain for the tests"
tests/tools/postgres.sh </dev/null
tests/tools/anvil.sh "$CARGO_TARGET_DIR/tools/chain"
step "the shipped configurations against the schema for editors"
tests/tools/schema.sh "$CARGO_TARGET_DIR/tools/chain"
step "unit, property, conformance, architecture, crash, fleet and end-to-end tests"
cargo test --locked
step "fuzzing"
tests/fuzz/run.sh
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
step "power cuts for the ledger in a file"
tests/power/run.sh
step "published clients against the gateway"
tests/interop/run.sh "$CARGO_TARGET_DIR/debug/tollgate"
step "a wallet in a browser"
tests/browser/run.sh "$CARGO_TARGET_DIR/debug/tollgate"
step "attacks on the gateway, and on the reference server for comparison"
tests/adversarial/run.sh --tollgate "$CARGO_TARGET_DIR/debug/tollgate" \
    --leaks "$CARGO_TARGET_DIR/adversarial-leaks.txt"
step "attacks on the gateway without one of its defences, each of which must be noticed"
tests/adversarial/run.sh mutations
step "all passed"
[ ! -e "$CARGO_TARGET_DIR/tools/advisories-not-checked" ] ||
    echo "but known vulnerabilities of dependencies were not looked up: no way to their list"
