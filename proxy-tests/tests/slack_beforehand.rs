//! What is asked for beforehand, in Slack: announced as what it is, decided with the same buttons, followed to its end, over restarts,
//! before a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::process::Command;

use proxy_tests::gate::{Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::{Message, State, View, Workspace};
use serde_json::Value;

const CHANNEL: &str = "C0APPR";
const RITA: &str = "token-of-rita-0123456789abcdef";
const SQL: &str = "BEGIN;\n-- why\nDELETE FROM t WHERE note = 's3cret <!channel>';\nCOMMIT;\nDROP TABLE old;\n";
const DELETE: &str = "DELETE FROM t WHERE note = 's3cret <!channel>'";
const DROP: &str = "DROP TABLE old";

struct Stage {
    workspace: Workspace,
    database: Database,
    gate: Gate,
}

impl Stage {
    async fn start(rules: &str) -> Self {
        let workspace = Workspace::with_people().await;
        let database = shared();
        database
            .run("CREATE TABLE t (note text); INSERT INTO t VALUES ('s3cret <!channel>'); CREATE TABLE old (x int)");
        let toml = format!(
            "[hold]\nparse_first = false\n\
             {}\
             longest_pause = \"1s\"\n\
             [[people]]\nname = \"rita\"\ngroups = [\"approvers\"]\nslack_user = \"U0REQ\"\ntoken = \"{RITA}\"\ndatabase_users = [\"{}\"]\n\
             [[people]]\nname = \"anna\"\ngroups = [\"approvers\"]\nslack_user = \"U0APP1\"\n\
             [[people]]\nname = \"tim\"\ngroups = [\"approvers\"]\nslack_user = \"U0APP2\"\n\
             [policy]\nfallback = \"shipped\"\n{rules}",
            workspace.section(CHANNEL),
            database.target().user,
        );
        let gate = Gate::builder().toml(&toml).start(database.target());
        workspace.wait_for_sockets(2).await;
        Self { workspace, database, gate }
    }

    /// rita asks for the statements; the request's name.
    fn create(&self, sql: &str) -> String {
        let file = self.gate.config.with_file_name("migration.sql");
        std::fs::write(&file, sql).unwrap();
        let output = Command::new(binary())
            .args(["requests", "--api", &format!("http://{}", self.gate.admin), "--format", "json", "create"])
            .args([
                "--reason",
                "release 12",
                "--window",
                "2h",
                "--database",
                &self.gate.target().database,
                "--sql-file",
            ])
            .arg(&file)
            .env("QUERYGATE_TOKEN", RITA)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::remove_file(file).unwrap();
        let created: Value = serde_json::from_slice(&output.stdout).unwrap();
        created["id"].as_str().unwrap().to_owned()
    }

    /// The newest announcement, once it says `text`.
    async fn saying(&self, text: &str) -> Message {
        self.workspace.newest(CHANNEL, text).await
    }

    async fn click(&self, message: &Message, action: &str, user: &str) {
        self.workspace.click_through(CHANNEL, message, action, user).await;
    }

    async fn crash(self) -> Self {
        let Stage { workspace, database, gate } = self;
        let gate = gate.kill_and_restart();
        workspace.wait_for_sockets(2).await;
        Self { workspace, database, gate }
    }

    /// A session that began as the pre-approval wants it, but for its encoding.
    fn session(&self, encoding: &str) -> Raw {
        let target = self.gate.target();
        let mut raw = Raw::connect((target.host.as_str(), target.port));
        raw.start(&[("user", &target.user), ("database", &target.database), ("client_encoding", encoding)]);
        raw
    }

    /// What is still there: rows of `t`, and the table `old`.
    fn left(&self) -> String {
        self.database.raw().value("SELECT (SELECT count(*) FROM t) || ' ' || (to_regclass('old') IS NOT NULL)")
    }
}

/// The statement runs without anybody being asked.
fn runs(raw: &mut Raw, text: &str) {
    let answers = raw.query(text);
    assert!(answers.iter().all(|frame| frame.tag != b'E'), "{answers:?}");
    let words = format!("{answers:?}");
    assert!(!words.contains("waiting for approval"), "nothing waits: {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_approval_is_announced_decided_and_followed_as_what_it_is() {
    let stage = Stage::start("").await;
    let id = stage.create(SQL);
    let message = stage.saying("Pre-approval asked: DELETE, DROP").await;
    let shown = message.rendered();
    for part in ["<@U0REQ>", "release 12", SQL.trim_end(), "each of 2 statements may run once", "shown in full", &id] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(!shown.contains("held") && message.buttons() == ["Approve", "Reject…", "Details"], "{shown}");
    // Those who may decide it find it at home and by the command; whoever asked does not decide it.
    stage.workspace.open_home("U0APP1").unwrap().ended().await;
    let home = |state: &State| state.home("U0APP1").map(View::rendered).filter(|home| home.contains("pre-approval of"));
    stage.workspace.wait_for("the home", home).await;
    stage.workspace.slash(CHANNEL, "/querygate", "pending", "U0APP2").unwrap().ended().await;
    let listed = |state: &State| state.ephemerals("U0APP2").first().map(|told| told.content.rendered());
    let listed = stage.workspace.wait_for("the list", listed).await;
    assert!(listed.contains("pre-approval of DELETE") && listed.contains(&id), "{listed}");
    stage.click(&message, "approve", "U0REQ").await;
    let told = |state: &State| state.ephemerals("U0REQ").first().map(|told| told.content.rendered());
    assert!(stage.workspace.wait_for("an answer", told).await.contains("nobody decides their own request"));
    stage.click(&message, "details", "U0APP1").await;
    let details = |state: &State| state.modal("U0APP1").map(View::rendered);
    assert!(stage.workspace.wait_for("the details", details).await.contains("Asked beforehand by"));

    stage.click(&message, "approve", "U0APP1").await;
    let approved = stage.saying("Pre-approved: DELETE, DROP").await;
    assert!(approved.buttons().is_empty() && approved.rendered().contains("0 of 2 statements passed"));
    let told = |state: &State| state.direct("U0REQ").first().map(|told| told.rendered());
    assert!(stage.workspace.wait_for("rita is told", told).await.contains("may run once, in the order shown, until"));
    let mut raw = stage.session("UTF8");
    runs(&mut raw, DELETE);
    stage.saying("1 of 2 statements passed").await;
    runs(&mut raw, DROP);
    let over = stage.saying("Pre-approval is over").await;
    assert!(over.ts == message.ts && over.rendered().contains("every statement has passed"), "{}", over.rendered());
    assert_eq!(stage.left(), "0 false");
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_pre_approval_survives_a_crash_and_so_does_what_has_passed() {
    let stage = Stage::start("").await;
    let id = stage.create(SQL);
    let message = stage.saying("Pre-approval asked").await;
    eventually("its announcement is on record", || {
        let file = stage.gate.config.with_file_name("querygate-audit.jsonl");
        std::fs::read_to_string(file).unwrap_or_default().contains(&message.ts).then_some(())
    });
    let stage = stage.crash().await;
    let line = |state: &State| {
        let mut thread = state.thread(CHANNEL, &message.ts).into_iter().map(Message::rendered);
        thread.find(|line| line.contains("the gate was started again"))
    };
    stage.workspace.wait_for("the thread", line).await;
    let still = stage.saying("Pre-approval asked").await;
    assert!(still.ts == message.ts && still.buttons() == ["Approve", "Reject…", "Details"], "{}", still.rendered());
    assert_eq!(stage.gate.api().pending()[0]["id"], Value::from(id), "the command line has it, too");
    stage.click(&still, "approve", "U0APP1").await;
    stage.saying("Pre-approved").await;
    runs(&mut stage.session("UTF8"), DELETE);
    stage.saying("1 of 2 statements passed").await;
    eventually("its result is on record", || {
        let file = stage.gate.config.with_file_name("querygate-audit.jsonl");
        std::fs::read_to_string(file).unwrap_or_default().contains("\"executed\"").then_some(())
    });
    let stage = stage.crash().await;
    stage.saying("1 of 2 statements passed").await;
    // Once is once.
    stage.database.run("INSERT INTO t VALUES ('s3cret <!channel>')");
    let mut raw = stage.session("UTF8");
    raw.send(m::query(DELETE));
    stage.saying("Approval needed: DELETE").await;
    runs(&mut stage.session("UTF8"), DROP);
    assert_eq!(stage.left(), "1 false");
    let record = stage.gate.config.with_file_name("querygate-audit.jsonl");
    let record = std::fs::read_to_string(record).unwrap();
    assert!(!record.contains("\"event\":\"executed\",\"id\":\"qg-unknown\"") && record.contains("\"event\":\"used\""));
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_it_says_so_and_passes_nothing() {
    let stage = Stage::start("").await;
    let id = stage.create(SQL);
    let message = stage.saying("Pre-approval asked").await;
    stage.click(&message, "approve", "U0APP1").await;
    stage.saying("Pre-approved").await;
    eventually("its release", || {
        (stage.gate.api().get(&format!("/v1/requests/{id}"))["state"] == "released").then_some(())
    });
    let rita = stage.gate.api().with_token(RITA);
    assert_eq!(rita.call("POST", &format!("/v1/requests/{id}/withdraw"), None).status, 200);
    stage.saying("withdrawn by rita: nothing more passes").await;
    let mut raw = stage.session("UTF8");
    raw.send(m::query(DROP));
    stage.saying("Approval needed: DROP").await;
    // And before anybody has decided.
    let id = stage.create(SQL);
    stage.saying("Pre-approval asked").await;
    assert_eq!(rita.call("POST", &format!("/v1/requests/{id}/withdraw"), None).status, 200);
    assert!(stage.saying("Pre-approval withdrawn").await.buttons().is_empty());
    assert_eq!(stage.left(), "1 true");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_redacts_is_redacted_of_a_pre_approval_in_slack_and_on_record() {
    let rules = "[[rule]]\nname = \"notes\"\naction = \"hold\"\neffects = [\"delete\"]\nredact = \"literals\"\n";
    let stage = Stage::start(rules).await;
    let id = stage.create(SQL);
    let message = stage.saying("Pre-approval asked").await;
    assert!(message.rendered().contains("redacted") && message.rendered().contains("DELETE FROM t WHERE note = ?"));
    let shown = stage.gate.api().get(&format!("/v1/requests/{id}")).to_string();
    assert!(shown.contains("s3cret"), "the console shows it: {shown}");
    stage.click(&message, "approve", "U0APP1").await;
    stage.saying("Pre-approved").await;
    runs(&mut stage.session("UTF8"), DELETE);
    stage.saying("1 of 2 statements passed").await;
    // One that waits cannot be shown any more after a restart, so it is over then.
    stage.create(SQL);
    let waits = stage.saying("Pre-approval asked").await;
    eventually("its announcement is on record", || {
        let file = stage.gate.config.with_file_name("querygate-audit.jsonl");
        std::fs::read_to_string(file).unwrap_or_default().contains(&waits.ts).then_some(())
    });
    let stage = stage.crash().await;
    assert_eq!(stage.saying("Pre-approval withdrawn").await.ts, waits.ts);
    // What was approved still binds.
    runs(&mut stage.session("UTF8"), DROP);
    let told = stage.workspace.look(|state| {
        let calls = state.calls("*");
        calls.into_iter().map(|call| format!("{:?}", call.arguments)).collect::<Vec<_>>().concat()
    });
    assert!(told.contains("Pre-approval") && !told.contains("s3cret"));
    let files = std::fs::read_dir(stage.gate.config.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| *path != stage.gate.config && path.is_file()) {
        let kept = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!kept.contains("s3cret"), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_in_another_encoding_are_another_statement() {
    let stage = Stage::start("").await;
    // In LATIN1 the same bytes are "Ã©".
    stage.database.run("INSERT INTO t VALUES ('é'), ('Ã©')");
    let sql = "DELETE FROM t WHERE note = 'é'";
    stage.create(sql);
    let message = stage.saying("Pre-approval asked").await;
    stage.click(&message, "approve", "U0APP1").await;
    stage.saying("Pre-approved").await;
    let mut other = stage.session("LATIN1");
    other.send(m::query(sql));
    let asked = stage.saying("Approval needed: DELETE").await;
    stage.click(&asked, "reject", "U0APP1").await;
    stage.workspace.wait_for("the window", |state| state.modal("U0APP1").map(|_| ())).await;
    stage.workspace.submit_view("U0APP1", &[("why", "another text")]).unwrap().ended().await;
    other.until(b'Z');
    // Nor after the encoding was changed, nor with bytes that are no text.
    let mut changed = stage.session("UTF8");
    changed.send(m::query("SET client_encoding = 'LATIN1'"));
    stage.gate.api().approve(&stage.gate.api().wait_held("SET client_encoding"));
    let answers = changed.until(b'Z');
    assert!(answers.iter().any(|frame| frame.tag == b'C'), "{answers:?}");
    changed.send(m::query(sql));
    stage.gate.api().wait_held(sql);
    let mut bytes = stage.session("UTF8");
    bytes.send(m::query(b"DELETE FROM t WHERE note = '\xe9'".as_slice()));
    stage.gate.api().wait_held("\u{fffd}");
    assert_eq!(stage.database.raw().value("SELECT count(*) FROM t"), "3", "nothing has passed");
    runs(&mut stage.session("UTF8"), sql);
    assert_eq!(stage.database.raw().value("SELECT count(*) FROM t WHERE note = 'Ã©'"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_texts_stay_within_what_slack_takes() {
    let stage = Stage::start("").await;
    // As many statements, objects and characters as there may be, with a reason as long as one may be.
    let name = |n: usize| format!("\"<!channel>&{}{n}\"", "🙂".repeat(10));
    let many: String = (0..500)
        .map(name)
        .map(|name| format!("DELETE FROM {name} WHERE a = '\\\u{202e}';\n").replace('\\', ""))
        .collect();
    let whole = format!("DROP TABLE {}", (0..40).map(name).collect::<Vec<_>>().join(", "));
    for sql in [many.as_str(), whole.as_str(), "DELETE FROM t"] {
        let file = stage.gate.config.with_file_name("long.sql");
        std::fs::write(&file, sql).unwrap();
        let created = Command::new(binary())
            .args(["requests", "--api", &format!("http://{}", stage.gate.admin), "create", "--window", "7d"])
            .args(["--reason", &"<&>".repeat(333), "--database", &"d<&>".repeat(15), "--sql-file"])
            .arg(&file)
            .env("QUERYGATE_TOKEN", RITA)
            .output()
            .unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let message = stage.saying("Pre-approval asked").await;
        stage.click(&message, "details", "U0APP1").await;
        let details = |state: &State| state.modal("U0APP1").map(|_| ());
        stage.workspace.wait_for("the details", details).await;
        stage.workspace.close_view("U0APP1").unwrap();
        if message.buttons().contains(&"Approve".to_owned()) {
            stage.click(&message, "approve", "U0APP1").await;
            stage.saying("Pre-approved").await;
        } else {
            assert!(message.rendered().contains("NOT shown in full"));
            let id = stage.gate.api().pending()[0]["id"].as_str().unwrap().to_owned();
            stage.gate.api().approve(&id);
            stage.saying("Pre-approved").await;
        }
    }
    stage.workspace.assert_no_violations();
}
