//! `GET /health`: whether the gate lives, and what of it does not work. Knows the parts only by what they say of themselves.
//!
//! The gate lives while it answers, and carries traffic that needs nobody whatever its store and its channels do. So the
//! status is 200 also when it is degraded: whoever restarts what does not answer 200 would end every session because Slack
//! is down. Monitors that read no bodies ask with `strict`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as FromState};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::slack::{self, Slack};
use crate::approval::webhook;
use crate::hold::Dropped;
use crate::judge::{Policy, Rego};
use crate::store::{self, Store};

use super::App;
use super::problem::{Problem, ProblemBody};

/// A webhook that is so far behind is in trouble.
const LATE: Duration = Duration::from_secs(60);
/// Longest wait for the store to say how far a webhook has come.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `/health` asks.
#[derive(Clone, Default)]
pub struct Vitals {
    /// The record.
    pub store: Option<Store>,
    /// The Slack channels.
    pub slack: Vec<Slack>,
    /// Names of the webhooks.
    pub webhooks: Vec<String>,
    /// Notices that were dropped.
    pub dropped: Dropped,
    /// Notices that Slack was not told of.
    pub untold: Dropped,
    /// Whether the files say what is in force.
    pub configuration: Configuration,
    /// Databases whose functions are not known.
    pub functions: Option<Troubles>,
}

/// Tells of which databases it is not known what their functions do, and why.
#[derive(Clone)]
pub struct Troubles(Arc<TellTroubles>);

type TellTroubles = dyn Fn() -> Vec<(String, String)> + Send + Sync;

impl Troubles {
    /// As `tell` has it.
    pub fn new(tell: impl Fn() -> Vec<(String, String)> + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

/// Since when the configuration's files cannot be loaded, if they cannot. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Configuration(Arc<Mutex<Option<Timestamp>>>, Arc<Mutex<Option<Arc<Policy>>>>);

impl Configuration {
    /// This policy judges from now on.
    pub fn judge_by(&self, policy: Arc<Policy>) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(policy);
    }

    /// How often the policy in Rego could not be asked since it was loaded.
    fn rego_failures(&self) -> u64 {
        let policy = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        policy.as_ref().and_then(|policy| policy.rego()).map_or(0, Rego::failures)
    }

    /// The policy holds and rejects nothing.
    fn observes(&self) -> bool {
        let policy = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        policy.as_ref().is_some_and(|policy| policy.observes())
    }

    /// They were loaded at `now`, or could not be.
    pub fn note(&self, loaded: bool, now: Timestamp) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if loaded { None } else { since.or(Some(now)) };
    }

    fn view(&self) -> PartView {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            return PartView { status: Condition::Ok, since, why: None };
        }
        let why = "its files are not valid, so what was loaded before stays in force; the log says what is wrong";
        PartView { status: Condition::Degraded, since, why: Some(why.to_owned()) }
    }
}

/// How the gate is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`, or `degraded`: it lives and passes what needs nobody, but something in `reasons` does not work.
    pub status: Condition,
    /// What does not work, each in a sentence; empty when `ok`.
    pub reasons: Vec<String>,
    /// The record; `null` where there is none to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PartView>,
    /// Every Slack channel.
    #[serde(default)]
    pub slack: Vec<SlackView>,
    /// Every webhook.
    #[serde(default)]
    pub webhooks: Vec<WebhookView>,
    /// Notices of statements that passed (`noticed`, `would-have-held`, `would-have-rejected`) that are not on record since the
    /// gate started, because the record was behind.
    #[serde(default)]
    pub dropped_notices: u64,
    /// Statements that passed, and that a rule wants told, of which Slack was not told since the start; they are on record.
    pub untold_notices: u64,
    /// How often the policy in Rego failed, took too long or answered nonsense since it was loaded; what it was asked about was held.
    #[serde(default)]
    pub rego_failures: u64,
    /// Databases whose functions could not be looked at, so that a statement that calls one is held; `null` where nobody looks
    /// (`[impact] functions`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Vec<FunctionsView>>,
    /// The whole gate only observes (`[policy] observe`): it holds and rejects nothing, and tells what it would have.
    #[serde(default)]
    pub observe: bool,
    /// The configuration: `degraded` when its files changed and cannot be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<PartView>,
}

