//! `querygate demo` and `querygate requests`, as a person runs them: the real binary, which starts a real Postgres.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_tests::DEADLINE;
use proxy_tests::gate;
use proxy_tests::process::{Watched, binary_dir};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::raw::eventually;
use serde_json::Value;
use tempfile::TempDir;

/// A directory that the demo puts everything into, readable for the user that Postgres runs as.
fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("permissions can be set");
    place
}

fn demo(place: &Path, arguments: &str) -> Watched {
    let mut shell = Command::new("sh");
    // Standard error is what the fixture watches.
    let line = format!("exec '{}' demo {arguments} 1>&2", gate::binary().display());
    shell.args(["-c", &line]).env("TMPDIR", place);
    Watched::spawn(shell)
}

fn is_empty(place: &Path) -> bool {
    fs::read_dir(place).expect("the directory is there").next().is_none()
}

/// The pid of the demo's Postgres.
fn postgres_pid(place: &Path) -> Pid {
    let cluster = fs::read_dir(place).unwrap().next().expect("a cluster").unwrap().path();
    let file = fs::read_to_string(cluster.join("data/postmaster.pid")).expect("Postgres runs");
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
}

#[test]
fn the_script_succeeds_and_leaves_nothing_behind() {
    let place = place();
    let mut demo = demo(place.path(), "--script");
    let status = demo.wait(DEADLINE * 4);
    assert!(status.success(), "{}", demo.log());
    assert!(demo.log().contains("Every step did what it says."));
    assert!(!demo.log().contains('✗'));
    assert!(is_empty(place.path()));
}

/// The demo with a Slack workspace of its own.
fn slack_demo(place: &Path, arguments: &str) -> Watched {
    let mut shell = Command::new("sh");
    let line = format!("exec '{}' {arguments} 1>&2", binary_dir().join("slack-demo").display());
    shell.args(["-c", &line]).env("TMPDIR", place).stdin(Stdio::piped());
    Watched::spawn(shell)
}

#[test]
fn with_slack_the_script_shows_a_message_a_click_and_the_rows_gone() {
    let place = place();
    let mut demo = slack_demo(place.path(), "--script");
    let status = demo.wait(DEADLINE * 4);
    assert!(status.success(), "{}", demo.log());
    assert!(demo.log().contains("Every step did what it says.") && !demo.log().contains('✗'), "{}", demo.log());
    assert!(is_empty(place.path()));
}

#[test]
fn with_slack_a_message_appears_for_what_psql_asks_and_a_signal_leaves_nothing_behind() {
    let place = place();
    let mut demo = slack_demo(place.path(), "");
    let conninfo = demo.wait_line(DEADLINE * 2, |line| {
        let (_, rest) = line.split_once("psql \"")?;
        Some(rest.trim_end_matches('"').to_owned())
    });
    let psql = Psql::conninfo(conninfo.expect("the demo tells"));
    let session = psql.start("DELETE FROM orders WHERE id = 7");
    for told in ["Approval needed: DELETE", "DELETE FROM orders WHERE id = 7", "@dba", "[Approve]"] {
        let seen = demo.wait_line(DEADLINE, |line| line.contains(told).then_some(()));
        assert!(seen.is_some(), "no {told}:\n{}", demo.log());
    }
    demo.signal(Signal::SIGTERM);
    demo.wait(DEADLINE);
    assert!(is_empty(place.path()));
    assert_ne!(finish(session).status, Some(0));
}

#[test]
fn a_signal_while_the_cluster_is_being_made_leaves_nothing_behind() {
    let place = place();
    let mut demo = demo(place.path(), "--script");
    demo.wait_line(DEADLINE, |line| line.starts_with("Starting").then_some(())).expect("it starts");
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.wait(DEADLINE).code(), Some(130), "{}", demo.log());
    assert!(is_empty(place.path()));
}

#[test]
fn a_signal_ends_a_running_demo_with_its_postgres_and_files() {
    let place = place();
    let mut demo = demo(place.path(), "");
    demo.wait_line(DEADLINE * 2, |line| line.contains("requests watch").then_some(())).expect("it runs");
    let postgres = postgres_pid(place.path());
    demo.signal(Signal::SIGTERM);
    demo.wait(DEADLINE);
    assert!(is_empty(place.path()));
    assert!(kill(postgres, None).is_err(), "Postgres still runs");
}

