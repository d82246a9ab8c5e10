//! What is shown besides the message itself: modals, the App Home, direct and ephemeral messages, the thread's lines. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use slack_morphism::blocks::{
    SlackBlock, SlackBlockId, SlackBlockPlainTextInputElement, SlackHomeView, SlackInputBlock, SlackInputBlockElement,
    SlackModalView, SlackView,
};
use slack_morphism::{SlackActionId, SlackCallbackId};

use crate::approval::channel::RequestView;
use crate::approval::people::People;
use crate::hold::{HoldId, HoldRequest};
use crate::impact::summary;

use super::beforehand;
use super::blocks::{self, Look, Message, State};
use super::footer;
use super::kit::{self, limit};
use super::text::{clip, code, day_and_moment, length, literal, mentions, moment, person, start, words};

/// `callback_id` of the modal that asks why.
pub(super) const REJECT_VIEW: &str = "reject";
/// Where in its state the words are.
pub(super) const WHY_BLOCK: &str = "why";
pub(super) const WHY_ACTION: &str = "text";

/// Blocks of literal text in a modal: with [`limit::LITERAL`] each far below the 250 KB of a view.
const MODAL_PIECES: usize = 16;

/// Requests in the App Home and in the answer to `/querygate pending`.
pub(super) const LISTED: usize = 20;

/// What the modal that asks why remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The request.
    pub(super) r: String,
    /// Its statement's digest.
    pub(super) h: String,
    /// The conversation of the message that was clicked.
    #[serde(default)]
    pub(super) c: String,
    /// That message.
    #[serde(default)]
    pub(super) t: String,
}

/// Asks for the reason of a rejection.
pub(super) fn reject_modal(view: &RequestView, remembered: &Remembered, people: &People) -> SlackView {
    let request = &view.request;
    let asked_by = blocks::requester(request, people);
    let input = SlackBlockPlainTextInputElement::new()
        .with_action_id(SlackActionId(WHY_ACTION.to_owned()))
        .with_multiline(true)
        .with_min_length(3)
        .with_max_length(500)
        .with_placeholder(kit::plain_text("What should they do instead?"));
    let why = SlackInputBlock::new(
        kit::plain_text("Reason (sent to the requester)"),
        SlackInputBlockElement::PlainTextInput(input),
    )
    .with_block_id(SlackBlockId(WHY_BLOCK.to_owned()));
    let statement = literal(start(&request.statement.text, limit::LITERAL));
    let blocks = vec![
        kit::section(format!("*{}* asked by {asked_by}", words(&blocks::title(request), 200))),
        kit::literal(&clip(&statement, 1_000)),
        SlackBlock::Input(why),
    ];
    // Three short strings always serialize.
    let remembered = serde_json::to_string(remembered).unwrap_or_default();
    SlackView::Modal(
        SlackModalView::new(kit::plain_text("Reject request"), blocks)
            .with_callback_id(SlackCallbackId(REJECT_VIEW.to_owned()))
            .with_private_metadata(remembered)
            .with_submit(kit::plain_text("Reject"))
            .with_close(kit::plain_text("Cancel"))
            .with_notify_on_close(false),
    )
}

/// Everything about a request.
pub(super) fn details_modal(view: &RequestView, people: &People) -> SlackView {
    let request = &view.request;
    let mut blocks = statement_pieces(request);
    if let Some(redacted) = blocks::redacted(request) {
        blocks.push(kit::context(redacted));
    }
    let parameters = blocks::parameters(request, limit::LITERAL);
    if !parameters.is_empty() {
        blocks.push(kit::section("*Parameters*"));
        blocks.push(kit::literal(&clip(&parameters, limit::LITERAL)));
    }
    blocks.push(kit::divider());
    let effects: Vec<String> = request
        .effects
        .iter()
        .take(10)
        .map(|effect| format!("• {}: {}", code(&effect.kind.to_string(), 40), words(&effect.why, 150)))
        .collect();
    blocks.push(kit::section(clip_mrkdwn(effects, "What it can do")));
    if let Some(impact) = &view.impact {
        let lines = summary(impact).iter().map(|line| format!("• {}", words(line, 300))).collect();
        blocks.push(kit::section(clip_mrkdwn(lines, "What it would touch")));
    }
    blocks.push(kit::section(origin(view, people)));
    blocks.push(kit::context(timeline(view)));
    SlackView::Modal(
        SlackModalView::new(kit::plain_text("Statement and details"), blocks).with_close(kit::plain_text("Close")),
    )
}

