//! `rich_text` blocks: sections, lists, quotes, preformatted text, and what stands in them. Texts in here are literal.

use super::check::{At, Check, Report, address, anything, boolean, integer, may, need, one_of, string};

const INLINE: &[&str] =
    &["text", "link", "emoji", "user", "usergroup", "channel", "broadcast", "date", "color", "team"];
/// Preformatted text knows only these.
const LITERAL: &[&str] = &["text", "link"];

/// One of the four things a `rich_text` block consists of.
pub(super) fn part(report: &mut Report, at: &At<'_>) {
    let elements = |report: &mut Report, at: &At<'_>| report.list(at, 1, 1000, inline(INLINE));
    let literal = |report: &mut Report, at: &At<'_>| report.list(at, 1, 1000, inline(LITERAL));
    let sections = |report: &mut Report, at: &At<'_>| report.list(at, 1, 1000, section);
    let border = integer(0, 1);
    match at.str("type") {
        "rich_text_section" => section(report, at),
        "rich_text_quote" => {
            report.object(at, &[need("type", &anything), need("elements", &elements), may("border", &border)]);
        }
        "rich_text_preformatted" => report.object(
            at,
            &[
                need("type", &anything),
                need("elements", &literal),
                may("border", &border),
                may("language", &string(1, 50)),
            ],
        ),
        "rich_text_list" => report.object(
            at,
            &[
                need("type", &anything),
                need("style", &one_of(&["bullet", "ordered"])),
                need("elements", &sections),
                may("indent", &integer(0, 8)),
                may("offset", &integer(0, 10_000)),
                may("border", &border),
            ],
        ),
        _ if !at.value.is_object() => report.fault(at, "must provide an object"),
        "" => report.fault(at, "missing required field: type"),
        other => report.fault(at, format!("unsupported type: {other}")),
    }
}

fn section(report: &mut Report, at: &At<'_>) {
    let elements = |report: &mut Report, at: &At<'_>| report.list(at, 1, 1000, inline(INLINE));
    report.object(at, &[need("type", &one_of(&["rich_text_section"])), need("elements", &elements)]);
}

fn inline(allowed: &'static [&'static str]) -> impl Check {
    move |report, at| {
        let kind = at.str("type");
        if !at.value.is_object() {
            return report.fault(at, "must provide an object");
        }
        if kind.is_empty() {
            return report.fault(at, "missing required field: type");
        }
        if !allowed.contains(&kind) {
            return report.fault(at, format!("unsupported type: {kind}"));
        }
        inline_fields(report, at, kind);
    }
}

fn inline_fields(report: &mut Report, at: &At<'_>, kind: &str) {
    let kept = ("type", &anything);
    let (some, id) = (string(1, 40_000), string(1, 64));
    match kind {
        "text" => report.object(at, &[need(kept.0, kept.1), need("text", &some), may("style", &style)]),
        "link" => report.object(
            at,
            &[
                need(kept.0, kept.1),
                need("url", &address),
                may("text", &some),
                may("unsafe", &boolean),
                may("style", &style),
            ],
        ),
        "emoji" => {
            report.object(at, &[need(kept.0, kept.1), need("name", &string(1, 100)), may("unicode", &string(1, 100))]);
        }
        "user" => report.object(at, &[need(kept.0, kept.1), need("user_id", &id), may("style", &style)]),
        "usergroup" => report.object(at, &[need(kept.0, kept.1), need("usergroup_id", &id), may("style", &style)]),
        "channel" => report.object(at, &[need(kept.0, kept.1), need("channel_id", &id), may("style", &style)]),
        "team" => report.object(at, &[need(kept.0, kept.1), need("team_id", &id), may("style", &style)]),
        "broadcast" => {
            report.object(at, &[need(kept.0, kept.1), need("range", &one_of(&["here", "channel", "everyone"]))]);
        }
        "date" => report.object(
            at,
            &[
                need(kept.0, kept.1),
                need("timestamp", &integer(0, i64::MAX)),
                need("format", &string(1, 255)),
                may("url", &address),
                may("fallback", &string(1, 255)),
            ],
        ),
        "color" => report.object(at, &[need(kept.0, kept.1), need("value", &string(4, 9))]),
        other => report.fault(at, format!("unsupported type: {other}")),
    }
}

fn style(report: &mut Report, at: &At<'_>) {
    report.object(
        at,
        &[
            may("bold", &boolean),
            may("italic", &boolean),
            may("strike", &boolean),
            may("code", &boolean),
            may("underline", &boolean),
        ],
    );
}