#[test]
fn without_postgres_it_says_how_to_get_it() {
    let place = place();
    let mut demo = demo(place.path(), "--postgres-bin /nonexistent");
    assert_eq!(demo.wait(DEADLINE).code(), Some(1));
    assert!(demo.log().contains("/nonexistent has no initdb, postgres and psql"), "{}", demo.log());
}

/// `querygate requests`, told by the demo where and as whom.
struct Desk {
    api: String,
    token: String,
}

impl Desk {
    fn of(demo: &Watched) -> Desk {
        let line = demo.wait_line(DEADLINE * 2, |line| {
            let rest = line.trim().strip_prefix("export QUERYGATE_API=")?;
            let (api, token) = rest.split_once(" QUERYGATE_TOKEN=")?;
            Some((api.to_owned(), token.to_owned()))
        });
        let (api, token) = line.expect("the demo tells");
        Desk { api, token }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(gate::binary());
        command.arg("requests").args(arguments).env("QUERYGATE_API", &self.api).env("QUERYGATE_TOKEN", &self.token);
        command.output().expect("querygate runs")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The one request that waits, as soon as there is one.
    fn held(&self) -> Value {
        eventually("a held request", || {
            let held = self.json(&["list"])["requests"][0].clone();
            held.is_object().then_some(held)
        })
    }
}

#[test]
fn the_command_line_lists_shows_decides_and_says_so_in_its_exit_status() {
    let place = place();
    let demo = demo(place.path(), "");
    let conninfo = demo.wait_line(DEADLINE * 2, |line| {
        let (_, rest) = line.split_once("psql \"")?;
        Some(rest.trim_end_matches('"').to_owned())
    });
    let psql = Psql::conninfo(conninfo.expect("the demo tells"));
    let desk = Desk::of(&demo);

    let mut watch = Command::new("sh");
    let line = format!("exec '{}' requests watch 1>&2", gate::binary().display());
    watch.args(["-c", &line]).env("QUERYGATE_API", &desk.api).env("QUERYGATE_TOKEN", &desk.token);
    let watch = Watched::spawn(watch);

    let session = psql.start("DELETE FROM orders /* \u{202e}\u{1b}[2J */ WHERE id = 7");
    let held = desk.held();
    let id = held["id"].as_str().unwrap();
    assert_eq!(held["statement"]["text"], "DELETE FROM orders /* \u{202e}\u{1b}[2J */ WHERE id = 7");
    let shown = String::from_utf8(desk.run(&["show", id]).stdout).unwrap();
    assert!(shown.contains("⟨U+202E⟩⟨U+001B⟩[2J") && !shown.contains('\u{1b}'), "{shown}");
    let approved = desk.run(&["approve", id, "--reason", "ok"]);
    assert!(approved.status.success());
    assert_eq!(finish(session).status, Some(0));
    assert_eq!(psql.command("SELECT count(*) FROM orders WHERE id = 7").ok().trim(), "0");
    assert_eq!(desk.run(&["reject", id]).status.code(), Some(5), "decided before");
    for state in ["PENDING", "RELEASED, approved by you"] {
        let told = |line: &str| (line.contains(id) && line.contains(state)).then_some(());
        watch.wait_line(DEADLINE, told).expect("the watcher is told");
    }

    let session = psql.start("DROP TABLE products");
    let id = desk.held()["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.run(&["approve", &id, "--sha256", &"0".repeat(64)]).status.code(), Some(5), "another statement");
    assert!(desk.run(&["reject", &id, "--reason", "not today"]).status.success());
    let said = finish(session);
    assert!(said.stderr.contains("not today"), "{}", said.stderr);

    assert_eq!(desk.run(&["show", "qg-0000000000"]).status.code(), Some(4));
    assert_eq!(desk.run(&["show", "../health"]).status.code(), Some(2));
    let stranger = Desk { api: desk.api.clone(), token: "a-token-nobody-knows-here".to_owned() };
    assert_eq!(stranger.run(&["list"]).status.code(), Some(3));
    let all = desk.json(&["list", "--all"]);
    let states: Vec<_> = all["requests"].as_array().unwrap().iter().map(|request| &request["state"]).collect();
    assert_eq!(states, ["rejected", "released"]);
}
