#![allow(clippy::indexing_slicing)]

use std::future::{Ready, ready};
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::store::StoreSettings;

/// A receiver that says what it is told to say, then 200.
struct Receiver {
    answers: Mutex<Vec<u16>>,
    got: Mutex<Vec<(HeaderMap, String)>>,
    news: Notify,
}

impl Receiver {
    async fn start(answers: &[u16]) -> (Arc<Self>, String) {
        let receiver = Arc::new(Self {
            answers: Mutex::new(answers.iter().rev().copied().collect()),
            got: Mutex::default(),
            news: Notify::new(),
        });
        let app = Router::new().route("/hook", post(Self::take)).with_state(Arc::clone(&receiver));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, url)
    }

    fn take(State(receiver): State<Arc<Self>>, headers: HeaderMap, body: String) -> Ready<StatusCode> {
        let answer = receiver.answers.lock().unwrap().pop().unwrap_or(200);
        receiver.got.lock().unwrap().push((headers, body));
        receiver.news.notify_one();
        ready(StatusCode::from_u16(answer).unwrap())
    }

    async fn wait(&self, count: usize) {
        while self.got.lock().unwrap().len() < count {
            self.news.notified().await;
        }
    }

    fn deliveries(&self) -> Vec<u64> {
        let number = |headers: &HeaderMap| headers["x-querygate-delivery"].to_str().unwrap().parse().unwrap();
        self.got.lock().unwrap().iter().map(|(headers, _)| number(headers)).collect()
    }
}

fn hook(url: &str, events: &[&str]) -> WebhookSettings {
    WebhookSettings {
        name: "on-call".to_owned(),
        url: url.to_owned(),
        secret: "a secret of some length".to_owned(),
        events: events.iter().map(|kind| (*kind).to_owned()).collect(),
        owned: false,
        timeout: Duration::from_secs(5),
    }
}

fn policy(version: &str) -> Event {
    Event::PolicyChanged { policy_version: version.to_owned() }
}

/// Starts a webhook that has noted where it begins.
async fn begin(store: &Store, settings: &WebhookSettings) -> watch::Sender<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(run(store.clone(), settings.clone(), None, stopped));
    while store.cursor("webhook/on-call").await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    stop
}

#[tokio::test]
async fn every_event_is_told_once_in_order_and_signed_whatever_the_receiver_says_first() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    store.record(Event::Stopped).await.unwrap();
    let (receiver, url) = Receiver::start(&[503, 400, 200, 429]).await;
    let _stop = begin(&store, &hook(&url, &[])).await;
    store.record(policy("one")).await.unwrap();
    store.record(policy("two")).await.unwrap();
    receiver.wait(5).await;
    assert_eq!(receiver.deliveries(), [2, 2, 2, 3, 3]);
    let got = receiver.got.lock().unwrap();
    let (headers, body) = &got[2];
    let timestamp = headers["x-querygate-timestamp"].to_str().unwrap();
    let expected = sign("a secret of some length", timestamp, body).unwrap();
    assert_eq!(headers["x-querygate-signature"].to_str().unwrap(), expected);
    assert_ne!(sign("another secret", timestamp, body), Some(expected));
    let line: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&line["seq"], &line["event"]["policy_version"]), (&2.into(), &"one".into()));
}

#[tokio::test]
async fn what_happened_while_nobody_delivered_is_told_later_and_only_what_is_wanted() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    store.record(Event::Stopped).await.unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    let settings = hook(&url, &["policy-changed"]);
    let stop = begin(&store, &settings).await;
    stop.send(true).unwrap();
    stop.closed().await;
    store.record(policy("one")).await.unwrap();
    store.record(Event::Stopped).await.unwrap();
    store.record(policy("two")).await.unwrap();
    assert!(receiver.got.lock().unwrap().is_empty());
    let _stop = begin(&store, &settings).await;
    receiver.wait(2).await;
    assert_eq!(receiver.deliveries(), [2, 4]);
}

#[test]
fn pauses_grow_to_a_limit_and_differ() {
    for attempt in 1..40 {
        let pause = back_off(attempt);
        assert!(pause <= PAUSE.1 && pause >= PAUSE.0.mul_f32(0.7), "{attempt}: {pause:?}");
    }
    assert!(back_off(3) > PAUSE.0.mul_f32(2.9));
}

/// An example from a text book would do; this one was computed with `openssl dgst -sha256 -hmac key`.
#[test]
fn a_signature_can_be_checked_with_other_tools() {
    assert_eq!(sign("key", "1", "{}").unwrap(), "v1=b0fa2e2365bc31a26cc3682deb26077df2c7d1c1ddf37447313bb35fb0c67eef");
}

#[tokio::test]
async fn an_owners_webhook_hears_of_what_it_is_named_for_and_of_nothing_else() {
    use crate::approval::testing::{at, request};
    use crate::hold::{Cause, Outcome};
    use crate::judge::Ownership;

    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    let _stop = begin(&store, &WebhookSettings { owned: true, ..hook(&url, &["held", "ended"]) }).await;
    let own = |webhook: &str| Ownership {
        of: vec!["shop.orders".to_owned()],
        more: false,
        groups: vec!["shop".to_owned()],
        people: Vec::new(),
        slack: Vec::new(),
        webhooks: vec![webhook.to_owned()],
        lines: vec![1],
    };
    let mut ids = Vec::new();
    for owners in [Vec::new(), vec![own("another")], vec![own("another"), own("on-call")]] {
        let mut request = request("app", "DELETE FROM t");
        request.owners = owners;
        ids.push(request.id.clone());
        store.record(Event::Held { request: Box::new(request) }).await.unwrap();
    }
    for id in &ids {
        let outcome = Outcome::Withdrawn { cause: Cause::ClientGone };
        store.record(Event::Ended { id: id.clone(), outcome, at: at(1) }).await.unwrap();
    }
    receiver.wait(2).await;
    store.record(policy("last")).await.unwrap();
    let mut heads = store.heads();
    while store.cursor("webhook/on-call").await.unwrap() < heads.borrow_and_update().seq {
        tokio::task::yield_now().await;
    }
    let got = receiver.got.lock().unwrap();
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|(_, body)| body.contains(&ids[2].0)));
}
