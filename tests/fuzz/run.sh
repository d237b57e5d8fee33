#!/usr/bin/env bash
# Fuzzes: tests/fuzz/run.sh [--seconds N] [--seed N] [TARGET…]
# Every target, unless told otherwise. Without --seconds the same inputs are tried each time: those of
# tests/fuzz/corpus and 20,000 that are made of them, seed 1. With it each target runs for so long, with
# another seed each time. What is found new is kept in target/fuzz, together with any input that fails.
# How the targets are built and run by hand: tests/fuzz/README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

seconds= seed= targets=()
while [ $# -gt 0 ]; do
    case $1 in
        --seconds) seconds=${2:?} && shift 2 ;;
        --seed) seed=${2:?} && shift 2 ;;
        -*) sed -n '2,6s/^# //p' "$0" >&2 && exit 2 ;;
        *) targets+=("$1") && shift ;;
    esac
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs tests/fuzz/targets/*.rs)
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done

RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/rustc.sh" cargo build --locked --quiet --package tollgate-fuzz "${bins[@]}"
work="$CARGO_TARGET_DIR/fuzz"
if [ -n "$seconds" ]; then
    seed=${seed:-$((RANDOM * 32768 + RANDOM + 1))} bound=("-max_total_time=$seconds") found=$work/corpus
    echo "$seconds seconds a target, seed $seed"
else
    # Whatever an earlier run has found would make this one another. The time is for slow machines.
    seed=${seed:-1} bound=(-runs=20000 -max_total_time=60) found=$work/repeated
    rm -rf "$found"
    echo "20,000 inputs a target, seed $seed"
fi
for target in "${targets[@]}"; do
    mkdir -p "$found/$target" "$work/failures/$target" "tests/fuzz/corpus/$target"
    log="$work/$target.log" options=()
    dictionary="tests/fuzz/dictionaries/$target.dict"
    [ ! -f "$dictionary" ] || options+=("-dict=$dictionary")
    if ! "$CARGO_TARGET_DIR/debug/$target" "${options[@]}" -seed="$seed" "${bound[@]}" -max_len=4096 \
        -timeout=120 -rss_limit_mb=2048 -detect_leaks=0 -artifact_prefix="$work/failures/$target/" \
        "$found/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        echo "$target fails with seed $seed; the input is below $work/failures/$target" >&2
        echo "once more: $CARGO_TARGET_DIR/debug/$target $work/failures/$target/…" >&2
        exit 1
    fi
    printf '%-10s  %s\n' "$target" "$(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$log"), $(
        sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 places reached/p' "$log" | tail -n 1)"
done
