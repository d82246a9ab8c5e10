//! What rules say reaches whoever it is for: `message` and `advice` in the client's notices and errors, in the API, on the command line and on
//! record; and what is told to nobody (reminders that are switched off) is not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::time::Duration;

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use querygate::clock;

const RULES: &str = r#"
[[rule]]
name = "mass-delete"
action = "hold"
message = "whole tables are emptied by the nightly job"
advice = "delete by id, a thousand at a time"
effects = ["delete"]

[[rule]]
name = "truncating"
action = "hold"
message = "TRUNCATE takes a lock"
effects = ["truncate"]

[[rule]]
name = "no-drops"
action = "reject"
message = "tables are dropped by migrations alone"
advice = "write a migration"
effects = ["drop"]

[[rule]]
name = "rest"
action = "allow"
"#;

fn stage() -> (Database, Gate) {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let gate = Gate::builder().toml(RULES).start(database.target());
    (database, gate)
}

fn id_in(notice: &str) -> String {
    let id = notice.split_once("qg-").unwrap().1;
    format!("qg-{}", id.get(..10).unwrap())
}

#[test]
fn a_rule_that_holds_has_its_message_and_advice_told_to_requester_and_approvers_and_on_record() {
    let (_database, gate) = stage();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let notice = String::from_utf8_lossy(&raw.expect(b'N').body).into_owned();
    let (message, advice) = ("whole tables are emptied by the nightly job", "delete by id, a thousand at a time");
    assert!(notice.contains(&format!("D{}", "Rule \"mass-delete\"")), "{notice}");
    assert!(notice.contains(message), "{notice}");
    assert!(notice.contains(&format!("\0H{advice}\nCancel the statement")), "{notice}");
    let id = id_in(&notice);
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!((&request["message"], &request["advice"]), (&message.into(), &advice.into()));
    gate.api().reject(&id, "no");
    let error = raw.until(b'Z').into_iter().find(|frame| frame.tag == b'E').unwrap();
    let error = String::from_utf8_lossy(&error.body).into_owned();
    assert!(error.contains(&format!("Reason: no\n{message}")), "{error}");
    assert!(error.contains(&format!("\0H{advice}\nNothing was run.")), "{error}");
    let file = gate.dir().join("querygate-audit.jsonl");
    let held = eventually("the hold on record", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.find(|line| line["event"]["event"] == "held")
    });
    let request = &held["event"]["request"];
    assert_eq!((&request["message"], &request["advice"]), (&message.into(), &advice.into()));
}

#[test]
fn of_several_rules_that_hold_a_message_each_has_its_say() {
    let (_database, gate) = stage();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("TRUNCATE t; DELETE FROM t"));
    let notice = String::from_utf8_lossy(&raw.expect(b'N').body).into_owned();
    assert!(notice.contains("TRUNCATE takes a lock\nwhole tables are emptied by the nightly job"), "{notice}");
    assert!(notice.contains("\0Hdelete by id, a thousand at a time\n"), "{notice}");
}

#[test]
fn a_rule_that_rejects_gives_its_advice_as_the_hint() {
    let (_database, gate) = stage();
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DROP TABLE t"));
    let error = raw.until(b'Z').into_iter().find(|frame| frame.tag == b'E').unwrap();
    let error = String::from_utf8_lossy(&error.body).into_owned();
    assert!(error.contains("querygate: rejected by policy: tables are dropped by migrations alone"), "{error}");
    assert!(error.contains("\0Hwrite a migration\nNothing was run."), "{error}");
}

#[test]
fn reminders_that_are_switched_off_never_come() {
    let database = shared();
    database.run("CREATE TABLE t (x int)");
    let gate = Gate::builder().toml("[hold]\ndeadline = \"2s\"\nreminder_interval = \"0s\"\n").start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let frames = raw.until(b'Z');
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'N').count(), 1, "{frames:?}");
    assert_eq!(frames.iter().find(|frame| frame.tag == b'E').unwrap().sqlstate(), "57014");
}

#[test]
fn the_first_reminder_comes_after_a_whole_interval() {
    let database = shared();
    database.run("CREATE TABLE t (x int)");
    let gate = Gate::builder().toml("[hold]\nreminder_interval = \"3s\"\n").start(database.target());
    let mut raw = Raw::login(&gate.target());
    let sent = clock::now();
    raw.send(m::query("DELETE FROM t"));
    raw.expect(b'N');
    let reminder = String::from_utf8_lossy(&raw.expect(b'N').body).into_owned();
    assert!(reminder.contains("still waiting for approval"), "{reminder}");
    assert!(sent.elapsed() >= Duration::from_secs(3), "{:?}", sent.elapsed());
}
