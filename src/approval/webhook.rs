//! Tells other programs of every event: on-call systems, chat tools, collectors. The record itself is the outbox: a webhook
//! remembers which event it is done with, so nothing is lost by a crash, and everything is told in order.
//!
//! Each event is one POST of JSON: `seq`, `at`, `policy_version`, `event` and `hash`, as in the audit file. It is signed: `X-Querygate-Signature` is `v1=` and the
//! HMAC-SHA256, in lower-case hex, of `v1:` + the value of `X-Querygate-Timestamp` (Unix seconds) + `:` + the body. A receiver
//! should refuse old timestamps. `X-Querygate-Delivery` is the event's number: an event may be told twice, under the same number.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::watch;
use tokio::time::sleep;
use ureq::Agent;

use super::reach::Reach;
use crate::clock;
use crate::hold::HoldRequest;
use crate::store::{Event, Head, Store, StoredEvent};

/// Events read from the record at once.
const BATCH: usize = 50;
/// Pauses between attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));
/// Attempts for an event that the receiver refuses as such (4xx). Others are repeated until they succeed.
const REFUSED_ATTEMPTS: u32 = 10;

/// A receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Its name in the configuration.
    pub name: String,
    /// `https://…` (or `http://…`).
    pub url: String,
    /// What requests are signed with.
    pub secret: String,
    /// Kinds of events it wants (`held`, `decided`, …); empty: all.
    pub events: Vec<String>,
    /// It wants only those of requests for which a line of the owners file names it.
    pub owned: bool,
    /// For one request, from connecting to the answer.
    pub timeout: Duration,
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("name", &self.name)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Delivered {
    Yes,
    /// The receiver does not want this event: a 4xx other than 408, 425 and 429.
    Refused(String),
    /// It may want it later.
    Failed(String),
}

