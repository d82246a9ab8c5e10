//! Policies in Rego before a real Postgres: what they answer becomes of statements, they are reloaded, and an evaluation without end or
//! measure harms nobody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use proxy_tests::gate::{BOB, Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::process::resident_kib;
use proxy_tests::raw::{Frame, Raw, eventually};
use querygate::clock;
use tempfile::TempDir;

/// Values that are small and shared, and enormous for whoever spells them out.
const SHARED: &str = r#"
name := input.effect.object.name
all := {"action": "allow", "rule": "all"}
ten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
eight(x) := [x, x, x, x, x, x, x, x]
nested(x) := eight(eight(eight(eight(eight(eight(eight(eight(eight(eight(eight(x)))))))))))
double(x) := concat("", [x, x])
sixteen(x) := double(double(double(double(x))))
long := sixteen(sixteen(sixteen("0123456789abcdef")))
decision := all if input.effect.kind != "read"
decision := all if not input.effect.object
decision := all if name == "t"
decision := all if startswith(name, "after_")
"#;

/// Whether time or memory runs out first depends on the machine.
const EITHER: &str = "(time or memory)";

/// The table whose name makes the policy do it, and what it does then, in one call of a builtin, by doubling, by collecting.
const WITHOUT_MEASURE: &[(&str, &str, &str)] = &[
    ("doubled", r"count(sixteen(sixteen(sixteen(sixteen(sixteen(sixteen(sixteen(long)))))))) > 1", "rego_memory"),
    ("ranged", r"count(numbers.range(1, 9000000000)) > 1", "rego_memory"),
    ("stepped", r"count(numbers.range_step(1, 9000000000, 2)) > 1", "rego_memory"),
    ("replaced", r#"count(replace(long, "0", long)) > 1"#, "rego_memory"),
    ("wide", r#"count(sprintf("%2000000000d", [1])) > 1"#, "rego_memory"),
    ("printed", r#"count(sprintf("%v", [nested("x")])) > 1"#, "rego_"),
    (
        "joined",
        r#"count(concat(long, ["a" | some _ in ten; some _ in ten; some _ in ten; some _ in ten])) > 1"#,
        "rego_memory",
    ),
    ("marshalled", r#"count(json.marshal(nested("x"))) > 1"#, "rego_"),
    // Not a byte is allocated, and no clock is looked at.
    ("compared", r#"nested("x") == nested("x")"#, "rego_limit"),
    (
        "arrays",
        r"count([x | some a in ten; some b in ten; some c in ten; some d in ten; some e in ten; some f in ten; some g in ten; x := [a, b, c, d, e, f, g]]) > 1",
        EITHER,
    ),
    (
        "objects",
        r#"count({x: long | some a in ten; some b in ten; some c in ten; some d in ten; some e in ten; some f in ten; some g in ten; x := sprintf("%v", [[a, b, c, d, e, f, g]])}) > 1"#,
        EITHER,
    ),
    (
        "strings",
        r#"count([x | some a in ten; some b in ten; some c in ten; some d in ten; x := sprintf("%s%v", [long, [a, b, c, d]])]) > 1"#,
        EITHER,
    ),
];

/// A policy with every action, a profile, and a mistake that only some statements meet.
const ACTIONS: &str = r#"
decision contains {"action": "allow", "rule": "reads"} if input.effect.kind == "read"
decision contains {"action": "notify", "rule": "tell", "message": "look at it"} if input.effect.kind == "insert"
decision contains {"action": "hold", "rule": "deletes", "profile": "production"} if input.effect.kind == "delete"
decision contains {"action": "reject", "rule": "never", "message": "ask for a backup"} if input.effect.kind == "truncate"
decision contains {"action": "allow", "rule": sprintf("%d", [to_number("seven")])} if {
	input.effect.kind == "update"
	input.effect.object.name == "u"
}
"#;

/// Tables `t` and `u` of three rows.
fn database() -> Database {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3); CREATE TABLE u AS TABLE t");
    database
}

fn configuration(file: &str, more: &str) -> String {
    format!("[policy]\nengine = \"rego\"\nrego = [\"{file}\"]\nfallback = \"hold\"\n{more}")
}

fn write(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("policy.rego");
    fs::write(&path, format!("package querygate\n{text}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The error's SQLSTATE, or that it went through.
fn outcome(raw: &mut Raw, sql: &str) -> String {
    raw.send(m::query(sql));
    told(&raw.until(b'Z'))
}

fn told(frames: &[Frame]) -> String {
    frames.iter().find(|frame| frame.tag == b'E').map_or("passed".to_owned(), Frame::sqlstate)
}

/// Of `/proc/PID/FILE`, a line's value in KiB or bytes, as it stands there; `None`: there is no such process.
fn line(pid: u32, file: &str, start: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(start))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processes that evaluate for the gate.
fn evaluators(gate: &Gate) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| line(*pid, "status", "PPid:") == Some(u64::from(gate.process.pid()))).collect()
}

#[test]
fn an_evaluation_without_measure_or_end_is_held_with_the_reason_and_the_gate_goes_on() {
    let (database, dir) = (database(), TempDir::new().unwrap());
    let rules: Vec<String> = WITHOUT_MEASURE
        .iter()
        .map(|(name, what, _)| format!("decision := all if {{\n\tname == \"{name}\"\n\t{what}\n}}"))
        .collect();
    let file = write(&dir, &format!("{SHARED}{}", rules.join("\n")));
    let memory = 48 << 20;
    let gate = Gate::builder()
        .toml(&configuration(&file, &format!("rego_limit = \"1s\"\nrego_memory = {memory}\n")))
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert_eq!(outcome(&mut raw, "SELECT * FROM t"), "passed");
    let before = resident_kib(gate.process.pid());
    for (name, _, why) in WITHOUT_MEASURE {
        // What the database refuses nobody is asked about.
        database.run(&format!("CREATE TABLE {name} (); CREATE TABLE after_{name} ()"));
        raw.send(m::query(format!("SELECT * FROM {name}")));
        let id = gate.api().wait_held(name);
        let request = gate.api().get(&format!("/v1/requests/{id}"));
        assert_eq!(request["rule"], "rego-failed", "{name}: {request}");
        let told = request["why"].as_str().unwrap();
        let either = *why == EITHER && (told.contains("limit") || told.contains("rego_memory"));
        assert!(either || told.contains(why), "{name}: {told}");
        for pid in evaluators(&gate) {
            // One that is ending has none any more.
            let most = line(pid, "limits", "Max data size").unwrap_or(0);
            assert!(most <= memory + (16 << 20), "{name}: {most}");
        }
        gate.api().reject(&id, "no");
        assert_eq!(told_after(&mut raw), "42501", "{name}");
        // Another one, to which no answer is remembered.
        assert_eq!(outcome(&mut raw, &format!("SELECT * FROM after_{name}")), "passed", "{name}");
    }
    let after = line(gate.process.pid(), "status", "VmHWM:").unwrap();
    assert!(after < before + (64 << 10), "{before} KiB before, at most {after} KiB since");
    let health = gate.api().get("/health");
    assert!(health["rego_failures"].as_u64().unwrap() >= WITHOUT_MEASURE.len() as u64, "{health}");
    drop(raw);
    let children = evaluators(&gate);
    assert!(!children.is_empty());
    drop(gate);
    eventually("those that evaluate have ended", || {
        children.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
}

fn told_after(raw: &mut Raw) -> String {
    told(&raw.until(b'Z'))
}

#[test]
fn sessions_of_the_same_thread_do_not_wait_for_somebody_elses_evaluation() {
    let (database, dir) = (database(), TempDir::new().unwrap());
    database.run("CREATE TABLE compared ()");
    let slow = "decision := all if {\n\tname == \"compared\"\n\tnested(\"x\") == nested(\"x\")\n}";
    let file = write(&dir, &format!("{SHARED}{slow}"));
    let gate =
        Gate::builder().one_worker().toml(&configuration(&file, "rego_limit = \"1s\"\n")).start(database.target());
    let (mut raw, mut other) = (Raw::login(&gate.target()), Raw::login(&gate.target()));
    assert_eq!(outcome(&mut other, "SELECT * FROM t"), "passed");
    let start = clock::now();
    raw.send(m::query("SELECT * FROM compared"));
    let mut passed = 0;
    while clock::now().duration_since(start) < Duration::from_secs(1) {
        // What was judged before, and what the policy has to be asked about.
        assert_eq!(outcome(&mut other, "SELECT * FROM t"), "passed");
        assert_eq!(outcome(&mut other, &format!("SELECT {passed} FROM t AS a{passed}")), "passed");
        passed += 1;
    }
    assert!(passed > 5, "{passed}");
    assert!(gate.api().pending().is_empty(), "it is still being asked about");
    gate.api().wait_held("compared");
}

#[test]
fn a_killed_process_that_evaluates_is_replaced_and_nobody_notices() {
    let (database, dir) = (database(), TempDir::new().unwrap());
    let file = write(&dir, SHARED);
    let gate = Gate::builder().toml(&configuration(&file, "rego_limit = \"1s\"\n")).start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert_eq!(outcome(&mut raw, "SELECT * FROM t"), "passed");
    let first = evaluators(&gate);
    assert!(!first.is_empty());
    for pid in &first {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(*pid).unwrap()), Signal::SIGKILL).unwrap();
    }
    eventually("they are dead", || {
        let dead = |pid: &u32| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        first.iter().all(dead).then_some(())
    });
    assert_eq!(outcome(&mut raw, "INSERT INTO u VALUES (9)"), "passed");
    assert!(evaluators(&gate).iter().all(|pid| !first.contains(pid)));
}

/// A gate with `ACTIONS` and a profile that asks bob; the file of its policy.
fn acting(database: &Database, dir: &TempDir) -> (Gate, String) {
    let file = write(dir, ACTIONS);
    let profile = "rego_limit = \"1s\"\n[[approval.profile]]\nname = \"production\"\napprovers = [\"bob\"]\n";
    let gate = Gate::builder().toml(&configuration(&file, profile)).start(database.target());
    (gate, file)
}

fn recorded(gate: &Gate, kind: &str) -> serde_json::Value {
    let file = gate.dir().join("querygate-audit.jsonl");
    eventually(&format!("{kind} is on record"), || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.find(|line| line["event"]["event"] == kind)
    })
}

#[test]
fn what_a_policy_answers_becomes_of_statements() {
    let (database, dir) = (database(), TempDir::new().unwrap());
    let (gate, file) = acting(&database, &dir);
    let mut raw = Raw::login(&gate.target());
    assert_eq!(raw.rows("SELECT x FROM t ORDER BY x").len(), 3);

    assert_eq!(outcome(&mut raw, "INSERT INTO u VALUES (4)"), "passed");
    let notice = recorded(&gate, "noticed")["event"]["notice"].clone();
    assert_eq!((notice["rule"].as_str(), notice["message"].as_str()), (Some("tell"), Some("look at it")), "{notice}");

    raw.send(m::query("TRUNCATE t"));
    let refused = raw.until(b'Z');
    let refused = refused.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(refused.sqlstate(), "42501");
    assert!(refused.text().contains("ask for a backup"), "{}", refused.text());

    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let bob = gate.api().with_token(BOB);
    let id = bob.wait_held("DELETE FROM t");
    assert_eq!(bob.get(&format!("/v1/requests/{id}"))["rule"], "deletes@production");
    let ann = gate.api().decide(&id, "approve", "fine");
    assert_ne!(ann.status, 200, "the profile asks bob: {}", ann.text);
    bob.approve(&id);
    assert_eq!(told(&raw.until(b'Z')), "passed");

    // The same over the extended protocol, for what fails as it is evaluated.
    raw.send(
        [
            m::parse("", "UPDATE u SET x = 1 WHERE x = $1", &[]),
            m::bind("", "", &[Some(b"2")]),
            m::execute("", 0),
            m::sync(),
        ]
        .concat(),
    );
    let id = gate.api().wait_held("UPDATE u");
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["rule"], "rego-failed");
    assert!(request["why"].as_str().unwrap().contains("could not be asked: "), "{request}");
    gate.api().approve(&id);
    assert_eq!(told(&raw.until(b'Z')), "passed", "people decide where the policy cannot");
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "2");

    let config = gate.dir().join("querygate.toml");
    for (sql, status, parts) in [
        ("TRUNCATE t", 20, ["asked data.querygate.decision surely", "never"]),
        ("UPDATE u SET x = 1 WHERE x = 2", 10, ["asked data.querygate.decision surely", "rego-failed"]),
    ] {
        let run = Command::new(binary())
            .args(["check", "--explain", "--config", config.to_str().unwrap(), sql])
            .env_remove("QUERYGATE_CONFIG")
            .output()
            .unwrap();
        let out = String::from_utf8(run.stdout).unwrap();
        assert!(parts.iter().all(|part| out.contains(part)), "{sql}: {out}");
        assert_eq!(run.status.code(), Some(status), "{file}: {out}");
    }
}

#[test]
fn a_broken_policy_changes_nothing_and_a_mended_one_is_in_force_while_what_is_held_keeps_its_own() {
    let (database, dir) = (database(), TempDir::new().unwrap());
    let (gate, file) = acting(&database, &dir);
    let (mut raw, mut waiting) = (Raw::login(&gate.target()), Raw::login(&gate.target()));
    waiting.send(m::query("DELETE FROM t WHERE x = 2"));
    let bob = gate.api().with_token(BOB);
    let id = bob.wait_held("DELETE FROM t WHERE x = 2");
    let request = || bob.get(&format!("/v1/requests/{id}"));
    let held = request();
    let first = evaluators(&gate);

    let broken = [
        // It cannot be read, it fails whatever it is asked, it takes too much before it is asked.
        format!("{ACTIONS}\ndecision contains {{"),
        "decision := {\"action\": \"allow\", \"rule\": to_number(\"seven\")}".to_owned(),
        "decision := {\"action\": \"allow\"} if count(numbers.range(1, 9000000000)) > 1".to_owned(),
        // It answers nonsense to one kind of effect, or names a profile that is not there.
        ACTIONS.replace("\"action\": \"notify\"", "\"action\": \"shout\""),
        ACTIONS.replace("\"production\"", "\"elsewhere\""),
    ];
    for (times, text) in (1..).zip(&broken) {
        fs::write(&file, format!("package querygate\n{text}\n")).unwrap();
        gate.process.signal(Signal::SIGHUP);
        let log = eventually("it is said that it is not in force", || {
            let log = gate.process.log();
            (log.matches("policy in Rego: ").count() >= times).then_some(log)
        });
        assert!(log.contains("not reloaded"), "{log}");
        assert_eq!(outcome(&mut raw, "TRUNCATE t"), "42501", "{text}");
        assert_eq!(outcome(&mut raw, &format!("SELECT x AS a{times} FROM t")), "passed", "{text}");
    }
    let health = gate.api().get("/health");
    assert_eq!(health["configuration"]["status"], "degraded", "{health}");

    fs::write(&file, format!("package querygate\n{}\n", ACTIONS.replace("\"insert\"", "\"nothing\""))).unwrap();
    gate.process.signal(Signal::SIGHUP);
    eventually("the mended one is loaded", || {
        (gate.api().get("/health")["configuration"]["status"] == "ok").then_some(())
    });
    raw.send(m::query("INSERT INTO u VALUES (5)"));
    let now = gate.api().get(&format!("/v1/requests/{}", gate.api().wait_held("INSERT INTO u")));
    assert_eq!(now["rule"], "default", "{now}");
    assert_ne!(now["policy_version"], held["policy_version"]);

    assert_eq!((&request()["policy_version"], &request()["rule"]), (&held["policy_version"], &held["rule"]));
    bob.approve(&id);
    assert_eq!(told(&waiting.until(b'Z')), "passed");
    eventually("nobody evaluates the old policy any more", || {
        evaluators(&gate).iter().all(|pid| !first.contains(pid)).then_some(())
    });
}

/// The recipe of the documentation: small deletes and updates pass, those that cascade into critical tables never.
fn small_changes() -> &'static str {
    include_str!("../docs/rego.md").split("```rego impact\n").nth(1).unwrap().split("```").next().unwrap()
}

/// Fifty customers, of which one has an invoice, and a gate whose prober has all the time it needs.
fn looking(more: &str) -> (Database, TempDir, Gate) {
    let (database, dir) = (shared(), TempDir::new().unwrap());
    let role = database.unique("impact");
    database.run(&format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO {role}"));
    database.run(
        "CREATE SCHEMA billing; CREATE TABLE customers (id int PRIMARY KEY, gone bool NOT NULL DEFAULT false); \
         CREATE TABLE billing.invoices (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE); \
         INSERT INTO customers SELECT generate_series(1, 50); INSERT INTO billing.invoices VALUES (1, 20); ANALYZE",
    );
    let file = dir.path().join("policy.rego");
    fs::write(&file, small_changes()).unwrap();
    let own = "rego_limit = \"1s\"\ncritical = [\"billing.*\"]\n";
    let impact = format!(
        "[impact]\nuser = \"{role}\"\nbudget = \"60s\"\ncount_budget = \"60s\"\nconnect_timeout = \"60s\"\n\
         lock_timeout = \"60s\"\n{more}"
    );
    let rest = "[[rule]]\nname = \"rest\"\naction = \"allow\"\neffects = [\"read\", \"session\", \"transaction\"]\n";
    let text = configuration(file.to_str().unwrap(), &format!("{own}{impact}{rest}"));
    let gate = Gate::builder().toml(&text).start(database.target());
    (database, dir, gate)
}

#[test]
fn a_policy_that_asks_for_a_look_lets_small_changes_pass_holds_large_ones_and_rejects_cascades() {
    let (database, _dir, gate) = looking("");
    let mut raw = Raw::login(&gate.target());
    assert_eq!(outcome(&mut raw, "DELETE FROM customers WHERE id <= 3"), "passed");
    assert_eq!(outcome(&mut raw, "UPDATE customers SET gone = true WHERE id = 4"), "passed");
    let bound = |raw: &mut Raw, least: &[u8]| {
        let parse = m::parse("", "DELETE FROM customers WHERE id > $1", &[]);
        raw.send([parse, m::bind("", "", &[Some(least)]), m::execute("", 0), m::sync()].concat());
    };
    bound(&mut raw, b"48");
    assert_eq!(told(&raw.until(b'Z')), "passed");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "45");
    assert!(gate.api().pending().is_empty());

    raw.send(m::query("DELETE FROM customers WHERE id = 20"));
    let refused = raw.until(b'Z');
    let refused = refused.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(refused.sqlstate(), "42501");
    assert!(refused.text().contains("invoices"), "{}", refused.text());

    for large in ["UPDATE customers SET gone = false WHERE id > 0", "UPDATE customers SET gone = true WHERE id > 1"] {
        raw.send(m::query(large));
        let id = gate.api().wait_held(large);
        let request = gate.api().get(&format!("/v1/requests/{id}"));
        assert_eq!(request["rule"], "many", "{request}");
        assert!(request["why"].as_str().unwrap().contains("45"), "{request}");
        gate.api().reject(&id, "no");
        assert_eq!(told(&raw.until(b'Z')), "42501");
    }
    bound(&mut raw, b"20");
    let id = gate.api().wait_held("DELETE FROM customers WHERE id > $1");
    gate.api().approve(&id);
    assert_eq!(told(&raw.until(b'Z')), "passed");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "17");
}

#[test]
fn what_nobody_can_look_into_is_held_by_a_policy_that_asks() {
    let (_database, _dir, gate) = looking("exclude = [\"public.customers\"]\n");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("UPDATE customers SET gone = true WHERE id = 1"));
    let id = gate.api().wait_held("UPDATE customers");
    let request = gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["rule"], "many", "{request}");
    gate.api().approve(&id);
    assert_eq!(told(&raw.until(b'Z')), "passed");
}

#[test]
fn what_passed_as_small_is_undone_when_it_turns_out_larger() {
    // Without being parsed first, which takes a lock, it is looked into before it waits for the lock.
    let (database, _dir, gate) = looking("[hold]\nparse_first = false\n");
    let mut other = database.raw();
    other.query("BEGIN; LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM customers WHERE id >= 48"));
    let mut watch = database.raw();
    eventually("it waits for the lock", || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'customers'::regclass";
        (watch.value(waits) == "1").then_some(())
    });
    other.query("INSERT INTO customers SELECT generate_series(100, 120); COMMIT");
    assert_ne!(told(&raw.until(b'Z')), "passed");
    assert_eq!(database.raw().value("SELECT count(*) FROM customers"), "71");
}
