//! Whoever decides, and whoever waits, is told what a held statement would touch: psql, the API, the command line, Slack, the record.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use proxy_tests::gate::{ANN, EVE, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::Workspace;

const DELETE: &str = "DELETE FROM customers WHERE id <= 2";
const SCHEMA: &str = "CREATE TABLE customers (id int PRIMARY KEY, mail text); \
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE); \
    INSERT INTO customers SELECT n, 'c' || n FROM generate_series(1, 5) n; \
    INSERT INTO orders SELECT n, n % 5 + 1 FROM generate_series(1, 20) n; ANALYZE";
const TOUCHED: [&str; 2] =
    ["deletes 2 rows (exact) of public.customers", "cascades to 8 rows (exact) of public.orders"];

/// A database after `SCHEMA`, and the name of a role that may look.
fn database() -> (Database, String) {
    let database = shared();
    let role = database.unique("impact");
    database.run(&format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO {role}"));
    database.run(SCHEMA);
    (database, role)
}

/// `[impact]` with time enough for a slow machine.
fn section(role: &str) -> String {
    format!("[impact]\nuser = \"{role}\"\nbudget = \"60s\"\ncount_budget = \"60s\"\nconnect_timeout = \"60s\"\n")
}

/// What the API says of a request.
fn impact(gate: &Gate, token: &str, id: &str) -> serde_json::Value {
    gate.api().with_token(token).get(&format!("/v1/requests/{id}"))["impact"].clone()
}

/// The request, once people are asked about it.
fn asked(gate: &Gate) -> String {
    let id = gate.api().wait_held("DELETE");
    eventually("it is looked into", || (!impact(gate, ANN, &id).is_null()).then_some(()));
    id
}

fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn psql_the_api_the_command_line_and_the_record_say_what_a_delete_takes_with_it() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let psql = Psql::new(&gate.target()).start(DELETE);
    let id = asked(&gate);
    let full = impact(&gate, ANN, &id);
    assert_eq!(full["headlines"], serde_json::json!(TOUCHED));
    assert_eq!(full["facts"]["statements"][0]["cascades"][0]["rows"]["exact"]["known"], 8);
    has_all(&full["summary"].to_string(), &TOUCHED);
    has_all(&gate.api().get("/v1/requests")["requests"][0]["impact"]["headlines"].to_string(), &TOUCHED);
    let shown = std::process::Command::new(proxy_tests::gate::binary())
        .args(["requests", "show", &id, "--api", &format!("http://{}", gate.admin)])
        .env("QUERYGATE_TOKEN", ANN)
        .output()
        .unwrap();
    has_all(&String::from_utf8(shown.stdout).unwrap(), &TOUCHED);
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "5", "nothing has run");
    gate.api().approve(&id);
    let said = finish(psql);
    has_all(&said.stderr, &["waiting for approval", "Impact: ", TOUCHED[0], TOUCHED[1]]);
    assert_eq!(
        (said.status, database.raw().value("SELECT count(*) FROM customers").as_str()),
        (Some(0), "3"),
        "{}",
        said.stderr
    );
    let audit = std::fs::read_to_string(gate.config.with_file_name("querygate-audit.jsonl")).unwrap();
    let of_kind = |kind: &str| audit.lines().position(|line| line.contains(&format!("\"event\":\"{kind}\"")));
    assert!(of_kind("held") < of_kind("examined") && of_kind("examined") < of_kind("answered"), "{audit}");
}

#[test]
fn bound_values_and_the_sessions_own_search_path_count() {
    let (database, role) = database();
    database
        .run("CREATE SCHEMA other; CREATE TABLE other.customers (id int); INSERT INTO other.customers VALUES (1), (7)");
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("SET search_path = other"));
    raw.until(b'Z');
    raw.send(m::parse("", "DELETE FROM customers WHERE id = $1", &[]));
    raw.send(m::bind("", "", &[Some(b"7")]));
    raw.send(m::execute("", 0));
    raw.send(m::sync());
    let id = asked(&gate);
    let headlines = impact(&gate, ANN, &id)["headlines"].clone();
    assert_eq!(headlines, serde_json::json!(["deletes 1 row (exact) of other.customers"]));
    gate.api().reject(&id, "no");
    raw.until(b'Z');
}

