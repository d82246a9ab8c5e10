//! Wire checklist, rows 12–18, 22 and 23: traffic through a gate that allows everything looks as it does directly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::Raw;
use proxy_tests::transcript;

/// Runs a script directly and through the gate, in the same database, and compares.
fn same(script: impl Fn(&mut Raw)) {
    let database = shared();
    same_in(&database, script);
}

fn same_in(database: &Database, script: impl Fn(&mut Raw)) {
    let gate = Gate::transparent(database.target());
    transcript::same(database.target(), &gate.target(), script);
}

/// Sends each message batch in turn and reads to `ReadyForQuery` after each.
fn same_queries(queries: &[&str]) {
    same(|raw| {
        for query in queries {
            raw.query(query);
        }
    });
}

// Row 12

#[test]
fn simple_queries_look_the_same() {
    same_queries(&[
        "",
        ";;",
        "SELECT 1",
        "SELECT 1; SELECT 2, NULL, 'x'; ;",
        "SELECT 1; SELECT 1/0; SELECT 2",
        "BEGIN; SELECT 1/0; SELECT 2",
        "SELECT 1",
        "ROLLBACK",
        "SELECT * FROM nowhere",
        "SELEC 1",
        "DO $$ BEGIN RAISE NOTICE 'n1'; RAISE WARNING 'w1'; END $$",
        "DROP TABLE IF EXISTS nowhere",
        "CREATE TEMP TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL); SELECT * FROM t",
        "UPDATE t SET b = 'y' RETURNING *; DELETE FROM t; TRUNCATE t",
        "BEGIN; SAVEPOINT s; SELECT 1/0",
        "ROLLBACK TO s; SELECT 3; COMMIT",
        "EXPLAIN (COSTS OFF) SELECT 1",
        "SHOW search_path; SET application_name = 'other'; RESET ALL",
    ]);
}

#[test]
fn malformed_query_bodies_are_answered_by_the_server() {
    for body in [&b"SELECT 1"[..], b"", b"SELECT 1\0SELECT 2\0", b"SELECT 1\0\0", b"SELECT '\xff\xfe'\0", b"\xc3\x28\0"]
    {
        same(|raw| {
            raw.send(m::frame(b'Q', body));
            raw.until(b'Z');
            raw.query("SELECT 'still here'");
        });
    }
}

// Row 13

#[test]
fn extended_protocol_messages_in_every_order_look_the_same() {
    let steps: &[(&str, Vec<u8>)] = &[
        ("P", m::parse("", "SELECT $1::int + 1", &[])),
        ("B", m::bind("", "", &[Some(b"41")])),
        ("D", m::describe_portal("")),
        ("E", m::execute("", 0)),
        ("S", m::sync()),
    ];
    // All 120 orders, each ended by a Sync of its own, in one session: state carries over as it would for a client.
    let database = shared();
    same_in(&database, |raw| {
        for order in permutations(steps.len()) {
            for index in &order {
                raw.send(&steps[*index].1);
            }
            raw.send(m::sync());
            raw.until_ready(2);
        }
    });
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n.checked_sub(1).unwrap());
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, n.checked_sub(1).unwrap());
        order
    };
    shorter.iter().flat_map(|order| (0..=order.len()).map(move |at| insert(order, at))).collect()
}

