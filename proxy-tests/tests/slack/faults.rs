//! Every fault happens as asked for, as often as asked for, and the record says what was really done.

use std::time::Duration;

use proxy_tests::slack::{ALWAYS, DeliveryFault, Fault, Redelivery, SocketFault, State, Timing, Via, Workspace};
use querygate::clock;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Answer, Client, Ear, ok, refused};

const POST: &str = "chat.postMessage";

fn post(client: &Client) -> Result<Answer, ureq::Error> {
    let body = br#"{"channel":"C0APPR","text":"x"}"#;
    client.post(&client.url(POST), "application/json; charset=utf-8", body)
}

fn posted(workspace: &Workspace) -> usize {
    workspace.messages("C0APPR").len()
}

#[tokio::test]
async fn server_errors_come_before_or_after_the_work() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail(POST, Fault::Status(500), 2);
    workspace.fail(POST, Fault::StatusAfter(502), 1);
    for (status, done) in [(500, 0), (500, 0), (502, 1), (200, 2)] {
        let answer = post(&client).unwrap();
        assert_eq!((answer.status, posted(&workspace)), (status, done));
        assert_eq!(status == 200, serde_json::from_str::<Value>(&answer.text).is_ok());
    }
    let processed: Vec<bool> = workspace.look(|state| state.calls(POST).iter().map(|call| call.processed).collect());
    assert_eq!(processed, [false, false, true, true]);
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail(POST, Fault::RateLimited(7), 1);
    let answer = post(&client).unwrap();
    assert_eq!((answer.status, answer.header("retry-after"), posted(&workspace)), (429, Some("7"), 0));
    refused(&answer.json(), "ratelimited");
    assert_eq!(post(&client).unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_work_was_done() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail(POST, Fault::ResetBefore, 1);
    workspace.fail(POST, Fault::ResetAfter, 1);
    for done in [0, 1] {
        let Err(ureq::Error::Io(error)) = post(&client) else { panic!("an answer came") };
        assert_eq!((error.kind(), posted(&workspace)), (std::io::ErrorKind::ConnectionReset, done));
    }
    workspace.look(|state| {
        let calls = state.calls(POST);
        assert!(!calls[0].processed && calls[1].processed && calls[1].succeeded());
        assert_eq!(calls[1].fault.as_deref(), Some("ResetAfter"));
    });
}

#[tokio::test]
async fn a_call_hangs_until_it_is_released_or_the_caller_has_enough() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail(POST, Fault::Hang, 1);
    workspace.fail(POST, Fault::HangAfter, 1);
    for done in [0, 1] {
        let impatient = Client::within(&workspace, Some(&workspace.bot_token()), Duration::from_secs(1));
        let Err(ureq::Error::Timeout(_)) = post(&impatient) else { panic!("an answer came") };
        assert_eq!(posted(&workspace), done);
    }
    workspace.fail(POST, Fault::Hang, 1);
    let hung = tokio::task::spawn_blocking(move || post(&client).unwrap());
    workspace.wait_for("the third call", |state| (state.calls(POST).len() == 3).then_some(())).await;
    assert_eq!(posted(&workspace), 1);
    workspace.release(POST);
    ok(&hung.await.unwrap().json());
    // The impatient caller's first call is gone for good.
    assert_eq!(posted(&workspace), 2);
}

