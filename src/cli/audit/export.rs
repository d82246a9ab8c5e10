//! `querygate audit export`.

use std::io::Write;

use jiff::Timestamp;

use super::search::read;
use super::select::{Filter, Period, Selector};
use super::{Trouble, Which};
use crate::hold::{Decision, Execution, HoldRequest, Notice, Outcome, Parameter};
use crate::store::{Answered, Event, StoredEvent};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON is an array of the record's lines as they stand. In CSV, cells that a spreadsheet would take for a formula begin \
with an apostrophe.\nExit status: 0 done, 1 part of the record cannot be read, 2 wrong usage."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    period: Period,
    /// How to write it.
    #[arg(long)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    Json,
}

/// `Ok(false)`: some lines could not be read.
pub(super) fn run(args: &Args, out: &mut impl Write, now: Timestamp) -> Result<bool, Trouble> {
    let bounds = args.period.bounds(now).map_err(|words| Trouble::Usage(format!("querygate: {words}")))?;
    match args.format {
        Format::Json => json(args, out, bounds),
        Format::Csv => csv(args, out, bounds),
    }
}

fn json(args: &Args, out: &mut impl Write, (since, until): (Timestamp, Timestamp)) -> Result<bool, Trouble> {
    let mut sound = true;
    let mut separator = "[\n";
    for line in args.which.lines()? {
        let line = line?;
        let Some(stored) = read(&line) else {
            sound = false;
            continue;
        };
        if stored.at < since || stored.at >= until {
            continue;
        }
        write!(out, "{separator}")?;
        out.write_all(&line.bytes)?;
        separator = ",\n";
    }
    writeln!(out, "{}", if separator == "[\n" { "[]" } else { "\n]" })?;
    Ok(sound)
}

fn csv(args: &Args, out: &mut impl Write, (since, until): (Timestamp, Timestamp)) -> Result<bool, Trouble> {
    let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(out);
    let unwritten = |error: csv::Error| Trouble::Writing(std::io::Error::from(error));
    writer.write_record(COLUMNS).map_err(unwritten)?;
    // Nothing is filtered; it knows whose request an event is about.
    let everything = Filter::default();
    let mut selector = Selector::new(&everything);
    let mut sound = true;
    for line in args.which.lines()? {
        let Some(stored) = read(&line?) else {
            sound = false;
            continue;
        };
        let _all = selector.wants(&stored);
        if stored.at < since || stored.at >= until {
            continue;
        }
        let known = selector.known(&stored.event);
        let (user, database) = known.map_or(("", ""), |known| (&known.user, &known.database));
        let row = Row { user: user.to_owned(), database: database.to_owned(), ..Row::of(&stored) };
        writer.write_record(row.cells().map(|cell| harmless(&cell))).map_err(unwritten)?;
    }
    writer.flush()?;
    Ok(sound)
}

/// Excel and its kin run cells that begin like this, also behind spaces, and in full width.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// A cell that no spreadsheet takes for a formula.
pub(super) fn harmless(cell: &str) -> String {
    let begins = cell.trim_start().starts_with(FORMULA);
    // These may be dropped on the way in, and what stands behind them comes first then.
    let hidden = cell.starts_with(|c: char| c.is_control());
    if begins || hidden { format!("'{cell}") } else { cell.to_owned() }
}

const COLUMNS: [&str; 24] = [
    "seq",
    "at",
    "event",
    "request",
    "user",
    "database",
    "client",
    "application_name",
    "statement",
    "statement_sha256",
    "parameters",
    "rule",
    "why",
    "channel",
    "reference",
    "by",
    "answer",
    "break_glass",
    "reason",
    "refused",
    "outcome",
    "result",
    "policy_version",
    "hash",
];

#[derive(Default)]
struct Row {
    seq: String,
    at: String,
    event: &'static str,
    request: String,
    user: String,
    database: String,
    client: String,
    application_name: String,
    statement: String,
    statement_sha256: String,
    parameters: String,
    rule: String,
    why: String,
    channel: String,
    reference: String,
    by: String,
    answer: &'static str,
    break_glass: &'static str,
    reason: String,
    refused: String,
    outcome: String,
    result: String,
    policy_version: String,
    hash: String,
}

fn values(parameters: &[Parameter]) -> String {
    let values = parameters.iter().map(|parameter| {
        let value = parameter.value.as_deref().unwrap_or("NULL");
        format!("${} = {value}", parameter.position)
    });
    values.collect::<Vec<_>>().join("\n")
}