#[test]
fn named_statements_and_portals_look_the_same() {
    same(|raw| {
        raw.send(
            [
                m::parse("s1", "SELECT g, $1::text FROM generate_series(1, 5) g", &[25]),
                m::describe_statement("s1"),
                m::bind("p1", "s1", &[Some(b"a")]),
                m::bind("p2", "s1", &[None]),
                m::describe_portal("p1"),
                m::execute("p1", 2),
                m::execute("p2", 1),
                m::execute("p1", 2),
                m::execute("p1", 2),
                m::execute("p1", 2),
                m::close_portal("p1"),
                m::execute("p2", 0),
                m::sync(),
            ]
            .concat(),
        );
        raw.until(b'Z');
        // A portal ends with its transaction; a statement's name is taken until it is closed.
        raw.send([m::execute("p2", 0), m::sync(), m::parse("s1", "SELECT 1", &[]), m::sync()].concat());
        raw.until_ready(2);
        raw.send(
            [
                m::close_statement("s1"),
                m::close_statement("never"),
                m::parse("s1", "SELECT 1", &[]),
                m::bind("", "s1", &[]),
                m::execute("", 0),
                m::sync(),
            ]
            .concat(),
        );
        raw.until(b'Z');
        raw.send(
            [
                m::bind("", "nothing", &[]),
                m::execute("", 0),
                m::sync(),
                m::bind("", "s1", &[Some(b"too many")]),
                m::sync(),
            ]
            .concat(),
        );
        raw.until_ready(2);
    });
}

#[test]
fn portals_survive_in_transactions_and_binary_formats_pass() {
    same(|raw| {
        raw.query("BEGIN");
        raw.send(
            [
                m::parse("", "SELECT g FROM generate_series(1, 10) g", &[]),
                m::bind("cursor", "", &[]),
                m::execute("cursor", 3),
                m::sync(),
            ]
            .concat(),
        );
        raw.until(b'Z');
        raw.query("FETCH 2 FROM cursor");
        raw.send([m::execute("cursor", 3), m::flush()].concat());
        raw.until(b's');
        raw.send(m::sync());
        raw.until(b'Z');
        raw.query("DECLARE c2 CURSOR FOR SELECT 1; FETCH ALL FROM c2; CLOSE c2; COMMIT");
        raw.send(
            [
                m::parse("", "SELECT $1::int4, $2::bytea", &[]),
                m::bind_formats("", "", &[1], &[Some(&[0, 0, 0, 7]), Some(b"\0\xff")], &[1]),
                m::execute("", 0),
                m::sync(),
            ]
            .concat(),
        );
        raw.until(b'Z');
    });
}

#[test]
fn an_error_skips_to_sync() {
    same(|raw| {
        raw.send(
            [
                m::extended("SELECT 1", &[]),
                m::parse("", "SELECT 1/0", &[]),
                m::bind("", "", &[]),
                m::execute("", 0),
                m::parse("x", "SELECT 2", &[]),
                m::query("SELECT 'skipped'"),
                m::sync(),
                m::extended("SELECT 3", &[]),
            ]
            .concat(),
        );
        raw.until_ready(3);
    });
}

#[test]
fn an_implicit_transaction_of_a_pipeline_is_undone_by_its_error() {
    let database = shared();
    database.run("CREATE TABLE t (x int PRIMARY KEY)");
    same_in(&database, |raw| {
        let insert = |value: &str| {
            [
                m::parse("", "INSERT INTO t VALUES ($1)", &[]),
                m::bind("", "", &[Some(value.as_bytes())]),
                m::execute("", 0),
            ]
            .concat()
        };
        raw.send([insert("1"), insert("2"), insert("1"), insert("3"), m::sync()].concat());
        raw.until(b'Z');
        raw.query("SELECT count(*) FROM t");
    });
}

#[test]
fn a_thousand_pipelined_statements_keep_their_order() {
    same(|raw| {
        let batch: Vec<u8> =
            (0..1000).flat_map(|n| m::extended("SELECT $1::int", &[Some(n.to_string().as_bytes())])).collect();
        raw.send(batch);
        raw.until_ready(1000);
        let simple: Vec<u8> = (0..1000).flat_map(|n| m::query(format!("SELECT {n}"))).collect();
        raw.send(simple);
        raw.until_ready(1000);
    });
}

// Row 14

#[test]
fn messages_sent_byte_by_byte_look_the_same() {
    same(|raw| {
        raw.send_bytewise(
            [m::query("SELECT 'one byte at a time'"), m::extended("SELECT $1::text", &[Some(b"x")])].concat(),
        );
        raw.until_ready(2);
    });
}

