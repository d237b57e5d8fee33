#!/usr/bin/env bash
# Replaces corpora by the least of them, and of what target/fuzz has, that reaches the same places:
# tests/fuzz/minimise.sh [TARGET…]. Needs the programs that tests/fuzz/run.sh builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
target_dir="${CARGO_TARGET_DIR:-$PWD/target}"

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs tests/fuzz/targets/*.rs)
for target in "${targets[@]}"; do
    corpus="tests/fuzz/corpus/$target"
    least=$(mktemp -d)
    mkdir -p "$corpus" "$target_dir/fuzz/corpus/$target"
    "$target_dir/debug/$target" -set_cover_merge=1 -max_len=4096 -timeout=20 -detect_leaks=0 \
        "$least" "$corpus" "$target_dir/fuzz/corpus/$target" >"$target_dir/fuzz/$target.merge.log" 2>&1
    rm -rf "$corpus"
    mv "$least" "$corpus"
    chmod 755 "$corpus"
    printf '%-10s  %s inputs, %s bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" \
        "$(find "$corpus" -type f -printf '%s\n' | awk '{sum += $1} END {print sum + 0}')"
done
