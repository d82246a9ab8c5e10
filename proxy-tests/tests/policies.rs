//! Rules as sessions meet them (by person, by time, by tag), and what tells of them: `policy`, `check --explain`, the cookbook.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use proxy_tests::gate::{Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Frame, Raw, eventually};
use querygate::clock;
use tempfile::TempDir;

/// A table `t` of three rows.
fn database() -> Database {
    let database = shared();
    database.run("CREATE TABLE t (x int, note text); INSERT INTO t VALUES (1), (2), (3)");
    database
}

/// The error's SQLSTATE, or that it went through.
fn outcome(raw: &mut Raw, sql: &str) -> String {
    raw.send(m::query(sql));
    told(&raw.until(b'Z'))
}

fn told(frames: &[Frame]) -> String {
    frames.iter().find(|frame| frame.tag == b'E').map_or("passed".to_owned(), Frame::sqlstate)
}

#[test]
fn a_session_learns_that_a_freeze_has_begun_also_for_what_it_ran_before() {
    let database = database();
    let from = clock::wall() + Duration::from_secs(3);
    let gate = Gate::builder()
        .toml(&format!(
            "[[freeze]]\nname = \"now\"\nfrom = \"{from}\"\nuntil = \"2100-01-01\"\n\
             [[rule]]\nname = \"frozen\"\naction = \"reject\"\nfrozen = true\neffects = [\"update\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
        ))
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::parse("u", "UPDATE t SET x = x WHERE x = 1", &[]));
    raw.send(m::sync());
    raw.until(b'Z');
    let mut bound = || {
        raw.send(m::bind("", "u", &[]));
        raw.send(m::execute("", 0));
        raw.send(m::sync());
        let prepared = told(&raw.until(b'Z'));
        (prepared, outcome(&mut raw, "UPDATE t SET x = x WHERE x = 2"))
    };
    let (first, deadline) = (bound(), clock::now() + Duration::from_secs(30));
    // A machine so slow that the freeze is on by now has nothing to compare with.
    assert!(first.0 == "passed" || clock::wall() >= from, "{first:?}");
    loop {
        let at = clock::wall();
        let (prepared, simple) = bound();
        if at >= from {
            assert_eq!((prepared.as_str(), simple.as_str()), ("42501", "42501"));
            return;
        }
        assert!(clock::now() < deadline, "the freeze has to begin");
    }
}

#[test]
fn rules_for_people_and_tags_tell_sessions_apart() {
    let database = database();
    let user = database.target().user.clone();
    let gate = Gate::builder()
        .toml(&format!(
            "[[people]]\nname = \"robot\"\ngroups = [\"agents\"]\ndatabase_users = [\"{user}\"]\n\
             [[rule]]\nname = \"billing\"\naction = \"allow\"\neffects = [\"update\"]\ntags = {{ application = [\"billing\"] }}\n\
             [[rule]]\nname = \"agents\"\naction = \"reject\"\ngroups = [\"agents\"]\neffects = [\"update\", \"insert\", \"delete\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
        ))
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    for (sql, expected) in [
        ("SELECT * FROM t", "passed"),
        ("UPDATE t SET x = 1 WHERE x = 1", "42501"),
        ("UPDATE t SET x = 1 WHERE x = 1 /*application='billing'*/", "passed"),
        ("UPDATE t SET x = 1 WHERE x = 1 /*application='billing*/", "42501"),
        ("INSERT INTO t VALUES (4) /*application='billing'*/", "42501"),
    ] {
        assert_eq!(outcome(&mut raw, sql), expected, "{sql}");
    }
}

