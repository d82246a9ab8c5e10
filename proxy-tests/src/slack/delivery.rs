//! Payloads on their way to the app: one attempt after the other, over a socket or as a signed HTTP request, until one is
//! acknowledged in time. What the payloads say is in `payload`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use querygate::clock;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::callbacks;
use super::fault::DeliveryFault;
use super::inner::{Callbacks, Inner, Redelivery};
use super::message::View;
use super::socket::Order;
use super::state::{ResponseUrl, State};
use super::web;
use crate::DEADLINE;

/// What kind of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A click, a submission, a closed view.
    Interactive,
    /// A slash command.
    Command,
    /// An event, such as a home tab being opened.
    Event,
}

impl Kind {
    fn envelope_type(self) -> &'static str {
        match self {
            Kind::Interactive => "interactive",
            Kind::Command => "slash_commands",
            Kind::Event => "events_api",
        }
    }
}

/// How an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over the socket of this number.
    Socket(usize),
    /// As an HTTP request.
    Http,
    /// Not at all: no socket was open in time.
    Nothing,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Acknowledged, with this answer if any.
    Acknowledged(Option<Value>),
    /// Not in time.
    TimedOut,
    /// Another HTTP status than 200.
    Refused(u16),
    /// The socket went away, or nobody accepts connections.
    Unreachable,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Over what.
    pub via: Via,
    /// The envelope's id; of HTTP requests too, where only the record has it.
    pub envelope_id: String,
    /// 0 at first.
    pub retry: usize,
    /// When it was sent.
    pub at: Instant,
    /// How it ended, and how long that took.
    pub reply: Option<(Reply, Duration)>,
}

/// A payload and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What kind.
    pub kind: Kind,
    /// What the app was told.
    pub payload: Value,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// In the end: what the app answered, or `None` when it never did. `None` outside while it is under way.
    pub outcome: Option<Option<Reply>>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        for attempt in &self.attempts {
            write!(f, " · {:?} {:?}", attempt.via, attempt.reply)?;
        }
        write!(f, " → {:?}", self.outcome)
    }
}

/// What follows from the app's answer.
#[derive(Debug, Clone)]
pub(super) enum Consequence {
    /// Nothing; an answer is a violation.
    Nothing,
    /// A submitted view closes, changes, or shows faults.
    Submission(String),
    /// The answer is posted where the command was typed.
    Command(ResponseUrl),
}

/// A payload under way.
#[derive(Debug, Clone)]
pub struct Delivery {
    inner: Arc<Inner>,
    number: usize,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The app acknowledged in time.
    pub acknowledged: bool,
    /// What it said with it.
    pub answer: Option<Value>,
    /// How often it was sent.
    pub attempts: usize,
    /// How long the last attempt took.
    pub took: Duration,
}

impl Delivery {
    /// Waits until it ended.
    ///
    /// # Panics
    /// When it did not within [`DEADLINE`].
    pub async fn ended(&self) -> Ending {
        let probe = |state: &State| {
            let record = state.deliveries.get(self.number)?;
            let outcome = record.outcome.clone()?;
            let last = record.attempts.iter().rev().find_map(|attempt| attempt.reply.clone());
            let answer = match outcome.clone() {
                Some(Reply::Acknowledged(answer)) => answer,
                _ => None,
            };
            let took = last.map_or(Duration::ZERO, |(_, took)| took);
            Some(Ending { acknowledged: outcome.is_some(), answer, attempts: record.attempts.len(), took })
        };
        let found = timeout(DEADLINE, self.inner.wait(probe)).await;
        found.unwrap_or_else(|_| panic!("never ended: delivery {}\n{}", self.number, self.inner.look(State::summary)))
    }

    /// What the app was told.
    pub fn payload(&self) -> Value {
        self.record().payload
    }

    /// Everything known of it so far.
    pub fn record(&self) -> Record {
        self.inner.look(|state| state.deliveries[self.number].clone())
    }

    /// The `trigger_id` it carried.
    pub fn trigger_id(&self) -> String {
        self.payload()["trigger_id"].as_str().unwrap_or_default().to_owned()
    }

