//! The blocks themselves, on each surface.

use super::check::{At, Report, address, anything, boolean, may, need, string, unique};
use super::elements::{any_text, element, plain};
use super::{MESSAGE_BLOCKS, VIEW_BLOCKS, rich};

/// Where blocks stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    Message,
    View,
}

const ACCESSORIES: &[&str] =
    &["button", "image", "overflow", "static_select", "multi_static_select", "checkboxes", "radio_buttons"];
const ACTIONS: &[&str] = &["button", "overflow", "static_select", "checkboxes", "radio_buttons"];
const CONTEXT: &[&str] = &["image", "mrkdwn", "plain_text"];
const INPUTS: &[&str] = &["plain_text_input", "static_select", "multi_static_select", "checkboxes", "radio_buttons"];

/// The `blocks` of a message or a view.
pub(super) fn blocks(report: &mut Report, at: &At<'_>, surface: Surface) {
    let most = match surface {
        Surface::Message => MESSAGE_BLOCKS,
        Surface::View => VIEW_BLOCKS,
    };
    report.list(at, 0, most, block);
    unique(report, &at.items(), "block_id");
}

fn block(report: &mut Report, at: &At<'_>) {
    let id = string(1, 255);
    match at.str("type") {
        "header" => {
            report.object(at, &[need("type", &anything), need("text", &plain(150)), may("block_id", &id)]);
        }
        "divider" => report.object(at, &[need("type", &anything), may("block_id", &id)]),
        "section" => section(report, at),
        "context" => {
            let elements = |report: &mut Report, at: &At<'_>| report.list(at, 1, 10, element(CONTEXT));
            report.object(at, &[need("type", &anything), need("elements", &elements), may("block_id", &id)]);
        }
        "actions" => {
            let elements = |report: &mut Report, at: &At<'_>| {
                report.list(at, 1, 25, element(ACTIONS));
                unique(report, &at.items(), "action_id");
            };
            report.object(at, &[need("type", &anything), need("elements", &elements), may("block_id", &id)]);
        }
        "rich_text" => {
            let parts = |report: &mut Report, at: &At<'_>| report.list(at, 1, 1000, rich::part);
            report.object(at, &[need("type", &anything), need("elements", &parts), may("block_id", &id)]);
        }
        "input" => input(report, at),
        "image" => report.object(
            at,
            &[
                need("type", &anything),
                need("image_url", &address),
                need("alt_text", &string(1, 2000)),
                may("title", &plain(2000)),
                may("block_id", &id),
            ],
        ),
        _ if !at.value.is_object() => report.fault(at, "must provide an object"),
        "" => report.fault(at, "missing required field: type"),
        other => report.fault(at, format!("unsupported type: {other}")),
    }
}

fn section(report: &mut Report, at: &At<'_>) {
    let fields = |report: &mut Report, at: &At<'_>| report.list(at, 1, 10, any_text(2000));
    report.object(
        at,
        &[
            need("type", &anything),
            may("text", &any_text(3000)),
            may("fields", &fields),
            may("accessory", &element(ACCESSORIES)),
            may("expand", &boolean),
            may("block_id", &string(1, 255)),
        ],
    );
    if at.key("text").is_none() && at.key("fields").is_none() {
        report.fault(at, "must define either `text` or `fields`");
    }
}

fn input(report: &mut Report, at: &At<'_>) {
    report.object(
        at,
        &[
            need("type", &anything),
            need("label", &plain(2000)),
            need("element", &element(INPUTS)),
            may("dispatch_action", &boolean),
            may("hint", &plain(2000)),
            may("optional", &boolean),
            may("block_id", &string(1, 255)),
        ],
    );
}