#[test]
fn who_may_not_read_the_rows_is_not_told_how_many_there_are() {
    let (database, role) = database();
    let clerk = database.unique("clerk");
    database.run(&format!("CREATE ROLE {clerk} LOGIN; GRANT DELETE ON customers TO {clerk}"));
    let people =
        format!("[[people]]\nname = \"carl\"\ntoken = \"carl-carl-carl-carl\"\ndatabase_users = [\"{clerk}\"]\n");
    let gate = Gate::builder().toml(&(section(&role) + &people)).start(database.target());
    let psql = Psql::new(&gate.target().with_user(&clerk)).start("DELETE FROM customers");
    let id = asked(&gate);
    assert_eq!(impact(&gate, "carl-carl-carl-carl", &id)["headlines"], serde_json::json!(["shown to approvers"]));
    assert_eq!(impact(&gate, "carl-carl-carl-carl", &id)["facts"], serde_json::Value::Null);
    has_all(&impact(&gate, ANN, &id)["headlines"].to_string(), &["deletes 5 rows (exact) of public.customers"]);
    assert_eq!(gate.api().with_token(EVE).call("GET", &format!("/v1/requests/{id}"), None).status, 404);
    gate.api().reject(&id, "no");
    let said = finish(psql);
    has_all(&said.stderr, &["Impact: what it would touch is shown to approvers"]);
    assert!(!said.stderr.contains("5 rows"), "{}", said.stderr);
}

#[test]
fn what_cannot_be_asked_is_unknown_and_people_decide_all_the_same() {
    let (database, _) = database();
    let gate = Gate::builder().toml(&section("no_such_role_here")).start(database.target());
    let psql = Psql::new(&gate.target()).start(DELETE);
    let id = asked(&gate);
    let headlines = impact(&gate, ANN, &id)["headlines"].to_string();
    has_all(&headlines, &["what it would touch is not fully known", "no_such_role_here"]);
    gate.api().approve(&id);
    let said = finish(psql);
    assert_eq!(
        (said.status, database.raw().value("SELECT count(*) FROM customers").as_str()),
        (Some(0), "3"),
        "{}",
        said.stderr
    );
    // Why is not the requester's affair.
    has_all(&said.stderr, &["Impact: what it would touch is not known"]);
    assert!(!said.stderr.contains("no_such_role_here"), "{}", said.stderr);
}

#[test]
fn a_statement_withdrawn_while_it_is_looked_into_bothers_nobody() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&(section(&role) + "lock_timeout = \"60s\"\n")).start(database.target());
    let mut other = database.raw();
    other.send(m::query("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"));
    other.until(b'Z');
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query(DELETE));
    let id = gate.api().wait_held("DELETE");
    // The prober waits for the lock; nothing is known, and nobody is asked, yet.
    assert!(impact(&gate, ANN, &id).is_null());
    drop(raw);
    eventually("it is withdrawn", || {
        let state = gate.api().get(&format!("/v1/requests/{id}"))["state"].clone();
        (state == "withdrawn").then_some(())
    });
    other.send(m::query("COMMIT"));
    other.until(b'Z');
    let psql = Psql::new(&gate.target()).start(DELETE);
    let next = asked(&gate);
    assert_ne!(next, id);
    gate.api().approve(&next);
    assert_eq!(finish(psql).status, Some(0));
    let audit = std::fs::read_to_string(gate.config.with_file_name("querygate-audit.jsonl")).unwrap();
    let announced = |line: &&str| line.contains("\"event\":\"examined\"") && line.contains(&id);
    assert_eq!(audit.lines().filter(announced).count(), 0, "{audit}");
}

