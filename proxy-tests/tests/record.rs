//! The record under processes that are killed, disks that refuse, a second gate, and `querygate audit`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]
#![allow(clippy::arithmetic_side_effects, clippy::missing_panics_doc, reason = "tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use proxy_tests::gate::{Gate, binary};
use proxy_tests::message;
use proxy_tests::postgres::shared;
use proxy_tests::raw::{Raw, eventually};
use querygate::clock;
use querygate::hold::{Cause, Decision, HoldId, HoldRequest, Origin, Outcome, SessionId, StatementText};
use querygate::store::lines::{Glance, Lines};
use querygate::store::verify::{Anchor, verify};
use querygate::store::{Answered, Event, Head, Health, Recovered, Store, StoreError, StoreSettings};
use tempfile::TempDir;

/// Names the directory to a child of this test binary.
const PLACE: &str = "QUERYGATE_TEST_RECORD";
/// Tells it how large its files may grow.
const LIMIT: &str = "QUERYGATE_TEST_LIMIT";

fn settings(place: &Path) -> StoreSettings {
    StoreSettings {
        path: Some(place.join("store.db")),
        audit_file: Some(place.join("audit.jsonl")),
        ..StoreSettings::default()
    }
}

fn id(name: &str) -> HoldId {
    HoldId(format!("qg-{name}"))
}

fn held(name: &str, user: &str, sql: &str) -> Event {
    let now = clock::wall();
    let request = HoldRequest {
        id: id(name),
        origin: Origin {
            session: SessionId(1),
            user: user.into(),
            database: "shop".into(),
            application_name: "psql".into(),
            certificate_name: None,
            client: "unix".into(),
            backend_pid: None,
        },
        statement: StatementText { text: Arc::from(sql), lossy: false, sha256: "00".repeat(32) },
        parameters: Vec::new(),
        effects: Vec::new(),
        risks: Vec::new(),
        rule: Arc::from("lost-rows"),
        why: "delete of orders".into(),
        also: Vec::new(),
        owners: Vec::new(),
        policy_version: Arc::from("p"),
        in_transaction: false,
        redact: querygate::judge::Redact::None,
        reason: None,
        opened_at: now,
        deadline: now,
        time_to_live: Duration::ZERO,
        standing: querygate::hold::Standing::default(),
        guard: None,
        beforehand: None,
        undoes: None,
        message: None,
        advice: None,
        setting: None,
    };
    Event::Held { request: Box::new(request) }
}

fn answered(name: &str, by: &str, reason: &str) -> Event {
    Event::Answered(Answered {
        id: id(name),
        channel: "dba".into(),
        by: by.into(),
        approve: true,
        break_glass: false,
        reason: Some(reason.into()),
        refused: None,
    })
}

