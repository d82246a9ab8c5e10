//! Approvers of an undo see what it would bring back and which rows conflict, before they decide and again before it is released.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::api::Api;
use proxy_tests::postgres::shared;
use proxy_tests::raw::eventually;
use proxy_tests::undo::{SHOP, SHOP_TABLES, Stage, request, said, stage_with};

/// With a prober that is a member of these roles.
fn looked_into(of: &str, tables: &str, covered: &[&str]) -> (Stage, String) {
    // Every test has a database of its own, but roles are the cluster's.
    let prober = shared().unique("looks");
    let settings =
        format!("[impact]\nuser = \"{prober}\"\nbudget = \"60s\"\ncount_budget = \"30s\"\nconnect_timeout = \"60s\"");
    let member = if of.is_empty() { String::new() } else { format!("GRANT {of} TO {prober};") };
    (
        stage_with("max_rows = 1000", &settings, &format!("CREATE ROLE {prober} LOGIN; {member} {tables}"), covered),
        prober,
    )
}

/// What approvers are shown of the undo that waits.
fn shown(api: &Api, held: &str) -> String {
    let impact = eventually("it is looked into", || {
        let impact = api.get(&format!("/v1/requests/{held}"))["impact"].clone();
        (!impact.is_null()).then_some(impact)
    });
    let lines = |of: &str| {
        impact[of]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    };
    // What matters is in the lines that Slack shows.
    assert!(lines("summary").contains("undoing qg-"), "{impact}");
    lines("headlines")
}

/// What approvers of an undo of `id` are shown, which is then rejected.
fn foreseen(stage: &mut Stage, id: &str) -> String {
    drop(stage.approver.take());
    let api = stage.gate.api();
    let told = std::thread::scope(|scope| {
        let undo = scope.spawn(|| stage.restore(id, &[]));
        let held = api.wait_held("restore");
        let told = shown(&api, &held);
        api.reject(&held, "no");
        assert!(said(&undo.join().unwrap()).contains("rejected"));
        told
    });
    stage.approver = Some(proxy_tests::api::Approver::of(stage.gate.api()));
    told
}

#[test]
fn approvers_see_rows_and_conflicts_as_they_are_found_when_it_is_tried() {
    let (mut stage, _) = looked_into("pg_read_all_data", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM customers WHERE id = 1"));
    let told = foreseen(&mut stage, &id);
    for line in [
        "brings back 1 row of public.customers; none conflicts",
        "brings back 4 rows of public.items; none conflicts",
        "brings back 2 rows of public.orders; none conflicts",
        "sets back 1 row of public.visits; none conflicts",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    stage.database.run("INSERT INTO orders VALUES (2, NULL, 'another'); DELETE FROM visits WHERE id = 1");
    let told = foreseen(&mut stage, &id);
    assert!(
        told.contains("2 rows of public.orders; CONFLICT at present: 1 of them: 1 (a row with its key exists)"),
        "{told}"
    );
    assert!(told.contains("1 row of public.visits; CONFLICT at present: 1 of them: 1 (the row is gone)"), "{told}");
    assert!(told.contains("4 rows of public.items; none conflicts"), "{told}");
    // So it is.
    let tried = said(&stage.restore(&id, &[]));
    assert_eq!(tried.matches("conflict: ").count(), 2, "{tried}");
    assert!(
        tried.contains("conflict: a row with its key exists") && tried.contains("conflict: the row is gone"),
        "{tried}"
    );
}

#[test]
fn every_kind_of_conflict_is_foreseen() {
    let tables = "CREATE TABLE p (id int PRIMARY KEY, code text UNIQUE); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, q text REFERENCES p (code));
        CREATE TABLE bare (a int, b text); CREATE TYPE pair AS (a int); CREATE TABLE odd (id int PRIMARY KEY, x pair);
        CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (100);
        INSERT INTO p SELECT x, 'c' || x FROM generate_series(1, 5) x; INSERT INTO c VALUES (1, 1, 'c1'), (2, 2, NULL), (3, NULL, 'c3');
        INSERT INTO bare VALUES (1, 'x'), (1, 'x'), (2, 'y'); INSERT INTO odd VALUES (1, ROW(1)); INSERT INTO part VALUES (1, 'a'), (2, 'b')";
    let (mut stage, _) = looked_into("pg_read_all_data", tables, &["p", "c", "bare", "odd", "part"]);
    for (statement, meanwhile, expected) in [
        (
            "DELETE FROM c",
            "DELETE FROM p WHERE id = 1",
            "3 rows of public.c; CONFLICT at present: 1 of them: 1 (a row it refers to is missing)",
        ),
        ("UPDATE p SET code = 'new' WHERE id = 4", "INSERT INTO p VALUES (9, 'c4')", "1 (a row with its key exists)"),
        (
            "UPDATE p SET code = 'other' WHERE id = 5",
            "INSERT INTO c VALUES (9, NULL, 'other')",
            "1 (other rows refer to it)",
        ),
        (
            "UPDATE bare SET b = 'z'",
            "UPDATE bare SET b = 'later' WHERE a = 2",
            "3 rows of public.bare; CONFLICT at present: 1 of them: 1 (there is no row as it was left)",
        ),
        (
            "DELETE FROM bare WHERE a = 1",
            "ALTER TABLE bare ADD COLUMN c int",
            "2 (the columns of its table have changed since)",
        ),
        (
            "DELETE FROM odd",
            "",
            "1 row of public.odd; which conflict is not known: reading a value of column x may run anybody's code",
        ),
        (
            "UPDATE part SET v = 'z'",
            "UPDATE part SET v = 'w' WHERE id = 2",
            "2 rows of public.part1; CONFLICT at present: 1 of them: 1 (the row was changed since)",
        ),
        (
            "DELETE FROM part WHERE id = 1",
            "ALTER TABLE part1 RENAME TO part2",
            "1 (its table is gone, or has another name)",
        ),
    ] {
        let id = request(&stage.login().query(statement));
        stage.database.run(meanwhile);
        let told = foreseen(&mut stage, &id);
        assert!(told.contains(expected), "{statement}, {meanwhile}: {told}");
        // What is foreseen is what is found.
        if !expected.contains("not known") {
            let tried = said(&stage.restore(&id, &["--dry-run"]));
            let foreseen: usize = told
                .lines()
                .filter_map(|line| line.split("at present: ").nth(1)?.split(' ').next()?.parse::<usize>().ok())
                .sum();
            assert_eq!(tried.matches("conflict: ").count(), foreseen, "{statement}: {told}\n{tried}");
        }
    }
}

#[test]
fn keys_that_change_places_and_parents_that_come_back_are_no_conflicts() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t ON DELETE CASCADE, v text); INSERT INTO t VALUES (1, NULL, 'a'), (2, 1, 'b'), (3, 2, 'c');
        CREATE TABLE s (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED); INSERT INTO s VALUES (1), (2)";
    let (mut stage, _) = looked_into("pg_read_all_data", tables, &["t", "s"]);
    for statement in ["DELETE FROM t WHERE id = 1", "UPDATE s SET id = 3 - id"] {
        let id = request(&stage.login().query(statement));
        let told = foreseen(&mut stage, &id);
        assert!(told.contains("none conflicts") && !told.contains("CONFLICT"), "{statement}: {told}");
    }
}

