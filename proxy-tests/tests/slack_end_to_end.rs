//! Slack and the whole gate: psql at one end, a real Postgres at the other, people who click in the Slack stand-in, and the real
//! `querygate serve` between them, also killed at every step of a request's path.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_tests::DEADLINE;
use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::{ALWAYS, Callbacks, DeliveryFault, Fault, Message, Redelivery, Workspace};

const CHANNEL: &str = "C0APPR";

/// A database with a counter and three rows, Slack, and the gate between.
struct Stage {
    workspace: Workspace,
    database: Database,
    gate: Gate,
}

/// What everybody is held by: rule `deletes` refuses what nobody can be told of, `patient` waits, `short` is over soon.
const RULES: &str = r#"
[[approval.profile]]
name = "slack"
approver_groups = ["slack:S0DBA", "approvers"]
[[approval.profile]]
name = "strict"
approver_groups = ["slack:S0DBA", "approvers"]
unreachable = "reject"
[[approval.profile]]
name = "short"
approver_groups = ["slack:S0DBA", "approvers"]
deadline = "1s"
[[rule]]
name = "truncates"
effects = ["truncate"]
action = "hold"
approval = "strict"
[[rule]]
name = "drops"
effects = ["drop"]
action = "hold"
approval = "short"
[[rule]]
name = "changes"
effects = ["delete", "update"]
action = "hold"
approval = "slack"
[[rule]]
name = "rest"
action = "allow"
"#;

impl Stage {
    async fn start() -> Stage {
        let workspace = Workspace::builder().redelivery(Redelivery::EventsOnly).start().await;
        workspace.add_people();
        let database = shared();
        database.run("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2), (3)");
        database.run("CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)");
        let gate = Gate::builder().toml(&configuration(&workspace)).start(database.target());
        workspace.wait_for_sockets(2).await;
        Stage { workspace, database, gate }
    }

    fn psql(&self) -> Psql {
        Psql::new(&self.gate.target()).arg("-vVERBOSITY=verbose")
    }

    /// The `count`-th announcement.
    async fn message(&self, count: usize) -> Message {
        self.workspace.wait_for_message(CHANNEL, count).await
    }

    /// A message once it says something, with its buttons gone.
    async fn ended(&self, ts: &str, text: &str) -> String {
        let probe = |state: &proxy_tests::slack::State| {
            let message = state.message(CHANNEL, ts)?;
            (message.rendered().contains(text) && message.buttons().is_empty()).then(|| message.rendered())
        };
        self.workspace.wait_for(text, probe).await
    }

    async fn click(&self, message: &Message, action: &str, user: &str) {
        self.workspace.click_through(CHANNEL, message, action, user).await;
    }

    /// A click that comes when it is too late is answered, to whoever clicked alone.
    async fn late_click_is_answered(&self, ts: &str, user: &str) {
        let before = self.workspace.look(|state| state.ephemerals(user).len());
        let late = self.workspace.stale_click(CHANNEL, ts, "approve", user).unwrap();
        assert!(late.ended().await.acknowledged);
        let told = self.workspace.wait_for("a private answer", |state| {
            state.ephemerals(user).get(before).map(|told| told.content.rendered())
        });
        let told = told.await;
        assert!(told.contains("does not count") && told.contains("Nothing was changed"), "{told}");
    }

    fn rows(&self) -> String {
        self.database.raw().value("SELECT count(*) FROM orders")
    }

    fn count(&self) -> String {
        self.database.raw().value("SELECT n FROM counter")
    }

    /// Kills the gate and starts it again; Slack stays as it is.
    async fn crash(self) -> Stage {
        let Stage { workspace, database, gate } = self;
        let gate = gate.kill_and_restart();
        // The old sockets may take a moment to be seen as gone.
        workspace.wait_for_sockets(2).await;
        Stage { workspace, database, gate }
    }

    /// Whether the record has an event of this kind.
    fn recorded(&self, kind: &str) -> bool {
        let file = self.gate.config.with_file_name("querygate-audit.jsonl");
        std::fs::read_to_string(file).unwrap_or_default().contains(&format!("\"event\":\"{kind}\""))
    }

    fn wait_recorded(&self, kind: &str) {
        eventually(kind, || self.recorded(kind).then_some(()));
    }
}