/// A database whose functions are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionsView {
    /// Its name.
    pub database: String,
    /// Why, in a clause.
    pub why: String,
}

/// In a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// As it should be.
    Ok,
    /// Something does not work.
    Degraded,
}

/// The record's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartView {
    /// `degraded`: it cannot be written, so every statement that has to be held is refused.
    pub status: Condition,
    /// Since when it cannot; RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Why, in a clause.
    pub why: Option<String>,
}

/// A Slack channel's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlackView {
    /// Its name in the configuration.
    pub name: String,
    /// `degraded`: people cannot be asked there or cannot answer, or not in every conversation.
    pub status: Condition,
    /// Since when that is so; RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why, in a sentence.
    pub why: Option<String>,
    /// Sockets that are up; 0 also where clicks come as signed requests.
    pub sockets: usize,
    /// When Slack last did what it was asked; RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success: Option<Timestamp>,
    /// Conversations of it that take no requests, while others may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostView>,
}

/// A conversation that takes no requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LostView {
    /// Its id there.
    pub conversation: String,
    /// Since when; RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why, in a sentence.
    pub why: String,
}

/// A webhook's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookView {
    /// Its name in the configuration.
    pub name: String,
    /// `degraded`: its receiver does not take what it is told, or it is not known.
    pub status: Condition,
    /// Events that wait to be told; `null` where it is not known.
    pub backlog: Option<u64>,
    /// Since when the oldest of them waits; RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub waits_since: Option<Timestamp>,
}

/// How to be told.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HealthQuery {
    /// `true`: the status is 503 when degraded. For monitors; not for whoever restarts the gate.
    #[serde(default)]
    strict: bool,
}

/// Whether the gate lives, and what of it does not work. Needs no token.
///
/// The status is 200 for as long as the gate lives, also when it is degraded; with `strict=true` it is 503 then.
#[utoipa::path(get, path = "/health", tag = "gate", security(()), params(HealthQuery), responses(
    (status = 200, body = HealthView, description = "It lives; `status` says whether all of it works"),
    (status = 400, body = ProblemBody),
    (status = 503, body = HealthView, description = "Only with `strict=true`: it lives, and is degraded")))]
pub(super) async fn health(
    FromState(app): FromState<Arc<App>>,
    query: Result<Query<HealthQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<HealthView>), Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let view = app.vitals.view(crate::clock::wall()).await;
    let status = match view.status {
        Condition::Degraded if query.strict => StatusCode::SERVICE_UNAVAILABLE,
        Condition::Degraded | Condition::Ok => StatusCode::OK,
    };
    Ok((status, Json(view)))
}

impl Vitals {
    /// With what is known of databases' functions.
    #[must_use]
    pub fn with_functions(self, functions: Option<Troubles>) -> Self {
        Self { functions, ..self }
    }

