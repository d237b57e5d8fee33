#!/usr/bin/env bash
# Power cuts: what the ledger in a file promised must be on the disk, wherever the power fails.
#
#   tests/power/run.sh [SEED]
#
# A workload is watched by strace, which records everything that is written and synced; cut.py builds
# from that what a disk may hold after a loss of power at some hundreds of places, and has the ledger
# opened on it. Then the disk itself fails: an fsync that returns an error must end all promises.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
seed="${1:-$((RANDOM * 32768 + RANDOM))}"
echo "seed $seed"

command -v python3 >/dev/null || { echo "tests/power/run.sh needs python3" >&2; exit 2; }
if ! command -v strace >/dev/null; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends strace >/dev/null
fi

cargo build --locked --quiet --example power
program="$CARGO_TARGET_DIR/debug/examples/power"
# Not in a temporary folder in memory: there an fsync is nothing.
folder="$(mktemp -d "$CARGO_TARGET_DIR/power.XXXXXX")"
trap 'rm -rf "$folder"' EXIT
folder="$(realpath "$folder")"
mkdir "$folder/ledger" "$folder/broken"

# Every call that can change a file or make it durable; cut.py stops at one it does not know.
calls=openat,open,creat,close,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate
calls+=,fsync,fdatasync,sync_file_range,sync,msync,unlink,unlinkat,rename,renameat,renameat2,link,linkat
calls+=,copy_file_range,sendfile
strace -f -xx -y -s 1048576 -e trace="$calls" -e signal=none -o "$folder/trace" \
    "$program" work "$folder/ledger" "$seed" >/dev/null
[ -s "$folder/trace" ] || { echo "strace recorded nothing; may it trace here?" >&2; exit 1; }
python3 tests/power/cut.py "$program" "$folder/trace" "$folder/ledger" "$folder" --seed "$seed"

strace -f -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:error=EIO:when=40+ \
    "$program" broken "$folder/broken" "$seed" >/dev/null
echo "a disk that fails ends all promises"