#[tokio::test]
async fn a_call_can_be_slow() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail("auth.test", Fault::Slow(Duration::from_millis(150)), 1);
    let begun = clock::now();
    ok(&client.call("auth.test", &json!({})));
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn answers_can_be_nonsense_with_status_200() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail(POST, Fault::Html, 1);
    workspace.fail(POST, Fault::Truncated, 1);
    workspace.fail(POST, Fault::Json(json!({ "ok": true })), 1);
    workspace.fail(POST, Fault::error("fatal_error"), 1);
    let html = post(&client).unwrap();
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(html.text.starts_with("<!DOCTYPE html>"));
    assert_eq!(posted(&workspace), 0);
    let half = post(&client).unwrap();
    assert_eq!((half.status, half.header("content-type")), (200, Some("application/json; charset=utf-8")));
    assert!(half.text.starts_with(r#"{"channel":"C0APPR""#) && serde_json::from_str::<Value>(&half.text).is_err());
    assert_eq!(posted(&workspace), 1);
    assert_eq!(post(&client).unwrap().json(), json!({ "ok": true }));
    refused(&post(&client).unwrap().json(), "fatal_error");
    assert_eq!(posted(&workspace), 1);
    ok(&post(&client).unwrap().json());
}

#[tokio::test]
async fn faults_last_until_healed_and_can_meet_every_method() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    workspace.fail("*", Fault::error("service_unavailable"), ALWAYS);
    for _ in 0..3 {
        refused(&client.call("auth.test", &json!({})), "service_unavailable");
        refused(&post(&client).unwrap().json(), "service_unavailable");
    }
    workspace.heal();
    ok(&post(&client).unwrap().json());
}

