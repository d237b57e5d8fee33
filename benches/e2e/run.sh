#!/usr/bin/env bash
# The whole-system benchmarks: tollgate beside nginx, HAProxy, a bare Pingora, x402-axum and @x402/express.
#
#   benches/e2e/run.sh [--only SCENARIO…] [--seconds N] [--rounds N] [--settled N]      --help tells the scenarios
#
# Writes tables and a plot to benches/RESULTS.md and benches/e2e.svg. Needs Linux with two processors or more, Rust,
# Node with npm and Python 3.11; installs what else is missing on Debian. Builds everything optimised first, which takes
# a while. Nothing else should run on the machine: what others took of it is told in the tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
PATH=$PATH:/usr/sbin:/sbin

for tool in cargo node npm python3; do
    command -v "$tool" >/dev/null 2>&1 || { echo "benches/e2e/run.sh needs $tool" >&2; exit 2; }
done
missing=()
# command, then the Debian package it comes in; those of nginx and HAProxy start nothing here
for tool in wrk:wrk h2load:nghttp2-client nginx:nginx-light haproxy:haproxy openssl:openssl; do
    command -v "${tool%%:*}" >/dev/null 2>&1 || missing+=("${tool#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq \
        --no-install-recommends "${missing[@]}" >/dev/null
fi

cargo build --locked --release -p tollgate -p tollgate-bench --bins
cargo build --locked --release --manifest-path benches/e2e/x402-axum/Cargo.toml \
    --target-dir "$CARGO_TARGET_DIR/x402-axum"
(
    cd tests/adversarial/reference
    cmp -s package-lock.json node_modules/.installed && exit
    # None of the packages needs its install script.
    npm ci --ignore-scripts --no-audit --no-fund --silent
    cp package-lock.json node_modules/.installed
)
exec python3 benches/e2e/suite --target "$CARGO_TARGET_DIR" "$@"