    async fn view(&self, now: Timestamp) -> HealthView {
        let store = self.store.as_ref().map(|store| of_store(&store.health()));
        let slack: Vec<SlackView> = self.slack.iter().map(|slack| of_slack(slack.name(), slack.health())).collect();
        let mut webhooks = Vec::new();
        for name in &self.webhooks {
            webhooks.push(self.webhook(name, store.as_ref(), now).await);
        }
        let mut reasons = reasons(store.as_ref(), &slack, &webhooks);
        let dropped_notices = self.dropped.count();
        if dropped_notices > 0 {
            reasons
                .push(format!("{dropped_notices} notices of statements that passed are not on record: it was behind"));
        }
        let rego_failures = self.configuration.rego_failures();
        if rego_failures > 0 {
            reasons.push(format!(
                "the policy in Rego could not be asked {rego_failures} times; what it was asked about was held"
            ));
        }
        let functions = self.functions.as_ref().map(|troubles| functions_of((troubles.0)()));
        for function in functions.iter().flatten() {
            reasons.push(format!(
                "functions of the database {}: not known, so statements that call any are held: {}",
                function.database, function.why
            ));
        }
        let configuration = self.configuration.view();
        if let Some(why) = &configuration.why {
            reasons.push(format!("configuration: {why}"));
        }
        let configuration = Some(configuration);
        let status = if reasons.is_empty() { Condition::Ok } else { Condition::Degraded };
        let untold_notices = self.untold.count();
        HealthView {
            status,
            reasons,
            store,
            slack,
            webhooks,
            dropped_notices,
            untold_notices,
            rego_failures,
            functions,
            observe: self.configuration.observes(),
            configuration,
        }
    }

    /// How far it is behind the record, which is its outbox.
    async fn webhook(&self, name: &str, part: Option<&PartView>, now: Timestamp) -> WebhookView {
        let unknown =
            WebhookView { name: name.to_owned(), status: Condition::Degraded, backlog: None, waits_since: None };
        let works = part.is_some_and(|part| part.status == Condition::Ok);
        let Some(store) = self.store.as_ref().filter(|_| works) else {
            return unknown;
        };
        let Ok(Ok((backlog, waits_since))) = tokio::time::timeout(PATIENCE, backlog(store, name)).await else {
            return unknown;
        };
        let late = waits_since.is_some_and(|since| waited(since, now) >= LATE);
        let status = if late { Condition::Degraded } else { Condition::Ok };
        WebhookView { status, backlog: Some(backlog), waits_since, ..unknown }
    }
}

async fn backlog(store: &Store, webhook: &str) -> Result<(u64, Option<Timestamp>), store::StoreError> {
    let done = store.cursor(&webhook::cursor(webhook)).await?;
    let head = store.heads().borrow().seq;
    if done == 0 {
        // It has not begun, and begins with what happens from now on.
        return Ok((0, None));
    }
    let first = store.events_after(done, 1).await?;
    Ok((head.saturating_sub(done), first.first().map(|event| event.at)))
}