#[test]
fn messages_cut_anywhere_look_the_same() {
    let bytes = [m::query("SELECT 1; SELECT 2"), m::extended("SELECT $1::int", &[Some(b"5")])].concat();
    same(|raw| {
        for cut in 1..bytes.len() {
            raw.send(&bytes[..cut]);
            raw.send(&bytes[cut..]);
            raw.until_ready(2);
        }
    });
}

// Row 15

#[test]
fn unknown_message_types_end_the_session_as_the_server_ends_it() {
    for tag in [b'!', 0, b'z', b'R', 0xff] {
        same(|raw| {
            raw.send(m::frame(tag, b"whatever\0"));
            raw.until_eof();
        });
    }
}

#[test]
fn bodies_that_do_not_fit_are_answered_as_the_server_answers() {
    let bodies: &[(u8, &[u8])] = &[
        (b'P', b""),
        (b'P', b"\0"),
        (b'P', b"\0SELECT 1\0"),
        (b'P', b"\0SELECT 1\0\0"),
        (b'P', b"\0SELECT 1\0\0\x01"),
        (b'P', b"\0SELECT 1\0\0\0tail"),
        (b'B', b""),
        (b'B', b"\0\0"),
        (b'B', b"\0\0\0\0"),
        (b'B', b"\0\0\0\0\0\x01\0\0\0\x09short"),
        (b'B', b"\0\0\0\0\0\0\0\0more"),
        (b'D', b""),
        (b'D', b"S"),
        (b'D', b"S\0tail"),
        (b'C', b""),
        (b'E', b""),
        (b'E', b"\0"),
        (b'E', b"\0\0\0"),
        (b'E', b"\0\0\0\0\0tail"),
        (b'S', b"tail"),
        (b'H', b"tail"),
    ];
    for (tag, body) in bodies {
        same(|raw| {
            raw.send([m::frame(*tag, body), m::sync()].concat());
            // A Sync whose own body is wrong raises an error, which the next Sync ends.
            raw.until(b'Z');
            raw.query("SELECT 'after'");
        });
    }
}

#[test]
fn unknown_kinds_of_target_are_errors_of_the_server() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    for message in [m::frame(b'D', b"X\0"), m::frame(b'C', b"Z\0")] {
        // The gate sends on a message that is wrong in the same way but carries nothing of the client's.
        transcript::same_but_wording(database.target(), &gate.target(), |raw, target| {
            raw.start(&[("user", &target.user), ("database", &target.database)]);
            raw.send([message.clone(), m::sync()].concat());
            raw.until(b'Z');
            raw.query("SELECT 'after'");
        });
    }
}

#[test]
fn impossible_lengths_end_the_session_and_take_no_memory() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    for tag in [b'Q', b'P', b'S', b'd'] {
        for length in [0_u32, 1, 3, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            transcript::same(database.target(), &gate.target(), |raw| {
                raw.send([&[tag][..], &length.to_be_bytes(), b"SELECT 1\0"].concat());
                raw.half_close();
                raw.until_eof();
            });
        }
    }
    assert!(proxy_tests::process::resident_kib(gate.process.pid()) < 200_000);
}

// Row 16

#[test]
fn copy_in_both_directions_looks_the_same() {
    same(|raw| {
        raw.query("CREATE TEMP TABLE t (a int, b text)");
        raw.send(m::query("COPY t FROM STDIN"));
        raw.until(b'G');
        raw.send(
            [
                m::copy_data(b"1\tone\n2\t"),
                m::copy_data(b"two\n"),
                m::flush(),
                m::sync(),
                m::copy_data(b"3\t\\N\n"),
                m::copy_done(),
            ]
            .concat(),
        );
        raw.until(b'Z');
        raw.query("COPY t TO STDOUT");
        raw.query("COPY (SELECT * FROM t ORDER BY 1) TO STDOUT (FORMAT csv, HEADER)");
        raw.query("COPY t TO STDOUT (FORMAT binary); SELECT 'next'");
        raw.send(
            [
                m::query("COPY t FROM STDIN (FORMAT csv); SELECT count(*) FROM t"),
                m::copy_data(b"4,four\n"),
                m::copy_done(),
            ]
            .concat(),
        );
        raw.until(b'Z');
    });
}

