#!/usr/bin/env bash
# The interop suite: published x402 clients of both generations against a running gateway.
#
#   tests/interop/run.sh [PATH-TO-TOLLGATE]     (default: target/debug/tollgate of this checkout)
#
# Needs Linux on x86-64, Rust with a C compiler, Node 20, npm, Python 3.11 with venv, and curl. The clients are
# installed, pinned by lock files, into untracked folders beside this script. Prints one line per case and, last, how
# many passed and failed.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tollgate="$(realpath -m "${1:-$here/../../target/debug/tollgate}")"
logs="$(mktemp -d)"
cd "$here"

# Every step of the installation is a process group of its own, so that it ends with all it started.
set -m
end_steps() {
    for group in $(jobs -p); do kill -- "-$group" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$logs"
}
give_up() {
    end_steps 2>/dev/null
    echo "FAILED  the installation was stopped; no case ran"
    echo "0 passed, 1 failed"
    exit 1
}
trap end_steps EXIT
trap give_up HUP INT TERM

install_npm() {
    cmp -s package-lock.json node_modules/.installed && return
    # None of the packages needs its install script.
    npm ci --ignore-scripts --no-audit --no-fund
    cp package-lock.json node_modules/.installed
}

install_python() {
    for generation in 1 2; do
        local venv=".venv/v$generation" pins="requirements-v$generation.txt"
        cmp -s "$pins" "$venv/.installed" && continue
        python3 -m venv --clear "$venv"
        # The pins name every dependency; --no-deps keeps anything else out.
        "$venv/bin/pip" install --disable-pip-version-check --quiet --no-deps --requirement "$pins"
        "$venv/bin/pip" check
        cp "$pins" "$venv/.installed"
    done
}

install_rust() {
    cargo build --locked --manifest-path rust/Cargo.toml --target-dir rust/target
}

find_programs() {
    for program in node npm python3 cargo cc curl; do
        command -v "$program" >/dev/null || { echo "$program is not installed"; return 1; }
    done
    [ -x "$tollgate" ] || { echo "$tollgate is not there: build it with cargo build, or name one"; return 1; }
}

# Runs every step at once and ends the script when one fails: without its clients no case would mean anything.
prepare() {
    local failed=0
    declare -A pids
    for step in "$@"; do
        "$step" >"$logs/$step" 2>&1 &
        pids[$step]=$!
    done
    for step in "$@"; do
        wait "${pids[$step]}" && continue
        failed=$((failed + 1))
        tail -n 30 "$logs/$step"
        echo "FAILED  $step … see the lines above; no case ran"
    done
    [ "$failed" -eq 0 ] && return
    echo "0 passed, $failed failed"
    exit 1
}

prepare find_programs
prepare install_npm install_python install_rust
rm -rf "$logs"
exec node suite.mjs "$tollgate"
