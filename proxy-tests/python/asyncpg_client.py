"""Drives asyncpg through everything it does on the wire and prints what came back, for comparison with a direct run.

asyncpg_client.py HOST PORT DATABASE USER
"""

import asyncio
import datetime
import decimal
import io
import ipaddress
import sys
import uuid

import asyncpg


def show(label, value):
    print(label, repr(value))


async def types(conn):
    for type_name, value in [
        ("int8", 2**40),
        ("numeric", decimal.Decimal("1.25")),
        ("text", "tëxt"),
        ("bytea", b"\x00\xff"),
        ("timestamptz", datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc)),
        ("interval", datetime.timedelta(days=3)),
        ("uuid", uuid.UUID(int=9)),
        ("inet", ipaddress.ip_interface("10.0.0.1/8")),
        ("int4[]", [[1, 2], [3, None]]),
        ("jsonb", '{"a": 1}'),
        ("int4range", asyncpg.Range(1, 5)),
        ("bool", None),
    ]:
        show(type_name, await conn.fetchval(f"SELECT $1::{type_name}", value))


async def statements(conn):
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text); CREATE TYPE pair AS (x int, y text)")
    show("composite", await conn.fetchval("SELECT (1, 'z')::pair"))
    await conn.executemany("INSERT INTO t VALUES ($1, $2)", [(n, f"row {n}") for n in range(100)])
    show("status", await conn.execute("UPDATE t SET b = 'x' WHERE a < 10"))
    statement = await conn.prepare("SELECT * FROM t WHERE a = $1")
    show("attributes", [(a.name, a.type.name) for a in statement.get_attributes()])
    for n in range(3):
        show("prepared", await statement.fetchrow(n))
    async with conn.transaction():
        show("cursor", [row["a"] async for row in conn.cursor("SELECT a FROM t ORDER BY a", prefetch=7)][:9])
        cursor = await conn.cursor("SELECT a FROM t ORDER BY a")
        show("forward", (await cursor.forward(10), await cursor.fetch(2)))
    try:
        async with conn.transaction():
            await conn.execute("DELETE FROM t")
            await conn.execute("INSERT INTO t VALUES (1, ''), (1, '')")
    except asyncpg.UniqueViolationError as error:
        show("unique", (error.sqlstate, error.constraint_name))
    show("undone", await conn.fetchval("SELECT count(*) FROM t"))
    show("many", await conn.fetchmany("SELECT $1::int * 2", [(n,) for n in range(5)]))


async def copy(conn):
    source = io.BytesIO(b"".join(b"%d\tcopied\n" % n for n in range(1000, 3000)))
    show("copy in", await conn.copy_to_table("t", source=source))
    show("copy records", await conn.copy_records_to_table("t", records=[(9000, "r"), (9001, None)]))
    out = io.BytesIO()
    show("copy out", await conn.copy_from_query("SELECT a FROM t WHERE a >= $1 ORDER BY a", 2990, output=out))
    show("copied", out.getvalue())


async def listen(conn, connect):
    queue = asyncio.Queue()
    await conn.add_listener("ch", lambda _, __, channel, payload: queue.put_nowait((channel, payload)))
    other = await connect()
    for n in range(3):
        await other.execute(f"NOTIFY ch, '{n}'")
    await other.close()
    show("notified", [await asyncio.wait_for(queue.get(), 30) for _ in range(3)])


async def cancel(conn):
    try:
        await conn.execute("SELECT pg_sleep(600)", timeout=0.2)
    except asyncio.TimeoutError:
        show("timed out", True)
    show("goes on", await conn.fetchval("SELECT 'yes'"))
    show("alone", await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"))


async def main(host, port, database, user):
    async def connect():
        return await asyncpg.connect(host=host, port=int(port), database=database, user=user, ssl=False)

    conn = await connect()
    await types(conn)
    await statements(conn)
    await copy(conn)
    await listen(conn, connect)
    await cancel(conn)
    messages = []
    conn.add_log_listener(lambda _, message: messages.append(str(message)))
    await conn.execute("DO $$ BEGIN RAISE WARNING 'careful'; END $$")
    await conn.reset()
    await conn.close()
    show("messages", messages)
    async with asyncpg.create_pool(host=host, port=int(port), database=database, user=user, ssl=False, min_size=3, max_size=5) as pool:
        values = await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(100)))
        show("pool", sum(values))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
