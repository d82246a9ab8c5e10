//! The real gate before a real Postgres, with Slack's stand-in: what only the whole process can show.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use proxy_tests::gate::{Builder, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::Workspace;
use serde_json::Value;

/// Where requests are announced.
const CHANNEL: &str = "C0APPR";

/// A workspace, a table `t` with rows 1, 2, 3, and what a gate between them is started with.
async fn setup(slack: &str, rest: &str) -> (Workspace, Database, Builder) {
    let workspace = Workspace::with_people().await;
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let toml = format!(
        "[slack]\nbot_token = \"{}\"\napp_token = \"{}\"\nchannel = \"{CHANNEL}\"\napi_url = \"{}\"\npost_interval = \"0s\"\n\
         longest_pause = \"2s\"\n{slack}\n\
         [[people]]\nname = \"sam\"\ngroups = [\"approvers\"]\nslack_user = \"U0APP1\"\n\
         [[people]]\nname = \"tim\"\ngroups = [\"approvers\"]\nslack_user = \"U0APP2\"\n\
         [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"{}\"]\n{rest}",
        workspace.bot_token(),
        workspace.app_token(),
        workspace.api_url(),
        database.target().user,
    );
    let builder = Gate::builder().toml(&toml);
    (workspace, database, builder)
}

fn health(gate: &Gate) -> Value {
    gate.api().with_token("").get("/health")
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_down_is_told_by_health_and_other_traffic_passes() {
    let (workspace, database, builder) = setup("", "").await;
    let gate = builder.start(database.target());
    workspace.wait_for_sockets(2).await;
    eventually("a healthy gate", || (health(&gate)["status"] == "ok").then_some(()));
    let healthy = health(&gate);
    assert_eq!((&healthy["slack"][0]["sockets"], &healthy["store"]["status"]), (&2.into(), &"ok".into()), "{healthy}");
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
