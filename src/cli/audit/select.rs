//! Which events are wanted. Events about a request are found by what is known of the request, too: its user, its database and
//! its statement stand only in the event that opened it.

use std::collections::HashMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::approval::channel::person_alone;
use crate::hold::{HoldId, HoldRequest};
use crate::store::{Event, StoredEvent};

/// What is asked for; everything given must match.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filter {
    /// Database user who asked.
    #[arg(long)]
    pub(super) user: Option<String>,
    /// Database.
    #[arg(long)]
    pub(super) database: Option<String>,
    /// Name of a request.
    #[arg(long, value_name = "ID")]
    pub(super) request: Option<String>,
    /// Who answered, decided or reviewed.
    #[arg(long, value_name = "PERSON")]
    pub(super) by: Option<String>,
    /// Words in the statement, or in what was said about it; upper and lower case are the same.
    #[arg(long)]
    pub(super) text: Option<String>,
    /// Kind of event, such as `held` or `decided`.
    #[arg(long, value_name = "KIND")]
    pub(super) event: Option<String>,
}

/// A time span; the end is not part of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Period {
    /// From then on: `2025-11-21`, `2025-11-21T08:30:00Z`, or so long ago (`36h`, `7d`).
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Until then.
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
}

impl Period {
    /// Both ends.
    pub(super) fn bounds(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), String> {
        let end = |text: &Option<String>, open| text.as_deref().map_or(Ok(open), |text| time(text, now));
        Ok((end(&self.since, Timestamp::MIN)?, end(&self.until, Timestamp::MAX)?))
    }
}

/// A moment as people write it; without a zone it is UTC, as in the record.
pub(super) fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let civil = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
    if let Ok(moment) = civil.and_then(|civil| civil.to_zoned(TimeZone::UTC)) {
        return Ok(moment.timestamp());
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SignedDuration::try_from(ago).ok());
    ago.and_then(|ago| now.checked_sub(ago).ok()).ok_or_else(|| {
        format!("`{text}` is no time: write 2025-11-21, 2025-11-21T08:30:00Z, or so long ago, such as 36h")
    })
}

/// What is known of a request from the event that opened it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) user: String,
    pub(super) database: String,
    /// The statement has the words that are looked for.
    in_statement: bool,
}

/// A filter at work, from the record's first event on.
pub(super) struct Selector<'f> {
    filter: &'f Filter,
    request: Option<HoldId>,
    /// In lower case.
    text: Option<String>,
    requests: HashMap<HoldId, Known>,
}

impl<'f> Selector<'f> {
    pub(super) fn new(filter: &'f Filter) -> Self {
        let request = filter.request.as_deref().map(HoldId::parse);
        let text = filter.text.as_ref().map(|text| text.to_lowercase());
        Self { filter, request, text, requests: HashMap::new() }
    }

    /// Whether an event is wanted. Every event must be shown, wanted or not: later ones are about the same requests.
    pub(super) fn wants(&mut self, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        if let Event::Held { request } = event {
            self.meet(request);
        }
        let known = event.request_id().and_then(|id| self.requests.get(id));
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|one| Some(one) == found);
        is(&self.filter.user, known.map(|known| known.user.as_str()))
            && is(&self.filter.database, known.map(|known| known.database.as_str()))
            && is(&self.filter.event, Some(event.kind()))
            && self.request.as_ref().is_none_or(|id| Some(id) == event.request_id())
            && self.filter.by.as_deref().is_none_or(|by| people(event).any(|person| person == by))
            && self
                .text
                .as_deref()
                .is_none_or(|text| known.is_some_and(|known| known.in_statement) || says(event, text))
    }

    /// What is known of the request an event is about.
    pub(super) fn known(&self, event: &Event) -> Option<&Known> {
        event.request_id().and_then(|id| self.requests.get(id))
    }

    fn meet(&mut self, request: &HoldRequest) {
        let has = |text: &String| request.statement.text.to_lowercase().contains(text.as_str());
        let known = Known {
            user: request.origin.user.clone(),
            database: request.origin.database.clone(),
            in_statement: self.text.as_ref().is_some_and(has),
        };
        self.requests.insert(request.id.clone(), known);
    }
}

/// Who acted.
fn people(event: &Event) -> impl Iterator<Item = &str> {
    let by = match event {
        Event::Answered(answered) => answered.by.as_str(),
        Event::Decided { decision, .. } => decision.by(),
        Event::Granted { by, .. } | Event::Revoked { by, .. } | Event::Reviewed { by, .. } => by,
        Event::Started { .. }
        | Event::Stopped
        | Event::PolicyChanged { .. }
        | Event::Noticed { .. }
        | Event::WouldHaveHeld { .. }
        | Event::WouldHaveRejected { .. }
        | Event::Passed { .. }
        | Event::Held { .. }
        | Event::Announced { .. }
        | Event::NotAnnounced { .. }
        | Event::Escalated { .. }
        | Event::Examined { .. }
        | Event::Reminded { .. }
        | Event::Ended { .. }
        | Event::Used { .. }
        | Event::Lapsed { .. }
        | Event::Executed { .. } => "",
        Event::Undone { undone, .. } => &undone.role,
    };
    // A decision names all who approved. A name with a comma in it is found by the whole, too.
    by.split(", ").map(person_alone).chain(by.contains(", ").then_some(by)).filter(|name| !name.is_empty())
}

/// Whether any words of an event contain `text`.
fn says(event: &Event, text: &str) -> bool {
    fn any(value: &serde_json::Value, text: &str) -> bool {
        match value {
            serde_json::Value::String(words) => words.to_lowercase().contains(text),
            serde_json::Value::Array(items) => items.iter().any(|item| any(item, text)),
            serde_json::Value::Object(fields) => {
                // The kind of event is not among the words.
                fields.iter().any(|(key, item)| key != "event" && any(item, text))
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        }
    }
    serde_json::to_value(event).is_ok_and(|value| any(&value, text))
}
