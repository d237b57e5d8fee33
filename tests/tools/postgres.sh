#!/usr/bin/env bash
# A private PostgreSQL for tests: a cluster in a temporary folder on a free port of 127.0.0.1, open to
# user "postgres" without a password. It lives as long as this script's standard input is open, and
# leaves nothing behind, however its user ends.
#
#   tests/tools/postgres.sh [SETTING=VALUE ...]      settings of postgresql.conf
#
# It writes "ready PORT FOLDER", then obeys lines on standard input and answers each with "done":
#   stop     shuts the server down; connections are closed, transactions rolled back
#   kill     ends it as a crash would
#   start    starts it again, on the same port
#   freeze   stops all of its processes in their tracks; connections stay open
#   thaw     lets them go on
#   fill     no file may grow beyond what it is now or two megabytes: the disk is full
#   free     there is room again
#   standby PORT  makes a standby that streams from the server, reached at PORT, and listens on one of its
#            own: "done OWN". The server waits for it if synchronous_standby_names names it, "tollgate"
#   part     ends the standby's process as a crash would
#   rejoin   starts it again; it streams what it missed
#   promote  makes it a server of its own
#
# Missing binaries are installed from Debian's package "postgresql" (as root, or through sudo).
set -euo pipefail

fail() { echo "tests/tools/postgres.sh: $*" >&2; exit 1; }

find_binaries() {
    local folder
    for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) /usr/local/pgsql/bin /usr/local/bin /usr/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/postgres" ]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

install_binaries() {
    command -v apt-get >/dev/null || fail "PostgreSQL is not installed, and there is no apt-get to install it with"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    # The server for these tests is the one below; none of its own is started by the package.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        "${as_root[@]}" mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    export DEBIAN_FRONTEND=noninteractive
    { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" apt-get install -y -qq --no-install-recommends postgresql; } >&2 ||
        fail "PostgreSQL could not be installed"
}

if ! binaries=$(find_binaries); then
    # Several tests may find it missing at the same moment.
    exec 9>"${TMPDIR:-/tmp}/tollgate-install-postgresql.lock"
    flock 9
    find_binaries >/dev/null || install_binaries
    flock -u 9
    binaries=$(find_binaries) || fail "PostgreSQL was installed and cannot be found"
fi

# The server refuses to run as root.
as_user=()
if [ "$(id -u)" = 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_user=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --)
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-postgres.XXXXXX")
[ ${#as_user[@]} = 0 ] || chown "$user" "$folder"
cd "$folder"
data=$folder/data
port=

# All processes of the server.
processes() {
    local main
    main=$(head -1 "$data/postmaster.pid" 2>/dev/null) || return 0
    echo "$main" $(pgrep -P "$main" || true)
}

signal() {
    local process
    for process in $(processes); do kill "-$1" "$process" 2>/dev/null || true; done
}

# Of the soft limit: it can be lifted again, and by the server's own user.
limit_files() {
    local process
    for process in $(processes); do "${as_user[@]}" prlimit --pid "$process" --fsize="$1:" || return 1; done
}

control() {
    # The server must not hold on to this script's output.
    "${as_user[@]}" "$binaries/pg_ctl" -D "$data" -w -t 60 "$@" >>"$folder/control" 2>&1 </dev/null
}

start() {
    control -l "$folder/log" -o "-p $port" start
}

standby=$folder/standby
standby_port=

make_standby() {
    "${as_user[@]}" "$binaries/pg_basebackup" -h 127.0.0.1 -p "$port" -U postgres -D "$standby" -X stream -c fast \
        >>"$folder/control" 2>&1 </dev/null || return 1
    # The settings came along; what is said last counts.
    {
        echo "primary_conninfo = 'host=127.0.0.1 port=$1 user=postgres application_name=tollgate'"
        echo "synchronous_standby_names = ''"
    } >>"$standby/postgresql.conf"
    touch "$standby/standby.signal"
    [ ${#as_user[@]} = 0 ] || chown "$user" "$standby/standby.signal"
    for _ in $(seq 20); do
        standby_port=$((12000 + RANDOM % 8000))
        if (exec 3<>"/dev/tcp/127.0.0.1/$standby_port") 2>/dev/null; then continue; fi
        if start_standby; then return; fi
    done
    return 1
}

control_standby() {
    "${as_user[@]}" "$binaries/pg_ctl" -D "$standby" -w -t 60 "$@" >>"$folder/control" 2>&1 </dev/null
}

start_standby() {
    control_standby -l "$folder/standby.log" -o "-p $standby_port" start
}

clean_up() {
    signal CONT
    [ ! -e "$standby/postmaster.pid" ] || control_standby -m immediate stop || true
    [ ! -e "$data/postmaster.pid" ] || control -m immediate stop || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

"${as_user[@]}" "$binaries/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync --wal-segsize=1 \
    >"$folder/control" 2>&1 || { cat "$folder/control" >&2; fail "no cluster could be made"; }
{
    echo "listen_addresses = '127.0.0.1'"
    echo "unix_socket_directories = '$folder'"
    echo "max_connections = 300"
    echo "shared_buffers = 32MB"
    echo "fsync = off"
    for setting in "$@"; do echo "${setting%%=*} = '${setting#*=}'"; done
} >>"$data/postgresql.conf"

for _ in $(seq 20); do
    port=$((12000 + RANDOM % 8000))
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
    if start; then break; fi
    port=
done
[ -n "$port" ] || { cat "$folder/control" "$folder/log" >&2; fail "the server does not start"; }
echo "ready $port $folder"

while read -r command argument; do
    case $command in
        stop) control -m fast stop ;;
        kill) control -m immediate stop ;;
        start) start ;;
        freeze) signal STOP ;;
        thaw) signal CONT ;;
        # An odd half page more, so that writes end short as they do on a full disk.
        fill) limit_files 2101248 ;;
        free) limit_files unlimited ;;
        standby) make_standby "$argument" ;;
        part) control_standby -m immediate stop ;;
        rejoin) start_standby ;;
        promote) control_standby promote ;;
        *) fail "\"$command\" is not known" ;;
    esac || { cat "$folder/control" "$folder"/*log >&2; fail "cannot $command"; }
    if [ "$command" = standby ]; then echo "done $standby_port"; else echo done; fi
done
