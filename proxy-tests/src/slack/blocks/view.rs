//! Modals and home tabs.

use super::check::{At, Report, boolean, may, need, one_of, string};
use super::elements::plain;
use super::layout::{self, Surface};

/// A view of the type `kind`.
pub(super) fn view(report: &mut Report, at: &At<'_>, kind: &str) {
    let blocks = |report: &mut Report, at: &At<'_>| layout::blocks(report, at, Surface::View);
    let (private, id) = (string(0, 3000), string(0, 255));
    match at.str("type") {
        "modal" if kind == "modal" => report.object(
            at,
            &[
                need("type", &one_of(&["modal"])),
                need("title", &plain(24)),
                need("blocks", &blocks),
                may("close", &plain(24)),
                may("submit", &plain(24)),
                may("private_metadata", &private),
                may("callback_id", &id),
                may("clear_on_close", &boolean),
                may("notify_on_close", &boolean),
                may("external_id", &id),
            ],
        ),
        "home" if kind == "home" => report.object(
            at,
            &[
                need("type", &one_of(&["home"])),
                need("blocks", &blocks),
                may("private_metadata", &private),
                may("callback_id", &id),
                may("external_id", &id),
            ],
        ),
        _ if !at.value.is_object() => return report.fault(at, "must provide an object"),
        "" => return report.fault(at, "missing required field: type"),
        other => return report.fault(at, format!("unsupported type: {other}; expected {kind}")),
    }
    let has_input =
        at.key("blocks").is_some_and(|blocks| blocks.items().iter().any(|block| block.str("type") == "input"));
    if kind == "modal" && has_input && at.key("submit").is_none() {
        report.fault(at, "missing required field: submit (there is an input block)");
    }
}
