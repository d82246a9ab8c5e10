"""Drives psycopg 3 through everything it does on the wire and prints what came back, for comparison with a direct run.

psycopg_client.py CONNINFO
"""

import datetime
import decimal
import sys
import threading
import time
import uuid

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb


def show(label, value):
    print(label, repr(value))


def types(conn):
    values = [
        1,
        -(2**40),
        decimal.Decimal("123.456"),
        1.5,
        "tëxt",
        b"\x00\xff",
        True,
        None,
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=1, seconds=2),
        uuid.UUID(int=7),
        [1, 2, 3],
        Jsonb({"a": [1, None]}),
    ]
    for binary in (False, True):
        for value in values:
            row = conn.execute("SELECT %s AS value", (value,), binary=binary).fetchone()
            show("type", row)


def statements(conn):
    with conn.transaction():
        conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)")
        with conn.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (%s, %s) RETURNING a", [(n, f"row {n}") for n in range(20)], returning=True)
            results = []
            while True:
                results.append(cursor.fetchone())
                if not cursor.nextset():
                    break
            show("executemany", results)
    try:
        with conn.transaction():
            conn.execute("UPDATE t SET b = 'changed' WHERE a = 1")
            with conn.transaction():
                conn.execute("INSERT INTO t VALUES (1, 'twice')")
    except psycopg.errors.UniqueViolation as error:
        show("unique", (error.sqlstate, error.diag.constraint_name, error.diag.message_primary))
    show("undone", conn.execute("SELECT b FROM t WHERE a = 1").fetchone())
    for _ in range(8):  # crosses psycopg's threshold for preparing
        show("prepared", conn.execute("SELECT b FROM t WHERE a = %s", (2,)).fetchone())
    with conn.cursor(row_factory=dict_row) as cursor:
        show("dict", cursor.execute("SELECT * FROM t ORDER BY a LIMIT 2").fetchall())
    with conn.transaction(), conn.cursor("server_side") as cursor:
        cursor.itersize = 3
        cursor.execute("SELECT a FROM t ORDER BY a")
        show("cursor", [row[0] for row in cursor])
        cursor.scroll(0, mode="absolute")
        show("scrolled", cursor.fetchmany(2))
    show("stream", [row[0] for row in conn.cursor().stream("SELECT generate_series(1, 50)")])
    notices = []
    conn.add_notice_handler(lambda diag: notices.append((diag.severity_nonlocalized, diag.message_primary)))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$")
    show("notices", notices)


def copy(conn):
    conn.execute("CREATE TEMP TABLE c (a int, b text)")
    with conn.cursor() as cursor:
        with cursor.copy("COPY c FROM STDIN") as copy:
            for n in range(1000):
                copy.write_row((n, "x" * n))
        with cursor.copy("COPY c FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((-1, "binary"))
        with cursor.copy("COPY (SELECT a, length(b) FROM c ORDER BY a) TO STDOUT") as copy:
            show("copied", [row for row in copy.rows()][:5])
        try:
            with cursor.copy("COPY c FROM STDIN") as copy:
                copy.write_row((1, "lost"))
                raise RuntimeError("changed my mind")
        except RuntimeError as error:
            show("copy failed", str(error))
        show("count", cursor.execute("SELECT count(*), sum(length(b)) FROM c").fetchone())


def pipeline(conn):
    conn.autocommit = True
    with conn.pipeline() as pipe:
        one = conn.execute("SELECT 1")
        bad = conn.execute("SELECT 1/%s", (0,))
        skipped = conn.cursor()
        # The error is raised by whichever call happens to read the server's answer.
        for step in (lambda: skipped.execute("SELECT 'skipped'"), pipe.sync):
            try:
                step()
            except psycopg.errors.DivisionByZero as error:
                show("pipeline error", error.sqlstate)
            except psycopg.errors.PipelineAborted:
                pass
        after = conn.execute("SELECT 'after'")
        pipe.sync()
        show("pipeline", (one.fetchone(), after.fetchone()))
        for cursor in (bad, skipped):
            try:
                show("not reached", cursor.fetchone())
            except psycopg.Error:
                show("aborted", True)
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", (n,)) for n in range(500)]
        show("pipelined", sum(cursor.fetchone()[0] for cursor in cursors))


def listen(conn, conninfo):
    conn.execute("LISTEN ch")
    with psycopg.connect(conninfo, autocommit=True) as other:
        for n in range(3):
            other.execute("SELECT pg_notify('ch', %s)", (str(n),))
    show("notified", [notify.payload for notify in conn.notifies(timeout=30, stop_after=3)])


def cancel(conn, conninfo):
    def when_running():
        with psycopg.connect(conninfo, autocommit=True) as other:
            while not other.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'", (conn.info.backend_pid,)
            ).fetchone():
                time.sleep(0.005)
        conn.cancel_safe(timeout=30)

    thread = threading.Thread(target=when_running)
    thread.start()
    try:
        conn.execute("SELECT pg_sleep(600)")
    except psycopg.errors.QueryCanceled as error:
        show("cancelled", error.sqlstate)
    thread.join()
    show("goes on", conn.execute("SELECT 1").fetchone())


def main(conninfo):
    with psycopg.connect(conninfo, autocommit=True) as conn:
        show("status", {name: conn.info.parameter_status(name) for name in ("server_version", "TimeZone", "client_encoding")})
        types(conn)
        statements(conn)
        copy(conn)
        pipeline(conn)
        listen(conn, conninfo)
        cancel(conn, conninfo)
        with psycopg.ClientCursor(conn) as cursor:  # interpolates on the client: the simple protocol
            show("simple", cursor.execute("SELECT %s, %s", ("it's", 3)).fetchall())
    try:
        psycopg.connect(conninfo + " user=nobody_here")
    except psycopg.OperationalError as error:
        show("refused", "does not exist" in str(error))


if __name__ == "__main__":
    main(sys.argv[1])
