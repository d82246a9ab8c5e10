//! `querygate audit search`.

use std::io::Write;

use jiff::Timestamp;

use super::select::{Filter, Known, Period, Selector};
use super::{Trouble, Which, complain};
use crate::approval::one_line;
use crate::hold::{Decision, Execution, HoldRequest, Outcome};
use crate::store::lines::RawLine;
use crate::store::{Answered, Event, StoredEvent};

/// Characters of a statement in a line of text.
const STATEMENT_CHARS: usize = 160;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything given must match. Exit status: 0 done (found or not), 1 part of the record cannot be read, 2 wrong usage."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    period: Period,
    /// How to print: a line for people, or the record's own lines of JSON.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// `Ok(false)`: some lines could not be read.
pub(super) fn run(args: &Args, out: &mut impl Write, now: Timestamp) -> Result<bool, Trouble> {
    let (since, until) = args.period.bounds(now).map_err(|words| Trouble::Usage(format!("querygate: {words}")))?;
    let mut selector = Selector::new(&args.filter);
    let mut sound = true;
    for line in args.which.lines()? {
        let line = line?;
        let Some(stored) = read(&line) else {
            sound = false;
            continue;
        };
        let wanted = selector.wants(&stored);
        if !wanted || stored.at < since || stored.at >= until {
            continue;
        }
        match args.format {
            Format::Text => writeln!(out, "{}", text(&stored, selector.known(&stored.event)))?,
            Format::Json => {
                out.write_all(&line.bytes)?;
                writeln!(out)?;
            }
        }
    }
    Ok(sound)
}

/// A line's event; complains if it cannot be read.
pub(super) fn read(line: &RawLine) -> Option<StoredEvent> {
    match serde_json::from_slice(&line.bytes) {
        Ok(stored) => Some(stored),
        Err(error) => {
            complain(&format!("querygate: line {} cannot be read: {error}", line.number));
            None
        }
    }
}

/// One line for people; whatever came from clients is spelled out.
pub(super) fn text(stored: &StoredEvent, known: Option<&Known>) -> String {
    let StoredEvent { seq, at, event, .. } = stored;
    let kind = event.kind();
    let id = event.request_id().map_or("-", |id| id.0.as_str());
    let whose = known.map_or_else(String::new, |known| format!("{}@{}  ", known.user, known.database));
    one_line(&format!("{at:.3}  {seq}  {kind}  {id}  {whose}{}", words(event)))
}

fn words(event: &Event) -> String {
    let said = |reason: Option<&str>| reason.map_or_else(String::new, |reason| format!(": {reason}"));
    match event {
        Event::Started { version, policy_version } => format!("querygate {version}, policy {policy_version}"),
        Event::Stopped => String::new(),
        Event::PolicyChanged { policy_version } => format!("policy {policy_version}"),
        Event::Noticed { notice } | Event::WouldHaveHeld { notice } | Event::WouldHaveRejected { notice } => {
            let origin = &notice.origin;
            let text = &notice.statement.text;
            format!("{}@{} by rule {}: {} — {text}", origin.user, origin.database, notice.rule, notice.why)
        }
        Event::Held { request } => held(request),
        Event::Announced { channel, reference, .. } => format!("in {channel} at {reference}"),
        Event::NotAnnounced { channel, why, .. } => format!("in {channel}: {why}"),
        Event::Answered(answered) => answer(answered),
        Event::Decided { decision: decision @ Decision::Approve { by, .. }, .. } => {
            let under = decision.under().map_or_else(String::new, |id| format!(" under the standing approval of {id}"));
            format!("approved by {by}{under}{}", said(decision.reason()))
        }
        Event::Decided { decision: decision @ Decision::Reject { by, .. }, .. } => {
            format!("rejected by {by}{}", said(decision.reason()))
        }
        Event::Escalated { step, asked, .. } => format!("step {step}: {asked} asked"),
        Event::Examined { impact, changed, .. } if changed.is_empty() => crate::impact::summary(impact).join("; "),
        Event::Examined { changed, .. } => format!("changed since it was shown: {}", changed.join("; ")),
        Event::Reminded { channel, .. } => format!("in {channel}"),
        Event::Ended { outcome, .. } => match outcome {
            Outcome::Released => "released".to_owned(),
            Outcome::Rejected => "rejected".to_owned(),
            Outcome::Expired => "expired".to_owned(),
            Outcome::Withdrawn { cause } => format!("withdrawn: {cause}"),
        },
        Event::Executed { execution, .. } => match execution {
            Execution::Completed { tag, duration_ms, kept, .. } => {
                let kept = kept.as_ref().map(|kept| format!("; {kept}")).unwrap_or_default();
                format!("{tag} in {duration_ms} ms{kept}")
            }
            Execution::Failed { sqlstate, message, .. } => format!("failed with {sqlstate}: {message}"),
            Execution::Unknown => "unknown: the connection ended first".to_owned(),
        },
        Event::Undone { undone, .. } => undone.to_string(),
        Event::Granted { by, until, .. } => format!("again in its session until {until:.0}, by {by}"),
        Event::Revoked { by, .. } => format!("by {by}"),
        Event::Used { request, statements, .. } => {
            let numbers: Vec<_> = statements.iter().map(|index| index.saturating_add(1).to_string()).collect();
            format!("statement {} passes as {request}", numbers.join(", "))
        }
        Event::Passed { batch } => {
            let count = batch.rows.iter().map(|row| row.count).fold(0, u64::saturating_add);
            format!("{count} statements of {} kinds since {:.0}; {} more", batch.rows.len(), batch.from, batch.dropped)
        }
        Event::Lapsed { why, .. } => why.clone().unwrap_or_else(|| "its window is over".to_owned()),
        Event::Reviewed { by, note, refused, .. } => {
            let refused = refused.as_deref().map_or_else(String::new, |why| format!(" (did not count: {why})"));
            format!("by {by}{}{refused}", said(note.as_deref()))
        }
    }
}

fn held(request: &HoldRequest) -> String {
    let mut statement: String = request.statement.text.chars().take(STATEMENT_CHARS).collect();
    if statement.len() < request.statement.text.len() {
        statement.push('…');
    }
    format!("by rule {} ({}): {statement}", request.rule, request.why)
}

fn answer(answered: &Answered) -> String {
    let Answered { channel, by, approve, break_glass, reason, refused, .. } = answered;
    let verb = match (approve, break_glass) {
        (true, true) => "approves alone, in an emergency",
        (true, false) => "approves",
        (false, _) => "rejects",
    };
    let reason = reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    let refused = refused.as_deref().map_or_else(String::new, |why| format!(" (did not count: {why})"));
    format!("{by} {verb} in {channel}{reason}{refused}")
}
