#!/usr/bin/env bash
# Three gateways over one PostgreSQL, behind nginx and behind HAProxy, on this machine and without Docker.
#
#   deploy/replicas/run.sh [--site URL] [--shift N]
#     --site URL   a site of your own behind the gateways, instead of the demo site
#     --shift N    every port N higher, when one of them is taken
#
#   127.0.0.1:8080                     nginx      (nginx.conf)
#   127.0.0.1:8081                     HAProxy    (haproxy.cfg)
#   127.0.0.1:8411, 8412, 8413         gateways   (gateway.toml); /readyz and /metrics on 9411, 9412, 9413
#   127.0.0.1:8420                     the site that is sold from (site.toml)
#   127.0.0.1:8430                     the facilitator that is paid through (site.toml); no money moves
#   127.0.0.1:8432                     PostgreSQL: a cluster of its own, in a temporary folder
#
# Ctrl-C ends everything and leaves nothing behind. It runs as any user, also as root. On Debian:
#   sudo apt-get install -y postgresql nginx-light haproxy
# (their own services may run or not; none of their ports is used). TOLLGATE names the gateway's binary;
# default: that of this repository, else the one of the PATH.
set -euo pipefail
# In groups of their own, Ctrl-C reaches this script alone, which then ends the others in their order.
set -m

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
shift_by=0
site=

say() { printf '%s\n' "$*"; }
fail() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --site) site=${2:?--site needs a URL}; shift 2 ;;
        --shift) shift_by=${2:?--shift needs a number}; shift 2 ;;
        *) fail "unknown option $1; the options are --site URL and --shift N" ;;
    esac
done
[[ $shift_by =~ ^[0-9]{1,5}$ ]] || fail "--shift needs a number"
[[ $site =~ ^[A-Za-z0-9.:/_-]*$ ]] || fail "--site needs a URL like http://127.0.0.1:3000"

# ---- What is needed ---------------------------------------------------------------------------------

find_tollgate() {
    local file
    for file in "${TOLLGATE:-}" "$here/../../target/release/tollgate" "$here/../../target/debug/tollgate"; do
        if [ -n "$file" ] && [ -x "$file" ]; then readlink -f "$file"; return; fi
    done
    command -v tollgate || fail "there is no gateway yet: cargo build --release, or TOLLGATE=/path/to/tollgate"
}

find_postgres() {
    local folder
    for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) /usr/local/pgsql/bin /usr/local/bin /usr/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then echo "$folder"; return; fi
    done
    fail "PostgreSQL is not installed: sudo apt-get install -y postgresql"
}

tollgate=$(find_tollgate)
postgres=$(find_postgres)
for program in nginx haproxy; do
    command -v "$program" >/dev/null || fail "$program is not installed: sudo apt-get install -y nginx-light haproxy"
done

port() { echo $(($1 + shift_by)); }
is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

for number in 8080 8081 8411 8412 8413 9411 9412 9413 8420 8430 8432; do
    ! is_open "$(port $number)" || fail "port $(port $number) is taken: try --shift 10000"
done

# ---- A folder for everything, and its end -----------------------------------------------------------

folder=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-replicas.XXXXXX")
# PostgreSQL does not run as root, and workers of nginx give that up: both must be able to come here.
chmod 711 "$folder"
as_user=()
owner=$(id -un)
if [ "$(id -u)" = 0 ]; then
    owner=postgres
    id "$owner" >/dev/null 2>&1 || owner=nobody
    as_user=(setpriv "--reuid=$owner" "--regid=$(id -g "$owner")" --clear-groups --)
fi

