//! The few Block Kit pieces the messages are made of. Knows no requests; texts arrive safe (see `text`).

use slack_morphism::SlackActionId;
use slack_morphism::blocks::{
    SlackActionBlockElement, SlackActionsBlock, SlackBlock, SlackBlockButtonElement, SlackBlockButtonStyle,
    SlackBlockConfirmItem, SlackBlockId, SlackBlockMarkDownText, SlackBlockPlainText, SlackBlockPlainTextOnly,
    SlackBlockText, SlackContextBlock, SlackContextBlockElement, SlackDividerBlock, SlackHeaderBlock,
    SlackRichTextBlock, SlackRichTextElement, SlackRichTextPreformatted, SlackSectionBlock,
};

/// Slack's limits on single fields, in characters.
pub(super) mod limit {
    pub(in super::super) const HEADER: usize = 150;
    pub(in super::super) const SECTION: usize = 3_000;
    pub(in super::super) const CONFIRM_TITLE: usize = 100;
    pub(in super::super) const CONFIRM_TEXT: usize = 300;
    /// All blocks of a message together, as JSON. Slack refuses at about 13,200.
    pub(in super::super) const MESSAGE: usize = 13_000;
    /// Literal text in one element.
    pub(in super::super) const LITERAL: usize = 2_900;
}

pub(super) fn plain_text(text: &str) -> SlackBlockPlainTextOnly {
    SlackBlockPlainText::new(text.to_owned()).with_emoji(true).into()
}

pub(super) fn mrkdwn(text: impl Into<String>) -> SlackBlockText {
    SlackBlockText::MarkDown(verbatim(text))
}

/// Verbatim: Slack does not turn what looks like an address into a link.
fn verbatim(text: impl Into<String>) -> SlackBlockMarkDownText {
    SlackBlockMarkDownText::new(text.into()).with_verbatim(true)
}

pub(super) fn header(text: &str) -> SlackBlock {
    SlackHeaderBlock::new(plain_text(text)).into()
}

pub(super) fn section(text: impl Into<String>) -> SlackBlock {
    SlackSectionBlock::new().with_text(mrkdwn(text)).into()
}

pub(super) fn section_with_button(text: impl Into<String>, button: SlackBlockButtonElement) -> SlackBlock {
    SlackSectionBlock::new().with_text(mrkdwn(text)).with_accessory(button.into()).into()
}

/// `*Label*` over its value, two in a row.
pub(super) fn fields(facts: Vec<(&str, String)>) -> SlackBlock {
    let fields = facts.into_iter().map(|(label, value)| mrkdwn(format!("*{label}*\n{value}"))).collect();
    SlackSectionBlock::new().with_fields(fields).into()
}

pub(super) fn context(text: impl Into<String>) -> SlackBlock {
    SlackContextBlock::new(vec![SlackContextBlockElement::MarkDown(verbatim(text))]).into()
}

pub(super) fn divider() -> SlackBlock {
    SlackDividerBlock::new().into()
}

/// Literal text: nothing in it means anything to Slack. Not empty, which Slack would refuse.
pub(super) fn literal(text: &str) -> SlackBlock {
    let text = if text.is_empty() { " " } else { text };
    let preformatted = SlackRichTextPreformatted::new(vec![text.into()]);
    SlackRichTextBlock::new(vec![SlackRichTextElement::Preformatted(preformatted)]).into()
}

pub(super) fn actions(block_id: String, buttons: Vec<SlackBlockButtonElement>) -> SlackBlock {
    let buttons = buttons.into_iter().map(SlackActionBlockElement::Button).collect();
    SlackActionsBlock::new(buttons).with_block_id(SlackBlockId(block_id)).into()
}

pub(super) fn button(action: &str, text: &str, value: String) -> SlackBlockButtonElement {
    SlackBlockButtonElement::new(plain_text(text)).with_action_id(SlackActionId(action.to_owned())).with_value(value)
}

pub(super) fn primary(button: SlackBlockButtonElement) -> SlackBlockButtonElement {
    button.with_style(SlackBlockButtonStyle::Primary)
}

pub(super) fn danger(button: SlackBlockButtonElement) -> SlackBlockButtonElement {
    button.with_style(SlackBlockButtonStyle::Danger)
}

pub(super) fn confirm(title: &str, text: &str, yes: &str, no: &str) -> SlackBlockConfirmItem {
    styled(title, text, (yes, no), "primary")
}

pub(super) fn confirm_danger(title: &str, text: &str, yes: &str, no: &str) -> SlackBlockConfirmItem {
    styled(title, text, (yes, no), "danger")
}

fn styled(title: &str, text: &str, (yes, no): (&str, &str), style: &str) -> SlackBlockConfirmItem {
    let text = SlackBlockText::Plain(SlackBlockPlainText::new(text.to_owned()).with_emoji(true));
    SlackBlockConfirmItem::new(plain_text(title), text, plain_text(yes), plain_text(no)).with_style(style.to_owned())
}