#[test]
fn copy_through_the_extended_protocol_looks_the_same() {
    same(|raw| {
        raw.query("CREATE TEMP TABLE t (a int)");
        raw.send(
            [
                m::extended("COPY t FROM STDIN", &[]),
                m::copy_data(b"1\n"),
                m::copy_done(),
                m::sync(),
                m::extended("SELECT * FROM t", &[]),
            ]
            .concat(),
        );
        raw.until_ready(2);
        raw.send(m::extended("COPY t TO STDOUT", &[]));
        raw.until(b'Z');
    });
}

#[test]
fn failed_copies_look_the_same_from_either_side() {
    same(|raw| {
        raw.query("CREATE TEMP TABLE t (a int)");
        raw.send([m::query("COPY t FROM STDIN"), m::copy_data(b"1\n"), m::copy_fail("changed my mind")].concat());
        raw.until(b'Z');
        raw.send(
            [m::query("COPY t FROM STDIN"), m::copy_data(b"not a number\n"), m::copy_data(b"2\n"), m::copy_done()]
                .concat(),
        );
        raw.until(b'Z');
        raw.query("SELECT count(*) FROM t");
        // COPY messages outside COPY are ignored.
        raw.send(
            [m::copy_data(b"stray"), m::copy_done(), m::copy_fail("stray"), m::query("SELECT 'still here'")].concat(),
        );
        raw.until(b'Z');
    });
}

#[test]
fn another_message_in_the_middle_of_a_copy_fails_it() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    // The server names the type of the message it did not expect; of the client's, the gate sends none on.
    transcript::same_but_wording(database.target(), &gate.target(), |raw, target| {
        raw.start(&[("user", &target.user), ("database", &target.database)]);
        raw.query("CREATE TEMP TABLE t (a int)");
        raw.send([m::query("COPY t FROM STDIN"), m::query("SELECT 'in the middle'")].concat());
        raw.until(b'Z');
        raw.query("SELECT count(*) FROM t");
    });
}

#[test]
fn a_client_gone_in_the_middle_of_a_copy_rolls_it_back() {
    let database = shared();
    database.run("CREATE TABLE t (a int)");
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("COPY t FROM STDIN"));
    raw.until(b'G');
    raw.send(m::copy_data(b"1\n2\n"));
    drop(raw);
    let mut watch = database.raw();
    proxy_tests::raw::eventually("the backend ends", || {
        (watch.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == "1").then_some(())
    });
    assert_eq!(watch.value("SELECT count(*) FROM t"), "0");
}

// Row 17

#[test]
fn notifications_look_the_same_idle_in_pipelines_and_in_bursts() {
    let database = shared();
    same_in(&database, |raw| {
        raw.query("LISTEN ch");
        raw.query("NOTIFY ch, 'own'");
        raw.send(
            [m::query("SELECT 1"), m::extended("SELECT pg_notify('ch', 'pipelined')", &[]), m::query("SELECT 2")]
                .concat(),
        );
        raw.until_ready(3);
        // To an idle session, from another one.
        let mut other = database.raw();
        other.query("NOTIFY ch, 'idle'");
        raw.until(b'A');
        let burst = (0..500).map(|n| format!("NOTIFY ch, 'burst {n}';")).collect::<Vec<_>>().concat();
        other.query(burst);
        for _ in 0..500 {
            raw.expect(b'A');
        }
        raw.query("UNLISTEN *");
    });
}

// Row 18

#[test]
fn parameter_status_and_keys_are_the_servers() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    let pid = raw.value("SELECT pg_backend_pid()");
    assert_eq!(raw.key.as_ref().unwrap().0.to_string(), pid);
    transcript::same(database.target(), &gate.target(), |raw| {
        raw.query("SET TimeZone = 'Asia/Tokyo'; SET client_encoding = 'latin1'; SELECT 'ü'");
        raw.query("BEGIN; SET application_name = 'x'; ROLLBACK");
        raw.query("SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DISCARD ALL");
    });
}