/// Lines of the audit file of this kind, once there are so many.
fn recorded(gate: &Gate, kind: &str, count: usize) -> Vec<serde_json::Value> {
    let (file, deadline) = (gate.dir().join("querygate-audit.jsonl"), clock::now() + Duration::from_secs(30));
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let found: Vec<_> = whole.filter(|line| line["event"]["event"] == kind).collect();
        if found.len() >= count || clock::now() > deadline {
            return found;
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_passes_and_is_told_of_goes_on_record_under_the_redaction_of_its_rule() {
    let database = database();
    let gate = Gate::builder()
        .toml(
            "[[rule]]\nname = \"tell\"\naction = \"notify\"\nmessage = \"look\"\nredact = \"literals\"\neffects = [\"insert\"]\n\
             [[rule]]\nname = \"later\"\naction = \"hold\"\nobserve = true\neffects = [\"delete\"]\n\
             [[rule]]\nname = \"never\"\naction = \"reject\"\nobserve = true\neffects = [\"truncate\"]\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n",
        )
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    for sql in ["INSERT INTO t VALUES (4711)", "DELETE FROM t WHERE x = 4711", "TRUNCATE t", "SELECT 1"] {
        assert_eq!(outcome(&mut raw, sql), "passed", "{sql}");
    }
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
    for (kind, rule, text) in [
        ("noticed", "tell", "INSERT INTO t VALUES (?)"),
        ("would-have-held", "later", "DELETE FROM t WHERE x = 4711"),
        ("would-have-rejected", "never", "TRUNCATE t"),
    ] {
        let lines = recorded(&gate, kind, 1);
        assert_eq!(lines.len(), 1, "{kind}");
        let notice = &lines[0]["event"]["notice"];
        assert_eq!((notice["rule"].as_str(), notice["statement"]["text"].as_str()), (Some(rule), Some(text)));
        assert_eq!(notice["policy_version"], lines[0]["policy_version"]);
        assert_eq!(notice["origin"]["user"].as_str(), Some(database.target().user.as_str()));
    }
    assert_eq!(gate.api().get("/health")["dropped_notices"], 0);
}

struct Run {
    status: i32,
    out: String,
    err: String,
}

fn run(args: &[&str]) -> Run {
    let output = Command::new(binary()).args(args).env_remove("QUERYGATE_CONFIG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Fenced blocks of this kind.
fn blocks<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_recipe_of_the_cookbook_does_what_its_cases_say() {
    let text = include_str!("../docs/policies.md");
    let (policies, cases) = (blocks(text, "toml policy"), blocks(text, "toml cases"));
    assert!(policies.len() >= 5 && policies.len() == cases.len(), "{} {}", policies.len(), cases.len());
    for (policy, cases) in policies.into_iter().zip(cases) {
        let dir = TempDir::new().unwrap();
        let (config, file) = (write(&dir, "c.toml", policy), write(&dir, "cases.toml", cases));
        let run = run(&["policy", "test", "--config", &config, &file]);
        assert_eq!(run.status, 0, "{policy}\n{}{}", run.out, run.err);
        let count = cases.matches("[[case]]").count();
        assert_eq!(run.out, format!("{count} passed, 0 failed\n"));
    }
}

const CAUTIOUS: &str = "[[rule]]\nname = \"reads\"\naction = \"allow\"\neffects = [\"read\"]\n\
                        [[rule]]\nname = \"late\"\naction = \"reject\"\nusers = [\"etl\"]\neffects = [\"delete\"]\n\
                        [[rule]]\nname = \"tables\"\naction = \"hold\"\nobjects = [\"shop.*\"]\n";

#[test]
fn cases_that_are_not_so_are_told_as_a_diff_and_by_the_exit_status() {
    let dir = TempDir::new().unwrap();
    let config = write(&dir, "c.toml", CAUTIOUS);
    let cases = write(
        &dir,
        "cases.toml",
        "[[case]]\nsql = \"SELECT 1\"\nverdict = \"allow\"\n\n[[case]]\nname = \"etl\"\nuser = \"etl\"\nsql = \"DELETE FROM t\"\nverdict = \"hold\"\nrule = \"tables\"\n",
    );
    let failing = run(&["policy", "test", "--config", &config, &cases]);
    assert_eq!(failing.status, 1, "{}{}", failing.out, failing.err);
    for part in
        ["cases.toml:5: etl", "  DELETE FROM t\n", "- hold by tables\n", "+ reject by late\n", "1 passed, 1 failed"]
    {
        assert!(failing.out.contains(part), "{part}: {}", failing.out);
    }
    for wrong in
        ["[[case]]\nsql = \"SELECT 1\"\n", "[[case]]\nsql = \"\"\nverdict = \"allow\"\npeople = [\"bob\"]\n", "x"]
    {
        let file = write(&dir, "wrong.toml", wrong);
        assert_eq!(run(&["policy", "test", "--config", &config, &file]).status, 2, "{wrong}");
    }
    assert_eq!(run(&["policy", "test", "--config", &config, "nowhere.toml"]).status, 2);
    assert_eq!(run(&["policy", "test", "--config", "nowhere.toml", &cases]).status, 2);
}

#[test]
fn lint_tells_what_is_odd_by_its_exit_status() {
    let dir = TempDir::new().unwrap();
    let fine = write(&dir, "fine.toml", CAUTIOUS);
    assert_eq!(run(&["policy", "lint", "--config", &fine]).status, 0);
    let odd = write(
        &dir,
        "odd.toml",
        "[[rule]]\nname = \"all\"\naction = \"allow\"\n[[rule]]\nname = \"b\"\naction = \"hold\"\n",
    );
    let odd = run(&["policy", "lint", "--config", &odd]);
    assert_eq!(odd.status, 1, "{}", odd.err);
    assert!(odd.out.contains("`b` is never asked") && odd.out.contains("allows `everything`"), "{}", odd.out);
    let unknown = write(&dir, "unknown.toml", "[[rule]]\nname = \"a\"\naction = \"hold\"\napproval = \"nobody\"\n");
    assert_eq!(run(&["policy", "lint", "--config", &unknown]).status, 2);
}

#[test]
fn output_that_nobody_reads_ends_no_command_with_a_panic() {
    let dir = TempDir::new().unwrap();
    let rule = |n: usize| format!("[[rule]]\nname = \"r{n}\"\naction = \"hold\"\neffects = [\"drop\"]\n");
    let config = write(&dir, "c.toml", &(0..9).map(rule).collect::<String>());
    let case = "[[case]]\nsql = \"SELECT 1\"\nverdict = \"reject\"\n";
    let cases = write(&dir, "cases.toml", case);
    for (args, status) in [
        (vec!["policy", "lint", "--config", &config], 1),
        (vec!["policy", "test", "--config", &config, &cases], 1),
        (vec!["config", "check", "--config", &config], 0),
        (vec!["config", "example"], 0),
        (vec!["undo", "cover", "shop.orders"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = Command::new(binary()).args(&args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(status), "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("cannot write"), "{args:?}: {said}");
    }
}

#[test]
fn check_explains_which_rules_were_asked_and_why_they_did_not_match() {
    let dir = TempDir::new().unwrap();
    let config = write(&dir, "c.toml", CAUTIOUS);
    let check = |sql: &str| run(&["check", "--config", &config, "--explain", "--format", "json", "--user", "app", sql]);
    let explained = |sql: &str| {
        let json: serde_json::Value = serde_json::from_str(&check(sql).out).unwrap();
        json[0]["effects"][0]["explain"].clone()
    };
    let expected = serde_json::json!([
        { "rule": "reads", "matches": "no", "because": ["effects"] },
        { "rule": "late", "matches": "no", "because": ["users"] },
        { "rule": "tables", "matches": "possibly", "because": ["objects"] },
    ]);
    assert_eq!(explained("DELETE FROM t"), expected);
    assert_eq!(explained("DELETE FROM shop.t")[2], serde_json::json!({ "rule": "tables", "matches": "surely" }));
    let text = run(&["check", "--config", &config, "--explain", "DROP TABLE shop.t"]).out;
    assert!(text.contains("asked late no: users; effects") && text.contains("asked tables surely"), "{text}");
}

#[test]
fn a_replay_says_what_another_policy_would_have_done_with_what_is_on_record() {
    let database = database();
    let gate = Gate::builder()
        .toml(
            "[policy]\nfallback = \"shipped\"\n[[rule]]\nname = \"tell\"\naction = \"notify\"\neffects = [\"insert\"]\n\
             [[rule]]\nname = \"cards\"\naction = \"hold\"\nredact = \"literals\"\nobjects = [\"cards\"]\n",
        )
        .start(database.target());
    assert_eq!(outcome(&mut Raw::login(&gate.target()), "INSERT INTO t VALUES (4)"), "passed");
    recorded(&gate, "noticed", 1);
    for sql in ["DELETE FROM t WHERE x = 1", "DROP TABLE nosuch", "DROP TABLE cards"] {
        let mut raw = Raw::login(&gate.target());
        raw.send(m::query(sql));
        // Of the redacted one, the API shows what approvers see.
        gate.api().wait_held(sql);
    }
    let audit = gate.dir().join("querygate-audit.jsonl");
    let replay = |policy: &str| {
        let dir = TempDir::new().unwrap();
        let against = write(&dir, "new.toml", policy);
        run(&["policy", "replay", "--audit", audit.to_str().unwrap(), "--against", &against])
    };
    let same = replay("");
    assert_eq!(
        (same.status, same.out.as_str()),
        (0, "3 as before, 0 changed, 1 not on record with their whole text\n")
    );
    let changed = replay("[[rule]]\nname = \"all\"\naction = \"reject\"\neffects = [\"drop\", \"insert\"]\n");
    assert_eq!(changed.status, 1, "{}{}", changed.out, changed.err);
    for part in [
        "DROP TABLE nosuch\n- hold by changed-definitions\n+ reject by all",
        "- allow by tell\n+ reject by all",
        "1 as before, 2 changed",
    ] {
        assert!(changed.out.contains(part), "{part}: {}", changed.out);
    }
    assert_eq!(replay("x").status, 2);
}

#[test]
fn a_changed_file_is_in_force_without_a_signal_and_a_wrong_one_changes_nothing() {
    let database = database();
    let rules = |action: &str| {
        format!(
            "[[rule]]\nname = \"updates\"\naction = \"{action}\"\neffects = [\"update\"]\n[[rule]]\nname = \"deletes\"\naction = \"hold\"\neffects = [\"delete\"]\n"
        )
    };
    let outside = TempDir::new().unwrap();
    let included = write(&outside, "rules.toml", &rules("allow"));
    let gate = Gate::builder()
        .toml(&format!(
            "[policy]\ninclude = [\"{}/*.toml\"]\n[[rule]]\nname = \"sessions\"\naction = \"allow\"\neffects = [\"read\", \"session\"]\n",
            outside.path().display()
        ))
        .start(database.target());
    let mut raw = Raw::login(&gate.target());
    assert_eq!(outcome(&mut raw, "UPDATE t SET x = 1 WHERE x = 1"), "passed");
    let mut waiting = Raw::login(&gate.target());
    waiting.send(m::query("DELETE FROM t WHERE x = 2"));
    let id = gate.api().wait_held("DELETE FROM t WHERE x = 2");
    let version = |id: &str| gate.api().get(&format!("/v1/requests/{id}"))["policy_version"].clone();
    let before = version(&id);

    let deadline = clock::now() + Duration::from_secs(60);
    fs::write(&included, rules("reject")).unwrap();
    while outcome(&mut raw, "UPDATE t SET x = 1 WHERE x = 1") != "42501" {
        assert!(clock::now() < deadline, "the changed file has to be loaded:\n{}", gate.process.log());
    }
    assert_eq!(version(&id), before, "what is held keeps the policy that held it");
    assert_eq!(recorded(&gate, "policy-changed", 1).len(), 1);

    fs::write(&included, "[[rule]]\nname = \"half\"\n").unwrap();
    let health = || gate.api().get("/health");
    while health()["configuration"]["status"] != "degraded" {
        assert!(clock::now() < deadline, "the wrong file has to be told of: {}", health());
    }
    assert!(health()["reasons"][0].as_str().unwrap().starts_with("configuration: "), "{}", health());
    while !gate.process.log().contains("rules.toml:1:") {
        assert!(clock::now() < deadline, "the log has to name the line: {}", gate.process.log());
    }
    assert_eq!(outcome(&mut raw, "UPDATE t SET x = 1 WHERE x = 1"), "42501");

    fs::write(&included, rules("allow")).unwrap();
    while outcome(&mut raw, "UPDATE t SET x = 1 WHERE x = 1") != "passed" {
        assert!(clock::now() < deadline, "the mended file has to be loaded");
    }
    assert_eq!(health()["configuration"]["status"], "ok");
    gate.api().approve(&id);
    assert_eq!(told(&waiting.until(b'Z')), "passed");
}

/// What passes is counted by statement without its literals, over both protocols, and another policy is asked about the counts.
#[test]
fn what_passed_is_counted_without_literals_and_a_replay_judges_it_again() {
    let database = database();
    let recording = "[policy]\nfallback = \"shipped\"\n[audit]\nrecord_passing = true\nrecord_passing_every = \"1s\"\n";
    let gate = Gate::builder().toml(recording).start(database.target());
    let mut raw = Raw::login(&gate.target());
    for number in 0..40 {
        assert_eq!(outcome(&mut raw, &format!("UPDATE t SET x = {number} WHERE x = 77{number}1")), "passed");
    }
    // The same over the extended protocol: parsed once, bound ten times.
    raw.send(m::parse("p", "INSERT INTO t SELECT 5 WHERE 'secret-77' = $1", &[]));
    for _ in 0..10 {
        raw.send(m::bind("", "p", &[Some(b"secret-78")]));
        raw.send(m::execute("", 0));
    }
    raw.send(m::sync());
    raw.until(b'Z');
    assert_eq!(outcome(&mut raw, "PREPARE q AS SELECT 1"), "passed");
    raw.query("EXECUTE q");
    let counted = |text: &str| {
        let audit = fs::read_to_string(gate.dir().join("querygate-audit.jsonl")).unwrap_or_default();
        let events = audit.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let rows = events.filter_map(|event| event["event"]["batch"]["rows"].as_array().cloned()).flatten();
        rows.filter(|row| row["text"].as_str().is_some_and(|own| own == text))
            .filter_map(|row| row["count"].as_u64())
            .sum::<u64>()
    };
    eventually("everything that passed is on record", || {
        let counts =
            ["UPDATE t SET x = ? WHERE x = ?", "INSERT INTO t SELECT ? WHERE ? = $1", "EXECUTE q"].map(&counted);
        (counts == [40, 10, 1]).then_some(())
    });
    let audit = gate.dir().join("querygate-audit.jsonl");
    let text = fs::read_to_string(&audit).unwrap();
    assert!(!text.contains("secret") && !text.contains("771"), "{text}");
    let dir = TempDir::new().unwrap();
    let replay = |policy: &str| {
        let against = write(&dir, "against.toml", &format!("[policy]\nfallback = \"shipped\"\n{policy}"));
        run(&["policy", "replay", "--audit", audit.to_str().unwrap(), "--against", &against])
    };
    let same = replay("");
    assert!(
        same.status == 0
            && same.out.contains(" 0 would be held, 0 rejected, 1 cannot be judged again, 0 were not kept"),
        "{}",
        same.out
    );
    let changed = replay(
        "[[rule]]\nname = \"no-inserts\"\naction = \"reject\"\neffects = [\"insert\"]\nobjects = [\"t\"]\n\
         [[rule]]\nname = \"updates\"\naction = \"hold\"\neffects = [\"update\"]\ncolumns = [\"x\"]\n",
    );
    assert_eq!(changed.status, 1, "{}", changed.out);
    for part in [
        "40 × postgres@",
        ": UPDATE t SET x = ? WHERE x = ?\n- allow by limited-updates\n+ hold by updates\n",
        ": INSERT INTO t SELECT ? WHERE ? = $1\n- allow by new-rows\n+ reject by no-inserts\n",
        " 40 would be held, 10 rejected, 1 cannot be judged again",
    ] {
        assert!(changed.out.contains(part), "{part}: {}", changed.out);
    }
    let verified = run(&["audit", "verify", "--file", audit.to_str().unwrap()]);
    assert_eq!(verified.status, 0, "{}{}", verified.out, verified.err);
}

#[test]
fn a_recipe_in_rego_gives_the_verdicts_of_the_same_recipe_in_toml_over_the_corpus() {
    let cookbook = include_str!("../docs/policies.md");
    let (policies, cases) = (blocks(cookbook, "toml policy"), blocks(cookbook, "toml cases"));
    let at = policies.iter().position(|policy| policy.contains("no-drops-in-shop")).unwrap();
    let dir = TempDir::new().unwrap();
    write(&dir, "policy.rego", blocks(include_str!("../docs/rego.md"), "rego")[0]);
    // A busy machine is no slow policy.
    let rego = "[policy]\nengine = \"rego\"\nrego = [\"policy.rego\"]\nrego_limit = \"1s\"\nfallback = \"shipped\"\n";
    let (toml, rego) = (write(&dir, "toml.toml", policies[at]), write(&dir, "rego.toml", rego));
    let file = write(&dir, "cases.toml", cases[at]);
    let tested = run(&["policy", "test", "--config", &rego, &file]);
    assert_eq!(tested.status, 0, "{}{}", tested.out, tested.err);

    let own = ["shop.payments", "payments", "shop.products", "products", "shop.orders", "orders", "other.payments"];
    let own = own.iter().flat_map(|table| {
        [
            format!("INSERT INTO {table} VALUES (1)"),
            format!("INSERT INTO {table} (name) VALUES (1)"),
            format!("UPDATE {table} SET name = 'x', sale_price = 1 WHERE id = 1"),
            format!("UPDATE {table} SET name = 'x' WHERE id = 1"),
            format!("DELETE FROM {table} WHERE id = 1"),
            format!("DROP TABLE {table}"),
            format!("TRUNCATE shop.x, {table}"),
            format!("SELECT * FROM {table}"),
        ]
    });
    let corpus = ["statements", "attacks", "harmless", "tools"];
    let corpus = corpus.iter().flat_map(|name| {
        let path = format!("{}/corpus/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| json(line)["sql"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    let questions: Vec<String> = own.chain(corpus).collect();
    let answers = |config: &str| {
        let lines: Vec<String> = questions
            .iter()
            .enumerate()
            .map(|(id, sql)| serde_json::json!({"id": id, "sql": sql}).to_string())
            .collect();
        let input = write(&dir, "questions.jsonl", &(lines.join("\n") + "\n"));
        let output = Command::new(binary())
            .args(["check", "--jsonl", "--config", config])
            .stdin(fs::File::open(input).unwrap())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| json(line)["verdict"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (toml, rego) = (answers(&toml), answers(&rego));
    assert_eq!((toml.len(), rego.len()), (questions.len(), questions.len()));
    let differing: Vec<String> = (0..toml.len())
        .filter(|at| toml[*at] != rego[*at])
        .map(|at| format!("{}: toml {}, rego {}", questions[at], toml[at], rego[at]))
        .collect();
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(["allow", "hold", "reject"].iter().all(|verdict| toml.iter().any(|one| one == verdict)));
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}
