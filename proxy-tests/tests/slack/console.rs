//! The workspace by hand: the console's lines, and the program that reads them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use proxy_tests::process::binary_dir;
use proxy_tests::slack::Workspace;
use proxy_tests::slack::console::visible;
use serde_json::json;
use ureq::Agent;

use crate::client::{Client, Ear, mock_up, ok};

#[tokio::test]
async fn a_person_reads_clicks_and_fills_in_by_hand() {
    let workspace = Workspace::with_people().await;
    let mut ear = Ear::open(&workspace).await;
    let client = Client::new(&workspace);
    client.say_pending("C0APPR");
    let shown = workspace.console("show 1").await;
    assert!(shown.starts_with("== message 1 in C0APPR approvals, posted:\n# :hourglass_flowing_sand:"), "{shown}");
    assert!(shown.contains("[Approve] [Reject…] [Plan]"), "{shown}");
    let app = async {
        let envelope = ear.envelope().await;
        ear.acknowledge(&envelope, None).await;
        envelope["payload"].clone()
    };
    // A label's beginning is good enough, and a handle for a person.
    let (said, told) = tokio::join!(workspace.console("click 1 rej ann"), app);
    assert!(said.starts_with("acknowledged after"), "{said}");
    assert_eq!((&told["actions"][0]["action_id"], &told["user"]["id"]), (&json!("reject"), &json!("U0APP1")));
    let call = json!({ "trigger_id": told["trigger_id"], "view": mock_up("reject_modal.json") });
    ok(&client.call("views.open", &call));
    let app = async {
        let envelope = ear.envelope().await;
        ear.acknowledge(&envelope, None).await;
        envelope["payload"].clone()
    };
    let (said, told) = tokio::join!(workspace.console("submit ann why=not during the sale"), app);
    assert!(said.starts_with("acknowledged after"), "{said}");
    assert_eq!(told["view"]["state"]["values"]["why"]["text"]["value"], json!("not during the sale"));
}

#[tokio::test]
async fn faults_are_set_by_hand() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    for (line, said) in [
        ("fail auth.test error:fatal_error 2", "done"),
        ("fail auth.test 503-after", "done"),
        ("fail auth.test 429:9", "done"),
        ("fail auth.test sometimes", "unknown fault"),
        ("next-socket refuse:503", "done"),
        ("next-delivery twice", "done"),
        ("next-delivery never", "unknown fault"),
        ("sockets sideways", "expected drop"),
        ("deactivate gus", "done"),
        ("deactivate nobody", "nobody is called nobody"),
        ("click 1 approve ann", "no such message"),
        ("dance", "not understood"),
    ] {
        let answer = workspace.console(line).await;
        assert!(answer.starts_with(said), "{line}: {answer}");
    }
    let test = || client.post(&client.url("auth.test"), "application/x-www-form-urlencoded", b"").unwrap();
    assert_eq!(
        [test(), test()].map(|answer| answer.json()["error"].clone()),
        [json!("fatal_error"), json!("fatal_error")]
    );
    assert_eq!(test().status, 503);
    assert_eq!(test().header("retry-after"), Some("9"));
    assert!(workspace.console("calls").await.contains("auth.test [RateLimited(9)]"));
    assert!(workspace.look(|state| state.user("U0GUEST").unwrap().deleted));
    assert!(workspace.console("people").await.contains("gus             Guest  (deactivated)"));
    assert_eq!(workspace.console("lock-out token_revoked").await, "done");
    assert_eq!(test().json()["error"], json!("token_revoked"));
    assert_eq!(workspace.console("let-in").await, "done");
    ok(&test().json());
}

#[test]
fn nothing_printed_can_steer_a_terminal() {
    assert_eq!(visible("a\u{1b}[2Jb\u{202e}c\u{200b}\r\nd"), "a\\u{1b}[2Jb\\u{202e}c\\u{200b}\\u{d}\nd");
    assert_eq!(visible("Reject… · ü"), "Reject… · ü");
}

/// The program, killed when the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_prints_its_settings_and_what_is_posted() {
    let mut command = Command::new(binary_dir().join("slack-standin"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cargo builds it for these tests");
    let mut program = Program(child);
    let mut stdin = program.0.stdin.take().unwrap();
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut setting = |name: &str| {
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.split_once(" = ").unwrap().1.trim_matches('"').to_owned()
    };
    let (api, token, app, secret) =
        (setting("api_url"), setting("bot_token"), setting("app_token"), setting("signing_secret"));
    assert!(token.starts_with("xoxb-") && app.starts_with("xapp-") && secret.len() == 32);
    let control = setting("control");
    let agent = Agent::new_with_config(Agent::config_builder().proxy(None).build());
    let message = json!({ "channel": "C0APPR", "text": "held\u{202e}" }).to_string();
    let posted = agent
        .post(format!("{api}/chat.postMessage"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json; charset=utf-8")
        .send(&message);
    assert!(posted.unwrap().body_mut().read_to_string().unwrap().contains("\"ok\":true"));
    assert!(lines.any(|line| line == "== message 1 in C0APPR approvals, posted:"));
    assert_eq!(lines.next().unwrap(), "held\\u{202e}");
    let shown = agent.post(&control).send("show 1").unwrap().body_mut().read_to_string().unwrap();
    assert!(shown.starts_with("== message 1 in C0APPR"), "{shown}");
    writeln!(stdin, "people").unwrap();
    assert!(lines.any(|line| line.contains("U0APP1") && line.contains("@dba")));
    writeln!(stdin, "quit").unwrap();
    assert!(program.0.wait().unwrap().success());
}
