//! Composition objects (texts, confirm dialogs, options) and the interactive elements that stand in blocks.

use super::check::{At, Check, Report, address, anything, boolean, integer, may, need, one_of, string, unique};

/// A text that must be `plain_text`, of 1 to `most` characters.
pub(super) fn plain(most: usize) -> impl Check {
    move |report, at| match at.str("type") {
        "plain_text" => plain_fields(report, at, most),
        _ if !at.value.is_object() => report.fault(at, "must provide an object"),
        "" => report.fault(at, "missing required field: type"),
        other => report.fault(at, format!("unsupported type: {other}; only plain_text is allowed")),
    }
}

/// A text of either kind, of 1 to `most` characters.
pub(super) fn any_text(most: usize) -> impl Check {
    move |report, at| match at.str("type") {
        "plain_text" => plain_fields(report, at, most),
        "mrkdwn" => {
            report.object(at, &[need("type", &anything), need("text", &string(1, most)), may("verbatim", &boolean)]);
        }
        _ if !at.value.is_object() => report.fault(at, "must provide an object"),
        "" => report.fault(at, "missing required field: type"),
        other => report.fault(at, format!("unsupported type: {other}")),
    }
}

fn plain_fields(report: &mut Report, at: &At<'_>, most: usize) {
    report.object(at, &[need("type", &anything), need("text", &string(1, most)), may("emoji", &boolean)]);
}

const STYLES: &[&str] = &["primary", "danger"];

/// The dialog before a button acts.
pub(super) fn confirm(report: &mut Report, at: &At<'_>) {
    report.object(
        at,
        &[
            need("title", &plain(100)),
            need("text", &plain(300)),
            need("confirm", &plain(30)),
            need("deny", &plain(30)),
            may("style", &one_of(STYLES)),
        ],
    );
}

/// An element of one of `allowed` types.
pub(super) fn element(allowed: &'static [&'static str]) -> impl Check {
    move |report, at| {
        if !at.value.is_object() {
            return report.fault(at, "must provide an object");
        }
        let kind = at.str("type");
        if kind.is_empty() {
            return report.fault(at, "missing required field: type");
        }
        if !allowed.contains(&kind) {
            return report.fault(at, format!("unsupported type: {kind}"));
        }
        match kind {
            "button" => button(report, at),
            "overflow" => overflow(report, at),
            "static_select" => static_select(report, at, false),
            "multi_static_select" => static_select(report, at, true),
            "checkboxes" => choices(report, at, true),
            "radio_buttons" => choices(report, at, false),
            "plain_text_input" => plain_text_input(report, at),
            "image" => image(report, at),
            "mrkdwn" | "plain_text" => any_text(3000)(report, at),
            other => report.fault(at, format!("unsupported type: {other}")),
        }
    }
}

fn button(report: &mut Report, at: &At<'_>) {
    report.object(
        at,
        &[
            need("type", &anything),
            need("text", &plain(75)),
            may("action_id", &string(1, 255)),
            may("url", &address),
            may("value", &string(1, 2000)),
            may("style", &one_of(STYLES)),
            may("confirm", &confirm),
            may("accessibility_label", &string(1, 75)),
        ],
    );
}

/// An image, as an element of a context or a section.
pub(super) fn image(report: &mut Report, at: &At<'_>) {
    report.object(at, &[need("type", &anything), need("image_url", &address), need("alt_text", &string(1, 2000))]);
}

fn overflow(report: &mut Report, at: &At<'_>) {
    report.object(
        at,
        &[
            need("type", &anything),
            may("action_id", &string(1, 255)),
            need("options", &|report: &mut Report, at: &At<'_>| options(report, at, 5, true)),
            may("confirm", &confirm),
        ],
    );
}

fn static_select(report: &mut Report, at: &At<'_>, several: bool) {
    let all = |report: &mut Report, at: &At<'_>| options(report, at, 100, false);
    let one = |report: &mut Report, at: &At<'_>| option(report, at, false);
    let initial = |report: &mut Report, at: &At<'_>| report.list(at, 1, 100, one);
    let (id, placeholder, most) = (string(1, 255), plain(150), integer(1, 100));
    let mut fields = vec![
        need("type", &anything),
        may("action_id", &id),
        may("placeholder", &placeholder),
        need("options", &all),
        may("confirm", &confirm),
        may("focus_on_load", &boolean),
    ];
    if several {
        fields.extend([may("initial_options", &initial), may("max_selected_items", &most)]);
    } else {
        fields.push(may("initial_option", &one));
    }
    report.object(at, &fields);
    initial_is_an_option(report, at);
}

fn choices(report: &mut Report, at: &At<'_>, several: bool) {
    let all = |report: &mut Report, at: &At<'_>| options(report, at, 10, true);
    let one = |report: &mut Report, at: &At<'_>| option(report, at, true);
    let initial = |report: &mut Report, at: &At<'_>| report.list(at, 1, 10, one);
    report.object(
        at,
        &[
            need("type", &anything),
            may("action_id", &string(1, 255)),
            need("options", &all),
            if several { may("initial_options", &initial) } else { may("initial_option", &one) },
            may("confirm", &confirm),
            may("focus_on_load", &boolean),
        ],
    );
    initial_is_an_option(report, at);
}

fn options(report: &mut Report, at: &At<'_>, most: usize, rich: bool) {
    report.list(at, 1, most, |report: &mut Report, at: &At<'_>| option(report, at, rich));
    unique(report, &at.items(), "value");
}

/// An option; `rich` ones (of checkboxes and radio buttons) may be `mrkdwn`.
fn option(report: &mut Report, at: &At<'_>, rich: bool) {
    let text = |report: &mut Report, at: &At<'_>| if rich { any_text(75)(report, at) } else { plain(75)(report, at) };
    report.object(at, &[need("text", &text), need("value", &string(1, 150)), may("description", &text)]);
}

fn initial_is_an_option(report: &mut Report, at: &At<'_>) {
    let known: Vec<&str> = at.key("options").map(|options| values(&options)).unwrap_or_default();
    let chosen =
        at.key("initial_option").into_iter().chain(at.key("initial_options").into_iter().flat_map(|all| all.items()));
    for option in chosen {
        if !known.contains(&option.str("value")) {
            report.fault(&option, "must be one of the options");
        }
    }
}

fn values<'v>(options: &At<'v>) -> Vec<&'v str> {
    options.items().iter().map(|option| option.str("value")).collect()
}

fn plain_text_input(report: &mut Report, at: &At<'_>) {
    report.object(
        at,
        &[
            need("type", &anything),
            may("action_id", &string(1, 255)),
            may("initial_value", &string(0, 3000)),
            may("multiline", &boolean),
            may("min_length", &integer(0, 3000)),
            may("max_length", &integer(1, 3000)),
            may("placeholder", &plain(150)),
            may("focus_on_load", &boolean),
            may("dispatch_action_config", &|report: &mut Report, at: &At<'_>| {
                let on = one_of(&["on_enter_pressed", "on_character_entered"]);
                let list = |report: &mut Report, at: &At<'_>| report.list(at, 1, 2, &on);
                report.object(at, &[need("trigger_actions_on", &list)]);
            }),
        ],
    );
    let bound = |key| at.value.get(key).and_then(serde_json::Value::as_i64);
    if let (Some(least), Some(most)) = (bound("min_length"), bound("max_length"))
        && least > most
    {
        report.fault(at, "min_length must not be more than max_length");
    }
}
