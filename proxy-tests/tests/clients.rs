//! Real clients through a gate that allows everything: the same results as directly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use proxy_tests::gate::Gate;
use proxy_tests::postgres::{Database, Target, shared};
use proxy_tests::psql::{Psql, pgbench, python_script, tool, tool_with_input};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// A schema with something of everything that psql describes and `pg_dump` dumps.
const SHOP: &str = "
    CREATE SCHEMA shop; SET search_path = shop;
    CREATE TYPE state AS ENUM ('new', 'paid', 'sent');
    CREATE DOMAIN cents AS bigint CHECK (VALUE >= 0);
    CREATE SEQUENCE numbers;
    CREATE TABLE customers (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL, email text UNIQUE);
    CREATE TABLE orders (id int PRIMARY KEY DEFAULT nextval('numbers'), customer int REFERENCES customers ON DELETE CASCADE,
        state state NOT NULL DEFAULT 'new', total cents, placed timestamptz DEFAULT '2024-01-01', CHECK (total < 1000000));
    CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day);
    CREATE TABLE parts_2024 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE INDEX ON orders (customer, placed DESC) WHERE state <> 'sent';
    CREATE VIEW open_orders AS SELECT * FROM orders WHERE state = 'new';
    CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY 1;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.placed := '2024-06-01'; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE RULE quiet AS ON DELETE TO customers DO INSTEAD NOTHING;
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON orders USING (true);
    COMMENT ON TABLE orders IS 'what people bought';
    INSERT INTO customers (name, email) SELECT 'c' || g, g || '@example.com' FROM generate_series(1, 200) g;
    INSERT INTO orders (customer, total) SELECT 1 + g % 200, g FROM generate_series(1, 2000) g;
    INSERT INTO parts SELECT g, '2024-03-01' FROM generate_series(1, 10) g;
    REFRESH MATERIALIZED VIEW totals; RESET search_path";

fn both(run: impl Fn(&Target) -> String) -> Database {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let direct = run(database.target());
    let gated = run(&gate.target());
    assert!(!direct.is_empty(), "the client said something");
    assert_eq!(direct, gated);
    database
}

#[test]
fn psycopg_sees_the_same() {
    both(|target| python_script("psycopg_client.py", &[&target.conninfo("")]).ok());
}

#[test]
fn asyncpg_sees_the_same() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let run = |target: &Target| {
        // It makes a type that is not temporary.
        database.run("DROP TYPE IF EXISTS pair");
        python_script("asyncpg_client.py", &[&target.host, &target.port.to_string(), &target.database, &target.user])
            .ok()
    };
    let direct = run(database.target());
    assert!(direct.contains("pool 4950"), "{direct}");
    assert_eq!(direct, run(&gate.target()));
}

#[test]
fn psqls_describe_family_sees_the_same() {
    let database = shared();
    database.run(SHOP);
    let gate = Gate::transparent(database.target());
    let commands = [
        "\\d",
        "\\d+",
        "\\d shop.*",
        "\\d+ shop.orders",
        "\\dt+ shop.*",
        "\\di+ shop.*",
        "\\dv+ shop.*",
        "\\dm shop.*",
        "\\ds shop.*",
        "\\dT+ shop.*",
        "\\dD shop.*",
        "\\df+ shop.*",
        "\\da",
        "\\dn+",
        "\\dp shop.*",
        "\\ddp",
        "\\du+",
        "\\dg",
        "\\db",
        "\\dc",
        "\\dC",
        "\\dd",
        "\\des",
        "\\deu",
        "\\det",
        "\\dF",
        "\\dFd",
        "\\dFp",
        "\\dFt",
        "\\dL",
        "\\do shop.*",
        "\\dO",
        "\\dP+ shop.*",
        "\\drds",
        "\\dRp",
        "\\dRs",
        "\\dx",
        "\\dX",
        "\\dy",
        "\\dA",
        "\\dAc",
        "\\dAf",
        "\\dAo",
        "\\dAp",
        "\\dconfig work_mem",
        "\\dE",
        "\\sf shop.touch",
        "\\sv shop.open_orders",
        "\\z shop.*",
        "\\encoding",
        "\\conninfo",
    ];
    // Without the sizes of `\l+`, which differ from one moment to the next.
    let script = commands
        .iter()
        .filter(|command| **command != "\\conninfo")
        .map(|command| format!("\\echo {command}\n{command}\n"))
        .collect::<Vec<_>>()
        .concat();
    let run = |target: &Target| Psql::new(target).arg("-E").script(&script).ok();
    let direct = run(database.target());
    assert!(direct.contains("what people bought"));
    assert_eq!(direct, run(&gate.target()));
    // Nothing of it is held by the shipped policy.
    let strict = Gate::start(database.target());
    assert_eq!(direct, run(&strict.target()));
    assert!(strict.api().pending().is_empty());
}

