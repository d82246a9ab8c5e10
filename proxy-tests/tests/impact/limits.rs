//! Budgets and privileges: what cannot be had is said, each part by itself, in time.

use std::time::Duration;

use querygate::impact::summary;

use crate::stage::{Stage, block_on, exact, one, refusal, rows};

#[test]
fn a_locked_table_costs_the_count_and_not_the_rest() {
    let stage = Stage::new(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE); INSERT INTO t VALUES (1)",
    );
    let mut other = stage.database.raw();
    other.rows("BEGIN");
    other.rows("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    let prober = stage.prober_with(|settings| settings.budget = Duration::from_secs(20));
    let ask = stage.ask("DELETE FROM t");
    let in_time = async { tokio::time::timeout(Duration::from_secs(20), prober.probe(&ask)).await };
    let impact = block_on(in_time).unwrap();
    let statement = one(impact);
    let why = refusal(&rows(&statement));
    assert!(why.contains("another session has it locked"), "{why}");
    assert!(statement.objects[0].resolved.known().is_some());
    assert_eq!(statement.cascades.len(), 1);
}

#[test]
fn a_slow_count_keeps_the_estimate() {
    let stage = Stage::new("CREATE TABLE t (x int); INSERT INTO t SELECT generate_series(1, 3000); ANALYZE t");
    let slow = "DELETE FROM t USING t a, t b, t c WHERE t.x + a.x + b.x + c.x < 0";
    let prober = stage.prober_with(|settings| {
        settings.count_budget = Duration::from_millis(100);
        settings.count_cost = f64::INFINITY;
    });
    let found = rows(&one(block_on(prober.probe(&stage.ask(slow)))));
    assert!(found.estimate.known().is_some(), "{found:?}");
    assert!(found.exact.unknown().unwrap().contains("takes too long"), "{found:?}");
    let found = stage.rows(slow);
    assert!(found.exact.unknown().unwrap().contains("too costly"), "{found:?}");
    // The server does not go on with it.
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'querygate impact' AND state = 'active'";
    let mut watch = stage.database.raw();
    while watch.value(running) != "0" {}
}

#[test]
fn the_budget_ends_a_probe() {
    let stage = Stage::new("CREATE TABLE t (x int)");
    let prober = stage.prober_with(|settings| settings.budget = Duration::ZERO);
    let impact = block_on(prober.probe(&stage.ask("DELETE FROM t")));
    assert!(impact.trouble.is_some(), "{impact:?}");
    // Nobody answers at the other end.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target =
        proxy_tests::postgres::Target { port: silent.local_addr().unwrap().port(), ..stage.database.target().clone() };
    let settings = querygate::impact::ImpactSettings { budget: Duration::from_millis(50), ..Default::default() };
    let prober = querygate::impact::Prober::new(settings, crate::stage::dial(&target));
    let impact = block_on(prober.probe(&stage.ask("DELETE FROM t")));
    assert_eq!(impact.trouble.as_deref(), Some("connecting took too long"));
}

#[test]
fn a_missing_privilege_is_named_for_its_table() {
    let stage = Stage::new(
        "CREATE SCHEMA shop; CREATE TABLE shop.t (id int PRIMARY KEY); CREATE TABLE shop.c (t int REFERENCES shop.t ON DELETE CASCADE)",
    );
    let role = &stage.role;
    stage.database.run(&format!("REVOKE pg_read_all_data FROM {role}"));
    assert_eq!(refusal(&stage.rows("DELETE FROM shop.t")), format!("unknown: no USAGE on schema shop for role {role}"));
    stage.database.run(&format!("GRANT USAGE ON SCHEMA shop TO {role}"));
    assert_eq!(refusal(&stage.rows("DELETE FROM shop.t")), format!("unknown: no SELECT on shop.t for role {role}"));
    stage.database.run(&format!("GRANT SELECT ON shop.t TO {role}"));
    let statement = stage.one("DELETE FROM shop.t");
    assert_eq!(exact(&rows(&statement)), 0);
    assert!(refusal(&statement.cascades[0].rows).contains("no SELECT on shop.c"), "{statement:?}");
}

#[test]
fn what_is_missing_for_probing_is_said_in_plain_words() {
    let stage = Stage::new("CREATE SCHEMA shop; CREATE TABLE shop.t (id int); CREATE TABLE shop.hidden (id int)");
    let database = stage.database.target().database.clone();
    let check = || block_on(stage.prober().check(&database)).unwrap();
    assert_eq!(check(), Vec::<String>::new());
    let role = &stage.role;
    stage.database.run("ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY");
    assert!(check()[0].contains("BYPASSRLS") && check()[0].contains("shop.t"), "{:?}", check());
    stage.database.run(&format!("REVOKE pg_read_all_data, pg_read_all_stats FROM {role}"));
    stage.database.run(&format!("GRANT USAGE ON SCHEMA shop TO {role}; GRANT SELECT ON shop.t TO {role}"));
    let said = check().join("\n");
    assert!(said.contains("pg_read_all_stats") && said.contains("shop.hidden"), "{said}");
    stage.database.run(&format!("ALTER ROLE {role} NOLOGIN"));
    assert!(block_on(stage.prober().check(&database)).unwrap_err().contains("not permitted to log in"));
    let impact = stage.probe("DELETE FROM shop.t");
    assert!(summary(&impact)[0].contains("not permitted to log in"), "{impact:?}");
}

#[test]
fn excluded_tables_are_not_counted() {
    let stage = Stage::new("CREATE TABLE t (x int); CREATE SCHEMA shop; CREATE TABLE shop.t (x int)");
    let prober = stage.prober_with(|settings| settings.exclude = vec!["public.t".to_owned(), "shop.*".to_owned()]);
    for text in ["DELETE FROM t", "DELETE FROM shop.t"] {
        assert!(refusal(&rows(&one(block_on(prober.probe(&stage.ask(text)))))).contains("excluded"), "{text}");
    }
}

#[test]
fn long_texts_and_many_statements_are_cut() {
    let stage = Stage::new("CREATE TABLE t (x int)");
    let impact = stage.probe(&"DELETE FROM t;".repeat(20));
    assert_eq!(impact.statements.len(), 8);
    assert!(impact.fingerprint.known().is_none() && !impact.requester_may_see);
    let impact = stage.probe(&format!("DELETE FROM t WHERE x IN ({})", vec!["1"; 40_000].join(",")));
    assert!(impact.trouble.unwrap().contains("longer than"));
}

#[test]
fn probes_leave_nothing_behind() {
    let stage = Stage::new("CREATE TABLE t (x int)");
    let prober = stage.prober();
    block_on(async {
        for _ in 0..6 {
            prober.probe(&stage.ask("DELETE FROM t")).await;
        }
        // Dropped half way.
        let ask = stage.ask("DELETE FROM t");
        tokio::select! { biased; _ = prober.probe(&ask) => (), () = std::future::ready(()) => () }
        assert_eq!(one(prober.probe(&ask).await).objects.len(), 1);
    });
    let mut watch = stage.database.raw();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'querygate impact'";
    while watch.value(open) != "0" {}
}
