#!/usr/bin/env bash
# Holds the shipped configurations against the JSON Schema, with the program that TOML editors use (taplo):
#   tests/tools/schema.sh FOLDER
# FOLDER is where tests/tools/anvil.sh has installed the packages of package.json.
set -euo pipefail
taplo="$(cd "$1" && pwd)/node_modules/.bin/taplo"
cd "$(dirname "$0")/../.."
lint() { "$taplo" lint --no-auto-config --schema "file://$PWD/deploy/gateway.schema.json" "$@"; }

wrong=$(mktemp --suffix .toml)
trap 'rm -f "$wrong" "$wrong.log"' EXIT
RUST_LOG=error lint gateway.toml deploy/*/*.toml
for mistake in 'listen = 8402' 'settel = "before-request"' 'settle = "never"' '[[routes]]\npath = "/a"\nfree = false' \
    '[limits]\nheader_bytes = "64k"' '[facilitators.f]\nurl = 1'; do
    printf '%b\n' "$mistake" >"$wrong"
    if RUST_LOG=off lint "$wrong" >"$wrong.log" 2>&1; then
        echo "the schema takes this for a configuration: $mistake" >&2
        exit 1
    fi
done