fn origin(view: &RequestView, people: &People) -> String {
    let request = &view.request;
    let (asked, sha256) = (blocks::requester(request, people), words(&request.statement.sha256, 64));
    if let Some(window) = &view.window {
        let progress = beforehand::progress(request, window);
        return format!("*Asked beforehand by* {asked}\n*Statements* {progress}\n*sha256* `{sha256}`");
    }
    let setting = request.setting.clone().unwrap_or_default();
    let said = |value: Option<String>| value.map_or_else(|| "_not known_".to_owned(), |value| code(&value, 1_200));
    format!(
        "*Rule* {} of policy {}\n*Asked by* {asked}\n*Session* {}, backend {}\n*Acts as role* {}\n*search_path* {}\n*sha256* `{sha256}`",
        code(&request.rule, 70),
        code(blocks::prefix(&request.policy_version), 20),
        request.origin.session,
        request.origin.backend_pid.map_or_else(|| "not known".to_owned(), |pid| pid.to_string()),
        said(setting.role),
        said(setting.search_path),
    )
}

fn statement_pieces(request: &HoldRequest) -> Vec<SlackBlock> {
    let text = &*request.statement.text;
    let most = limit::LITERAL.saturating_mul(MODAL_PIECES);
    let beginning = start(text, most);
    let visible = literal(beginning);
    let mut rest = visible.as_str();
    let mut pieces = Vec::new();
    while pieces.len() < MODAL_PIECES {
        let piece = start(rest, limit::LITERAL);
        pieces.push(kit::literal(piece));
        rest = rest.get(piece.len()..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
    }
    if !rest.is_empty() || beginning.len() < text.len() {
        pieces.push(kit::section(":warning: *NOT shown in full*; the whole text is in the console."));
    }
    pieces
}

/// Lines under a heading, as many as one section takes.
fn clip_mrkdwn(lines: Vec<String>, heading: &str) -> String {
    let mut text = format!("*{heading}*");
    for line in lines {
        if length(&text).saturating_add(length(&line)) > limit::SECTION.saturating_sub(100) {
            text.push_str("\n…");
            break;
        }
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// What the viewer may decide.
pub(super) fn home(views: &[RequestView], reviews: &[RequestView], people: &People, now: Timestamp) -> SlackView {
    let title = match views.len() {
        0 => "Nothing waits for you".to_owned(),
        1 => "1 request waits for you".to_owned(),
        many => format!("{many} requests wait for you"),
    };
    let mut blocks = vec![kit::header(&title)];
    for view in views.iter().take(LISTED) {
        let open = kit::button(blocks::OPEN, "Open", blocks::binding(&view.request));
        blocks.push(kit::section_with_button(line(view, people), open));
        blocks.push(kit::divider());
    }
    if views.len() > LISTED {
        blocks.push(kit::context(format!("and {} more", views.len().saturating_sub(LISTED))));
    }
    if !reviews.is_empty() {
        blocks.push(kit::header(":rotating_light: Emergency releases to be looked at"));
    }
    for view in reviews.iter().take(LISTED) {
        let open = kit::button(blocks::OPEN, "Open", blocks::binding(&view.request));
        blocks.push(kit::section_with_button(line(view, people), open));
    }
    blocks.push(kit::context(format!("Updated {}. Decisions are made in the channel message.", moment(now))));
    SlackView::Home(SlackHomeView::new(blocks))
}

/// A request in a list.
pub(super) fn line(view: &RequestView, people: &People) -> String {
    let request = &view.request;
    format!(
        "*{}* · {} · expires {} · `{}`",
        beforehand::subject(view, 120),
        blocks::requester(request, people),
        moment(request.deadline),
        request.id
    )
}

/// One section of text, for one person or as an aside.
pub(super) fn note(text: impl Into<String>) -> Message {
    let text = text.into();
    Message { blocks: vec![kit::section(text.clone())], text, whole: true }
}

/// What the requester hears of the outcome; `link` leads to the message.
pub(super) fn to_requester(view: &RequestView, look: &Look<'_>, link: Option<&str>) -> Option<Message> {
    let request = &view.request;
    let title = words(&blocks::title(request), 100);
    let alone = if view.break_glass { " alone, in an emergency," } else { "" };
    let by = || {
        view.decision
            .as_ref()
            .map_or_else(|| "somebody".to_owned(), |decision| person(decision.by(), look.people) + alone)
    };
    let because = view.decision.as_ref().and_then(|decision| decision.reason()).map(|reason| words(reason, 300));
    let because = because.map_or_else(String::new, |reason| format!("\n>{reason}"));
    let because = match &view.again {
        Some(again) if again.ended.is_none() => {
            format!("{because}\nThe same statement runs again in its session until {}.", moment(again.until))
        }
        Some(_) | None => because,
    };
    let subject = format!("*{}* (`{}`)", beforehand::subject(view, 100), request.id);
    let (short, text) = match State::of(view) {
        State::Rejected => ("Rejected", format!(":no_entry: Your {subject} was rejected by {}.{because}", by())),
        State::Expired => ("Expired", format!(":alarm_clock: Nobody decided your {subject} in time; it did not run.")),
        State::Window => {
            let until = day_and_moment(request.deadline);
            let text = "each of its statements may run once, in the order shown, until";
            (
                "Pre-approved",
                format!(":white_check_mark: Your {subject} was approved by {}: {text} {until}.{because}", by()),
            )
        }
        State::Done => {
            ("Done", format!(":white_check_mark: Your {subject} was approved by {} and has run.{because}", by()))
        }
        State::Failed => ("Failed", format!(":warning: Your {subject} was approved by {}, but failed.{because}", by())),
        State::NotKnown => (
            "Approved",
            format!(":grey_question: Your {subject} was approved by {}; whether it ran is not known.", by()),
        ),
        // The result follows.
        State::Pending | State::Escalated | State::Running | State::Withdrawn | State::WindowOver => return None,
    };
    let text = match link {
        Some(link) => format!("{text}\n<{link}|Open request>"),
        None => text,
    };
    Some(Message { text: format!("{short}: {title}"), blocks: vec![kit::section(text)], whole: true })
}

/// A reminder, in the thread; mentions those who are asked.
pub(super) fn reminder(view: &RequestView, look: &Look<'_>) -> Message {
    if let Some(review) = super::glass::reminder(view, look) {
        return review;
    }
    note(format!(
        ":bell: {} still waits for {}; expires {}",
        beforehand::subject(view, 150),
        footer::asked(view, look, 300),
        moment(view.request.deadline)
    ))
}

/// An escalation, in the thread; mentions those who are asked now.
pub(super) fn escalation(view: &RequestView) -> Message {
    let to = if view.escalated_to.is_empty() { "others".to_owned() } else { mentions(&view.escalated_to, 300) };
    note(format!(
        ":rotating_light: {} still waits and is now asked of {to}; expires {}",
        beforehand::subject(view, 150),
        moment(view.request.deadline)
    ))
}

/// What happened so far, in a line; the last of it where there is too much.
pub(super) fn timeline(view: &RequestView) -> String {
    const LAST: usize = 12;
    let skipped = view.timeline.len().saturating_sub(LAST);
    let mut parts = Vec::new();
    if skipped > 0 {
        parts.push(format!("{skipped} earlier"));
    }
    // Milestones may carry people's words, so nothing in them mentions anybody.
    for milestone in view.timeline.iter().skip(skipped) {
        parts.push(format!("{} {}", words(&milestone.what, 120), moment(milestone.at)));
    }
    if parts.is_empty() {
        parts.push(format!("asked {}", moment(view.request.opened_at)));
    }
    format!(":eyes: {}", parts.join(" · "))
}

/// What `/querygate help` answers.
pub(super) fn help() -> Message {
    note(
        "`/querygate pending` lists requests you may decide\n`/querygate show ID` shows one of them\n`/querygate help` shows this",
    )
}

/// The answer to `/querygate pending`.
pub(super) fn pending(views: &[RequestView], people: &People, address: impl Fn(&HoldId) -> Option<String>) -> Message {
    if views.is_empty() {
        return note("Nothing waits for you.");
    }
    let lines = views.iter().take(LISTED).map(|view| {
        let line = line(view, people);
        address(&view.request.id).map_or_else(|| line.clone(), |address| format!("{line} · <{address}|open>"))
    });
    note(clip_mrkdwn(lines.collect(), &format!("{} waiting", views.len())))
}