/// A gate whose deletes are approved in Slack.
async fn with_slack() -> (Workspace, Database, Gate) {
    let workspace = Workspace::with_people().await;
    let (database, role) = database();
    let toml = workspace.section("C0APPR")
        + &section(&role)
        + "[[approval.profile]]\nname = \"slack\"\napprover_groups = [\"slack:S0DBA\"]\n\
           [[rule]]\nname = \"held\"\naction = \"hold\"\napproval = \"slack\"\neffects = [\"delete\"]\n\
           [[rule]]\nname = \"rest\"\naction = \"allow\"\n";
    let gate = Gate::builder().toml(&toml).start(database.target());
    workspace.wait_for_sockets(2).await;
    (workspace, database, gate)
}

#[tokio::test]
async fn slack_shows_the_cascade_with_its_counts() {
    let (workspace, _database, gate) = with_slack().await;
    let psql = Psql::new(&gate.target()).start(DELETE);
    let message = workspace.newest("C0APPR", "Approval needed").await;
    has_all(&message.rendered(), &["*Impact*", TOUCHED[0], TOUCHED[1]]);
    workspace.click_through("C0APPR", &message, "approve", "U0APP1").await;
    finish(psql).ok();
    workspace.newest("C0APPR", "DELETE 2").await;
    workspace.assert_no_violations();
}

#[test]
fn an_approval_of_what_has_been_redefined_since_is_asked_anew_with_the_difference() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let psql = Psql::new(&gate.target()).start(DELETE);
    let id = asked(&gate);
    database.run("ALTER TABLE orders ADD COLUMN note text");
    let refused = gate.api().decide(&id, "approve", "looks fine");
    assert_eq!(refused.status, 409, "{refused:?}");
    has_all(&refused.text, &["column public.orders.note is new"]);
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["progress"]["changed"], serde_json::json!(["column public.orders.note is new"]));
    assert_eq!((&request["progress"]["round"], &request["state"]), (&1.into(), &"pending".into()));
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "5", "nothing has run");
    gate.api().approve(&id);
    let said = finish(psql);
    has_all(&said.stderr, &["What it would touch has changed, so people are asked anew"]);
    assert_eq!((said.status, database.raw().value("SELECT count(*) FROM customers").as_str()), (Some(0), "3"));
}

#[test]
fn a_function_that_is_redefined_while_its_call_is_held_is_asked_anew_and_does_not_run() {
    let (database, role) = database();
    let define = |body: &str| {
        database.run(&format!(
            "CREATE OR REPLACE FUNCTION purge() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN DELETE FROM orders WHERE {body}; END'"
        ));
    };
    define("id = 1");
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let psql = Psql::new(&gate.target()).start("SELECT purge()");
    let id = gate.api().wait_held("SELECT purge()");
    eventually("it is looked into", || (!impact(&gate, ANN, &id).is_null()).then_some(()));
    define("true");
    let refused = gate.api().decide(&id, "approve", "one row is fine");
    assert_eq!(refused.status, 409, "{refused:?}");
    has_all(&refused.text, &["function public.purge() was redefined"]);
    gate.api().reject(&id, "no");
    assert_ne!(finish(psql).status, Some(0));
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "20", "nothing has run");
}

#[test]
fn what_is_not_compared_is_told_to_whoever_waits_and_whoever_decides() {
    let (database, role) = database();
    database.run("CREATE FUNCTION run(what text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE what; END'");
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let psql = Psql::new(&gate.target()).start("SELECT run('DELETE FROM orders')");
    let id = gate.api().wait_held("SELECT run");
    eventually("it is looked into", || (!impact(&gate, ANN, &id).is_null()).then_some(()));
    let said = "not compared when it is released: what public.run() runs with EXECUTE";
    assert_eq!(impact(&gate, ANN, &id)["headlines"], serde_json::json!([said]));
    gate.api().reject(&id, "no");
    has_all(&finish(psql).stderr, &["Impact: not all of its definitions are compared when it is released."]);
}

