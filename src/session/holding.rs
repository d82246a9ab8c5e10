//! A hold as its session sees it: the ticket, its deadline, the reminders, and what the client is told at the end.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::Sleep;

use super::machine::{Draft, Ending};
use super::running::Running;
use super::shared::Shared;
use crate::clock;
use crate::hold::{Board, Cause, Decision, HoldId, HoldRequest, Origin, OverLimit, StatementText, Ticket};
use crate::judge::Risk;
use crate::wire::reply::Report;

/// What happens next to a hold.
#[derive(Debug, Clone)]
pub(super) enum Turn {
    Decided(Decision),
    Expire,
    Withdraw(Cause),
    /// People are asked: the client hears that it waits.
    Asked,
    Remind,
}

/// Risks told in the notice besides the first.
const RISKS_TOLD: usize = 2;

/// A client hears that it waits after so long, also where it is not known yet that people are asked.
const UNTOLD: Duration = Duration::from_secs(1);

/// A ticket on the board, with its timers.
pub(super) struct Holding {
    ticket: Option<Ticket>,
    /// Set when the session itself ends the hold.
    turn: Option<Turn>,
    /// That it waits, until the client was told. What is released at once does not wait.
    notice: Option<Report>,
    /// Length of the held frame, in bytes.
    frame_bytes: usize,
    deadline: Instant,
    reminder: Option<Instant>,
    reminder_interval: Duration,
    timer: Pin<Box<Sleep>>,
    id: HoldId,
    /// What the rules that held it say, and advise.
    message: Option<String>,
    advice: Option<String>,
}

impl Holding {
    /// Opens a ticket; or why it could not be opened.
    pub(super) fn open(shared: &Shared, origin: &Origin, draft: Draft) -> Result<Self, Report> {
        let id = HoldId::generate().map_err(|error| trouble(&format!("no request id could be made: {error}")))?;
        let frame_bytes = draft.frame_bytes;
        let settings = &shared.settings;
        let (time_to_live, asked) = shared.terms(&draft.judgement, settings.hold_deadline);
        let request = request(shared, id.clone(), origin, draft, time_to_live);
        let notice = notice(&asked, &request);
        let (message, advice) = (request.message.clone(), request.advice.clone());
        let ticket = shared.board.open(request).map_err(|limit| over_limit(&limit))?;
        let now = clock::now();
        let deadline = now.checked_add(time_to_live).unwrap_or(now);
        let reminder = next_reminder(now, settings.reminder_interval);
        let told = now.checked_add(UNTOLD).unwrap_or(now);
        let first = reminder.map_or(deadline, |reminder| reminder.min(deadline)).min(told);
        Ok(Self {
            ticket: Some(ticket),
            turn: None,
            notice: Some(notice),
            frame_bytes,
            deadline,
            reminder,
            reminder_interval: settings.reminder_interval,
            timer: Box::pin(tokio::time::sleep_until(first.into())),
            id,
            message,
            advice,
        })
    }

    /// What the client has not been told yet: that it waits.
    pub(super) fn take_notice(&mut self) -> Option<Report> {
        self.notice.take()
    }

    pub(super) fn id(&self) -> &HoldId {
        &self.id
    }

