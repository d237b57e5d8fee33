#!/usr/bin/env bash
# The adversarial suite: attacks an x402 server and counts what it gives away unpaid.
#
#   tests/adversarial/run.sh --url http://127.0.0.1:8402/articles/x402    one server, given a priced page of it
#   tests/adversarial/run.sh                                              the proof: tollgate and @x402/express here
#   tests/adversarial/run.sh mutations                                    whether the rows notice a defence that is off
#   tests/adversarial/run.sh --help                                       everything else
#
# A server needs only one priced page. Add the addresses of the same page over TLS or HTTP/2 with further --url, a free
# page with --free-url, and either --marker with text that stands only in the priced page, or --key-file with the key of
# an account that has funds; without both the suite tries to buy the page with an account made up, which works with a
# sandbox. Only servers on this machine are attacked, unless --i-own-this-server says that one elsewhere is yours.
#
# Prints a table of attacks with tries, leaks, and tries that were refused although paid; --markdown and --json write it
# to a file, and the bytes of every leak go to adversarial-leaks.txt (--leaks). Ends with 0 when nothing leaked, 1 when
# something did, and 2 when the run did not come to its end. --seed repeats the random choices of an earlier run.
#
# `mutations` builds a copy of tollgate in which each defence can be switched off (mutations/), and runs the rows that must
# leak then; it ends with 0 when they do and nothing leaks without. THREATS.md says which defence, row and mutation belong
# together.
#
# Needs Linux and Python 3.11 with venv; the proof also nginx, Varnish, openssl, Node 20 with npm, PostgreSQL (which
# tests/tools/postgres.sh installs), a local chain (which tests/tools/anvil.sh installs), and target/debug/tollgate (or
# --tollgate PATH). Packages are installed, pinned, into untracked folders beside this script. A new attack is a module in
# attacks/; core/attack.py tells how one is written. It belongs into THREATS.md, and needs a mutation that it notices.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

fail() {
    echo "$*" >&2
    exit 2
}

install_python() {
    local venv="$here/.venv" pins="$here/requirements.txt"
    cmp -s "$pins" "$venv/.installed" && return
    python3 -m venv --clear "$venv"
    # The pins name every dependency; --no-deps keeps anything else out.
    "$venv/bin/pip" install --disable-pip-version-check --quiet --no-deps --require-hashes --requirement "$pins"
    "$venv/bin/pip" check >/dev/null
    cp "$pins" "$venv/.installed"
}

install_reference() (
    cd "$here/reference"
    cmp -s package-lock.json node_modules/.installed && return
    # None of the packages needs its install script.
    npm ci --ignore-scripts --no-audit --no-fund --silent
    cp package-lock.json node_modules/.installed
)

command -v python3 >/dev/null || fail "python3 is not installed"
install_python || fail "the Python packages could not be installed"
case " $* " in
*" --url"* | *" --help "* | *" -h "* | *" --list "* | *" --server tollgate "* | *" --server=tollgate "*) ;;
*)
    command -v npm >/dev/null || fail "the reference server needs node and npm"
    install_reference || fail "the reference server could not be installed"
    ;;
esac
module=core
if [ "${1:-}" = mutations ]; then
    module=mutations
    shift
fi
PYTHONPATH="$here" exec "$here/.venv/bin/python" -m "$module" "$@"