    /// The `response_url` it carried.
    pub fn response_url(&self) -> String {
        self.payload()["response_url"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a payload on its way.
pub(super) fn deliver(inner: &Arc<Inner>, kind: Kind, payload: Value, consequence: Consequence) -> Delivery {
    let number = inner.change(|state| {
        state.deliveries.push(Record { kind, payload, attempts: Vec::new(), outcome: None });
        state.deliveries.len().saturating_sub(1)
    });
    let way = Way { inner: Arc::clone(inner), number, kind, consequence };
    inner.runtime.spawn(way.go());
    Delivery { inner: Arc::clone(inner), number }
}

/// One payload's way.
struct Way {
    inner: Arc<Inner>,
    number: usize,
    kind: Kind,
    consequence: Consequence,
}

/// What one attempt is made with.
pub(super) struct Parcel {
    pub(super) kind: Kind,
    pub(super) payload: Value,
    pub(super) retry: usize,
    pub(super) reason: &'static str,
    pub(super) fault: Option<DeliveryFault>,
}

impl Way {
    async fn go(self) {
        let fault = self.inner.change(|state| state.faults.deliveries.pop_front());
        let ending = if fault == Some(DeliveryFault::Lost) { None } else { self.attempts(fault).await };
        if let Some(Reply::Acknowledged(Some(answer))) = &ending {
            self.follow(answer);
        } else if let (Some(_), Consequence::Submission(view)) = (&ending, &self.consequence) {
            self.inner.change(|state| close(state, view, false));
        }
        self.inner.change(|state| {
            if let Some(record) = state.deliveries.get_mut(self.number) {
                record.outcome = Some(ending);
            }
        });
    }

    async fn attempts(&self, fault: Option<DeliveryFault>) -> Option<Reply> {
        let mut fault = fault;
        let mut reason = "";
        let mut envelope_id = self.envelope_id();
        let pauses = std::iter::once(Duration::ZERO).chain(self.inner.timing.redeliver.clone());
        for (retry, pause) in pauses.enumerate() {
            if retry > 0 {
                tokio::time::sleep(pause).await;
            }
            let (kind, payload) = (self.kind, self.inner.look(|state| state.deliveries[self.number].payload.clone()));
            let parcel = Parcel { kind, payload, retry, reason, fault };
            let callbacks = self.inner.callbacks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let (reply, again) = match callbacks {
                Some(callbacks) => self.by_http(&callbacks, &parcel).await,
                None => (self.by_socket(&envelope_id, &parcel).await, true),
            };
            let lost_ack = matches!(fault, Some(DeliveryFault::AckLost | DeliveryFault::AckLostOtherEnvelope));
            let acknowledged = matches!(reply, Reply::Acknowledged(_));
            if acknowledged && !lost_ack {
                return Some(reply);
            }
            let wanted = match self.inner.redelivery {
                Redelivery::Everything => true,
                Redelivery::EventsOnly => self.kind == Kind::Event,
                Redelivery::Nothing => false,
            };
            if !(lost_ack || wanted && again) {
                return None;
            }
            if fault == Some(DeliveryFault::AckLostOtherEnvelope) {
                envelope_id = self.envelope_id();
            }
            fault = None;
            reason = if matches!(reply, Reply::Unreachable) { "connection_failed" } else { "timeout" };
        }
        None
    }

    fn envelope_id(&self) -> String {
        let part = |state: &mut State, length| state.secret(length).to_lowercase();
        self.inner.change(|state| [8, 4, 4, 4, 12].map(|length| part(state, length)).join("-"))
    }

    fn begin(&self, via: Via, envelope_id: &str, retry: usize) -> usize {
        self.inner.change(|state| {
            let Some(record) = state.deliveries.get_mut(self.number) else { return 0 };
            let envelope_id = envelope_id.to_owned();
            record.attempts.push(Attempt { via, envelope_id, retry, at: clock::now(), reply: None });
            record.attempts.len().saturating_sub(1)
        })
    }

    fn end(&self, attempt: usize, reply: Reply) -> Reply {
        self.inner.change(|state| {
            let attempt = state.deliveries.get_mut(self.number).and_then(|record| record.attempts.get_mut(attempt));
            if let Some(attempt) = attempt
                && attempt.reply.is_none()
            {
                attempt.reply = Some((reply.clone(), clock::now().saturating_duration_since(attempt.at)));
            }
        });
        reply
    }

    async fn by_socket(&self, envelope_id: &str, parcel: &Parcel) -> Reply {
        let wanted = if parcel.fault == Some(DeliveryFault::OnTwoSockets) { 2 } else { 1 };
        let limit = self.inner.timing.acknowledge;
        let chosen = timeout(limit, self.inner.sockets(wanted)).await.unwrap_or_default();
        let text = envelope(envelope_id, parcel, !matches!(self.consequence, Consequence::Nothing));
        let copies = if parcel.fault == Some(DeliveryFault::Twice) { 2 } else { 1 };
        let mut begun = Vec::new();
        for (number, orders) in chosen {
            for _ in 0..copies {
                let attempt = self.begin(Via::Socket(number), envelope_id, parcel.retry);
                if orders.send(Order::Say(text.clone())).await.is_err() {
                    self.end(attempt, Reply::Unreachable);
                }
                begun.push(attempt);
            }
        }
        if begun.is_empty() {
            let attempt = self.begin(Via::Nothing, envelope_id, parcel.retry);
            return self.end(attempt, Reply::Unreachable);
        }
        let answered = self.inner.wait(|state| {
            let attempts = &state.deliveries.get(self.number)?.attempts;
            let replies = begun.iter().map(|attempt| attempts.get(*attempt)?.reply.clone().map(|(reply, _)| reply));
            let replies: Vec<Option<Reply>> = replies.collect();
            let acknowledged = replies.iter().flatten().find(|reply| matches!(reply, Reply::Acknowledged(_)));
            acknowledged.cloned().or_else(|| replies.iter().all(Option::is_some).then_some(Reply::Unreachable))
        });
        if let Ok(reply) = timeout(limit, answered).await {
            return reply;
        }
        for attempt in begun {
            self.end(attempt, Reply::TimedOut);
        }
        Reply::TimedOut
    }

    /// The reply, and whether the app may be asked again.
    async fn by_http(&self, callbacks: &Callbacks, parcel: &Parcel) -> (Reply, bool) {
        let secret = self.inner.look(|state| state.app.signing_secret.clone());
        let limit = self.inner.timing.acknowledge;
        let copies = if parcel.fault == Some(DeliveryFault::Twice) { 2 } else { 1 };
        let mut last = (Reply::Unreachable, true);
        // A repetition is the same request to the byte: a replay.
        let request = callbacks::request(callbacks, &secret, parcel);
        for _ in 0..copies {
            let attempt = self.begin(Via::Http, "", parcel.retry);
            let (reply, again) = callbacks::post(request.clone(), limit).await;
            last = (self.end(attempt, reply), again);
        }
        last
    }

    fn follow(&self, answer: &Value) {
        let refused = match &self.consequence {
            Consequence::Nothing => Some(format!("answered a payload that takes no answer: {answer}")),
            Consequence::Submission(view) => self.inner.change(|state| submission(state, view, answer).err()),
            Consequence::Command(url) => match answer.as_object() {
                Some(object) => self
                    .inner
                    .change(|state| web::apply_response(state, url, object).err())
                    .map(|error| error.to_string()),
                None => Some(format!("a command's answer is no object: {answer}")),
            },
        };
        if let Some(what) = refused {
            self.inner.violation(what);
        }
    }
}

fn envelope(id: &str, parcel: &Parcel, accepts: bool) -> String {
    let mut envelope = json!({
        "envelope_id": id, "type": parcel.kind.envelope_type(), "payload": parcel.payload,
        "accepts_response_payload": accepts,
    });
    if parcel.kind == Kind::Event || parcel.retry > 0 {
        super::people::set(&mut envelope, "retry_attempt", json!(parcel.retry));
        super::people::set(&mut envelope, "retry_reason", json!(parcel.reason));
    }
    let text = envelope.to_string();
    if parcel.fault == Some(DeliveryFault::Truncated) {
        return text.chars().take(text.chars().count() / 2).collect();
    }
    text
}

/// What a submission's answer does to the view.
fn submission(state: &mut State, id: &str, answer: &Value) -> Result<(), String> {
    let view = state.view(id).cloned().ok_or("the view is gone")?;
    match answer.get("response_action").and_then(Value::as_str) {
        None if answer.as_object().is_some_and(serde_json::Map::is_empty) => close(state, id, false),
        Some("clear") => close(state, id, true),
        Some("errors") => {
            let errors = answer.get("errors").and_then(Value::as_object).filter(|errors| !errors.is_empty());
            let errors = errors.ok_or("response_action errors without errors")?;
            if let Some(unknown) = errors.keys().find(|block| !has_input(&view, block)) {
                return Err(format!("response_action errors names {unknown:?}, which is no input block of the view"));
            }
            if let Some(view) = state.views.iter_mut().find(|view| view.id == id) {
                view.errors.clone_from(errors);
            }
        }
        Some(action @ ("update" | "push")) => {
            let next = answer.get("view").ok_or("response_action without view")?;
            super::blocks::view(next, "modal").map_err(|refused| format!("response_action {action}: {refused:?}"))?;
            if action == "update" {
                web::replace(state, id, next);
            } else {
                web::open_view(state, &view.user, next, Some(id.to_owned()))
                    .map_err(|refused| format!("{refused:?}"))?;
            }
        }
        _ => return Err(format!("unknown answer to a submission: {answer}")),
    }
    Ok(())
}

fn has_input(view: &View, block_id: &str) -> bool {
    view.blocks().iter().any(|block| {
        block.get("type") == Some(&json!("input")) && block.get("block_id").and_then(Value::as_str) == Some(block_id)
    })
}

/// Takes a view off the screen, or with `all` everything above and below it.
fn close(state: &mut State, id: &str, all: bool) {
    let user = state.view(id).map(|view| view.user.clone());
    for view in &mut state.views {
        if view.id == id || (all && Some(&view.user) == user.as_ref() && view.kind() == "modal") {
            view.open = false;
        }
    }
}