#[test]
fn notices_and_rows_arrive_before_the_statement_ends() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut holder = database.raw();
    holder.rows("SELECT pg_advisory_lock(7)");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query(
        "DO $$ BEGIN RAISE NOTICE 'early'; PERFORM pg_advisory_lock(7); PERFORM pg_advisory_unlock(7); END $$",
    ));
    assert_eq!(raw.expect(b'N').text(), "early");
    holder.rows("SELECT pg_advisory_unlock(7)");
    raw.until(b'Z');

    holder.rows("SELECT pg_advisory_lock(7)");
    // Rows of 10 KB each fill the server's 8 KB buffer, so that it sends them at once.
    raw.send(m::query(
        "SELECT repeat('x', 10000), CASE WHEN g = 3 THEN pg_advisory_lock(7)::text END FROM generate_series(1, 3) g",
    ));
    raw.expect(b'T');
    raw.expect(b'D');
    holder.rows("SELECT pg_advisory_unlock(7)");
    raw.until(b'Z');
}

// Row 22

#[test]
fn big_queries_parameters_and_rows_pass_whole() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    for megabytes in [1_usize, 20, 100] {
        let text = "x".repeat(megabytes << 20);
        assert_eq!(raw.value(&format!("SELECT length('{text}')")), text.len().to_string());
        raw.send(m::extended("SELECT length($1::text)", &[Some(text.as_bytes())]));
        let row = raw.until(b'Z').into_iter().find(|frame| frame.tag == b'D').unwrap();
        assert_eq!(row.columns()[0].as_deref(), Some(text.len().to_string().as_str()));
        let row = raw.rows(&format!("SELECT repeat('y', {})", text.len()));
        assert_eq!(row[0][0].as_ref().unwrap().len(), text.len());
        raw.transcript.clear();
    }
}

#[test]
fn a_slow_reader_of_200_mb_costs_the_gate_no_memory() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.rows("SELECT 1");
    let before = proxy_tests::process::resident_kib(gate.process.pid());
    let pid = raw.key.as_ref().unwrap().0;
    raw.send(m::query("SELECT repeat('x', 100000) FROM generate_series(1, 2000)"));
    let mut watch = database.raw();
    let blocked = |watch: &mut Raw| {
        let wait = watch.value(&format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"));
        let grown = proxy_tests::process::resident_kib(gate.process.pid()).saturating_sub(before);
        assert!(grown < 16 * 1024, "the gate grew by {grown} KiB");
        (wait == "ClientWrite").then_some(())
    };
    proxy_tests::raw::eventually("the backend waits for its reader", || blocked(&mut watch));
    let mut rows = 0;
    while let Some(frame) = raw.read() {
        raw.transcript.clear();
        if frame.tag == b'Z' {
            break;
        }
        rows += usize::from(frame.tag == b'D');
        if rows % 500 == 0 {
            let grown = proxy_tests::process::resident_kib(gate.process.pid()).saturating_sub(before);
            assert!(grown < 16 * 1024, "the gate grew by {grown} KiB");
        }
    }
    assert_eq!(rows, 2000);
}

#[test]
fn both_directions_flow_at_once_without_deadlock() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    let mut writer = raw.writer();
    let count = 2000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let text = "z".repeat(10_000);
            for _ in 0..count {
                writer.send(m::extended("SELECT $1::text", &[Some(text.as_bytes())]));
            }
        });
        for _ in 0..count {
            assert!(raw.until(b'Z').iter().any(|frame| frame.tag == b'D'));
            raw.transcript.clear();
        }
    });
}

// Row 23

#[test]
fn time_outs_are_the_servers() {
    same(|raw| {
        raw.query("SET statement_timeout = '50ms'; SELECT pg_sleep(60)");
        raw.query("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '50ms'");
        raw.query("BEGIN");
        raw.until_eof();
    });
    same(|raw| {
        raw.query("SET lock_timeout = '50ms'");
        raw.query("SET idle_session_timeout = '50ms'");
        raw.until_eof();
    });
}