    pub(super) fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// The session ends the hold. The first reason stays.
    pub(super) fn turn(&mut self, turn: Turn) {
        self.turn.get_or_insert(turn);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Some(turn) = self.turn.take() {
            return Poll::Ready(turn);
        }
        if let Some(ticket) = &mut self.ticket {
            if let Poll::Ready(decision) = ticket.poll_decision(cx) {
                return Poll::Ready(Turn::Decided(decision));
            }
            if let Some(cause) = ticket.failure() {
                return Poll::Ready(Turn::Withdraw(cause));
            }
            if let Some(said) = ticket.take_asked() {
                self.hear(&said);
                if self.notice.is_some() {
                    return Poll::Ready(Turn::Asked);
                }
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            if now >= self.deadline {
                return Poll::Ready(Turn::Expire);
            }
            let is_due = self.reminder.is_some_and(|reminder| now >= reminder);
            if is_due {
                self.reminder = next_reminder(now, self.reminder_interval);
            }
            let next = self.reminder.map_or(self.deadline, |reminder| reminder.min(self.deadline));
            self.timer.as_mut().reset(next.into());
            if self.notice.is_some() {
                return Poll::Ready(Turn::Asked);
            }
            // The timer also ends the time until the client is told, whether it was told by then or not.
            if is_due {
                return Poll::Ready(Turn::Remind);
            }
        }
        Poll::Pending
    }

    /// What is said of it besides: with the notice that it waits, or in one of its own if the client was told already.
    fn hear(&mut self, said: &str) {
        if said.is_empty() {
            return;
        }
        if let Some(notice) = &mut self.notice {
            let detail = notice.detail.get_or_insert_default();
            let _ = write!(detail, "\n{said}");
        } else {
            let message = format!("querygate: more is known of request {}, which still waits", self.id);
            self.notice = Some(Report::notice(message).with_detail(said.to_owned()));
        }
    }

    /// Says how the hold ends on the wire. The record is completed by [`Self::finish`], after that has been done.
    pub(super) fn conclude(&mut self, turn: Turn, at: Timestamp) -> Ending {
        match turn {
            Turn::Decided(decision) => self.decided(&decision),
            Turn::Expire => match self.ticket.as_mut().map(|ticket| ticket.expire(at)) {
                // Somebody decided just before the deadline: that counts.
                Some(Err(decision)) => self.decided(&decision),
                Some(Ok(())) | None => Ending::Refuse(self.expired()),
            },
            Turn::Withdraw(cause) => {
                if let Some(ticket) = self.ticket.take() {
                    let _ = ticket.withdraw(cause, at);
                }
                Ending::Refuse(self.withdrawn(cause))
            }
            // Notices do not end a hold.
            Turn::Remind | Turn::Asked => Ending::Refuse(trouble("a reminder cannot end a hold")),
        }
    }

    /// What was concluded has been done.
    pub(super) fn finish(&mut self, at: Timestamp) {
        if let Some(ticket) = self.ticket.take() {
            let _ = ticket.finish(at);
        }
    }

    /// Ends the hold with nothing sent to anybody: one side is gone.
    pub(super) fn abandon(mut self, cause: Cause, at: Timestamp) {
        if let Some(ticket) = self.ticket.take() {
            let _ = ticket.withdraw(cause, at);
        }
    }

    /// The statement as it begins to run.
    pub(super) fn running(&self, board: &Board) -> Option<Running> {
        self.ticket.as_ref().map(|ticket| Running::new(board.clone(), Arc::clone(ticket.request())))
    }

    /// What the client is told of a release nobody was asked about anew.
    pub(super) fn under(&self, turn: &Turn) -> Option<Report> {
        let Turn::Decided(Decision::Approve { by, under: Some(under), .. }) = turn else { return None };
        Some(
            Report::notice(format!("querygate: released under the standing approval of request {under}, by {by}"))
                .with_detail(format!("Request {} is on record as a use of it.", self.id)),
        )
    }

    fn decided(&self, decision: &Decision) -> Ending {
        match decision {
            Decision::Approve { .. } => Ending::Release,
            Decision::Reject { by, reason, .. } => {
                let mut detail = format!("Request {} was rejected by {by}.", self.id);
                if let Some(reason) = reason {
                    let _ = write!(detail, " Reason: {reason}");
                }
                let hint = "Nothing was run. Talk to the approver, then run it again to ask anew.";
                let report = Report::error("42501", format!("querygate: statement rejected by {by}"));
                Ending::Refuse(self.in_words_of_rules(report, detail, hint))
            }
        }
    }

    fn expired(&self) -> Report {
        let report = Report::error("57014", "querygate: nobody approved the statement in time");
        let detail = format!("Request {} expired.", self.id);
        self.in_words_of_rules(report, detail, "Nothing was run. Run it again to ask anew.")
    }

    /// A refusal says again what the rules that held it say.
    fn in_words_of_rules(&self, report: Report, mut detail: String, hint: &'static str) -> Report {
        if let Some(message) = &self.message {
            let _ = write!(detail, "\n{message}");
        }
        report.with_detail(detail).with_advice(self.advice.as_deref(), hint)
    }

    fn withdrawn(&self, cause: Cause) -> Report {
        let (message, why) = match cause {
            Cause::CancelRequest => {
                ("querygate: canceling statement due to user request", "withdrawn by a cancel request")
            }
            Cause::ReadAheadFull => (
                "querygate: too much was sent behind a statement that waits for approval",
                "withdrawn because the read-ahead limit was reached",
            ),
            Cause::Shutdown => ("querygate: the gate is shutting down", "withdrawn by the shutdown"),
            Cause::ClientGone => ("querygate: the client is gone", "withdrawn with its client"),
            Cause::BackendGone => ("querygate: the server connection is gone", "withdrawn with its backend"),
            Cause::NotRecorded => (
                "querygate: this statement needs approval, and the request could not be put on record",
                "withdrawn because it could not be stored",
            ),
            Cause::Unreachable => (
                "querygate: this statement needs approval, and nobody can be asked at the moment",
                "withdrawn because no channel could be reached",
            ),
            Cause::BlocksOthers => (
                "querygate: other sessions waited too long for locks of this transaction",
                "withdrawn because its transaction kept others waiting",
            ),
            Cause::Internal => ("querygate: the gate met trouble of its own", "withdrawn"),
            Cause::Restart => ("querygate: the gate ended", "withdrawn by a restart"),
        };
        let sqlstate = match cause {
            Cause::Internal | Cause::NotRecorded | Cause::Unreachable => "58000",
            // lock_not_available, as for lock_timeout: the transaction is over, and may be tried again.
            Cause::BlocksOthers => "55P03",
            Cause::CancelRequest
            | Cause::ReadAheadFull
            | Cause::Shutdown
            | Cause::ClientGone
            | Cause::BackendGone
            | Cause::Restart => "57014",
        };
        let hint = if cause == Cause::BlocksOthers {
            "Nothing was run. ROLLBACK lets go of the locks."
        } else {
            "Nothing was run."
        };
        Report::error(sqlstate, message).with_detail(format!("Request {} was {why}.", self.id)).with_hint(hint)
    }

    /// Tells the client that it still waits.
    pub(super) fn reminder(&self) -> Report {
        let left = self.deadline.saturating_duration_since(clock::now());
        Report::notice(format!("querygate: still waiting for approval of request {}, {} left", self.id, spell(left)))
    }
}

fn next_reminder(now: Instant, interval: Duration) -> Option<Instant> {
    (!interval.is_zero()).then(|| now.checked_add(interval)).flatten()
}

pub(super) fn request(
    shared: &Shared,
    id: HoldId,
    origin: &Origin,
    draft: Draft,
    time_to_live: Duration,
) -> HoldRequest {
    let opened_at = clock::wall();
    let deadline = SignedDuration::try_from(time_to_live)
        .ok()
        .and_then(|span| opened_at.checked_add(span).ok())
        .unwrap_or(Timestamp::MAX);
    let text = String::from_utf8_lossy(&draft.text);
    // Where the analysis is another text's of the same shape, this one is read for what people are told of it. Such texts are short.
    let risks = draft.analysis.all_risks().or_else(|| shared.judge().analyse(&draft.text).all_risks());
    HoldRequest {
        id,
        origin: origin.clone(),
        statement: StatementText {
            lossy: draft.doubtful_encoding || matches!(text, std::borrow::Cow::Owned(_)),
            sha256: hex::encode(Sha256::digest(&draft.text)),
            text: Arc::from(text.as_ref()),
        },
        parameters: draft.parameters,
        effects: draft.analysis.pieces.iter().flat_map(|piece| piece.effects.iter().cloned()).collect(),
        // Fail closed: no risks known is a risk.
        risks: risks.unwrap_or_else(|| vec![Risk::unread()]),
        redact: draft.judgement.redact,
        rule: draft.judgement.rule,
        also: draft.judgement.also.iter().map(|rule| rule.as_ref().to_owned()).collect(),
        owners: draft.judgement.owners,
        why: draft.judgement.why,
        message: draft.judgement.message.as_deref().map(str::to_owned),
        advice: draft.judgement.advice.as_deref().map(str::to_owned),
        policy_version: Arc::clone(shared.judge().policy().version()),
        in_transaction: draft.in_transaction,
        reason: draft.reason,
        opened_at,
        deadline,
        time_to_live,
        standing: draft.standing,
        guard: draft.guard,
        beforehand: None,
        undoes: crate::undo::undoes(&text).map(HoldId::parse),
        setting: draft.setting,
    }
}

fn notice(asked: &str, request: &HoldRequest) -> Report {
    let mut detail = format!("Rule \"{}\": {}.", request.rule, request.why);
    if let Some(message) = &request.message {
        let _ = write!(detail, "\n{message}");
    }
    if let Some((first, others)) = request.risks.split_first() {
        let _ = write!(detail, "\nApprovers are told: {}", first.text);
        for other in others.iter().take(RISKS_TOLD) {
            let _ = write!(detail, "; {}", other.text);
        }
        let more = others.len().saturating_sub(RISKS_TOLD);
        let _ = if more == 0 { write!(detail, ".") } else { write!(detail, "; and {more} more.") };
    }
    if !asked.is_empty() {
        let _ = write!(detail, "\nAsked: {asked}.");
    }
    let _ = write!(
        detail,
        "\nIt expires in {} (at {}).",
        spell(request.time_to_live),
        request.deadline.strftime("%Y-%m-%d %H:%M:%S UTC")
    );
    if request.in_transaction {
        detail.push_str("\nA transaction is open: its locks stay while you wait.");
    }
    if let Some(guard) = &request.guard {
        let _ = write!(detail, "\nGuard: {guard}.");
    }
    let hint = "Cancel the statement (Ctrl-C in psql) to withdraw it. SET querygate.reason = '…' tells approvers why.";
    Report::notice(format!("querygate: waiting for approval, request {}", request.id))
        .with_detail(detail)
        .with_advice(request.advice.as_deref(), hint)
}

fn over_limit(limit: &OverLimit) -> Report {
    let report = match limit {
        OverLimit::Session | OverLimit::User { .. } | OverLimit::Total { .. } | OverLimit::Bytes { .. } => {
            Report::error("53400", format!("querygate: this statement needs approval, but {limit}"))
        }
        OverLimit::Id => trouble("two requests were given the same id"),
    };
    report.with_hint(
        "Nothing was run. Wait until others are decided, or raise the limits in [hold] of the gate's configuration.",
    )
}

fn trouble(what: &str) -> Report {
    Report::error("58000", format!("querygate: {what}")).with_hint("Nothing was run.")
}

/// "14 min 59 s", to the second.
fn spell(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