fn configuration(workspace: &Workspace) -> String {
    format!(
        "[slack]\nchannel = \"{CHANNEL}\"\nbot_token = \"{}\"\napp_token = \"{}\"\napi_url = \"{}\"\nteam_id = \"{}\"\n\
         post_interval = \"0s\"\ncall_deadline = \"3s\"\nlongest_pause = \"1s\"\n\
         [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"postgres\"]\n\
         [[people]]\nname = \"anna\"\nslack_user = \"U0APP1\"\n\
         {RULES}",
        workspace.bot_token(),
        workspace.app_token(),
        workspace.api_url(),
        workspace.team_id(),
    )
}

/// Ctrl-C.
fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
}

#[tokio::test]
async fn a_click_lets_a_held_delete_run_and_the_message_ends_with_its_result() {
    let stage = Stage::start().await;
    let psql = stage.psql().start("/* reason: ticket 4711 */ DELETE FROM orders WHERE id < 3");
    let message = stage.message(1).await;
    let shown = message.rendered();
    let request = &stage.gate.api().pending()[0];
    let id = request["id"].as_str().unwrap().to_owned();
    let database = &stage.database.target().database;
    for part in [
        "Approval needed: DELETE",
        "DELETE FROM orders WHERE id < 3",
        "<@U0REQ>",
        "psql",
        "ticket 4711",
        "shown in full",
        "not the requester",
        "expires",
        "changes",
        database,
        &id,
        request["statement"]["sha256"].as_str().unwrap().get(..8).unwrap(),
    ] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
    assert_eq!(message.buttons(), ["Approve", "Reject…", "Details"]);
    assert_eq!(stage.rows(), "3");
    stage.click(&message, "approve", "U0APP1").await;
    let said = finish(psql);
    assert_eq!((said.status, stage.rows().as_str()), (Some(0), "1"), "{}", said.stderr);
    let done = stage.ended(&message.ts, "Done: DELETE").await;
    assert!(done.contains("2 rows") && done.contains("DELETE 2") && done.contains("Approved by"), "{done}");
    stage.late_click_is_answered(&message.ts, "U0APP2").await;
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn a_rejections_reason_is_what_psql_is_told() {
    let stage = Stage::start().await;
    let psql = stage.psql().start("DELETE FROM orders");
    let message = stage.message(1).await;
    stage.click(&message, "reject", "U0APP2").await;
    stage.workspace.wait_for("the window", |state| state.modal("U0APP2").map(|_| ())).await;
    let why = "not while the sale runs";
    stage.workspace.submit_view("U0APP2", &[("why", why)]).unwrap().ended().await;
    let said = finish(psql);
    assert_ne!(said.status, Some(0));
    assert!(said.stderr.contains("42501") && said.stderr.contains(why), "{}", said.stderr);
    let ended = stage.ended(&message.ts, "Rejected: DELETE").await;
    assert!(ended.contains(why), "{ended}");
    assert_eq!(stage.rows(), "3");
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn ctrl_c_and_a_deadline_end_the_message_and_nothing_runs() {
    let stage = Stage::start().await;
    let psql = stage.psql().start("DELETE FROM orders");
    let message = stage.message(1).await;
    interrupt(&psql);
    let said = finish(psql);
    assert!(said.stderr.contains("57014"), "{}", said.stderr);
    stage.ended(&message.ts, "Withdrawn: DELETE").await;
    stage.late_click_is_answered(&message.ts, "U0APP1").await;

    let said = stage.psql().command("DROP TABLE orders");
    assert_ne!(said.status, Some(0));
    assert!(said.stderr.contains("querygate"), "{}", said.stderr);
    let second = stage.message(2).await;
    stage.ended(&second.ts, "Expired: DROP").await;
    assert_eq!(stage.rows(), "3");
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn with_slack_down_a_rule_refuses_at_once_or_waits_and_other_traffic_goes_on() {
    let stage = Stage::start().await;
    stage.workspace.fail("*", Fault::ResetBefore, ALWAYS);
    stage.workspace.drop_sockets().await;
    let patient = stage.psql().start("DELETE FROM orders");
    let id = stage.gate.api().wait_held("DELETE");
    let refused = stage.psql().command("TRUNCATE orders");
    assert!(refused.stderr.contains("58000") && refused.stderr.contains("no channel"), "{}", refused.stderr);
    assert_eq!(stage.psql().command("SELECT count(*) FROM orders").ok().trim(), "3");
    assert_eq!(stage.psql().command("INSERT INTO orders VALUES (4) RETURNING id").ok().trim(), "4");
    assert_eq!(stage.gate.api().pending()[0]["id"], *id);
    stage.workspace.heal();
    let message = stage.message(1).await;
    assert!(message.rendered().contains("DELETE FROM orders"), "{}", message.rendered());
    stage.workspace.wait_for_sockets(2).await;
    stage.click(&message, "approve", "U0APP1").await;
    assert_eq!(finish(patient).status, Some(0));
    assert_eq!(stage.rows(), "0");
}

/// Held and on record, but Slack has not answered yet; with and without the message being there already.
#[tokio::test]
async fn killed_before_the_announcement_is_known_nothing_runs_and_a_click_on_the_orphan_is_answered() {
    for posted in [false, true] {
        let stage = Stage::start().await;
        let fault = if posted { Fault::HangAfter } else { Fault::Hang };
        stage.workspace.fail("chat.postMessage", fault, 1);
        let psql = stage.psql().start("DELETE FROM orders");
        stage.workspace.wait_for("a post", |state| state.calls("chat.postMessage").first().map(|_| ())).await;
        assert!(stage.recorded("held") && !stage.recorded("announced"), "stored, then told");
        let stage = stage.crash().await;
        assert_ne!(finish(psql).status, Some(0));
        stage.wait_recorded("ended");
        if posted {
            let orphan = stage.message(1).await;
            assert_eq!(orphan.buttons().len(), 3, "nobody knows of it");
            stage.late_click_is_answered(&orphan.ts, "U0APP1").await;
            stage.ended(&orphan.ts, "Withdrawn: DELETE").await;
        }
        assert_eq!(stage.rows(), "3");
        assert!(!stage.recorded("decided"));
    }
}

#[tokio::test]
async fn killed_after_the_announcement_the_message_says_withdrawn_and_a_late_click_is_answered() {
    let stage = Stage::start().await;
    let psql = stage.psql().start("DELETE FROM orders");
    let message = stage.message(1).await;
    stage.wait_recorded("announced");
    let stage = stage.crash().await;
    assert_ne!(finish(psql).status, Some(0));
    let ended = stage.ended(&message.ts, "Withdrawn: DELETE").await;
    assert!(ended.contains("did *not* run"), "{ended}");
    stage.late_click_is_answered(&message.ts, "U0APP1").await;
    assert_eq!(stage.rows(), "3");
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn killed_between_a_click_and_the_decision_nothing_runs() {
    let stage = Stage::start().await;
    let psql = stage.psql().start("DELETE FROM orders");
    let message = stage.message(1).await;
    stage.wait_recorded("announced");
    // The click is acknowledged; who clicked is being looked up.
    stage.workspace.fail("usergroups.users.list", Fault::Hang, ALWAYS);
    stage.click(&message, "approve", "U0APP1").await;
    stage.workspace.wait_for("the lookup", |state| state.calls("usergroups.users.list").last().map(|_| ())).await;
    assert!(!stage.recorded("decided"));
    stage.workspace.heal();
    let stage = stage.crash().await;
    assert_ne!(finish(psql).status, Some(0));
    stage.ended(&message.ts, "Withdrawn: DELETE").await;
    stage.late_click_is_answered(&message.ts, "U0APP1").await;
    assert_eq!(stage.rows(), "3");
}

/// Killed as soon as the decision is on record: the release may have happened or not, and the message does not pretend to know.
#[tokio::test]
async fn killed_right_after_the_decision_the_statement_ran_once_or_never_and_the_message_does_not_lie() {
    for _ in 0..4 {
        let stage = Stage::start().await;
        let psql = stage.psql().start("UPDATE counter SET n = n + 1");
        let message = stage.message(1).await;
        stage.wait_recorded("announced");
        let clicked = stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap();
        while !stage.recorded("decided") {
            tokio::task::yield_now().await;
        }
        stage.gate.process.signal(Signal::SIGKILL);
        drop(clicked);
        let stage = stage.crash().await;
        finish(psql);
        let ended = stage
            .workspace
            .wait_for("an end without buttons", |state| {
                let message = state.message(CHANNEL, &message.ts)?;
                let over = message.buttons().is_empty() && !message.rendered().contains("running");
                over.then(|| message.rendered())
            })
            .await;
        stage.late_click_is_answered(&message.ts, "U0APP1").await;
        let count = stage.count();
        assert!(count == "0" || count == "1", "{count}");
        let honest = ended.contains("may have run or not") || (ended.contains("Done: UPDATE") && count == "1");
        assert!(honest && !ended.contains("did *not* run"), "{count}: {ended}");
    }
}

#[tokio::test]
async fn killed_while_a_released_statement_runs_it_runs_once_and_the_message_says_that_nobody_knows() {
    let stage = Stage::start().await;
    // It waits for a lock inside Postgres.
    let mut other = stage.database.raw();
    other.rows("BEGIN");
    other.rows("UPDATE counter SET n = n");
    let psql = stage.psql().start("UPDATE counter SET n = n + 1");
    let message = stage.message(1).await;
    stage.wait_recorded("announced");
    stage.click(&message, "approve", "U0APP1").await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("it waits for the lock", || (stage.database.raw().value(waits) == "1").then_some(()));
    stage.wait_recorded("ended");
    let stage = stage.crash().await;
    assert_ne!(finish(psql).status, Some(0));
    other.rows("COMMIT");
    let ended = stage.ended(&message.ts, "may have run or not").await;
    assert!(ended.contains("Approved, result not known"), "{ended}");
    stage.late_click_is_answered(&message.ts, "U0APP1").await;
    eventually("the backend is done", || (stage.database.raw().value(waits) == "0").then_some(()));
    assert!(stage.count() == "1" || stage.count() == "0", "{}", stage.count());
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn killed_after_the_end_before_slack_was_told_the_message_ends_after_the_restart() {
    let stage = Stage::start().await;
    let psql = stage.psql().start("DELETE FROM orders WHERE id = 1");
    let message = stage.message(1).await;
    stage.wait_recorded("announced");
    stage.workspace.fail("chat.update", Fault::Hang, ALWAYS);
    stage.click(&message, "approve", "U0APP1").await;
    assert_eq!(finish(psql).status, Some(0));
    stage.wait_recorded("executed");
    stage.workspace.heal();
    let stage = stage.crash().await;
    let ended = stage.ended(&message.ts, "Done: DELETE").await;
    assert!(ended.contains("1 row"), "{ended}");
    assert_eq!(stage.rows(), "2");
}

#[tokio::test]
async fn two_statements_of_two_sessions_are_decided_apart() {
    let stage = Stage::start().await;
    let mut first = Raw::login(&stage.gate.target());
    first.send(m::query("DELETE FROM orders WHERE id = 1"));
    let one = stage.message(1).await;
    let second = stage.psql().start("DELETE FROM orders WHERE id = 2");
    let two = stage.message(2).await;
    stage.click(&two, "approve", "U0APP2").await;
    assert_eq!(finish(second).status, Some(0));
    stage.ended(&two.ts, "Done: DELETE").await;
    assert_eq!(stage.rows(), "2");
    assert_eq!(stage.workspace.messages(CHANNEL)[0].buttons().len(), 3, "the first still waits");
    stage.click(&one, "approve", "U0APP1").await;
    first.until(b'Z');
    assert_eq!(stage.rows(), "1");
}

/// Slack posts signed requests to the gate, instead of the gate opening sockets to Slack.
#[tokio::test]
async fn with_signed_requests_instead_of_sockets_a_click_releases_and_a_forged_one_does_not() {
    let workspace = Workspace::builder().redelivery(Redelivery::EventsOnly).start().await;
    workspace.add_people();
    let database = shared();
    database.run("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2), (3)");
    let http = format!(
        "[slack]\nmode = \"http\"\ncallback_address = \"127.0.0.1:0\"\nsigning_secret = \"{}\"\n",
        workspace.signing_secret()
    );
    let toml = configuration(&workspace).replacen("[slack]\n", &http, 1);
    let gate = Gate::builder().toml(&toml).start(database.target());
    let taken = |line: &str| Some(line.split_once("its requests are taken on ")?.1.trim().to_owned());
    let url = gate.process.wait_line(DEADLINE, taken).unwrap_or_else(|| panic!("{}", gate.process.log()));
    let urls = Callbacks { interactivity: url.clone(), commands: url.clone(), events: url };
    workspace.deliver_to(Some(urls));
    let psql = Psql::new(&gate.target()).start("DELETE FROM orders");
    let message = workspace.wait_for_message(CHANNEL, 1).await;
    workspace.fail_delivery(DeliveryFault::WrongSignature);
    let forged = workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(!forged.acknowledged);
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "3");
    assert!(workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await.acknowledged);
    assert_eq!(finish(psql).status, Some(0));
    assert_eq!(database.raw().value("SELECT count(*) FROM orders"), "0");
}
