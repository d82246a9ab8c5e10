//! The real gate before a real Postgres, with Slack's stand-in: what only the whole process can show.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    reason = "tests"
)]

use proxy_tests::gate::{Builder, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::{ALWAYS, Fault, Message, State, View, Workspace};
use serde_json::Value;

/// Where requests are announced.
const CHANNEL: &str = "C0APPR";

/// A workspace, a table `t` with rows 1, 2, 3, and what a gate between them is started with.
async fn setup(slack: &str, rest: &str) -> (Workspace, Database, Builder) {
    let workspace = Workspace::with_people().await;
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let toml = format!(
        "{}\
         longest_pause = \"2s\"\n{slack}\n\
         [[people]]\nname = \"sam\"\ngroups = [\"approvers\"]\nslack_user = \"U0APP1\"\n\
         [[people]]\nname = \"tim\"\ngroups = [\"approvers\"]\nslack_user = \"U0APP2\"\n\
         [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"{}\"]\n{rest}",
        workspace.section(CHANNEL),
        database.target().user,
    );
    let builder = Gate::builder().toml(&toml);
    (workspace, database, builder)
}

fn health(gate: &Gate) -> Value {
    gate.api().with_token("").get("/health")
}

/// The newest announcement, once it says `text`.
async fn saying(workspace: &Workspace, text: &str) -> Message {
    let probe = |state: &State| {
        let messages = state.messages(CHANNEL);
        messages.into_iter().rev().find(|message| message.rendered().contains(text)).cloned()
    };
    workspace.wait_for(text, probe).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_down_is_told_by_health_and_other_traffic_passes() {
    let (workspace, database, builder) = setup("", "").await;
    let gate = builder.start(database.target());
    workspace.wait_for_sockets(2).await;
    eventually("a healthy gate", || (health(&gate)["slack"][0]["sockets"] == 2).then_some(()));
    let healthy = health(&gate);
    assert_eq!((&healthy["status"], &healthy["store"]["status"]), (&"ok".into(), &"ok".into()), "{healthy}");
    assert!(healthy["slack"][0]["last_success"].is_string(), "{healthy}");
    let strict = |gate: &Gate| gate.api().with_token("").call("GET", "/health?strict=true", None).status;
    assert_eq!(strict(&gate), 200);
    // The whole of Slack is gone.
    drop(workspace);
    let degraded =
        eventually("a degraded gate", || Some(health(&gate)).filter(|health| health["status"] == "degraded"));
    let reason = degraded["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("slack: ") && reason.len() > 20, "{reason}");
    assert_eq!((strict(&gate), &degraded["slack"][0]["sockets"]), (503, &0.into()));
    let mut raw = Raw::login(&gate.target());
    assert_eq!(raw.value("SELECT count(*) FROM t"), "3");
    // What has to be held is held, and somebody at the console decides it.
    raw.send(m::query("DELETE FROM t WHERE x = 3"));
    raw.expect(b'N');
    let id = gate.api().wait_held("DELETE FROM t");
    gate.api().approve(&id);
    raw.until(b'Z');
    assert_eq!(raw.value("SELECT count(*) FROM t"), "2");
}

/// Everything the workspace was ever told.
fn everything_told(workspace: &Workspace) -> String {
    workspace.look(|state| {
        let calls = state.calls("*").into_iter().map(|call| format!("{} {:?}\n", call.method, call.arguments));
        let files = state
            .files()
            .iter()
            .map(|file| String::from_utf8_lossy(file.content.as_deref().unwrap_or_default()).into_owned());
        calls.chain(files).collect()
    })
}

/// Everything in the gate's own files but its configuration.
fn everything_kept(gate: &Gate) -> String {
    let files = std::fs::read_dir(gate.config.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let kept = files.filter(|path| *path != gate.config && path.is_file());
    kept.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_redacts_reaches_neither_slack_nor_the_record_and_approvals_still_bind() {
    let rules = "[hold]\nparse_first = false\n[policy]\nfallback = \"shipped\"\n\
                 [[rule]]\nname = \"cards\"\naction = \"hold\"\neffects = [\"delete\"]\nredact = \"literals\"\n\
                 [[rule]]\nname = \"tables\"\naction = \"hold\"\neffects = [\"drop\", \"unparsed\"]\nredact = \"all\"";
    let (workspace, database, builder) = setup("long_statements = \"file\"", rules).await;
    let gate = builder.start(database.target());
    let mut raw = Raw::login(&gate.target());
    let click = |ts: &str, action: &str, user: &str| workspace.click(CHANNEL, ts, action, user).unwrap();

    // Bound values, literals, comments; looked at in every way there is.
    raw.send(m::extended(
        "DELETE FROM t WHERE x::text = $1 /* s3cret-note */ OR 's3cret-text' = x::text OR x = 3",
        &[Some(b"s3cret-value")],
    ));
    let message = saying(&workspace, "redacted").await;
    assert_eq!(message.buttons(), ["Approve", "Reject…", "Details"]);
    assert!(message.rendered().contains("$1 text = (redacted)"), "{}", message.rendered());
    let id = gate.api().wait_held("DELETE FROM t");
    assert!(gate.api().get(&format!("/v1/requests/{id}")).to_string().contains("s3cret-value"), "the console shows it");
    click(&message.ts, "details", "U0APP1").ended().await;
    let modal = workspace.wait_for("the details", |state| state.modal("U0APP1").map(View::rendered)).await;
    assert!(modal.contains("redacted"), "{modal}");
    click(&message.ts, "reject", "U0APP2").ended().await;
    workspace.wait_for("the window", |state| state.modal("U0APP2").map(|_| ())).await;
    for user in ["U0APP1", "U0APP2"] {
        workspace.close_view(user).unwrap();
    }
    workspace.open_home("U0APP1").unwrap().ended().await;
    workspace.wait_for("the home", |state| state.home("U0APP1").map(|_| ())).await;
    workspace.slash(CHANNEL, "/querygate", &format!("show {id}"), "U0APP1").unwrap().ended().await;
    workspace.wait_for("an answer", |state| state.ephemerals("U0APP1").first().map(|_| ())).await;
    click(&message.ts, "approve", "U0APP1").ended().await;
    saying(&workspace, "Done: DELETE").await;
    raw.until(b'Z');

    // The database repeats a value in its error.
    raw.send(m::query("DELETE FROM t WHERE x = 's3cret-number'::int"));
    let message = saying(&workspace, "Approval needed").await;
    click(&message.ts, "approve", "U0APP1").ended().await;
    saying(&workspace, "Approved but failed").await;
    raw.until(b'Z');

    // Too long for the message, so it is a file.
    let many = "'s3cret-many', ".repeat(1_500);
    raw.send(m::query(format!("DELETE FROM t WHERE x::text IN ({many}'none')")));
    let message = saying(&workspace, "Read it there before you approve").await;
    click(&message.ts, "approve", "U0APP1").ended().await;
    raw.until(b'Z');
    // Otherwise it would be taken for the next one.
    let over = |state: &State| state.message(CHANNEL, &message.ts)?.buttons().is_empty().then_some(());
    workspace.wait_for("its end", over).await;

    // Whole texts: one that can be read, and one that cannot and whose error would quote it.
    for text in ["DROP TABLE t; SELECT 's3cret-rest'", "DELETE FRUM s3cret_word"] {
        raw.send(m::query(text));
        let message = saying(&workspace, "Approval needed").await;
        workspace.click(CHANNEL, &message.ts, "reject", "U0APP1").unwrap().ended().await;
        workspace.wait_for("the window", |state| state.modal("U0APP1").map(|_| ())).await;
        workspace.submit_view("U0APP1", &[("why", "not like this")]).unwrap().ended().await;
        raw.until(b'Z');
        saying(&workspace, "Rejected").await;
    }
    let told = everything_told(&workspace);
    assert!(told.contains("redacted") && told.len() > 10_000);
    assert!(!told.contains("s3cret"), "{}", around(&told, "s3cret"));
    let kept = everything_kept(&gate);
    assert!(kept.contains("DELETE FROM t WHERE x::text = $1"), "the rest is on record");
    assert!(!kept.contains("s3cret"), "{}", around(&kept, "s3cret"));
    workspace.assert_no_violations();
}

fn around(text: &str, part: &str) -> String {
    let at = text.find(part).unwrap_or_default();
    text.chars().skip(text[..at].chars().count().saturating_sub(300)).take(600).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_that_was_acknowledged_before_a_crash_is_answered_after_the_restart_and_releases_nothing() {
    let (workspace, database, builder) = setup("call_deadline = \"2s\"", "").await;
    let gate = builder.start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let message = saying(&workspace, "Approval needed").await;
    // Between the acknowledgement and the decision, the gate asks Slack who clicked.
    workspace.fail("users.info", Fault::Hang, ALWAYS);
    let click = workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(click.acknowledged);
    workspace.wait_for("the gate asks who clicked", |state| state.calls("users.info").first().map(|_| ())).await;
    let gate = gate.kill_and_restart();
    workspace.heal();
    let withdrawn = saying(&workspace, "Withdrawn").await;
    assert!(withdrawn.buttons().is_empty());
    let told = workspace
        .wait_for("a late answer", |state| state.ephemerals("U0APP1").first().map(|m| m.content.rendered()))
        .await;
    assert!(told.contains("does not count") && told.contains("withdrawn"), "{told}");
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3", "nothing was run");
    // It is answered once, also over another restart.
    let before = workspace.look(State::sockets_ever);
    let gate = gate.kill_and_restart();
    workspace.wait_for("new sockets", |state| (state.sockets_ever() >= before + 2).then_some(())).await;
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let message = saying(&workspace, "Approval needed").await;
    workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "2");
    assert_eq!(workspace.look(|state| state.ephemerals("U0APP1").len()), 1);
}
