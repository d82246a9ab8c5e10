//! "This statement again, in this session": the button that grants it, and what a message shows of the grant. Pure.

use std::time::Duration;

use slack_morphism::blocks::{SlackBlock, SlackBlockButtonElement};

use crate::approval::channel::{Again, RequestView};
use crate::approval::people::People;

use super::blocks;
use super::kit::{self, limit};
use super::text::{clip, moment, plain, span, words};

/// Action ids.
pub(super) const APPROVE_AGAIN: &str = "approve_again";
pub(super) const REVOKE: &str = "revoke";
/// Before the seconds, in a button's value.
const FOR: &str = ":again=";
/// Up to so many uses are counted one by one: the message is not changed for each of thousands, which Slack would not take.
const COUNTED: u64 = 10;

/// The button beside Approve, where the profile permits it and the session can tell the statement again.
pub(super) fn button(view: &RequestView, people: &People) -> Option<SlackBlockButtonElement> {
    let longest = view.may_again?;
    let request = &view.request;
    let time = span(i64::try_from(longest.as_secs()).unwrap_or(i64::MAX));
    let sha256 = blocks::prefix(&request.statement.sha256);
    let what = if request.redact.is_none() {
        format!("the statement shown ({} characters, sha256 {sha256})", request.statement.text.chars().count())
    } else {
        format!("a statement whose values are redacted here (sha256 {sha256})")
    };
    let who = plain(&blocks::requester_name(request, people), 40);
    // What binds comes first: nothing but the last words may be cut off.
    let all = if view.quorum > 1 { " All who approve have to choose this." } else { "" };
    let text = format!(
        "For {who}: {what}, now and for {time} as often as this session sends it with the same values, role and search_path. Nobody \
         is asked then; it can be revoked here.{all}"
    );
    let title = format!("Approve for {time}?");
    let confirm =
        kit::confirm(&clip(&title, limit::CONFIRM_TITLE), &clip(&text, limit::CONFIRM_TEXT), "Approve it", "Go back");
    let value = format!("{}{FOR}{}", blocks::binding_of(view), longest.as_secs());
    Some(kit::button(APPROVE_AGAIN, &clip(&format!("Approve for {time}…"), 75), value).with_confirm(confirm))
}

/// For how long a click on the button approves it again. What is permitted the desk says.
pub(super) fn bound(value: &str) -> Option<Duration> {
    let (_, seconds) = value.rsplit_once(FOR)?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// What a message shows of a standing approval; with a button that ends it for as long as it holds.
pub(super) fn standing(view: &RequestView) -> Vec<SlackBlock> {
    let Some(Again { until, uses, ended }) = &view.again else { return Vec::new() };
    if let Some(why) = ended {
        let text =
            format!(":repeat: The same statement no longer runs again: {}; {}", words(why, 100), used(*uses, true));
        return vec![kit::section(text)];
    }
    let text = format!(
        ":repeat: *The same statement runs again in its session* until {} without anybody being asked · {}",
        moment(*until),
        used(*uses, false)
    );
    let what = "The statement is asked about again when it comes next. What has run has run.";
    let confirm = kit::confirm_danger("Revoke the standing approval?", what, "Revoke it", "Go back");
    let button = kit::danger(kit::button(REVOKE, "Revoke", blocks::binding(&view.request))).with_confirm(confirm);
    vec![kit::section(text), kit::actions(format!("again:{}", view.request.id), vec![button])]
}

/// How often, exactly at the end.
fn used(uses: u64, exactly: bool) -> String {
    match uses {
        0 => "not used".to_owned(),
        1 => "used once".to_owned(),
        _ if uses <= COUNTED || exactly => format!("used {uses} times"),
        // 10, 20, 50, 100, 200 …
        _ => {
            let mut shown = COUNTED;
            let mut ten = COUNTED;
            for step in [2_u64, 5, 10].into_iter().cycle() {
                let next = ten.saturating_mul(step);
                if next > uses || next == u64::MAX {
                    break;
                }
                shown = next;
                if step == 10 {
                    ten = next;
                }
            }
            format!("used more than {} times", shown.saturating_sub(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_uses_change_the_words_seldom_and_never_say_too_many() {
        for (uses, expected) in [
            (0, "not used"),
            (1, "used once"),
            (10, "used 10 times"),
            (11, "used more than 9 times"),
            (20, "used more than 19 times"),
            (99, "used more than 49 times"),
            (1_999, "used more than 999 times"),
        ] {
            assert_eq!(used(uses, false), expected);
        }
        assert!(used(u64::MAX, false).starts_with("used more than 999"));
        assert_eq!(used(1_999, true), "used 1999 times");
        let all: std::collections::BTreeSet<String> = (0..100_000).map(|uses| used(uses, false)).collect();
        assert!(all.len() < 30, "{}", all.len());
    }

    #[test]
    fn a_buttons_time_is_read_back_and_nothing_else_is_a_time() {
        let binding = format!("v1:qg-1:{}", "0f".repeat(32));
        assert_eq!(bound(&format!("{binding}:again=900")), Some(Duration::from_secs(900)));
        for value in
            [binding.clone(), format!("{binding}:again="), format!("{binding}:again=-1"), format!("{binding}:again=x")]
        {
            assert_eq!(bound(&value), None, "{value}");
            assert!(blocks::bound(&value).is_some());
        }
    }
}
