//! Socket Mode: hello, envelopes, acknowledgements, redelivery, and how sockets end.

use std::collections::BTreeSet;
use std::time::Duration;

use proxy_tests::slack::{Redelivery, Reply, SOCKETS, Timing, Via, Workspace};
use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Client, Ear};

/// Impatient, for tests of what happens when nobody answers.
fn hasty() -> Timing {
    Timing {
        acknowledge: Duration::from_millis(300),
        redeliver: vec![Duration::ZERO, Duration::from_millis(10)],
        refresh: Duration::from_millis(20),
        ..Timing::default()
    }
}

async fn hasty_workspace() -> Workspace {
    let workspace = Workspace::builder().timing(hasty()).start().await;
    workspace.add_people();
    workspace
}

#[tokio::test]
async fn a_click_is_told_and_acknowledged() {
    let workspace = Workspace::with_people().await;
    let mut ear = Ear::open(&workspace).await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let envelope = ear.envelope().await;
    assert_eq!((&envelope["type"], &envelope["accepts_response_payload"]), (&json!("interactive"), &json!(false)));
    assert_eq!(envelope.get("retry_attempt"), None);
    assert_eq!(envelope["payload"], delivery.payload());
    ear.acknowledge(&envelope, None).await;
    let ending = delivery.ended().await;
    assert_eq!((ending.acknowledged, ending.answer, ending.attempts), (true, None, 1));
    workspace.assert_no_violations();
}

#[tokio::test]
async fn what_nobody_acknowledges_is_delivered_again() {
    let workspace = hasty_workspace().await;
    let mut ear = Ear::open(&workspace).await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let first = ear.envelope().await;
    let second = ear.envelope().await;
    let third = ear.envelope().await;
    assert_eq!(first["envelope_id"], second["envelope_id"]);
    assert_eq!((&second["retry_attempt"], &third["retry_attempt"]), (&json!(1), &json!(2)));
    assert_eq!((&second["retry_reason"], &second["payload"]), (&json!("timeout"), &first["payload"]));
    let ending = delivery.ended().await;
    assert_eq!((ending.acknowledged, ending.attempts), (false, 3));
    assert!(delivery.record().attempts.iter().all(|attempt| attempt.reply.as_ref().unwrap().0 == Reply::TimedOut));
    // Now it is too late.
    ear.acknowledge(&third, None).await;
    workspace.wait_for("a late acknowledgement", |state| (!state.violations().is_empty()).then_some(())).await;
    assert!(workspace.look(|state| state.violations()[0].contains("late or twice")));
}

#[tokio::test]
async fn slack_itself_delivers_clicks_once_and_events_again() {
    let workspace = Workspace::builder().timing(hasty()).redelivery(Redelivery::EventsOnly).start().await;
    workspace.add_people();
    let mut ear = Ear::open(&workspace).await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let click = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert_eq!(click.ended().await.attempts, 1);
    ear.envelope().await;
    let event = workspace.open_home("U0APP1").unwrap();
    let first = ear.envelope().await;
    assert_eq!((&first["type"], &first["retry_attempt"]), (&json!("events_api"), &json!(0)));
    let second = ear.envelope().await;
    assert_eq!(second["retry_attempt"], json!(1));
    ear.acknowledge(&second, None).await;
    assert_eq!((event.ended().await.acknowledged, event.record().attempts.len()), (true, 2));
}

#[tokio::test]
async fn a_click_waits_for_a_socket_but_not_for_ever() {
    let workspace = Workspace::with_people().await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let mut ear = Ear::open(&workspace).await;
    let envelope = ear.envelope().await;
    ear.acknowledge(&envelope, None).await;
    assert!(delivery.ended().await.acknowledged);
    let workspace = hasty_workspace().await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert!(!delivery.ended().await.acknowledged);
    assert!(delivery.record().attempts.iter().all(|attempt| attempt.via == Via::Nothing));
}

#[tokio::test]
async fn a_payload_moves_on_when_its_socket_goes() {
    let workspace = Workspace::with_people().await;
    let mut first = Ear::open(&workspace).await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    first.envelope().await;
    drop(first);
    let mut second = Ear::open(&workspace).await;
    let envelope = second.envelope().await;
    assert_eq!((&envelope["retry_attempt"], &envelope["retry_reason"]), (&json!(1), &json!("connection_failed")));
    second.acknowledge(&envelope, None).await;
    assert_eq!(delivery.ended().await.attempts, 2);
}