#[test]
fn an_approval_of_three_rows_is_none_of_a_thousand() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let psql = Psql::new(&gate.target()).start("DELETE FROM orders WHERE id <= 3 OR id > 1000");
    let id = asked(&gate);
    database.run("INSERT INTO orders SELECT n, 1 FROM generate_series(1001, 2000) n");
    let refused = gate.api().decide(&id, "approve", "three rows are fine");
    assert_eq!(refused.status, 409, "{refused:?}");
    has_all(&refused.text, &["1003 rows of public.orders now, 3 before"]);
    gate.api().reject(&id, "no");
    assert_ne!(finish(psql).status, Some(0));
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "1020");
}

#[tokio::test]
async fn slack_asks_anew_on_the_same_message_and_a_click_on_what_was_shown_before_does_not_count() {
    let (workspace, database, gate) = with_slack().await;
    let psql = Psql::new(&gate.target()).start(DELETE);
    let message = workspace.newest("C0APPR", "Approval needed").await;
    database.run(
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'; \
                  CREATE TRIGGER loud AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION loud()",
    );
    workspace.click_through("C0APPR", &message, "approve", "U0APP1").await;
    let changed = workspace.newest("C0APPR", "Changed since it was shown").await;
    has_all(&changed.rendered(), &["trigger loud of public.orders is new"]);
    workspace.click_through("C0APPR", &changed, "approve", "U0APP1").await;
    finish(psql).ok();
    workspace.newest("C0APPR", "DELETE 2").await;
    workspace.assert_no_violations();
}

#[test]
fn a_held_statement_whose_transaction_keeps_others_waiting_is_withdrawn_and_says_why() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&(section(&role) + "withdraw_when_blocking = \"1s\"\n")).start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("BEGIN; UPDATE customers SET mail = 'x' WHERE id = 1"));
    raw.until(b'Z');
    raw.send(m::query("DELETE FROM orders WHERE id = 1"));
    let id = asked(&gate);
    let mut other = database.raw();
    other.send(m::query("UPDATE customers SET mail = 'y' WHERE id = 1"));
    let error = raw.until(b'Z').into_iter().find(|frame| frame.tag == b'E').unwrap();
    let error = String::from_utf8_lossy(&error.body).into_owned();
    has_all(&error, &["55P03", "other sessions waited too long", &id, "ROLLBACK lets go of the locks"]);
    raw.send(m::query("ROLLBACK"));
    raw.until(b'Z');
    other.until(b'Z');
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["state"], "withdrawn");
    has_all(
        &request["progress"]["timeline"].to_string(),
        &["its transaction kept others waiting for its locks: postgres"],
    );
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "20", "nothing has run");
}

/// `querygate impact` with a configuration: exit status and output.
fn command(gate: &Gate, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(proxy_tests::gate::binary());
    let (verb, rest) = arguments.split_first().unwrap();
    let done = command.args(["impact", verb, "--config"]).arg(&gate.config).args(rest).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_command_line_says_what_the_role_lacks_and_what_a_statement_would_touch() {
    let (database, role) = database();
    let gate = Gate::builder().toml(&section(&role)).start(database.target());
    let name = database.target().database.as_str();
    let (status, said) = command(&gate, &["check", name]);
    assert_eq!(status, Some(0), "{said}");
    database.run(&format!("REVOKE pg_read_all_stats FROM {role}"));
    let (status, said) = command(&gate, &["check", name]);
    assert_eq!(status, Some(1), "{said}");
    has_all(&said, &[&role, "pg_read_all_stats"]);
    let (status, said) = command(&gate, &["explain", "--database", name, "--role", "postgres", DELETE]);
    assert_eq!(status, Some(0), "{said}");
    has_all(&said, &TOUCHED);
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "5", "nothing has run");
    let (status, said) = command(&gate, &["check", "no_such_database_here"]);
    assert_eq!(status, Some(1), "{said}");
    has_all(&said, &["cannot be asked"]);
    let without = Gate::builder().start(database.target());
    let (status, said) = command(&without, &["check", name]);
    assert_eq!(status, Some(2), "{said}");
    has_all(&said, &["no [impact] section"]);
}
