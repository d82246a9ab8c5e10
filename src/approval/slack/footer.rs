//! The last line of a message: who is asked and until when, who has decided, what came of it. Reads views only.

// Writing into a string cannot fail.
use std::fmt::Write as _;

use super::beforehand;
use super::blocks::{Look, State};
use super::text::{code, day_and_moment, mentions, milliseconds, moment, person, span, words};
use crate::approval::channel::RequestView;
use crate::hold::{Decision, Execution, Outcome};

/// The line at the end: what happened last, or who may decide and until when.
pub(super) fn footer(view: &RequestView, look: &Look<'_>, state: State, most: usize) -> String {
    let decided = || decided(view, look);
    match state {
        State::Pending | State::Escalated => waiting(view, look, state, most),
        State::Running => format!("{} · running", decided()),
        State::Done | State::Failed | State::NotKnown => format!("{} · {}", decided(), result(view, most)),
        State::Window | State::WindowOver => {
            let progress = view.window.as_ref().map(|window| beforehand::progress(&view.request, window));
            format!("{} · {}", decided(), progress.unwrap_or_default())
        }
        State::Rejected if view.window.is_some() => format!("{} · nothing passes", decided()),
        State::Expired if view.window.is_some() => format!("Nobody decided within {} · nothing passes", waited(view)),
        State::Rejected => format!("{} · the statement did *not* run", decided()),
        State::Expired => {
            let waited = waited(view);
            format!("Nobody decided within {waited} · the statement did *not* run")
        }
        State::Withdrawn => withdrawn(view, look),
    }
}

/// Who is asked; mentions the configured groups where the desk's words mention nobody.
pub(super) fn asked(view: &RequestView, look: &Look<'_>, most: usize) -> String {
    let mut asked = mentions(&view.asked, most);
    if !asked.contains("<!subteam^") && !asked.contains("<@") {
        for group in look.groups.iter().take(3) {
            let _infallible = write!(asked, " <!subteam^{group}>");
        }
    }
    asked
}

fn waiting(view: &RequestView, look: &Look<'_>, state: State, most: usize) -> String {
    let request = &view.request;
    let asked = asked(view, look, most);
    let mut text = format!("Needs *{}* of {asked}", view.quorum);
    if !view.approved_by.is_empty() {
        let names: Vec<String> = view.approved_by.iter().take(4).map(|name| person(name, look.people)).collect();
        let _infallible = write!(text, " · {} so far: {}", view.approved_by.len(), names.join(", "));
        if !view.owners_missing.is_empty() {
            let _infallible = write!(text, " · still to agree: {}", mentions(&view.owners_missing.join("; "), most));
        }
    }
    if state == State::Escalated {
        let to = if view.escalated_to.is_empty() { "others".to_owned() } else { mentions(&view.escalated_to, most) };
        let _infallible = write!(text, " · escalated to {to}");
    }
    // A day of waiting needs the day's name.
    let waits = request.deadline.as_second().saturating_sub(request.opened_at.as_second());
    let until = if waits < 12 * 3_600 { moment(request.deadline) } else { day_and_moment(request.deadline) };
    let _infallible = write!(text, " · not the requester · expires {until}");
    text
}

fn decided(view: &RequestView, look: &Look<'_>) -> String {
    let Some(decision) = &view.decision else {
        return "Decided".to_owned();
    };
    let verb = match decision {
        Decision::Approve { .. } => "Approved",
        Decision::Reject { .. } => "Rejected",
    };
    // Several approvers stand separated by ", ".
    let names: Vec<String> = decision.by().split(", ").take(4).map(|name| person(name, look.people)).collect();
    let took = decision.at().as_second().saturating_sub(view.request.opened_at.as_second());
    let by = names.join(", ");
    format!("{verb} by {by} at {} after {}", moment(decision.at()), span(took))
}

fn result(view: &RequestView, most: usize) -> String {
    match &view.execution {
        None => "running".to_owned(),
        Some(Execution::Completed { tag, rows, duration_ms, kept, .. }) => {
            let rows = match rows {
                Some(1) => ", 1 row".to_owned(),
                Some(rows) => format!(", {rows} rows"),
                None => String::new(),
            };
            let kept = kept.as_ref().map(|kept| format!(", {}", code(kept, most.min(160)))).unwrap_or_default();
            format!("ran in {}{rows}, {}{kept}", milliseconds(*duration_ms), code(tag, most.min(80)))
        }
        Some(Execution::Failed { sqlstate, message, duration_ms }) => format!(
            "PostgreSQL said {} after {}: {}",
            code(&format!("ERROR {sqlstate}"), 20),
            milliseconds(*duration_ms),
            words(message, most)
        ),
        Some(Execution::Unknown) => {
            "the connection ended before PostgreSQL answered: it may have run or not".to_owned()
        }
    }
}

fn waited(view: &RequestView) -> String {
    let request = &view.request;
    span(request.deadline.as_second().saturating_sub(request.opened_at.as_second()))
}

fn withdrawn(view: &RequestView, look: &Look<'_>) -> String {
    let Some(ended) = &view.ended else {
        return "Withdrawn".to_owned();
    };
    let why = match &ended.outcome {
        Outcome::Withdrawn { cause } => cause.to_string(),
        Outcome::Released | Outcome::Rejected | Outcome::Expired => "withdrawn".to_owned(),
    };
    let first = match &view.decision {
        Some(_) => format!("{}, but ", decided(view, look)),
        None => String::new(),
    };
    let so = if view.window.is_some() { "nothing passes" } else { "the statement did *not* run" };
    format!("{first}{why} at {} · {so}", moment(ended.at))
}