#[test]
fn what_is_foreseen_runs_nobody_s_casts_and_counts_moves_as_moves() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a');
        CREATE FUNCTION read(text) RETURNS t LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it ran'; END $$; CREATE CAST (text AS t) WITH FUNCTION read(text);
        CREATE TABLE parts (k int PRIMARY KEY) PARTITION BY RANGE (k); CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20); CREATE TABLE child (id int PRIMARY KEY, k int REFERENCES parts ON UPDATE CASCADE);
        INSERT INTO parts VALUES (5); INSERT INTO child VALUES (1, 5); CREATE TABLE base (a int); CREATE TABLE kid () INHERITS (base);
        INSERT INTO base VALUES (1); INSERT INTO kid VALUES (2)";
    let (mut stage, _) = looked_into("pg_read_all_data", tables, &["t", "parts", "child", "base", "kid"]);
    let id = request(&stage.login().query("DELETE FROM t"));
    let told = foreseen(&mut stage, &id);
    assert!(told.contains("1 row of public.t; which conflict is not known: there are casts of its row type"), "{told}");
    let id = request(&stage.login().query("UPDATE parts SET k = 15"));
    stage.database.run("INSERT INTO child VALUES (2, 15)");
    let told = foreseen(&mut stage, &id);
    assert!(told.contains("removes 1 row of public.high; none conflicts") && !told.contains("CONFLICT"), "{told}");
    assert!(stage.restore(&id, &[]).status.success());
    // A row of a table that inherits from it is none of its own.
    let id = request(&stage.login().query("UPDATE ONLY base SET a = 2"));
    stage.database.run("DELETE FROM ONLY base");
    let told = foreseen(&mut stage, &id);
    assert!(told.contains("1 of them: 1 (there is no row as it was left)"), "{told}");
    assert!(said(&stage.restore(&id, &[])).contains("there is no row as it was left"));
}

#[test]
fn where_the_prober_may_not_look_conflicts_are_said_to_be_unknown() {
    let (mut stage, prober) = looked_into("", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM customers WHERE id = 1"));
    let told = foreseen(&mut stage, &id);
    // The numbers are there all the same.
    assert!(
        told.contains(
            "brings back 2 rows of public.orders; which conflict is not known: no SELECT on querygate_undo.request"
        ),
        "{told}"
    );
    stage.database.run(&format!("GRANT SELECT ON querygate_undo.request, querygate_undo.change TO {prober}; GRANT SELECT ON visits, customers TO {prober}"));
    let told = foreseen(&mut stage, &id);
    assert!(told.contains("sets back 1 row of public.visits; none conflicts"), "{told}");
    assert!(
        told.contains("brings back 2 rows of public.orders; which conflict is not known: no SELECT on public.orders"),
        "{told}"
    );
    assert!(told.contains("1 row of public.customers; which conflict is not known"), "{told}");
}

#[test]
fn conflicts_that_appear_after_the_approval_ask_again() {
    let (mut stage, _) = looked_into("pg_read_all_data", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM visits"));
    drop(stage.approver.take());
    let api = stage.gate.api();
    std::thread::scope(|scope| {
        let undo = scope.spawn(|| stage.restore(&id, &[]));
        let held = api.wait_held("restore");
        assert!(shown(&api, &held).contains("2 rows of public.visits; none conflicts"));
        stage.database.run("INSERT INTO visits VALUES (1, NULL)");
        let refused = api.decide(&held, "approve", "");
        assert_eq!(refused.status, 409, "{refused:?}");
        assert!(refused.text.contains("1 rows of public.visits conflict now, 0 before"), "{refused:?}");
        assert!(shown(&api, &held).contains("1 of them: 1 (a row with its key exists)"));
        api.approve(&held);
        let told = said(&undo.join().unwrap());
        assert!(told.contains("1 row restored") && told.contains("a row with its key exists"), "{told}");
    });
}
