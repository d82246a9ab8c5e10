#!/usr/bin/env bash
# Python drivers' own suites, directly and through the gate, compared by test name: asyncpg, psycopg2, SQLAlchemy's dialect
# over psycopg 3 and over asyncpg.
#
#   proxy-tests/suites/python.sh [QUERYGATE [SUITE…]]
#
# QUERYGATE is the binary, by default target/debug/querygate. Suites are those of proxy-tests/python/suites.py. Fetches the
# sources from PyPI on first use. With KEEP=DIR, every outcome and pytest's output stay in DIR. Works as root; the servers
# run as user postgres then. Exit status 1 if any suite's results differ.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
querygate=$(realpath "${1:-$root/target/debug/querygate}")
[ -x "$querygate" ] || { echo "$querygate is missing: cargo build --bin querygate" >&2; exit 2; }
shift $(($# > 0))
suites=("${@:-asyncpg-clusters}")
[ $# -gt 0 ] || suites=(asyncpg-clusters psycopg2 sqlalchemy-psycopg sqlalchemy-asyncpg)
"$root/proxy-tests/python/setup"
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1 || true)
[ -x "$bin/initdb" ] || bin=$(pg_config --bindir)
work=$(mktemp -d)
chmod 755 "$work"

if [ "$(id -u)" = 0 ]; then
    as_server() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
    chown postgres "$work"
else
    as_server() { "$@"; }
fi
stop() {
    [ -z "${gate:-}" ] || kill "$gate"
    for data in "$work"/*/; do as_server "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null || true; done
    rm -rf "$work"
}
trap stop EXIT

# cluster NAME: starts a server and sets `port`.
cluster() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    as_server "$bin/initdb" -D "$work/$1" -U postgres -A trust -E UTF8 --no-locale --no-sync >/dev/null
    cat >>"$work/$1/postgresql.conf" <<EOF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$work'
fsync = off
max_prepared_transactions = 10
wal_level = logical
jit = off
EOF
    as_server "$bin/pg_ctl" -D "$work/$1" -l "$work/$1.log" -w start >/dev/null
}
cluster direct
direct=$port
cluster behind

cat >"$work/gate.toml" <<EOF
[listen]
address = "127.0.0.1:0"
[upstream]
port = $port
sslmode = "disable"
[limits]
allow_replication = true
allow_function_call = true
[admin]
address = "none"
[[rule]]
name = "all"
action = "allow"
EOF
: >"$work/gate.log"
"$querygate" serve --config "$work/gate.toml" 2>"$work/gate.log" &
gate=$!
until gate_port=$(grep -om1 'listening on 127.0.0.1:[0-9]*' "$work/gate.log" | grep -o '[0-9]*$'); do
    kill -0 "$gate" || { cat "$work/gate.log"; exit 1; }
    read -rt 0.1 <> <(:) || true
done

differ=0
for suite in "${suites[@]}"; do
    printf '\n== %s\n' "$suite"
    started=$SECONDS
    "$root/target/venv/bin/python" "$root/proxy-tests/python/suites.py" "$suite" --sources "$root/target/suites" \
        --direct "$direct" --gate "$gate_port" --querygate "$querygate" --pgbin "$bin" ${KEEP:+--keep "$KEEP"} || differ=1
    echo "$((SECONDS - started)) s for both sides"
done
[ $differ = 0 ] && echo "the same results, test by test" || echo "results differ" >&2
exit $differ
