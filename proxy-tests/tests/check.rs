//! `querygate check` and `querygate config`, through the real binary.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use proxy_tests::gate::binary;
use querygate::clock;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Run {
    status: i32,
    out: String,
    err: String,
}

fn run(args: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(binary());
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("QUERYGATE_CONFIG");
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Written beside reading, or long input and long output would wait for each other.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn check(args: &[&str]) -> Run {
    run(&[&["check"], args].concat(), b"")
}

fn file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

const RULES: &str = "[[rule]]\nname = \"etl\"\naction = \"allow\"\nusers = [\"etl\"]\ndatabases = [\"shop\"]\napplication_names = [\"nightly\"]\n\
                     addresses = [\"10.0.0.0/8\"]\n[[rule]]\nname = \"no-drops\"\naction = \"reject\"\nmessage = \"ask in #dba\"\neffects = [\"drop\"]\n\
                     [policy]\nfallback = \"shipped\"\n";

#[test]
fn the_exit_status_tells_the_strictest_verdict() {
    let dir = TempDir::new().unwrap();
    let config = file(&dir, "c.toml", RULES);
    let config = config.to_str().unwrap();
    for (args, status) in [
        (&["SELECT 1"][..], 0),
        (&["SELECT 1", "DELETE FROM t"], 10),
        (&["--config", config, "SELECT 1; DROP TABLE t", "DELETE FROM t"], 20),
        (&["--config", config, "SELECT 1"], 0),
        (&[""], 0),
        (&["NOT SQL"], 10),
        (&[], 2),
        (&["--bogus"], 2),
        (&["--config", "/nonexistent.toml", "SELECT 1"], 2),
        (&["-f", "/nonexistent.sql"], 2),
        (&["--jsonl", "SELECT 1"], 2),
    ] {
        let run = check(args);
        assert_eq!(run.status, status, "{args:?}\n{}{}", run.out, run.err);
    }
}

#[test]
fn rules_see_the_user_database_application_and_address_that_are_given() {
    let dir = TempDir::new().unwrap();
    let config = file(&dir, "c.toml", RULES);
    let all = ["--user", "etl", "--database", "shop", "--application", "nightly", "--address", "10.1.2.3"];
    let status =
        |facts: &[&str]| check(&[&["--config", config.to_str().unwrap()], facts, &["DROP TABLE t"]].concat()).status;
    assert_eq!(status(&all), 0);
    for skipped in (0..all.len()).step_by(2) {
        let rest: Vec<&str> =
            all.iter().enumerate().filter(|(index, _)| index / 2 != skipped / 2).map(|(_, arg)| *arg).collect();
        assert_eq!(status(&rest), 20, "{rest:?}");
    }
}

#[test]
fn text_names_verdict_rule_effects_objects_and_why_for_each_statement() {
    let run = check(&["SELECT * FROM orders; DROP TABLE audit.log, \"Old\""]);
    for part in [
        "allow  SELECT * FROM orders",
        "hold   DROP TABLE",
        "changed-definitions",
        "drop of audit.log, Old",
        "why",
        "as a whole",
    ] {
        assert!(run.out.contains(part), "{part}\n{}", run.out);
    }
    assert!(check(&["SELECT '\u{1b}[2J'"]).out.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn json_has_an_object_for_each_statement() {
    let run = check(&["--format", "json", "SELECT 1", "UPDATE shop.orders SET a = 1; DELETE FROM t WHERE id = 1"]);
    assert_eq!(run.status, 10);
    let all: Vec<Value> = serde_json::from_str(&run.out).unwrap();
    let brief: Vec<Value> = all.iter().map(|one| json!([one["sql"], one["verdict"], one["rule"]])).collect();
    assert_eq!(
        brief,
        [
            json!(["SELECT 1", "allow", "reads"]),
            json!(["UPDATE shop.orders SET a = 1", "hold", "lost-rows"]),
            json!(["DELETE FROM t WHERE id = 1", "hold", "lost-rows"]),
        ]
    );
    let effects = all[1]["effects"].as_array().unwrap();
    assert!(
        effects.iter().any(|effect| effect["kind"] == "update" && effect["objects"] == json!(["shop.orders"])),
        "{effects:?}"
    );
}

#[test]
fn statements_come_from_arguments_files_and_standard_input() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "a.sql", "SELECT 1;\nDROP TABLE a;\n");
    let run = run(&["check", "--format", "json", "-f", path.to_str().unwrap(), "SELECT 2", "-"], b"SELECT 3");
    let all: Vec<Value> = serde_json::from_str(&run.out).unwrap();
    let sql: Vec<&str> = all.iter().map(|one| one["sql"].as_str().unwrap()).collect();
    assert_eq!(sql, ["SELECT 1", "DROP TABLE a", "SELECT 2", "SELECT 3"]);
}

#[test]
fn what_one_message_prepares_the_next_may_execute() {
    assert_eq!(check(&["PREPARE q AS SELECT 1", "EXECUTE q"]).status, 0);
    assert_eq!(check(&["EXECUTE q"]).status, 10);
    assert_eq!(check(&["PREPARE q AS SELECT 1", "DEALLOCATE q", "EXECUTE q"]).status, 10);
    assert_eq!(check(&["PREPARE q AS SELECT 1; DEALLOCATE ALL", "EXECUTE q"]).status, 10);
}

#[test]
fn bytes_that_are_not_utf8_are_held() {
    let run = run(&["check", "--format", "json", "-"], b"SELECT '\xff'");
    assert_eq!(run.status, 10, "{}{}", run.out, run.err);
}

#[test]
fn text_names_fifty_of_many_effects_and_objects_and_counts_the_others() {
    let calls: Vec<_> = (0..70).map(|number| format!("s{number}.lo_unlink(1)")).collect();
    let many_effects = run(&["check", &format!("SELECT {}", calls.join(", "))], b"").out;
    assert!(
        many_effects.contains("s49.lo_unlink") && !many_effects.contains("drop of s50.lo_unlink"),
        "{many_effects}"
    );
    assert!(many_effects.contains("… and 21 more"), "{many_effects}");
    let tables: Vec<_> = (0..70).map(|number| format!("t{number}")).collect();
    let many_objects = run(&["check", &format!("DROP TABLE {}", tables.join(", "))], b"").out;
    assert!(many_objects.contains("t48, t49 and 20 more"), "{many_objects}");
    assert!(many_effects.len() + many_objects.len() < 8_192, "{many_effects}{many_objects}");
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn jsonl_answers_every_line_in_order_and_says_which_could_not_be_read() {
    let input = "{\"id\": 7, \"sql\": \"SELECT a FROM s.t\"}\n\n{\"id\": \"x\", \"sql\": \"DROP TABLE \\\"T\\\"; SELECT 1\", \"more\": 1}\nnonsense\n\
                 {\"id\": [1]}\n{\"id\": null, \"sql\": \"\\u0000\"}\n{\"id\": \"last\", \"sql\": \"\"}";
    let run = run(&["check", "--jsonl"], input.as_bytes());
    let out = lines(&run.out);
    assert_eq!(out.len(), 6, "{}", run.out);
    assert_eq!(out[0]["id"], 7);
    assert_eq!(out[0]["verdict"], "allow");
    assert_eq!(out[0]["effects"], json!([{"kind": "read", "objects": ["s.t"]}]));
    assert_eq!(
        (&out[1]["id"], &out[1]["verdict"], &out[1]["rule"]),
        (&json!("x"), &json!("hold"), &json!("changed-definitions"))
    );
    assert!(out[1]["why"].as_str().unwrap().contains('T'));
    assert_eq!((&out[2]["line"], &out[2]["id"]), (&json!(4), &Value::Null));
    assert_eq!((&out[3]["line"], &out[3]["id"]), (&json!(5), &json!([1])));
    for failed in &out[2..4] {
        // Whatever reads the answers must not take a line that could not be read for an allowed one.
        assert!(failed["error"].is_string() && failed["verdict"] == "hold", "{failed}");
    }
    assert_eq!((&out[4]["id"], &out[4]["verdict"]), (&Value::Null, &json!("hold")));
    assert_eq!((&out[5]["id"], &out[5]["verdict"]), (&json!("last"), &json!("allow")));
    assert_eq!(run.status, 2);
    assert_eq!(self::run(&["check", "--jsonl"], b"{\"id\":1,\"sql\":\"DELETE FROM t\"}\n").status, 10);
    assert_eq!(self::run(&["check", "--jsonl"], b"").status, 0);
}

/// Thousands of lines a second are promised for a release build; this is the tests' build on a shared machine.
#[test]
fn jsonl_keeps_up_with_a_long_stream_in_order() {
    const LINES: usize = 5_000;
    let mut input = String::new();
    for index in 0..LINES {
        let _ = writeln!(
            input,
            "{{\"id\":{index},\"sql\":\"SELECT a, b FROM orders WHERE id = {index} AND name = 'n{index}'\"}}"
        );
    }
    let started = clock::now();
    let run = run(&["check", "--jsonl"], input.as_bytes());
    let took = started.elapsed();
    let out = lines(&run.out);
    assert_eq!(out.len(), LINES);
    assert!(out.iter().enumerate().all(|(index, line)| line["id"] == json!(index) && line["verdict"] == "allow"));
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn deep_and_long_text_is_answered_not_crashed_on() {
    let deep = format!("SELECT {}1", "- ".repeat(90_000));
    let joins = format!("SELECT * FROM a{}", " JOIN a ON true".repeat(10_000));
    let nested = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let literal = format!("SELECT '{}'", "x".repeat(10 << 20));
    for text in [deep, joins, nested, literal, " ".repeat(10 << 20)] {
        let run = run(&["check", "-"], text.as_bytes());
        assert!([0, 10].contains(&run.status), "{} {}", run.status, run.err);
    }
}

fn config_check(text: &str) -> Run {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "gate.toml", text);
    run(&["config", "check", "--config", path.to_str().unwrap()], b"")
}

#[test]
fn config_check_tells_every_mistake_with_its_line() {
    let run = config_check(
        "[listen]\nadress = \"x\"\n[hold]\ndeadline = \"soon\"\n[[rule]]\nname = \"a\"\naction = \"alow\"\n",
    );
    assert_eq!(run.status, 2);
    for part in [
        "gate.toml:2:1: error: unknown key `adress` in [listen]; did you mean `address`?",
        "gate.toml:4:",
        "gate.toml:7:",
    ] {
        assert!(run.err.contains(part), "{part}\n{}", run.err);
    }
    assert_eq!(run.out, "");
}

#[test]
fn config_check_accepts_the_example_it_prints() {
    let example = run(&["config", "example"], b"");
    assert_eq!(example.status, 0);
    let run = config_check(&example.out);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.out.contains("valid"), "{}", run.out);
}

#[test]
fn config_check_reads_the_files_that_the_configuration_names() {
    let text = "[listen.tls]\nmode = \"require\"\ncertificate = \"missing.crt\"\nkey = \"missing.key\"\n";
    let run = config_check(text);
    assert_eq!(run.status, 2, "{}", run.out);
    assert!(run.err.contains("missing.crt"), "{}", run.err);
}
