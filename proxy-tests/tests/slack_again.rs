//! "This statement again, in this session" from Slack: granted, shown, counted and revoked on the message, before a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::Raw;
use proxy_tests::slack::{Message, State, Workspace};

const CHANNEL: &str = "C0APPR";
const STATEMENT: &str = "DELETE FROM t WHERE x = (SELECT min(x) FROM t)";

struct Stage {
    workspace: Workspace,
    database: Database,
    gate: Gate,
}

impl Stage {
    async fn start(profile: &str) -> Self {
        let workspace = Workspace::with_people().await;
        let database = shared();
        database.run("CREATE TABLE t (x int); INSERT INTO t SELECT generate_series(1, 9)");
        let toml = format!(
            "{}\
             longest_pause = \"1s\"\n\
             [[people]]\nname = \"anna\"\nslack_user = \"U0APP1\"\n\
             [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"{}\"]\n\
             [[approval.profile]]\nname = \"lenient\"\napprover_groups = [\"slack:S0DBA\", \"approvers\"]\n{profile}\n\
             [[rule]]\nname = \"deletes\"\neffects = [\"delete\"]\naction = \"hold\"\napproval = \"lenient\"\n\
             [[rule]]\nname = \"rest\"\naction = \"allow\"\n",
            workspace.section(CHANNEL),
            database.target().user,
        );
        let gate = Gate::builder().toml(&toml).start(database.target());
        workspace.wait_for_sockets(2).await;
        Self { workspace, database, gate }
    }

    /// The newest announcement, once it says `text`.
    async fn saying(&self, text: &str) -> Message {
        self.workspace.newest(CHANNEL, text).await
    }

    async fn click(&self, message: &Message, action: &str, user: &str) {
        self.workspace.click_through(CHANNEL, message, action, user).await;
    }

    fn rows(&self) -> String {
        self.database.raw().value("SELECT count(*) FROM t")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_approved_for_a_while_its_uses_are_counted_and_it_is_revoked() {
    let stage = Stage::start("again = \"10m\"").await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query(STATEMENT));
    let message = stage.saying("Approval needed").await;
    assert_eq!(message.buttons(), ["Approve", "Approve for 10 min…", "Reject…", "Details"]);
    stage.click(&message, "approve_again", "U0APP1").await;
    raw.until(b'Z');
    let granted = stage.saying("runs again in its session").await;
    assert!(granted.buttons() == ["Revoke"] && granted.rendered().contains("not used"), "{}", granted.rendered());
    for (uses, expected) in [(1, "used once"), (2, "used 2 times")] {
        let answers = raw.query(STATEMENT);
        assert!(answers.iter().all(|frame| frame.tag != b'E'), "{answers:?}");
        let shown = stage.saying(expected).await;
        assert!(shown.ts == message.ts && shown.buttons() == ["Revoke"]);
        assert_eq!(stage.rows(), (8 - uses).to_string());
    }
    // Another session, and another statement of this one, are asked about.
    for text in [STATEMENT, "DELETE FROM t WHERE x = 9"] {
        let mut other = Raw::login(&stage.gate.target());
        let session = if text == STATEMENT { &mut other } else { &mut raw };
        session.send(m::query(text));
        let asked = stage.saying("Approval needed").await;
        assert_ne!(asked.ts, message.ts);
        stage.click(&asked, "reject", "U0APP1").await;
        stage.workspace.wait_for("the window", |state| state.modal("U0APP1").map(|_| ())).await;
        stage.workspace.submit_view("U0APP1", &[("why", "not this one")]).unwrap().ended().await;
        session.until(b'Z');
        stage.saying("Rejected").await;
    }
    // Who may not decide it may not end it, and hears why.
    stage.click(&message, "revoke", "U0OUT").await;
    let told =
        stage.workspace.wait_for("an answer", |state| state.ephemerals("U0OUT").first().map(|m| m.content.rendered()));
    assert!(told.await.contains("not an approver"));
    let still = stage.workspace.look(|state| state.message(CHANNEL, &message.ts).unwrap().buttons());
    assert_eq!(still, ["Revoke"]);
    stage.click(&message, "revoke", "U0APP2").await;
    let probe = |state: &State| {
        let message = state.message(CHANNEL, &message.ts)?;
        (message.rendered().contains("no longer runs again: revoked by") && message.buttons().is_empty()).then_some(())
    };
    stage.workspace.wait_for("the end of it", probe).await;
    let before = stage.rows();
    raw.send(m::query(STATEMENT));
    let asked = stage.saying("Approval needed").await;
    assert_eq!(stage.rows(), before);
    stage.click(&asked, "approve", "U0APP1").await;
    raw.until(b'Z');
    // Once is once.
    assert!(!stage.saying("Done: DELETE").await.rendered().contains("runs again"));
    raw.send(m::query(STATEMENT));
    stage.saying("Approval needed").await;
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_approvals_both_have_to_be_for_a_while() {
    let stage = Stage::start("again = \"10m\"\nquorum = 2").await;
    let mut raw = Raw::login(&stage.gate.target());
    for (second, stands) in [("approve", false), ("approve_again", true)] {
        raw.send(m::query(STATEMENT));
        let message = stage.saying("Approval needed").await;
        stage.click(&message, "approve_again", "U0APP1").await;
        stage.saying("1 so far").await;
        stage.click(&message, second, "U0APP2").await;
        raw.until(b'Z');
        let done = stage.saying("Done: DELETE").await;
        assert_eq!(done.rendered().contains("runs again in its session"), stands, "{}", done.rendered());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_takes_the_grant_and_its_button_away() {
    let stage = Stage::start("again = \"10m\"").await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query(STATEMENT));
    let message = stage.saying("Approval needed").await;
    stage.click(&message, "approve_again", "U0APP1").await;
    raw.until(b'Z');
    stage.saying("runs again in its session").await;
    raw.query(STATEMENT);
    stage.saying("used once").await;
    let Stage { workspace, database, gate } = stage;
    let stage = Stage { gate: gate.kill_and_restart(), workspace, database };
    let over = stage.saying("no longer runs again: the gate was started again").await;
    assert!(over.buttons().is_empty() && over.rendered().contains("used once"), "{}", over.rendered());
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query(STATEMENT));
    stage.saying("Approval needed").await;
    assert_eq!(stage.rows(), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_profile_does_not_permit_it_nothing_is_offered() {
    let stage = Stage::start("").await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query(STATEMENT));
    assert_eq!(stage.saying("Approval needed").await.buttons(), ["Approve", "Reject…", "Details"]);
}
