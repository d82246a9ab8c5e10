//! Several conversations of one Slack workspace: the real gate before a real Postgres announces in each, follows in each, and takes
//! the answer from any.
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

use nix::sys::signal::Signal;
use proxy_tests::DEADLINE;
use proxy_tests::gate::{Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::{ALWAYS, Channel, Fault, Message, State, Workspace};

/// The usual one, one that the profile names, and one of the escalation.
const USUAL: &str = "C0APPR";
const TEAM: &str = "C0TEAM";
const LEADS: &str = "C0LEAD";

struct Stage {
    workspace: Workspace,
    database: Database,
    gate: Gate,
}

impl Stage {
    /// `profile` says how deletes are asked; whether the app is in TEAM and LEADS.
    async fn start(slack: &str, profile: &str, app_in: [bool; 2]) -> Self {
        let workspace = Workspace::with_people().await;
        for (id, is_in) in [TEAM, LEADS].into_iter().zip(app_in) {
            let channel = Channel::new(id, &id.to_lowercase(), &["U0REQ", "U0APP1", "U0APP2", "U0LEAD"]);
            workspace.add_channel(if is_in { channel } else { channel.without_bot() });
        }
        let database = shared();
        database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
        let toml = format!(
            "{}\
             call_deadline = \"3s\"\nlongest_pause = \"1s\"\n{slack}\n\
             [[people]]\nname = \"anna\"\nslack_user = \"U0APP1\"\n\
             [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"{}\"]\n\
             [[approval.profile]]\nname = \"several\"\napprover_groups = [\"slack:S0DBA\", \"approvers\"]\n{profile}\n\
             [[rule]]\nname = \"deletes\"\neffects = [\"delete\"]\naction = \"hold\"\napproval = \"several\"\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n",
            workspace.section(USUAL),
            database.target().user,
        );
        let gate = Gate::builder().toml(&toml).start(database.target());
        workspace.wait_for_sockets(2).await;
        Self { workspace, database, gate }
    }

    /// The newest message of a conversation, once it says `text`.
    async fn saying(&self, conversation: &str, text: &str) -> Message {
        let probe = |state: &State| {
            let messages = state.messages(conversation);
            messages.into_iter().rev().find(|message| message.rendered().contains(text)).cloned()
        };
        self.workspace.wait_for(&format!("{conversation}: {text}"), probe).await
    }

    /// The line in a message's thread that says `text`.
    async fn in_thread(&self, conversation: &str, ts: &str, text: &str) -> String {
        let probe = |state: &State| {
            let mut thread = state.thread(conversation, ts).into_iter().map(Message::rendered);
            thread.find(|line| line.contains(text))
        };
        self.workspace.wait_for(&format!("thread in {conversation}: {text}"), probe).await
    }

    fn rows(&self) -> String {
        self.database.raw().value("SELECT count(*) FROM t")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_conversation_is_asked_and_follows_to_the_end_and_any_of_them_decides() {
    let profile = "channels = [\"slack\", \"slack:C0TEAM\"]\nremind_every = \"1s\"\n\
                   [[approval.profile.escalation]]\nafter = \"1s\"\napprover_groups = [\"slack:S0LEAD\"]\nchannels = [\"slack:C0LEAD\"]";
    let stage = Stage::start("", profile, [true, true]).await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let first = stage.saying(USUAL, "Approval needed: DELETE").await;
    let second = stage.saying(TEAM, "Approval needed: DELETE").await;
    let third = stage.saying(LEADS, "Still waiting: DELETE").await;
    for (conversation, ts) in [(USUAL, &first.ts), (TEAM, &second.ts)] {
        let told = stage.in_thread(conversation, ts, ":rotating_light:").await;
        assert!(told.contains("<!subteam^S0LEAD>"), "{told}");
        stage.in_thread(conversation, ts, ":bell:").await;
    }
    stage.in_thread(LEADS, &third.ts, ":bell:").await;
    // lea may decide since the escalation, and does so where she was asked.
    stage.workspace.click(LEADS, &third.ts, "approve", "U0LEAD").unwrap().ended().await;
    raw.until(b'Z');
    assert_eq!(stage.rows(), "2");
    for (conversation, ts) in [(USUAL, &first.ts), (TEAM, &second.ts), (LEADS, &third.ts)] {
        let done = stage.saying(conversation, "Done: DELETE").await;
        assert!(done.ts == *ts && done.buttons().is_empty(), "{}", done.rendered());
        stage.in_thread(conversation, ts, "executed: DELETE 1").await;
    }
    let posts = |state: &State| {
        let asked =
            |conversation| state.messages(conversation).into_iter().filter(|message| message.thread_ts.is_none());
        [USUAL, TEAM, LEADS].map(|conversation| asked(conversation).count())
    };
    assert_eq!(stage.workspace.look(posts), [1, 1, 1], "each was asked once");
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_names_one_conversation_asks_there_and_nowhere_else() {
    let stage = Stage::start("", "channels = [\"slack:C0TEAM\"]", [true, true]).await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let message = stage.saying(TEAM, "Approval needed").await;
    stage.workspace.click(TEAM, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    raw.until(b'Z');
    stage.saying(TEAM, "Done: DELETE").await;
    assert!(stage.workspace.messages(USUAL).is_empty() && stage.workspace.messages(LEADS).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_is_a_file_in_every_conversations_thread_before_it_can_be_approved_there() {
    let profile = "channels = [\"slack\", \"slack:C0TEAM\"]";
    let stage = Stage::start("long_statements = \"file\"", profile, [true, true]).await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query(format!("DELETE FROM t WHERE x IN ({}1)", "12345, ".repeat(1_000))));
    for conversation in [USUAL, TEAM] {
        let message = stage.saying(conversation, "Read it there before you approve").await;
        assert!(message.buttons().contains(&"Approve".to_owned()), "{:?}", message.buttons());
    }
    assert_eq!(stage.workspace.look(|state| state.files().len()), 2);
    let message = stage.saying(TEAM, "Approval needed").await;
    stage.workspace.click(TEAM, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    raw.until(b'Z');
    assert_eq!(stage.rows(), "2");
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_no_conversation_with_buttons() {
    let stage = Stage::start("", "channels = [\"slack\", \"slack:C0TEAM\"]", [true, true]).await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM t"));
    let first = stage.saying(USUAL, "Approval needed").await;
    let second = stage.saying(TEAM, "Approval needed").await;
    let named = || {
        let file = fs::read_to_string(stage.gate.config.with_file_name("querygate-audit.jsonl")).unwrap_or_default();
        (file.contains(&format!("{USUAL}/{}", first.ts)) && file.contains(&format!("{TEAM}/{}", second.ts)))
            .then_some(())
    };
    eventually("both are on record", named);
    let Stage { workspace, database, gate } = stage;
    let stage = Stage { gate: gate.kill_and_restart(), workspace, database };
    for (conversation, ts) in [(USUAL, &first.ts), (TEAM, &second.ts)] {
        let over = stage.saying(conversation, "Withdrawn: DELETE").await;
        assert!(over.ts == *ts && over.buttons().is_empty(), "{}", over.rendered());
    }
    assert_eq!(stage.rows(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_two_announcements_leaves_none_of_them_behind() {
    let stage = Stage::start("", "channels = [\"slack\", \"slack:C0TEAM\"]", [true, true]).await;
    // The first post is answered as usual, the second is not.
    stage.workspace.fail("chat.postMessage", Fault::Slow(Duration::ZERO), 1);
    stage.workspace.fail("chat.postMessage", Fault::Hang, ALWAYS);
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM t"));
    let first = stage.saying(USUAL, "Approval needed").await;
    let second = |state: &State| (state.calls("chat.postMessage").len() >= 2).then_some(());
    stage.workspace.wait_for("the second post", second).await;
    let Stage { workspace, database, gate } = stage;
    let stage = Stage { gate: gate.kill_and_restart(), workspace, database };
    stage.workspace.heal();
    let over = stage.saying(USUAL, "Withdrawn: DELETE").await;
    assert!(over.ts == first.ts && over.buttons().is_empty(), "{}", over.rendered());
    assert_eq!(stage.rows(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_without_the_app_is_named_and_the_others_go_on() {
    let profile = "channels = [\"slack\", \"slack:C0TEAM\"]\nunreachable = \"reject\"";
    let stage = Stage::start("", profile, [false, true]).await;
    stage.workspace.wait_for_sockets(2).await;
    let health = eventually("a degraded gate", || {
        let health = stage.gate.api().with_token("").get("/health");
        // The sockets come up at the same time.
        (health["status"] == "degraded" && health["slack"][0]["sockets"] != 0).then_some(health)
    });
    let reason = health["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("slack:C0TEAM: ") && reason.contains("/invite"), "{health}");
    assert_eq!(health["slack"][0]["lost"][0]["conversation"], "C0TEAM", "{health}");
    let check = Command::new(binary()).args(["slack", "check", "--config"]).arg(&stage.gate.config).output().unwrap();
    let told = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1), "{told}");
    let wrong: Vec<&str> = told.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert!(wrong.len() == 1 && wrong[0].contains("not a member of C0TEAM"), "{told}");
    assert!(told.contains("C0APPR"), "{told}");
    // Who can be asked is asked, and the statement waits for them.
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let message = stage.saying(USUAL, "Approval needed").await;
    stage
        .workspace
        .wait_for("the other was tried", |state| {
            state.calls("chat.postMessage").into_iter().find(|call| call.argument("channel") == Some(TEAM)).map(|_| ())
        })
        .await;
    stage.workspace.click(USUAL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    raw.until(b'Z');
    assert_eq!(stage.rows(), "2");
    stage.saying(USUAL, "Done: DELETE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_when_every_conversation_is_lost_a_statement_is_refused() {
    let profile = "channels = [\"slack:C0TEAM\", \"slack:C0LEAD\"]\nunreachable = \"reject\"";
    let stage = Stage::start("", profile, [false, false]).await;
    let mut raw = Raw::login(&stage.gate.target());
    let refused = raw.query("DELETE FROM t").into_iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(refused.sqlstate(), "58000", "{refused:?}");
    assert_eq!(stage.rows(), "3");
    assert!(stage.workspace.messages(USUAL).is_empty(), "which is none of its conversations");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_over_new_conversations_and_new_groups() {
    let stage = Stage::start("", "channels = [\"slack\"]", [true, true]).await;
    let config = fs::read_to_string(&stage.gate.config).unwrap();
    let config = config.replace("channels = [\"slack\"]", "channels = [\"slack\", \"slack:C0TEAM\"]");
    let config = config.replace("[\"slack:S0DBA\", \"approvers\"]", "[\"slack:S0LEAD\", \"approvers\"]");
    fs::write(&stage.gate.config, config).unwrap();
    stage.gate.process.signal(Signal::SIGHUP);
    stage.gate.process.wait_line(DEADLINE, |line| line.contains("reloaded").then_some(())).expect("it reloads");
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let message = stage.saying(TEAM, "Approval needed").await;
    stage.saying(USUAL, "Approval needed").await;
    stage.workspace.click(TEAM, &message.ts, "approve", "U0LEAD").unwrap().ended().await;
    raw.until(b'Z');
    assert_eq!(stage.rows(), "2");
}

/// A rule before the others that lets deletes pass and tells of them, in TEAM.
const TOLD: &str = "channels = [\"slack:C0TEAM\"]\n\
    [[rule]]\nname = \"told\"\neffects = [\"delete\"]\naction = \"notify\"\napproval = \"several\"\nmessage = \"mind <!channel>\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_lets_pass_and_wants_told_is_one_message_with_a_count_where_its_profile_asks() {
    let stage = Stage::start("", TOLD, [true, true]).await;
    let mut raw = Raw::login(&stage.gate.target());
    for number in 0..60 {
        raw.query(format!("DELETE FROM t WHERE x = {number}"));
    }
    assert_eq!(stage.rows(), "0");
    let message = stage.saying(TEAM, "Passed, to be known: 60 statements").await;
    let text = message.rendered();
    assert!(text.contains("rule `told`: 60 (") && text.contains("DELETE FROM t WHERE x = 59"), "{text}");
    assert!(text.contains("mind <!channel>") && message.buttons().is_empty(), "{text}");
    assert_eq!(stage.workspace.messages(TEAM).len(), 1);
    assert!(stage.workspace.messages(USUAL).is_empty());
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_slack_does_not_take_of_what_passes_is_counted_and_slows_nobody() {
    let stage = Stage::start("", TOLD, [true, true]).await;
    stage.workspace.fail("chat.postMessage", Fault::error("is_archived"), ALWAYS);
    let mut raw = Raw::login(&stage.gate.target());
    raw.query("DELETE FROM t");
    assert_eq!(stage.rows(), "0");
    eventually("the loss is counted", || (stage.gate.api().get("/health")["untold_notices"] == 1).then_some(()));
    let audit = fs::read_to_string(stage.gate.dir().join("querygate-audit.jsonl")).unwrap();
    assert!(audit.contains("\"noticed\""), "{audit}");
}
