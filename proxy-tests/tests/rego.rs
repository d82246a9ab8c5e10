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
use std::time::Duration;

use nix::sys::signal::Signal;
use proxy_tests::gate::Gate;
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
nested(x) := eight(eight(eight(eight(eight(eight(eight(eight(eight(x)))))))))
double(x) := concat("", [x, x])
sixteen(x) := double(double(double(double(x))))
long := sixteen(sixteen(sixteen("0123456789abcdef")))
decision := all if input.effect.kind != "read"
decision := all if not input.effect.object
decision := all if name == "t"
decision := all if startswith(name, "after_")
"#;

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
        "limit",
    ),
    (
        "objects",
        r#"count({x: long | some a in ten; some b in ten; some c in ten; some d in ten; some e in ten; some f in ten; some g in ten; x := sprintf("%v", [[a, b, c, d, e, f, g]])}) > 1"#,
        "limit",
    ),
    (
        "strings",
        r#"count([x | some a in ten; some b in ten; some c in ten; some d in ten; x := sprintf("%s%v", [long, [a, b, c, d]])]) > 1"#,
        "rego_memory",
    ),
];

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
        .toml(&configuration(&file, &format!("rego_limit = \"400ms\"\nrego_memory = {memory}\n")))
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
        assert!(told.contains(why), "{name}: {told}");
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