#[tokio::test]
async fn uploads_and_response_urls_can_fail_too() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let answer = client.get("files.getUploadURLExternal", &[("filename", "a.sql"), ("length", "3")]);
    let url = ok(&answer)["upload_url"].as_str().unwrap();
    workspace.fail("upload", Fault::Status(503), 1);
    assert_eq!(client.post(url, "text/plain", b"abc").unwrap().status, 503);
    assert_eq!(client.post(url, "text/plain", b"abc").unwrap().status, 200);
    let url = workspace.slash("C0APPR", "/querygate", "", "U0APP1").unwrap().response_url();
    workspace.fail("response_url", Fault::ResetAfter, 1);
    assert!(client.post(&url, "application/json", br#"{"text":"x"}"#).is_err());
    assert_eq!(workspace.look(|state| state.ephemerals("U0APP1").len()), 1);
}

#[tokio::test]
async fn handshakes_can_be_unanswered_refused_or_without_hello() {
    let workspace = Workspace::with_people().await;
    workspace.fail_sockets(SocketFault::NeverAnswer, 1);
    assert!(timeout(Duration::from_millis(100), Ear::connect(&workspace)).await.is_err());
    workspace.fail_sockets(SocketFault::Refuse(503), 1);
    let Err(Error::Http(response)) = Ear::connect(&workspace).await else { panic!("let in") };
    assert_eq!(response.status(), 503);
    workspace.fail_sockets(SocketFault::NoHello, 1);
    let mut silent = Ear::connect(&workspace).await.unwrap();
    assert!(timeout(Duration::from_millis(100), silent.next()).await.is_err());
    workspace.fail_sockets(SocketFault::TooMany, 1);
    let mut turned_away = Ear::connect(&workspace).await.unwrap();
    assert_eq!(turned_away.next().await.unwrap()["reason"], json!("too_many_websockets"));
    assert!(workspace.look(|state| state.sockets().is_empty()));
    workspace.fail("apps.connections.open", Fault::Hang, 1);
    let app = Client::within(&workspace, Some(&workspace.app_token()), Duration::from_secs(1));
    let body = app.post(&app.url("apps.connections.open"), "application/x-www-form-urlencoded", b"");
    assert!(matches!(body, Err(ureq::Error::Timeout(_))));
    Ear::open(&workspace).await;
}

#[tokio::test]
async fn sockets_can_be_reset_closed_or_dead() {
    let workspace = Workspace::builder().redelivery(Redelivery::Nothing).start().await;
    workspace.add_people();
    let mut ear = Ear::open(&workspace).await;
    workspace.drop_sockets().await;
    assert_eq!(ear.next().await, None);
    let mut ear = Ear::open(&workspace).await;
    workspace.close_sockets().await;
    assert_eq!(ear.next().await, None);
    workspace.wait_for_sockets(0).await;
    for born_dead in [true, false] {
        if born_dead {
            workspace.fail_sockets(SocketFault::Frozen, 1);
        }
        let mut ear = Ear::open(&workspace).await;
        workspace.wait_for_sockets(1).await;
        if !born_dead {
            workspace.freeze_sockets().await;
        }
        workspace.open_home("U0APP1").unwrap();
        assert!(timeout(Duration::from_millis(100), ear.next()).await.is_err(), "still connected, and silent");
        workspace.drop_sockets().await;
        assert_eq!(ear.next().await, None);
        workspace.wait_for_sockets(0).await;
    }
}

fn patient() -> Timing {
    Timing { redeliver: vec![Duration::ZERO], ..Timing::default() }
}

#[tokio::test]
async fn one_envelope_can_come_twice_or_on_two_sockets() {
    let workspace = Workspace::builder().timing(patient()).start().await;
    workspace.add_people();
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let mut ear = Ear::open(&workspace).await;
    workspace.fail_delivery(DeliveryFault::Twice);
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let (first, second) = (ear.envelope().await, ear.envelope().await);
    assert_eq!(first, second);
    ear.acknowledge(&first, None).await;
    ear.acknowledge(&second, None).await;
    assert_eq!((delivery.ended().await.acknowledged, delivery.record().attempts.len()), (true, 2));
    let mut other = Ear::open(&workspace).await;
    workspace.wait_for_sockets(2).await;
    workspace.fail_delivery(DeliveryFault::OnTwoSockets);
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let (here, there) = (ear.envelope().await, other.envelope().await);
    assert_eq!(here, there);
    ear.acknowledge(&here, None).await;
    other.acknowledge(&there, None).await;
    assert!(delivery.ended().await.acknowledged);
    let mut ways: Vec<Via> = delivery.record().attempts.iter().map(|attempt| attempt.via).collect();
    ways.sort_by_key(|way| format!("{way:?}"));
    assert_eq!(ways, [Via::Socket(1), Via::Socket(2)]);
    let settled = |state: &State| {
        let all = state.deliveries().iter().flat_map(|record| &record.attempts);
        all.clone().all(|attempt| attempt.reply.is_some()).then_some(())
    };
    workspace.wait_for("every acknowledgement", settled).await;
    workspace.assert_no_violations();
}

#[tokio::test]
async fn an_acknowledgement_can_be_lost() {
    let workspace = Workspace::builder().timing(patient()).start().await;
    workspace.add_people();
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let mut ear = Ear::open(&workspace).await;
    for (fault, same) in [(DeliveryFault::AckLost, true), (DeliveryFault::AckLostOtherEnvelope, false)] {
        workspace.fail_delivery(fault);
        let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
        let first = ear.envelope().await;
        ear.acknowledge(&first, None).await;
        let second = ear.envelope().await;
        assert_eq!((second["envelope_id"] == first["envelope_id"], &second["payload"]), (same, &first["payload"]));
        assert_eq!((&second["retry_attempt"], &second["retry_reason"]), (&json!(1), &json!("timeout")));
        ear.acknowledge(&second, None).await;
        assert_eq!(delivery.ended().await.attempts, 2);
    }
    workspace.assert_no_violations();
}

#[tokio::test]
async fn an_envelope_can_be_lost_or_cut_in_half() {
    let workspace = Workspace::builder().timing(patient()).start().await;
    workspace.add_people();
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let mut ear = Ear::open(&workspace).await;
    workspace.fail_delivery(DeliveryFault::Lost);
    workspace.fail_delivery(DeliveryFault::Truncated);
    let lost = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert_eq!((lost.ended().await.acknowledged, lost.record().attempts.len()), (false, 0));
    let cut = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert!(ear.next().await.unwrap().is_string(), "no JSON");
    drop(ear);
    let mut ear = Ear::open(&workspace).await;
    let whole = ear.envelope().await;
    ear.acknowledge(&whole, None).await;
    assert!(cut.ended().await.acknowledged);
}

#[tokio::test]
async fn waiting_in_vain_says_what_happened() {
    let workspace = Workspace::with_people().await;
    Client::new(&workspace).say("C0APPR", "hello");
    let text = workspace.look(|state| format!("{:?}", state.calls("*")));
    assert!(text.contains("hello"));
    let never = timeout(Duration::from_millis(50), workspace.wait_for("never", |_| None::<()>)).await;
    assert!(never.is_err());
}