keepers=()
clean_up() {
    trap '' INT TERM HUP
    local index
    # The last first: balancers, gateways (which finish what is in flight), the site; then the database.
    for ((index = ${#keepers[@]} - 1; index >= 0; index--)); do
        kill -TERM "${keepers[index]}" 2>/dev/null || true
        wait "${keepers[index]}" 2>/dev/null || true
    done
    [ ! -e "$folder/data/postmaster.pid" ] || control -m fast stop || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 0' INT TERM HUP

# Runs a program for as long as this script runs. What ends is started again, as a service manager does.
keep() {
    local name=$1 child= status
    shift
    trap 'kill -TERM $child 2>/dev/null; wait $child 2>/dev/null; exit 0' TERM
    while :; do
        "$@" >>"$folder/$name.log" 2>&1 </dev/null &
        child=$!
        echo "$child" >"$folder/$name.pid"
        status=0
        wait "$child" 2>/dev/null || status=$?
        say "$name ended (status $status); it is started again in 2 seconds"
        sleep 2 &
        wait $!
    done
}

start() {
    keep "$@" &
    keepers+=($!)
}

wait_until() {
    local what=$1 log=$2 tries
    shift 2
    for ((tries = 0; tries < 300; tries++)); do
        if "$@"; then return; fi
        sleep 0.1
    done
    tail -n 20 "$folder/$log.log" >&2 || true
    fail "$what does not start"
}

is_ready() {
    local status
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
    read -r -t 2 status <&3 || status=
    exec 3>&-
    [[ $status == *" 200 "* ]]
} 2>/dev/null

# ---- Configuration: as it is here, but for the ports and the site ----------------------------------

for file in gateway.toml site.toml nginx.conf haproxy.cfg; do
    SHIFT=$shift_by perl -pe 's/(127\.0\.0\.1:|check port )(\d+)/$1 . ($2 + $ENV{SHIFT})/ge' \
        "$here/$file" >"$folder/$file"
done
[ -z "$site" ] || sed -i "s|^upstream = .*|upstream = \"$site\"|" "$folder/gateway.toml"

# ---- PostgreSQL -------------------------------------------------------------------------------------

control() { "${as_user[@]}" "$postgres/pg_ctl" -D "$folder/data" -w "$@" >>"$folder/pg_ctl.log" 2>&1 </dev/null; }

password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
mkdir "$folder/data"
(umask 077; echo "$password" >"$folder/password")
[ ${#as_user[@]} = 0 ] || chown "$owner" "$folder/data" "$folder/password"
cd "$folder"
"${as_user[@]}" "$postgres/initdb" -D "$folder/data" -U tollgate -A scram-sha-256 --pwfile="$folder/password" \
    -E UTF8 --locale=C >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; fail "no cluster could be made"; }
rm "$folder/password"
# fsync and synchronous_commit are on, as PostgreSQL has it: a payment is recorded when it is on the disk.
# With standbys, synchronous_standby_names has to name them, or what was recorded is lost when one of
# them is promoted.
cat >>"$folder/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $(port 8432)
unix_socket_directories = ''
END
control -l "$folder/data/log" start || { cat "$folder/pg_ctl.log" >&2; fail "PostgreSQL does not start"; }
PGPASSWORD=$password "$postgres/createdb" -h 127.0.0.1 -p "$(port 8432)" -U tollgate tollgate
export TOLLGATE_LEDGER="postgres://tollgate:$password@127.0.0.1:$(port 8432)/tollgate"
(umask 077; echo "export TOLLGATE_LEDGER='$TOLLGATE_LEDGER'" >"$folder/ledger.env")

# ---- The site, the gateways, the load balancers -----------------------------------------------------

start site "$tollgate" run -c "$folder/site.toml"
wait_until "the site" site is_open "$(port 8420)"
wait_until "the facilitator" site is_open "$(port 8430)"
for number in 1 2 3; do
    start "gateway-$number" "$tollgate" run -c "$folder/gateway.toml" \
        --listen "127.0.0.1:$(port "841$number")" --admin "127.0.0.1:$(port "941$number")"
done
for number in 1 2 3; do
    wait_until "gateway-$number" "gateway-$number" is_ready "$(port "941$number")"
done
start nginx nginx -e stderr -p "$folder" -c "$folder/nginx.conf"
start haproxy haproxy -db -f "$folder/haproxy.cfg"
wait_until nginx nginx is_open "$(port 8080)"
wait_until HAProxy haproxy is_open "$(port 8081)"

nginx=http://127.0.0.1:$(port 8080)
haproxy=http://127.0.0.1:$(port 8081)
cat <<END
ready
  nginx      $nginx
  HAProxy    $haproxy
  gateways   http://127.0.0.1:$(port 8411)  :$(port 8412)  :$(port 8413)
  folder     $folder (logs, process ids; removed at the end)
Try:
  curl -i $nginx/articles/x402
  $tollgate pay $nginx/articles/x402
  $tollgate pay $haproxy/api/weather?city=Lisbon
  $tollgate pay '$nginx/events?count=5'
  kill -9 \$(cat $folder/gateway-2.pid)      then buy again: nobody notices, and it is back in seconds
  . $folder/ledger.env && $tollgate ledger list -c $folder/gateway.toml
Ctrl-C ends everything.
END
# Signals are heard while waiting for this, and nothing else ends it.
while :; do wait || true; sleep 1; done