fn waited(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

fn functions_of(troubles: Vec<(String, String)>) -> Vec<FunctionsView> {
    troubles.into_iter().map(|(database, why)| FunctionsView { database, why }).collect()
}

fn of_store(health: &store::Health) -> PartView {
    match health {
        store::Health::Good => PartView { status: Condition::Ok, since: None, why: None },
        store::Health::Failing { since, why } => {
            PartView { status: Condition::Degraded, since: Some(*since), why: Some(why.clone()) }
        }
    }
}

fn of_slack(name: &str, health: slack::Health) -> SlackView {
    let slack::Health { reachable, since, why, sockets, last_success, lost } = health;
    let status = if reachable && lost.is_empty() { Condition::Ok } else { Condition::Degraded };
    let lost = lost.into_iter();
    let lost = lost
        .map(|slack::LostConversation { conversation, since, why }| LostView { conversation, since, why })
        .collect();
    SlackView { name: name.to_owned(), status, since, why, sockets, last_success, lost }
}

fn reasons(store: Option<&PartView>, slack: &[SlackView], webhooks: &[WebhookView]) -> Vec<String> {
    let degraded = |status: Condition| status == Condition::Degraded;
    let unsaid = || "it is not known why".to_owned();
    let store = store.filter(|part| degraded(part.status)).map(|part| {
        format!(
            "store: it cannot be written, so what has to be held is refused: {}",
            part.why.clone().unwrap_or_else(unsaid)
        )
    });
    let slack = slack.iter().filter(|slack| degraded(slack.status));
    let slack = slack.flat_map(|slack| match &slack.why {
        // Nobody can be asked: that some of it would be lost besides says nothing more.
        Some(why) => vec![format!("{}: {why}", slack.name)],
        None if slack.lost.is_empty() => vec![format!("{}: {}", slack.name, unsaid())],
        None => slack.lost.iter().map(|lost| format!("{}:{}: {}", slack.name, lost.conversation, lost.why)).collect(),
    });
    let webhooks =
        webhooks.iter().filter(|hook| degraded(hook.status)).map(|hook| match (hook.backlog, hook.waits_since) {
            (Some(backlog), Some(since)) => {
                format!("webhook {}: {backlog} events wait to be told, the oldest since {since}", hook.name)
            }
            _ => format!("webhook {}: the record does not say how far it has come", hook.name),
        });
    store.into_iter().chain(slack).chain(webhooks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Event, StoreSettings};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn every_part_that_does_not_work_is_a_reason_and_the_others_are_not() {
        let failing = of_store(&store::Health::Failing { since: at(1), why: "the disk is full".to_owned() });
        let good = of_store(&store::Health::Good);
        let health = |reachable: bool| slack::Health {
            reachable,
            since: at(2),
            why: (!reachable).then(|| "the token was revoked".to_owned()),
            sockets: 2,
            last_success: None,
            lost: Vec::new(),
        };
        let (up, down) = (of_slack("production", health(true)), of_slack("leads", health(false)));
        let (conversation, why) = ("C02".to_owned(), "not a member of it".to_owned());
        let partly =
            slack::Health { lost: vec![slack::LostConversation { conversation, since: at(3), why }], ..health(true) };
        assert_eq!(reasons(Some(&good), &[of_slack("ops", partly)], &[]), ["ops:C02: not a member of it"]);
        assert!(reasons(Some(&good), std::slice::from_ref(&up), &[]).is_empty());
        let told = reasons(Some(&failing), &[up, down], &[]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("the disk is full") && told[0].starts_with("store:"), "{told:?}");
        assert_eq!(told[1], "leads: the token was revoked");
    }

    #[tokio::test]
    async fn a_webhook_is_degraded_once_its_oldest_event_waits_too_long() {
        let (store, _) = Store::open(&StoreSettings::default()).unwrap();
        store.record(Event::Stopped).await.unwrap();
        let vitals = Vitals { store: Some(store.clone()), webhooks: vec!["on-call".to_owned()], ..Vitals::default() };
        let now = crate::clock::wall();
        assert_eq!(vitals.view(now).await.webhooks[0].backlog, Some(0), "it has not begun");
        store.advance(&webhook::cursor("on-call"), 1).await.unwrap();
        store.record(Event::Stopped).await.unwrap();
        store.record(Event::Stopped).await.unwrap();
        let now = crate::clock::wall();
        let view = vitals.view(now).await;
        assert_eq!((view.status, view.webhooks[0].backlog), (Condition::Ok, Some(2)));
        let later = now.checked_add(jiff::SignedDuration::from_secs(61)).unwrap();
        let view = vitals.view(later).await;
        assert_eq!(view.status, Condition::Degraded);
        assert!(view.reasons[0].starts_with("webhook on-call: 2 events wait"), "{:?}", view.reasons);
        store.advance(&webhook::cursor("on-call"), 3).await.unwrap();
        assert_eq!(vitals.view(later).await.status, Condition::Ok);
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_degrades_everything_that_asks_it() {
        let (store, _) = Store::open(&StoreSettings::default()).unwrap();
        store.clone().close().await;
        let vitals = Vitals { store: Some(store), webhooks: vec!["on-call".to_owned()], ..Vitals::default() };
        let view = vitals.view(crate::clock::wall()).await;
        assert_eq!((view.status, view.webhooks[0].backlog), (Condition::Degraded, None));
        assert_eq!(view.reasons.len(), 2, "{:?}", view.reasons);
    }
}