#[tokio::test]
async fn each_payload_goes_to_one_socket_and_all_sockets_get_some() {
    let workspace = Workspace::with_people().await;
    let mut ears = Vec::new();
    for _ in 0..3 {
        ears.push(Ear::open(&workspace).await);
    }
    workspace.wait_for_sockets(3).await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let clicks: Vec<_> = (0..30).map(|_| workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap()).collect();
    let probe = |state: &proxy_tests::slack::State| {
        let sent: Vec<_> =
            state.deliveries().iter().flat_map(|record| &record.attempts).map(|attempt| attempt.via).collect();
        (sent.len() == clicks.len()).then_some(sent)
    };
    let ways = workspace.wait_for("every click is sent", probe).await;
    let mut heard = 0;
    for (number, ear) in ears.iter_mut().enumerate() {
        let share = ways.iter().filter(|way| **way == Via::Socket(number + 1)).count();
        assert!(share > 0, "{ways:?}");
        for _ in 0..share {
            let envelope = ear.envelope().await;
            ear.acknowledge(&envelope, None).await;
            heard += 1;
        }
    }
    assert_eq!(heard, 30);
    for click in clicks {
        assert_eq!(click.ended().await.attempts, 1);
    }
    workspace.assert_no_violations();
}

#[tokio::test]
async fn the_eleventh_socket_is_one_too_many() {
    let workspace = Workspace::with_people().await;
    let mut ears = Vec::new();
    for _ in 0..SOCKETS {
        ears.push(Ear::open(&workspace).await);
    }
    let mut eleventh = Ear::connect(&workspace).await.unwrap();
    let told = eleventh.next().await.unwrap();
    assert_eq!((&told["type"], &told["reason"]), (&json!("disconnect"), &json!("too_many_websockets")));
    assert_eq!(eleventh.next().await, None);
    ears.pop();
    workspace.wait_for_sockets(SOCKETS - 1).await;
    Ear::open(&workspace).await;
}

#[tokio::test]
async fn an_address_is_good_once() {
    let workspace = Workspace::with_people().await;
    let address = Ear::address(&workspace);
    connect_async(&address).await.unwrap();
    for bad in
        [address.clone(), address.split_once("ticket=").unwrap().0.to_owned(), address.replace("ticket=", "ticket=x")]
    {
        let Err(Error::Http(response)) = connect_async(&bad).await else { panic!("{bad} was let in") };
        assert_eq!(response.status(), 403);
    }
}

#[tokio::test]
async fn what_is_no_acknowledgement_is_noted() {
    let workspace = Workspace::with_people().await;
    let (mut ear, mut other) = (Ear::open(&workspace).await, Ear::open(&workspace).await);
    workspace.wait_for_sockets(2).await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let via = workspace.wait_for("sent", |state| Some(state.deliveries()[0].attempts.first()?.via)).await;
    let (bringer, stranger) = if via == Via::Socket(1) { (&mut ear, &mut other) } else { (&mut other, &mut ear) };
    let envelope = bringer.envelope().await;
    bringer.say("ok").await;
    bringer.say("{}").await;
    bringer.acknowledge(&json!({ "envelope_id": "unknown" }), None).await;
    stranger.acknowledge(&envelope, None).await;
    workspace.wait_for("four violations", |state| (state.violations().len() == 4).then_some(())).await;
    bringer.acknowledge(&envelope, Some(json!({ "text": "done" }))).await;
    assert!(delivery.ended().await.acknowledged);
    let noted: BTreeSet<String> = workspace.look(|state| state.violations().iter().cloned().collect());
    for part in ["not JSON", "not an acknowledgement", "unknown envelope", "did not bring it", "takes no answer"] {
        assert!(noted.iter().any(|what| what.contains(part)), "{part}: {noted:#?}");
    }
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| workspace.assert_no_violations()));
    assert!(caught.is_err());
}

#[tokio::test]
async fn a_socket_that_answers_no_ping_is_closed() {
    let timing = Timing { ping: Duration::from_millis(500), ..Timing::default() };
    let workspace = Workspace::builder().timing(timing).start().await;
    // Nobody reads this one, so nobody answers its pings.
    let _deaf = Ear::open(&workspace).await;
    workspace.wait_for("the socket is closed", |state| state.sockets().is_empty().then_some(())).await;
    let mut lively = Ear::open(&workspace).await;
    let ping = async {
        let mut pings = 0;
        while pings < 3 {
            use futures_util::StreamExt;
            pings += usize::from(lively.socket.next().await.unwrap().unwrap().is_ping());
        }
    };
    tokio::time::timeout(proxy_tests::DEADLINE, ping).await.unwrap();
    assert_eq!(workspace.look(|state| state.sockets().len()), 1);
}

#[tokio::test]
async fn sockets_are_asked_to_reconnect_before_they_are_closed() {
    let workspace = hasty_workspace().await;
    let mut ear = Ear::open(&workspace).await;
    workspace.warn_sockets().await;
    let warning = ear.next().await.unwrap();
    assert_eq!((&warning["type"], &warning["reason"]), (&json!("disconnect"), &json!("warning")));
    assert_eq!(ear.next().await.unwrap()["reason"], json!("refresh_requested"));
    assert_eq!(ear.next().await, None);
    let mut ear = Ear::open(&workspace).await;
    workspace.refresh_sockets().await;
    assert_eq!(ear.next().await.unwrap()["reason"], json!("refresh_requested"));
    assert_eq!(ear.next().await, None);
    workspace.wait_for_sockets(0).await;
    assert_eq!(workspace.look(proxy_tests::slack::State::sockets_ever), 2);
}
