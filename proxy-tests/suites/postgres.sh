#!/usr/bin/env bash
# PostgreSQL's own suites, directly and through the gate, compared by test name: regression, isolation, libpq pipeline.
#
#   proxy-tests/suites/postgres.sh SOURCE [QUERYGATE]
#
# SOURCE is a source tree of the same version as the installed server: on Debian, with `deb-src` enabled,
# `apt-get source postgresql-15`. Only its test programs are built (they need bison and flex), a few minutes.
# QUERYGATE is the binary, by default target/debug/querygate. Works as root; the server runs as user postgres then.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source_dir=$(cd "$1" && pwd)
querygate=$(realpath "${2:-$root/target/debug/querygate}")
work=$(mktemp -d)
chmod 755 "$work"
bin=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -1 || true)")
[ -x "$bin/initdb" ] || bin=$(pg_config --bindir)

if [ "$(id -u)" = 0 ]; then
    as_server() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
    chown postgres "$work"
else
    as_server() { "$@"; }
fi
trap '[ -z "${gate:-}" ] || kill "$gate"; as_server "$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null || true; rm -rf "$work"' EXIT

cd "$source_dir"
if [ ! -x src/test/modules/libpq_pipeline/libpq_pipeline ]; then
    ./configure --quiet --without-readline --without-zlib
    for step in src/backend:generated-headers src/port: src/common: src/interfaces/libpq: src/test/regress:all src/test/isolation:all \
        src/test/modules/libpq_pipeline:all; do
        # shellcheck disable=SC2086
        make -s -C "${step%%:*}" ${step##*:}
    done
fi
# The suites write below their own directories, and so does the server.
[ "$(id -u)" != 0 ] || chown -R postgres src/test

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
as_server "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >/dev/null
cat >>"$work/data/postgresql.conf" <<EOF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$work'
fsync = off
max_prepared_transactions = 10
EOF
as_server "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w start >/dev/null

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
"$querygate" serve --config "$work/gate.toml" 2>"$work/gate.log" &
gate=$!
until gate_port=$(grep -om1 'listening on 127.0.0.1:[0-9]*' "$work/gate.log" | grep -o '[0-9]*$'); do
    kill -0 "$gate" || { cat "$work/gate.log"; exit 1; }
    read -rt 0.1 <> <(:) || true
done

# run NAME PORT: runs every suite and writes one line per test, `suite test result`, to $work/NAME.
run() {
    local name=$1 to=$2 libpq="$source_dir/src/interfaces/libpq"
    export LD_LIBRARY_PATH="$libpq${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    # The database is made and dropped by the suite; parallel groups as in `make installcheck-parallel`.
    (cd src/test/regress && as_server ./pg_regress --inputdir=. --bindir="$bin" --dlpath=. --host=127.0.0.1 --port="$to" --user=postgres \
        --max-concurrent-tests=20 --schedule=./parallel_schedule >"$work/$name.regress" 2>&1) || true
    (cd src/test/isolation && as_server ./pg_isolation_regress --inputdir=. --bindir="$bin" --host=127.0.0.1 --port="$to" --user=postgres \
        --schedule=./isolation_schedule >"$work/$name.isolation" 2>&1) || true
    for suite in regress isolation; do
        sed -nE "s/^(test)? *([a-z0-9_.-]+) +\.\.\. (ok|FAILED).*/$suite \2 \3/p" "$work/$name.$suite"
    done >"$work/$name"
    grep -q '^regress ' "$work/$name" && grep -q '^isolation ' "$work/$name" || { cat "$work/$name.regress" "$work/$name.isolation"; exit 1; }
    local program=$source_dir/src/test/modules/libpq_pipeline/libpq_pipeline test result
    for test in $("$program" tests); do
        result=ok
        "$program" "$test" "host=127.0.0.1 port=$to user=postgres dbname=postgres sslmode=disable" >/dev/null 2>&1 || result=FAILED
        echo "pipeline $test $result"
    done >>"$work/$name"
    [ ! -f src/test/regress/regression.diffs ] || cp src/test/regress/regression.diffs "$work/$name.diffs"
    [ -z "${KEEP:-}" ] || cp "$work/$name"* "$KEEP/"
    echo "$name: $(grep -c ' ok$' "$work/$name") ok, $(grep -c ' FAILED$' "$work/$name") failed"
}

run direct "$port"
run gate "$gate_port"
if diff <(sort "$work/direct") <(sort "$work/gate"); then
    echo "the same results, test by test"
else
    echo "results differ (< direct, > through the gate)" >&2
    exit 1
fi