fn approved(name: &str, by: &str) -> Event {
    Event::Decided {
        id: id(name),
        decision: Decision::Approve { by: by.into(), reason: None, at: clock::wall(), under: None },
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// This test binary again, running one of its children.
fn child(name: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env(PLACE, place);
    command
}

/// Where a child works; `None` if somebody runs it by hand.
fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

#[test]
#[ignore = "a child of a_killed_process_loses_nothing_that_was_acknowledged"]
fn child_that_records_until_it_is_killed() {
    let Some(place) = place() else { return };
    if let Some(limit) = std::env::var(LIMIT).ok().and_then(|limit| limit.parse().ok()) {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, limit, limit).unwrap();
    }
    runtime().block_on(async {
        let (store, recovered) = Store::open(&settings(&place)).unwrap();
        let start = recovered.head.seq;
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let name = format!("{start}-{task}-{n}");
                        let statement = "DELETE FROM orders; ".repeat(n % 50);
                        for events in [
                            vec![held(&name, "app", &statement)],
                            vec![answered(&name, "ann", "fine"), approved(&name, "ann")],
                            vec![Event::Ended { id: id(&name), outcome: Outcome::Released, at: clock::wall() }],
                        ] {
                            let recorded = store.record_all(events).await.unwrap();
                            let mut out = std::io::stdout().lock();
                            for one in recorded {
                                writeln!(out, "ack {}:{}", one.seq, one.hash).unwrap();
                            }
                            out.flush().unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let place = TempDir::new().unwrap();
    let mut acknowledged: Vec<Anchor> = Vec::new();
    for round in 0..25_u32 {
        // From before the first word to somewhere in the middle of it all.
        let until = [0, 1, 2, 3, 5, 8, 13, 40, 90, 200][round as usize % 10];
        let mut child =
            child("child_that_records_until_it_is_killed", place.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut seen = 0;
        // What it said before it died is still in the pipe.
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if seen == until {
                child.kill().unwrap();
            }
            if let Some(head) = line.unwrap().strip_prefix("ack ").and_then(|head| head.parse::<Head>().ok()) {
                seen += 1;
                acknowledged.push(Anchor { head, from: format!("round {round}") });
            }
        }
        child.wait().unwrap();
        let (store, recovered) = reopened(place.path(), &acknowledged);
        runtime().block_on(async {
            // Whoever waited is gone. What was open is withdrawn, and is not found open again.
            for open in recovered.open {
                let outcome = Outcome::Withdrawn { cause: Cause::Restart };
                store.record(Event::Ended { id: open.request.id, outcome, at: clock::wall() }).await.unwrap();
            }
            assert!(store.open_requests().await.unwrap().is_empty());
            store.close().await;
        });
    }
    assert!(acknowledged.len() > 500, "{}", acknowledged.len());
    let verified = audit(place.path(), &["verify", "--file", "audit.jsonl", "--store", "store.db"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
}

/// Opens a record after a crash: everything that was acknowledged is in it, in both places, and nothing is odd.
fn reopened(place: &Path, acknowledged: &[Anchor]) -> (Store, Recovered) {
    let (store, recovered) = Store::open(&settings(place)).unwrap();
    for source in [Lines::of_file(&place.join("audit.jsonl")), Lines::of_store(&place.join("store.db"))] {
        let found = verify(source.unwrap(), acknowledged).unwrap();
        assert_eq!(found.findings, []);
        assert_eq!((found.anchored, &found.head), (acknowledged.len(), &recovered.head));
    }
    assert_eq!(Glance::at(&place.join("store.db")).unwrap().difference().unwrap(), None);
    (store, recovered)
}

#[test]
fn a_process_killed_in_the_middle_of_a_write_loses_nothing_that_was_acknowledged() {
    let mut all = 0;
    // The kernel ends the process at the byte where a file passes the limit: in the middle of a page, of a log's frame.
    for limit in (150_000..700_000).step_by(24_593) {
        let place = TempDir::new().unwrap();
        let mut command = child("child_that_records_until_it_is_killed", place.path());
        let output = command.env(LIMIT, limit.to_string()).output().unwrap();
        assert_eq!(output.status.signal(), Some(Signal::SIGXFSZ as i32), "{}", text(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        let heads = said.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
        let acknowledged: Vec<Anchor> = heads.map(|head| Anchor { head, from: format!("limit {limit}") }).collect();
        all += acknowledged.len();
        reopened(place.path(), &acknowledged);
    }
    assert!(all > 500, "{all}");
}

#[test]
#[ignore = "a child of a_file_that_may_not_grow_fails_the_store_until_it_may"]
fn child_whose_files_may_not_grow() {
    let Some(place) = place() else { return };
    // With the signal blocked, a write beyond the limit is an error.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, most).unwrap();
    runtime().block_on(async {
        // The audit file alone is short of space, then the store (through its write-ahead log) is.
        for (name, audit_file) in [("with", Some(place.join("audit.jsonl"))), ("without", None)] {
            let path = Some(place.join(name).with_extension("db"));
            let (store, _) = Store::open(&StoreSettings { path, audit_file, ..StoreSettings::default() }).unwrap();
            limit(150_000);
            let mut recorded = 0_u64;
            let error = loop {
                match store.record(held(&format!("{name}{recorded}"), "app", &"x".repeat(3_000))).await {
                    Ok(_) => recorded += 1,
                    Err(error) => break error,
                }
                assert!(recorded < 1_000, "the limit is felt");
            };
            assert!(matches!(error, StoreError::Failing(_)), "{error}");
            assert!(matches!(store.health(), Health::Failing { .. }));
            limit(most);
            while store.health() != Health::Good {
                tokio::task::yield_now().await;
            }
            let last = store.record(Event::Stopped).await.unwrap();
            // The one that failed may have come to be on record, never more than that.
            assert!((recorded + 1..=recorded + 2).contains(&last.seq), "{recorded} {}", last.seq);
            store.close().await;
            println!("recovered {name} after {recorded}: {error}");
        }
    });
}

#[test]
fn a_file_that_may_not_grow_fails_the_store_until_it_may() {
    let place = TempDir::new().unwrap();
    let output = child("child_whose_files_may_not_grow", place.path()).output().unwrap();
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("recovered with ") && said.contains("recovered without "),
        "{said}"
    );
    let verified = audit(place.path(), &["verify", "--file", "audit.jsonl", "--store", "with.db"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
}

#[test]
fn a_second_gate_on_the_same_record_is_refused_with_who_has_it() {
    let place = TempDir::new().unwrap();
    let (store, _) = Store::open(&settings(place.path())).unwrap();
    let config = place.path().join("querygate.toml");
    let toml = "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"none\"\n[store]\npath = \"store.db\"\n[audit]\nfile = \"audit.jsonl\"\n";
    std::fs::write(&config, toml).unwrap();
    let second = Command::new(binary()).args(["serve", "--config"]).arg(&config).output().unwrap();
    let said = text(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let expected = format!("is in use by process {}: two gates cannot share one record", std::process::id());
    assert!(said.contains(&expected), "{said}");
    // It did no harm.
    runtime().block_on(async { store.record(Event::Stopped).await.unwrap() });
}

/// A record with a few requests in it, closed; and its head.
fn some_record() -> (TempDir, Head) {
    let place = TempDir::new().unwrap();
    let (store, _) = Store::open(&settings(place.path())).unwrap();
    let head = runtime().block_on(async {
        let started = Event::Started { version: "1".into(), policy_version: "p".into() };
        store
            .record_all(vec![started, held("a", "app", "DELETE FROM orders\u{1b}[8m"), held("b", "etl", "=cmd()")])
            .await
            .unwrap();
        store.record_all(vec![answered("a", "ann", "@evil"), approved("a", "ann, bob")]).await.unwrap();
        store.record(Event::Ended { id: id("b"), outcome: Outcome::Expired, at: clock::wall() }).await.unwrap();
        let head = store.heads().borrow().clone();
        store.close().await;
        head
    });
    (place, head)
}

fn audit(place: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("audit").args(args).current_dir(place).env_remove("QUERYGATE_CONFIG").output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn verify_says_what_was_done_to_a_record_and_where_by_words_and_exit_status() {
    let (place, head) = some_record();
    let file = place.path().join("audit.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<String> = whole.lines().map(|line| format!("{line}\n")).collect();
    let check = |args: &[&str], status: i32, expected: &str| {
        let output = audit(place.path(), args);
        let said = text(&output);
        assert!(
            output.status.code() == Some(status) && said.contains(expected),
            "{args:?}: {:?} {said}",
            output.status
        );
    };
    let only_file = ["verify", "--file", "audit.jsonl"];
    let head_text = head.to_string();
    let with_head = ["verify", "--file", "audit.jsonl", "--head", &head_text];
    let with_store = ["verify", "--file", "audit.jsonl", "--store", "store.db"];
    check(&only_file, 0, "whole, 6 events");
    check(&only_file, 0, "nothing vouches for its end");
    check(&with_head, 0, "vouched for by one hash kept elsewhere");
    check(&with_store, 0, "store.db: whole, 6 events");
    check(&["verify", "--store", "store.db"], 0, "store.db: whole");
    check(&["verify", "--file", "no-such-file"], 2, "no-such-file: No such file");
    check(&["verify", "--file", "audit.jsonl", "--head", "6"], 2, "expected SEQ:HASH");
    check(&["verify", "--file", "audit.jsonl", "--checkpoint", "c"], 2, "needs --public-key");

    std::fs::write(&file, whole.replace("\"ann, bob\"", "\"ann, eve\"")).unwrap();
    check(&only_file, 1, "audit.jsonl:5: it was edited");
    std::fs::write(&file, lines[..4].concat()).unwrap();
    check(&only_file, 0, "whole, 4 events");
    check(
        &with_head,
        1,
        "audit.jsonl: it ends with event 4, and --head vouches for event 6: 2 events were cut off the end",
    );
    check(&with_store, 1, "the store store.db vouches for event 6");
    std::fs::write(&file, [lines[..2].concat(), lines[3..].concat()].concat()).unwrap();
    check(&only_file, 1, "audit.jsonl:3: event 3 is missing before it");
    std::fs::write(&file, [&lines[..2], &[lines[3].clone(), lines[2].clone()], &lines[4..]].concat().concat()).unwrap();
    check(&only_file, 1, "audit.jsonl:3: ");
    std::fs::write(&file, [&lines[..3], &lines[2..]].concat().concat()).unwrap();
    check(&only_file, 1, "audit.jsonl:4: ");
    std::fs::write(&file, lines[1..].concat()).unwrap();
    check(&only_file, 1, "audit.jsonl:1: ");
}

#[test]
fn verify_believes_checkpoints_signed_with_the_key_it_is_given_and_no_others() {
    let (place, _) = some_record();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(place.path().join("audit.key"), key.serialize_pem()).unwrap();
    std::fs::write(place.path().join("audit.pub"), key.public_key_pem()).unwrap();
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(place.path().join("other.pub"), other.public_key_pem()).unwrap();
    let signing = StoreSettings { checkpoint_key: Some(place.path().join("audit.key")), ..settings(place.path()) };
    let (store, _) = Store::open(&signing).unwrap();
    runtime().block_on(async {
        store.record(Event::Stopped).await.unwrap();
        store.close().await;
    });
    let verify = |key: &str| {
        let file = ["--file", "audit.jsonl", "--checkpoint", "audit.jsonl.checkpoints", "--public-key", key];
        audit(place.path(), &[&["verify"], &file[..]].concat())
    };
    let good = verify("audit.pub");
    assert!(good.status.code() == Some(0) && text(&good).contains("vouched for by one hash"), "{}", text(&good));
    let bad = verify("other.pub");
    assert!(bad.status.code() == Some(1) && text(&bad).contains("no checkpoint in it is signed"), "{}", text(&bad));
    let file = place.path().join("audit.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    let cut = whole.trim_end().rfind('\n').unwrap() + 1;
    std::fs::write(&file, &whole[..cut]).unwrap();
    let bad = verify("audit.pub");
    let expected = "it ends with event 6, and the checkpoint in line 1 of audit.jsonl.checkpoints vouches for event 7";
    assert!(bad.status.code() == Some(1) && text(&bad).contains(expected), "{}", text(&bad));
    // The configuration names file, store, key and so the checkpoints.
    std::fs::write(&file, &whole).unwrap();
    let toml = "[store]\npath = \"store.db\"\n[audit]\nfile = \"audit.jsonl\"\ncheckpoint_key = \"audit.key\"\n";
    std::fs::write(place.path().join("querygate.toml"), toml).unwrap();
    let good = audit(place.path(), &["verify", "--config", "querygate.toml"]);
    let check = || {
        Command::new(binary())
            .args(["config", "check", "--config"])
            .arg(place.path().join("querygate.toml"))
            .output()
            .unwrap()
    };
    assert_eq!(check().status.code(), Some(0), "{}", text(&check()));
    std::fs::remove_file(place.path().join("audit.key")).unwrap();
    assert!(
        check().status.code() == Some(2) && text(&check()).contains("[audit] the checkpoint key"),
        "{}",
        text(&check())
    );
    // Of the file the store vouches, too.
    let expected = "vouched for by 2 hashes";
    assert!(good.status.code() == Some(0) && text(&good).contains(expected), "{}", text(&good));
}

#[test]
fn search_finds_events_by_what_is_known_of_their_request() {
    let (place, _) = some_record();
    let found = |args: &[&str]| -> Vec<u64> {
        let args = [&["search", "--file", "audit.jsonl", "--format", "json"], args].concat();
        let output = audit(place.path(), &args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect()
    };
    for (args, expected) in [
        (&[][..], &[1, 2, 3, 4, 5, 6][..]),
        (&["--user", "app"], &[2, 4, 5]),
        (&["--database", "shop", "--event", "ended"], &[6]),
        (&["--request", "QG-B"], &[3, 6]),
        (&["--by", "ann"], &[4, 5]),
        (&["--by", "bob"], &[5]),
        (&["--by", "eve"], &[]),
        (&["--text", "ORDERS\u{1b}"], &[2, 4, 5]),
        (&["--text", "@evil"], &[4]),
        (&["--since", "1h"], &[1, 2, 3, 4, 5, 6]),
        (&["--until", "2020-01-01"], &[]),
    ] {
        assert_eq!(found(args), expected, "{args:?}");
    }
    let output = audit(place.path(), &["search", "--store", "store.db", "--request", "a"]);
    let said = text(&output);
    assert!(said.contains("app@shop") && said.contains("DELETE FROM orders⟨U+001B⟩[8m"), "{said}");
    assert!(said.contains("approved by ann, bob") && !said.contains('\u{1b}'), "{said}");
    assert_eq!(audit(place.path(), &["search", "--since", "soon"]).status.code(), Some(2));
}

#[test]
fn export_writes_every_event_and_no_cell_that_a_spreadsheet_would_run() {
    let (place, _) = some_record();
    let export = |format: &str| audit(place.path(), &["export", "--file", "audit.jsonl", "--format", format]);
    let json: serde_json::Value = serde_json::from_slice(&export("json").stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 6);
    let csv = String::from_utf8(export("csv").stdout).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 7, "{csv}");
    assert!(lines[0].starts_with("\"seq\",\"at\",\"event\",\"request\",\"user\",\"database\""));
    assert!(lines[3].contains("\"'=cmd()\"") && lines[4].contains("\"'@evil\""), "{csv}");
    assert!(lines[6].contains("\"etl\",\"shop\"") && lines[6].contains("\"expired\""), "{csv}");
    let empty = audit(place.path(), &["export", "--file", "audit.jsonl", "--format", "json", "--until", "2020-01-01"]);
    assert_eq!(String::from_utf8_lossy(&empty.stdout), "[]\n");
}

#[test]
fn a_gate_killed_at_any_step_of_a_request_leaves_a_whole_record_in_which_the_request_has_one_end() {
    // How far the request came, whether its rows may be gone, whether they must be.
    for (step, may_run, must_run) in
        [("held", false, false), ("approved", true, false), ("running", true, false), ("done", true, true)]
    {
        let database = shared();
        database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
        let gate = Gate::start(database.target());
        let mut raw = Raw::login(&gate.target());
        let wait = if step == "running" { "pg_sleep(60) IS NOT NULL" } else { "true" };
        raw.send(message::query(format!("DELETE FROM t WHERE x > 0 AND {wait}")));
        let id = gate.api().wait_held("DELETE");
        if step != "held" {
            gate.api().approve(&id);
        }
        if step == "running" {
            let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DELETE%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()";
            eventually("it runs", || (database.raw().value(active) == "1").then_some(()));
        }
        if step == "done" {
            raw.until(b'Z');
            let path = format!("/v1/requests/{id}");
            eventually("a result", || (!gate.api().get(&path)["progress"]["execution"].is_null()).then_some(()));
        }
        let gate = gate.kill_and_restart();
        assert!(gate.api().pending().is_empty(), "{step}");
        let rows = database.raw().value("SELECT count(*) FROM t");
        assert!((rows == "3" && !must_run) || (rows == "0" && may_run), "{step}: {rows}");
        let config = gate.config.display().to_string();
        // Of a record that a gate is using.
        let verified = audit(Path::new("/"), &["verify", "--config", &config]);
        assert_eq!(verified.status.code(), Some(0), "{step}: {}", text(&verified));
        let found = audit(Path::new("/"), &["search", "--config", &config, "--request", &id, "--format", "json"]);
        let events: Vec<serde_json::Value> = String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone())
            .collect();
        let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
        assert_eq!((of("held").len(), of("ended").len()), (1, 1), "{step}: {events:?}");
        assert_eq!(of("decided").len(), usize::from(step != "held"), "{step}: {events:?}");
        let cause = &of("ended")[0]["outcome"]["cause"];
        let interrupted = *cause == "restart";
        // Killed right after the approval it may have been released already or not.
        assert!(interrupted == (step == "held") || step == "approved", "{step}: {cause}");
    }
}
