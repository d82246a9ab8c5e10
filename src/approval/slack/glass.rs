//! Emergency releases: the button, the window that asks why, the loud words, and the review that follows. Pure.
//!
//! Slack shows one message to everybody, so the button is there for all where the profile names anybody who may use it; that
//! it does nothing for others is the desk's doing.

use slack_morphism::blocks::{
    SlackBlock, SlackBlockButtonElement, SlackBlockId, SlackBlockPlainTextInputElement, SlackInputBlock,
    SlackInputBlockElement, SlackModalView, SlackView,
};
use slack_morphism::{SlackActionId, SlackCallbackId};

use crate::approval::channel::RequestView;
use crate::approval::people::People;
use crate::hold::HoldRequest;

use super::blocks::{self, Look, Message};
use super::footer;
use super::kit::{self, limit};
use super::panels::{Remembered, WHY_ACTION, WHY_BLOCK};
use super::text::{clip, literal, moment, person, plain, start, words};

/// Action ids.
pub(super) const BREAK: &str = "break_glass";
pub(super) const ACKNOWLEDGE: &str = "acknowledge";
/// `callback_id` of the window that asks why.
pub(super) const BREAK_VIEW: &str = "break_glass";

/// The button beside Approve.
pub(super) fn button(request: &HoldRequest, value: String) -> SlackBlockButtonElement {
    let title = clip(&format!("{}?", plain(&blocks::title(request), 98)), limit::CONFIRM_TITLE);
    let text = "Only for emergencies: you release it alone, without the approvals it needs. Everybody is told at once, with your \
                name and reason, and somebody else has to review it.";
    let confirm = kit::confirm_danger(&title, text, "Go on", "Go back");
    kit::danger(kit::button(BREAK, "Break glass…", value)).with_confirm(confirm)
}

/// Asks why it cannot wait.
pub(super) fn modal(view: &RequestView, remembered: &Remembered, people: &People) -> SlackView {
    let request = &view.request;
    let input = SlackBlockPlainTextInputElement::new()
        .with_action_id(SlackActionId(WHY_ACTION.to_owned()))
        .with_multiline(true)
        .with_min_length(3)
        .with_max_length(500)
        .with_placeholder(kit::plain_text("What happens if it waits?"));
    let why = SlackInputBlock::new(
        kit::plain_text("Why it cannot wait (everybody reads it)"),
        SlackInputBlockElement::PlainTextInput(input),
    )
    .with_block_id(SlackBlockId(WHY_BLOCK.to_owned()));
    let statement = literal(start(&request.statement.text, limit::LITERAL));
    let asked_by = blocks::requester(request, people);
    let mut shown = vec![
        kit::section(format!(
            ":rotating_light: You release *{}* asked by {asked_by} *alone*. Everybody is told, and somebody else has to review it.",
            words(&blocks::title(request), 200)
        )),
        kit::literal(&clip(&statement, 1_000)),
    ];
    if let Some(redacted) = blocks::redacted(request) {
        shown.push(kit::context(redacted));
    }
    shown.push(SlackBlock::Input(why));
    // Four short strings always serialize.
    let remembered = serde_json::to_string(remembered).unwrap_or_default();
    SlackView::Modal(
        SlackModalView::new(kit::plain_text("Break glass"), shown)
            .with_callback_id(SlackCallbackId(BREAK_VIEW.to_owned()))
            .with_private_metadata(remembered)
            .with_submit(kit::plain_text("Release it"))
            .with_close(kit::plain_text("Cancel"))
            .with_notify_on_close(false),
    )
}

/// What stands first in the message of what was released alone.
pub(super) fn banner(view: &RequestView, look: &Look<'_>, most: usize) -> Option<SlackBlock> {
    let review = view.review.as_ref()?;
    let by = person(&review.broken_by, look.people);
    let reviewed = match &review.acknowledged {
        None => "nobody else has looked at it yet".to_owned(),
        Some(seen) => {
            let said = seen.comment.as_ref().map(|said| format!(": {}", words(said, most))).unwrap_or_default();
            format!("reviewed by {} {}{said}", person(&seen.by, look.people), moment(seen.at))
        }
    };
    Some(kit::section(format!(
        ":rotating_light: *GLASS BROKEN by {by}*: released alone, without the approvals it needs; {reviewed}"
    )))
}

/// The button of an open review.
pub(super) fn review(request: &HoldRequest) -> SlackBlock {
    let text =
        "You say that you have looked at what was released and at its reason. It is put on record with your name.";
    let confirm = kit::confirm("Acknowledge the emergency release?", text, "I have looked", "Go back");
    let button = kit::primary(kit::button(ACKNOWLEDGE, "Acknowledge", blocks::binding(request))).with_confirm(confirm);
    let details = kit::button(blocks::DETAILS, "Details", blocks::binding(request));
    kit::actions(format!("review:{}", request.id), vec![button, details])
}

/// A message of its own, because changing one notifies nobody: it mentions everybody who could have decided.
pub(super) fn alarm(view: &RequestView, look: &Look<'_>) -> Option<Message> {
    let review = view.review.as_ref()?;
    let title = words(&blocks::title(&view.request), 150);
    let why = review.why.as_ref().map(|why| format!("\n>{}", words(why, 500))).unwrap_or_default();
    let text = format!(
        ":rotating_light: *Glass broken by {}*: {title} (`{}`) was released alone, without the approvals it needs.{why}\n{}: somebody \
         else has to look at it and acknowledge it",
        person(&review.broken_by, look.people),
        view.request.id,
        footer::asked(view, look, 300),
    );
    Some(Message {
        text: format!("Glass broken by {}: {title}", person(&review.broken_by, look.people)),
        blocks: vec![kit::section(text)],
        whole: true,
    })
}

/// A reminder of an open review.
pub(super) fn reminder(view: &RequestView, look: &Look<'_>) -> Option<Message> {
    let review = view.review.as_ref().filter(|review| review.acknowledged.is_none())?;
    let text = format!(
        ":bell: {} was released in an emergency by {} alone, and nobody else has acknowledged it yet; asked: {}",
        words(&blocks::title(&view.request), 150),
        person(&review.broken_by, look.people),
        footer::asked(view, look, 300),
    );
    Some(Message { text: text.clone(), blocks: vec![kit::section(text)], whole: true })
}
