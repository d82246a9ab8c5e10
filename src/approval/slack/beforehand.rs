//! What was asked for beforehand, as a message tells it: that it is not held, what may pass, until when, and what has. Pure.

use crate::approval::channel::{RequestView, Window};
use crate::approval::desk::beforehand::NO_RULE;
use crate::hold::{Beforehand, HoldRequest};

use super::blocks::{self, Look, State};
use super::text::{code, day_and_moment, plain, utc_day, words};

/// What stands in its header.
pub(super) fn words_for(state: State) -> (&'static str, &'static str) {
    match state {
        State::Pending => (":calendar:", "Pre-approval asked"),
        State::Escalated => (":rotating_light:", "Pre-approval still waits"),
        State::Running | State::Done | State::Failed | State::NotKnown | State::Window => {
            (":white_check_mark:", "Pre-approved")
        }
        State::WindowOver => (":ballot_box_with_check:", "Pre-approval is over"),
        State::Rejected => (":no_entry:", "Pre-approval rejected"),
        State::Expired => (":alarm_clock:", "Pre-approval expired"),
        State::Withdrawn => (":leftwards_arrow_with_hook:", "Pre-approval withdrawn"),
    }
}

pub(super) fn facts<'a>(
    request: &HoldRequest,
    own: &Beforehand,
    look: &Look<'_>,
    most: usize,
) -> Vec<(&'a str, String)> {
    let name = most.min(70);
    let mut facts = vec![
        ("Asked beforehand by", blocks::requester(request, look.people)),
        ("Will run in", format!("{} as {}", code(&request.origin.database, name), code(&request.origin.user, name))),
        ("What is approved", format!("each of {} may run once, in this order", count(own.statements.len()))),
        ("Until", day_and_moment(request.deadline)),
    ];
    let objects = blocks::objects(request);
    if !objects.is_empty() {
        let some: Vec<&str> = objects.iter().take(20).map(String::as_str).collect();
        facts.push(("Touches", words(&some.join(", "), most)));
    }
    if &*request.rule != NO_RULE {
        facts.push(("Asks the approvers of", format!("rule {}", code(&request.rule, name))));
    }
    facts.push(("Reason", blocks::reason(request, most)));
    facts
}

/// What the button beside "Approve" says is granted.
pub(super) fn confirm(request: &HoldRequest, own: &Beforehand, who: &str) -> String {
    let sha256 = blocks::prefix(&request.statement.sha256);
    let shown = if request.redact.is_none() { "shown" } else { "(values redacted here)" };
    let (count, until) = (count(own.statements.len()), utc_day(request.deadline));
    format!(
        "Nothing waits. Each of {count} {shown} (sha256 {sha256}) may run once, in this order, until {until}, in {} as {}, without \
         anybody being asked then. Asked by {}.",
        plain(&request.origin.database, 40),
        plain(&request.origin.user, 40),
        plain(who, 40),
    )
}

/// How far it has come.
pub(super) fn progress(request: &HoldRequest, window: &Window) -> String {
    let passed = format!("{} of {} passed", window.passed.len(), count(window.statements));
    match &window.over {
        None => format!("{passed} · until {}", day_and_moment(request.deadline)),
        Some(why) => format!("{passed} · {}: nothing more passes", words(why, 100)),
    }
}

/// The request in a sentence.
pub(super) fn subject(view: &RequestView, most: usize) -> String {
    let title = words(&blocks::title(&view.request), most);
    if view.window.is_some() { format!("pre-approval of {title}") } else { title }
}

fn count(statements: usize) -> String {
    if statements == 1 { "1 statement".to_owned() } else { format!("{statements} statements") }
}