#[test]
fn psqls_variables_and_loops_work() {
    both(|target| {
        let script = "
            SELECT 1 AS one, 'x' AS letter \\gset
            \\echo :one :letter
            SELECT :'letter' || $1 \\bind 'y' \\g
            SELECT g FROM generate_series(1, 3) g \\gexec
            \\set AUTOCOMMIT off
            SELECT 1; ROLLBACK;
            \\set FETCH_COUNT 7
            SELECT g FROM generate_series(1, 30) g;
            \\crosstabview
            \\copy (SELECT 1, 2) TO STDOUT
        ";
        // Some of these are newer than psql 15: what it says of them is compared too.
        let said = Psql::new(target).arg("-v").arg("ON_ERROR_STOP=0").script(script);
        said.stdout + &said.stderr.replace(&target.port.to_string(), "PORT")
    });
}

#[test]
fn dumps_are_the_same_and_restore_through_the_gate() {
    let source = shared();
    source.run(SHOP);
    let gate = Gate::transparent(source.target());
    let direct = tool("pg_dump", source.target(), &[]).ok();
    let gated = tool("pg_dump", &gate.target(), &[]).ok();
    // Since a security release, every dump has a random key in its \restrict lines.
    let even = |dump: &str| dump.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n");
    assert_eq!(even(&direct), even(&gated));

    let directory = tempfile::tempdir().unwrap();
    for format in ["c", "t", "d"] {
        let file = directory.path().join(format);
        let path = file.to_str().unwrap();
        let jobs: &[&str] = if format == "d" { &["-j", "2"] } else { &[] };
        tool("pg_dump", &gate.target(), &[&["-F", format, "-f", path][..], jobs].concat()).ok();
        let copy = shared();
        let through = gate.target().with_database(&copy.target().database);
        let jobs: &[&str] = if format == "t" { &[] } else { &["-j", "2"] };
        tool("pg_restore", &through, &[&["--exit-on-error"], jobs, &[path]].concat()).ok();
        let restored = tool("pg_dump", copy.target(), &[]).ok();
        assert_eq!(even(&direct), even(&restored), "format {format}");
    }
    let copy = shared();
    let through = gate.target().with_database(&copy.target().database);
    tool_with_input("psql", &through, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], direct.as_bytes()).ok();
    assert_eq!(even(&direct), even(&tool("pg_dump", copy.target(), &[]).ok()));
}

#[test]
fn pgbench_runs_all_its_protocols_under_the_shipped_policy() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    pgbench(&gate.target(), &["-i", "-q", "-s", "1", "--foreign-keys"]).ok();
    let strict = Gate::start(database.target());
    for protocol in ["simple", "extended", "prepared"] {
        for workload in [&["-S"][..], &["-N"], &[]] {
            let arguments = [&["-n", "-c", "4", "-j", "2", "-t", "50", "-M", protocol], workload].concat();
            let said = pgbench(&strict.target(), &arguments).ok();
            assert!(said.contains("actually processed: 200/200"), "{said}");
            assert!(!said.contains("failed transactions: 1"), "{said}");
        }
    }
    let mut raw = database.raw();
    let sums =
        raw.rows("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(delta) FROM pgbench_history)");
    assert_eq!(raw.value("SELECT count(*) FROM pgbench_history"), "1200");
    assert_eq!(sums[0][0], sums[0][1]);
    // pgbench's own pipelines.
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("pipeline.sql");
    std::fs::write(
        &script,
        "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT abalance FROM pgbench_accounts WHERE aid = 1;\n\\endpipeline\n",
    )
    .unwrap();
    let said =
        pgbench(&strict.target(), &["-n", "-M", "prepared", "-c", "4", "-t", "100", "-f", script.to_str().unwrap()])
            .ok();
    assert!(said.contains("actually processed: 400/400"), "{said}");
}

#[tokio::test]
async fn tokio_postgres_pipelines_copies_and_cancels() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let (client, connection) = tokio_postgres::connect(&gate.target().conninfo(""), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    for n in 0..50_i32 {
        client.execute(&insert, &[&n, &format!("row {n}")]).await.unwrap();
    }
    // Joined futures are pipelined on the connection.
    let select = client.prepare("SELECT b FROM t WHERE a = $1").await.unwrap();
    let (one, two, bad, four) = tokio::join!(
        client.query_one(&select, &[&1_i32]),
        client.query_one(&select, &[&2_i32]),
        client.query_one("SELECT 1 / $1::int", &[&0_i32]),
        client.query_one(&select, &[&4_i32]),
    );
    assert_eq!((one.unwrap().get::<_, &str>(0), two.unwrap().get::<_, &str>(0)), ("row 1", "row 2"));
    assert_eq!(bad.unwrap_err().code().unwrap().code(), "22012");
    assert_eq!(four.unwrap().get::<_, &str>(0), "row 4");
    let simple = client.simple_query("SELECT count(*) FROM t; SELECT 'second'").await.unwrap();
    let rows: Vec<_> = simple
        .iter()
        .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None })
        .collect();
    assert_eq!(rows, ["50", "second"]);

    let token = client.cancel_token();
    let mut watch = database.raw();
    let running = tokio::task::spawn_blocking(move || {
        let sleeping =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        proxy_tests::raw::eventually("the statement runs", || (watch.value(sleeping) == "1").then_some(()));
    });
    let (cancelled, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(600)"), async {
        running.await.unwrap();
        token.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(cancelled.unwrap_err().code().unwrap().code(), "57014");
    drop(client);
    tokio::time::timeout(Duration::from_secs(30), connection).await.unwrap().unwrap().unwrap();
}
