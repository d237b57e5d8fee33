#!/usr/bin/env bash
# Measures both kinds of ledger, and the steps of the hot paths, on this machine, and writes benches/RESULTS.md; what
# benches/e2e/run.sh measured of whole systems stays in it.
#
#   benches/run.sh [SECONDS]      how long each line of the ledgers is measured; 5 without it
#
# PostgreSQL is a private server on 127.0.0.1 with `fsync = on`; both ledgers are on the disk of the
# build folder, because temporary folders are often in memory.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5}
target=${CARGO_TARGET_DIR:-$PWD/target}
disk=$target/tmp
mkdir -p "$disk"
# PostgreSQL runs as a user of its own, who must find its folder.
shared=$(mktemp -d "$disk/bench.XXXXXX")
chmod 755 "$shared"
trap 'rm -rf "$shared"' EXIT

cargo bench --locked --bench ledger --bench steps --no-run
coproc server {
    TMPDIR=$shared exec tests/tools/postgres.sh \
        fsync=on synchronous_commit=on shared_buffers=256MB max_wal_size=4GB checkpoint_timeout=15min
}
read -r ready port folder <&"${server[0]}"
[ "$ready" = ready ] || { echo "benches/run.sh: PostgreSQL does not start" >&2; exit 1; }

measure() {
    cargo bench --locked --quiet --bench ledger -- --seconds "$seconds" "$@"
}
postgres=$(psql --version 2>/dev/null || "$(ls -d /usr/lib/postgresql/*/bin/postgres | tail -1)" --version)
{
    echo "# Results"
    echo
    echo "Written by \`benches/run.sh\` on $(date -u +%F), commit $(git rev-parse --short HEAD)."
    echo
    echo "- machine: $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(free -g | awk '/^Mem/ {print $2}') GiB, $(uname -sr)"
    echo "- $(rustc --version); $postgres"
    echo
    echo "## What a ledger costs"
    echo
    echo "The load, the ledger and its database share the machine's cores."
    echo
    echo '```text'
    measure sqlite://bench.db "postgres://postgres@127.0.0.1:$port/postgres"
    echo '```'
    echo
    echo "The same for a file that remembers a million payments already:"
    echo
    echo '```text'
    measure --settled 1000000 sqlite://bench.db
    echo '```'
    echo
    echo "## What each step costs"
    echo
    echo "Time and allocations of the steps that \`tests/budgets.rs\` holds to their budgets."
    echo
    echo '```text'
    cargo bench --locked --quiet --bench steps
    echo '```'
    echo
    sed -n '/^## Whole systems/,$p' benches/RESULTS.md
} >"$disk/RESULTS.md"
mv "$disk/RESULTS.md" benches/RESULTS.md
cat benches/RESULTS.md