/// Delivers events until `stop` says true. A webhook that is new begins with what happens from now on. Reports to `reach`
/// whether its receiver takes them.
pub async fn run(store: Store, settings: WebhookSettings, reach: Option<Reach>, mut stop: watch::Receiver<bool>) {
    let (agent, cursor) = (agent(settings.timeout), cursor(&settings.name));
    let hook = Hook { agent, cursor, settings, store, reach };
    let mut heads = hook.store.heads();
    loop {
        let work = async {
            let head = heads.borrow_and_update().clone();
            let caught_up = hook.deliver_what_is_new(&head).await;
            if caught_up {
                // An error means that the store is closed: then there is nothing more to tell.
                let _ = heads.changed().await;
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// The name of its place in the record, for [`Store::cursor`].
pub(super) fn cursor(webhook: &str) -> String {
    format!("webhook/{webhook}")
}

struct Hook {
    agent: Arc<Agent>,
    cursor: String,
    settings: WebhookSettings,
    store: Store,
    reach: Option<Reach>,
}

impl Hook {
    /// One batch. Whether there was nothing left behind it.
    async fn deliver_what_is_new(&self, head: &Head) -> bool {
        let events = match self.next(head).await {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(webhook = %self.settings.name, "cannot read the record: {error}");
                sleep(PAUSE.0).await;
                return false;
            }
        };
        let Some(last) = events.last().map(|event| event.seq) else {
            return true;
        };
        for event in events {
            let seq = event.seq;
            if self.wants(&event.event).await {
                self.deliver(event).await;
            }
            if let Err(error) = self.store.advance(&self.cursor, seq).await {
                // It will be told again: better twice than never.
                tracing::error!(webhook = %self.settings.name, "cannot note event {seq} as delivered: {error}");
                sleep(PAUSE.0).await;
                return false;
            }
        }
        last >= head.seq
    }

    async fn next(&self, head: &Head) -> Result<Vec<StoredEvent>, crate::store::StoreError> {
        let mut done = self.store.cursor(&self.cursor).await?;
        if done == 0 {
            done = head.seq;
            self.store.advance(&self.cursor, done.max(1)).await?;
        }
        self.store.events_after(done, BATCH).await
    }

    async fn wants(&self, event: &Event) -> bool {
        let WebhookSettings { events, owned, .. } = &self.settings;
        // Counts of what passes are for collectors that ask for them.
        let kind = (events.is_empty() && event.kind() != "passed") || events.iter().any(|kind| kind == event.kind());
        kind && (!owned || self.is_owned(event).await)
    }

    /// Whether it is about a request whose owners are told here.
    async fn is_owned(&self, event: &Event) -> bool {
        let names = |request: &HoldRequest| request.owners.iter().any(|own| own.webhooks.contains(&self.settings.name));
        if let Event::Held { request } = event {
            return names(request);
        }
        let Some(id) = event.request_id() else { return false };
        match self.store.find(id).await {
            Ok(stored) => stored.is_some_and(|stored| names(&stored.request)),
            // Rather told once too often than never.
            Err(_) => true,
        }
    }

    /// Until the receiver has it, or refuses it for good.
    async fn deliver(&self, event: StoredEvent) {
        let seq = event.seq;
        let body = match serde_json::to_string(&event) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(webhook = %self.settings.name, "event {seq} cannot be written as JSON: {error}");
                return;
            }
        };
        let mut attempt = 0_u32;
        loop {
            attempt = attempt.saturating_add(1);
            let delivered = self.post(seq, event.event.kind(), body.clone()).await;
            self.report(&delivered);
            match delivered {
                Delivered::Yes => return,
                Delivered::Refused(why) if attempt >= REFUSED_ATTEMPTS => {
                    tracing::error!(webhook = %self.settings.name, "event {seq} is given up after {attempt} attempts: {why}");
                    return;
                }
                Delivered::Refused(why) | Delivered::Failed(why) => {
                    tracing::warn!(webhook = %self.settings.name, "event {seq} was not delivered (attempt {attempt}): {why}");
                }
            }
            sleep(back_off(attempt)).await;
        }
    }

    fn report(&self, delivered: &Delivered) {
        match (&self.reach, delivered) {
            (Some(reach), Delivered::Yes) => reach.up(&self.settings.name),
            (Some(reach), Delivered::Refused(_) | Delivered::Failed(_)) => reach.down(&self.settings.name),
            (None, _) => {}
        }
    }

    async fn post(&self, seq: u64, kind: &'static str, body: String) -> Delivered {
        let timestamp = clock::wall().as_second().to_string();
        let Some(signature) = sign(&self.settings.secret, &timestamp, &body) else {
            return Delivered::Failed("the secret cannot be used as a key".to_owned());
        };
        let (agent, url) = (Arc::clone(&self.agent), self.settings.url.clone());
        // The HTTP client blocks.
        let answered = tokio::task::spawn_blocking(move || {
            agent
                .post(&url)
                .header("Content-Type", "application/json")
                .header("X-Querygate-Event", kind)
                .header("X-Querygate-Delivery", &seq.to_string())
                .header("X-Querygate-Timestamp", &timestamp)
                .header("X-Querygate-Signature", &signature)
                .send(body)
                .map(|response| response.status().as_u16())
        })
        .await;
        match answered {
            Ok(Ok(200..=299)) => Delivered::Yes,
            Ok(Ok(status @ (400..=407 | 409..=424 | 426..=428 | 430..=499))) => {
                Delivered::Refused(format!("the receiver said {status}"))
            }
            Ok(Ok(status)) => Delivered::Failed(format!("the receiver said {status}")),
            Ok(Err(error)) => Delivered::Failed(error.to_string()),
            Err(error) => Delivered::Failed(error.to_string()),
        }
    }
}

fn agent(timeout: Duration) -> Arc<Agent> {
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        // What is signed is for this receiver, not for whom it points to.
        .max_redirects(0)
        .build();
    Arc::new(config.into())
}

/// The signature header's value.
pub(super) fn sign(secret: &str, timestamp: &str, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    for part in ["v1:", timestamp, ":", body] {
        mac.update(part.as_bytes());
    }
    Some(format!("v1={}", hex::encode(mac.finalize().into_bytes())))
}

/// The kinds of events.
pub const EVENTS: [&str; 22] = [
    "started",
    "stopped",
    "policy-changed",
    "noticed",
    "would-have-held",
    "would-have-rejected",
    "passed",
    "held",
    "announced",
    "not-announced",
    "answered",
    "decided",
    "escalated",
    "reminded",
    "examined",
    "ended",
    "executed",
    "granted",
    "revoked",
    "used",
    "lapsed",
    "reviewed",
];

/// Doubles from attempt to attempt, up to the longest pause, less up to a quarter so that many do not come back at once.
fn back_off(attempt: u32) -> Duration {
    let pause = PAUSE.0.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1).min(16))).min(PAUSE.1);
    let mut random = [0_u8; 1];
    // Without random numbers there is no jitter; nothing depends on it.
    let _ = getrandom::fill(&mut random);
    let [random] = random;
    pause.saturating_sub(pause.checked_div(1024).unwrap_or_default().saturating_mul(u32::from(random)))
}

#[cfg(test)]
mod tests;
