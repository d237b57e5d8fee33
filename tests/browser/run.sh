#!/bin/sh
# Pays through the paywall page in a real browser: tests/browser/run.sh [path-to-tollgate]
#
# Without a path it builds and uses target/debug/tollgate. Installs Debian's Chromium and the npm packages of the lock
# file when they are missing. The last line reads "N passed, N failed"; the exit status is 0 only if all passed.
set -eu

case "${1:-}" in
"" | /*) tollgate="${1:-}" ;;
*) tollgate="$PWD/$1" ;;
esac

cd "$(dirname "$0")"

if [ ! -x /usr/bin/chromium ]; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    $as_root apt-get install -y -qq --no-install-recommends chromium
fi

if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --no-audit --no-fund
fi

if [ -z "$tollgate" ]; then
    (cd ../.. && cargo build --bin tollgate)
    tollgate="${CARGO_TARGET_DIR:-../../target}/debug/tollgate"
fi

exec node run.mjs "$tollgate"