impl Row {
    fn of(stored: &StoredEvent) -> Self {
        let event = &stored.event;
        let row = Self {
            seq: stored.seq.to_string(),
            at: stored.at.to_string(),
            event: event.kind(),
            request: event.request_id().map(ToString::to_string).unwrap_or_default(),
            policy_version: stored.policy_version.clone(),
            hash: stored.hash.clone(),
            ..Self::default()
        };
        match event {
            Event::Started { version, .. } => Self { result: format!("querygate {version}"), ..row },
            Event::Lapsed { why, .. } => Self { why: why.clone().unwrap_or_default(), ..row },
            Event::Stopped | Event::PolicyChanged { .. } => row,
            Event::Passed { batch } => {
                let count = batch.rows.iter().map(|row| row.count).fold(0, u64::saturating_add);
                Self {
                    result: format!("{count} statements of {} kinds; {} more", batch.rows.len(), batch.dropped),
                    ..row
                }
            }
            Event::Noticed { notice } | Event::WouldHaveHeld { notice } | Event::WouldHaveRejected { notice } => {
                row.noticed(notice)
            }
            Event::Held { request } => row.held(request),
            Event::Announced { channel, reference, .. } => {
                Self { channel: channel.clone(), reference: reference.clone(), ..row }
            }
            Event::NotAnnounced { channel, why, .. } => Self { channel: channel.clone(), why: why.clone(), ..row },
            Event::Examined { impact, changed, .. } => {
                let result = crate::impact::summary(impact).join("; ");
                Self { result, why: changed.join("; "), ..row }
            }
            Event::Reminded { channel, .. } => Self { channel: channel.clone(), ..row },
            Event::Escalated { step, asked, .. } => Self { result: format!("step {step}: {asked}"), ..row },
            Event::Answered(answered) => row.answered(answered),
            Event::Decided { decision, .. } => {
                let answer = match decision {
                    Decision::Approve { .. } => "approve",
                    Decision::Reject { .. } => "reject",
                };
                let reason = decision.reason().unwrap_or_default().to_owned();
                Self { by: decision.by().to_owned(), reason, answer, ..row }
            }
            Event::Ended { outcome, .. } => Self { outcome: outcome_word(outcome), ..row },
            Event::Executed { execution, .. } => Self { result: result_words(execution), ..row },
            Event::Undone { undone, .. } => Self { by: undone.role.clone(), result: undone.to_string(), ..row },
            Event::Granted { by, until, .. } => Self { by: by.clone(), result: format!("until {until:.0}"), ..row },
            Event::Used { request, .. } => Self { result: format!("passes as {request}"), ..row },
            Event::Revoked { channel, by, .. } => Self { channel: channel.clone(), by: by.clone(), ..row },
            Event::Reviewed { channel, by, note, refused, .. } => Self {
                channel: channel.clone(),
                by: by.clone(),
                reason: note.clone().unwrap_or_default(),
                refused: refused.clone().unwrap_or_default(),
                ..row
            },
        }
    }

    fn held(self, request: &HoldRequest) -> Self {
        Self {
            client: request.origin.client.clone(),
            application_name: request.origin.application_name.clone(),
            statement: request.statement.text.to_string(),
            statement_sha256: request.statement.sha256.clone(),
            parameters: values(&request.parameters),
            rule: request.rule.to_string(),
            why: request.why.clone(),
            reason: request.reason.clone().unwrap_or_default(),
            ..self
        }
    }

    fn noticed(self, notice: &Notice) -> Self {
        Self {
            user: notice.origin.user.clone(),
            database: notice.origin.database.clone(),
            client: notice.origin.client.clone(),
            application_name: notice.origin.application_name.clone(),
            statement: notice.statement.text.to_string(),
            statement_sha256: notice.statement.sha256.clone(),
            parameters: values(&notice.parameters),
            rule: notice.rule.clone(),
            why: notice.why.clone(),
            reason: notice.reason.clone().unwrap_or_default(),
            ..self
        }
    }

    fn answered(self, answered: &Answered) -> Self {
        Self {
            channel: answered.channel.clone(),
            by: answered.by.clone(),
            answer: if answered.approve { "approve" } else { "reject" },
            break_glass: if answered.break_glass { "yes" } else { "" },
            reason: answered.reason.clone().unwrap_or_default(),
            refused: answered.refused.clone().unwrap_or_default(),
            ..self
        }
    }

    fn cells(self) -> [String; 24] {
        [
            self.seq,
            self.at,
            self.event.to_owned(),
            self.request,
            self.user,
            self.database,
            self.client,
            self.application_name,
            self.statement,
            self.statement_sha256,
            self.parameters,
            self.rule,
            self.why,
            self.channel,
            self.reference,
            self.by,
            self.answer.to_owned(),
            self.break_glass.to_owned(),
            self.reason,
            self.refused,
            self.outcome,
            self.result,
            self.policy_version,
            self.hash,
        ]
    }
}

fn outcome_word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Released => "released".to_owned(),
        Outcome::Rejected => "rejected".to_owned(),
        Outcome::Expired => "expired".to_owned(),
        Outcome::Withdrawn { cause } => format!("withdrawn: {cause}"),
    }
}

fn result_words(execution: &Execution) -> String {
    match execution {
        Execution::Completed { tag, .. } => tag.clone(),
        Execution::Failed { sqlstate, message, .. } => format!("{sqlstate}: {message}"),
        Execution::Unknown => "unknown".to_owned(),
    }
}
