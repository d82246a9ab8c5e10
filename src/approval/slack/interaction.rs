//! What Slack delivers, read tolerantly: what is not needed is not looked at, so a new field or a null where Slack's types allow
//! one does not drop a click. Pure; decides nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blocks;
use super::copies::Place;
use super::glass::BREAK_VIEW;
use super::panels::{REJECT_VIEW, Remembered, WHY_ACTION, WHY_BLOCK};

/// Longest words taken from a payload.
const MAX_WORDS: usize = 2_000;

/// Something somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interaction {
    pub(super) by: Clicker,
    pub(super) act: Act,
}

/// Who did it, as the payload says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clicker {
    pub(super) user: String,
    /// Every team the payload names for them; all of them have to be ours.
    pub(super) teams: Vec<String>,
}

/// What they did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Act {
    /// A button.
    Click {
        action: String,
        value: String,
        trigger: String,
        /// The message, if it was in one.
        place: Option<Place>,
    },
    /// The window that asks why, of a rejection or of an emergency release.
    Words { release: bool, remembered: Remembered, reason: String },
    /// `/querygate …`
    Command { text: String, conversation: String },
    /// They look at the App Home.
    Home,
}

/// Reads the payload of an envelope of that type, or of a callback.
pub(super) fn read(kind: &str, payload: &Value) -> Option<Interaction> {
    match kind {
        "interactive" => interactive(payload),
        "slash_commands" => command(payload),
        "events_api" => event(payload),
        _ => None,
    }
}

/// What names an act wherever and however often it is delivered; `delivery` where the payload has no name of its own. Slack may
/// deliver an act again in an envelope with another name.
pub(super) fn key(payload: &Value, delivery: &str) -> String {
    let own = text(payload, "/trigger_id").or_else(|| text(payload, "/event_id"));
    own.filter(|name| name.len() <= 200).unwrap_or(delivery).to_owned()
}

fn interactive(payload: &Value) -> Option<Interaction> {
    let by = clicker(payload, "/user/id", &["/user/team_id", "/team/id"])?;
    match text(payload, "/type")? {
        "block_actions" => {
            // One click is one action.
            let action = payload.pointer("/actions/0")?;
            let place = Place::parse(
                text(payload, "/channel/id").or_else(|| text(payload, "/container/channel_id")).unwrap_or_default(),
                text(payload, "/container/message_ts").or_else(|| text(payload, "/message/ts")).unwrap_or_default(),
            );
            let act = Act::Click {
                action: owned(action, "/action_id"),
                value: owned(action, "/value"),
                trigger: owned(payload, "/trigger_id"),
                place,
            };
            Some(Interaction { by, act })
        }
        "view_submission" => {
            let release = match text(payload, "/view/callback_id")? {
                REJECT_VIEW => false,
                BREAK_VIEW => true,
                _ => return None,
            };
            let remembered = serde_json::from_str(text(payload, "/view/private_metadata")?).ok()?;
            let reason = owned(payload, &format!("/view/state/values/{WHY_BLOCK}/{WHY_ACTION}/value"));
            Some(Interaction { by, act: Act::Words { release, remembered, reason } })
        }
        _ => None,
    }
}

fn command(payload: &Value) -> Option<Interaction> {
    let by = clicker(payload, "/user_id", &["/team_id"])?;
    let act = Act::Command { text: owned(payload, "/text"), conversation: owned(payload, "/channel_id") };
    Some(Interaction { by, act })
}

fn event(payload: &Value) -> Option<Interaction> {
    if text(payload, "/event/type")? != "app_home_opened"
        || text(payload, "/event/tab").is_some_and(|tab| tab != "home")
    {
        return None;
    }
    Some(Interaction { by: clicker(payload, "/event/user", &["/team_id"])?, act: Act::Home })
}

fn clicker(payload: &Value, user: &str, teams: &[&str]) -> Option<Clicker> {
    let user = text(payload, user).filter(|user| super::settings::is_slack_id(user, "UW"))?.to_owned();
    let teams = teams.iter().filter_map(|team| text(payload, team)).map(str::to_owned).collect();
    Some(Clicker { user, teams })
}

/// Strings of any other type, and empty ones, are not there.
fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn owned(value: &Value, pointer: &str) -> String {
    super::text::start(text(value, pointer).unwrap_or_default(), MAX_WORDS).to_owned()
}

impl Act {
    /// The request it is about, and the digest it was shown with.
    pub(super) fn bound(&self) -> Option<(crate::hold::HoldId, String)> {
        match self {
            Self::Click { value, .. } => blocks::bound(value),
            Self::Words { remembered, .. } => blocks::bound(&format!("v1:{}:{}", remembered.r, remembered.h)),
            Self::Command { .. } | Self::Home => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn click() -> Value {
        json!({
            "type": "block_actions",
            "user": {"id": "U0APP1", "team_id": "T01"},
            "team": {"id": "T01", "domain": "acme"},
            "container": {"type": "message", "message_ts": "1795180000.000100", "channel_id": "C01"},
            "channel": {"id": "C01"},
            "trigger_id": "1.2.abc",
            "actions": [{"action_id": "approve", "value": "v1:qg-1:00"}],
        })
    }

    #[test]
    fn a_click_is_read_whatever_else_is_null_or_missing() {
        let expected = read("interactive", &click()).unwrap();
        assert_eq!(expected.by, Clicker { user: "U0APP1".into(), teams: vec!["T01".into(), "T01".into()] });
        let mut without_team = click();
        without_team["team"] = Value::Null;
        without_team["enterprise"] = json!({"id": "E01"});
        without_team["something_new"] = json!([1, 2]);
        let read_anyway = read("interactive", &without_team).unwrap();
        assert_eq!(read_anyway.by.teams, ["T01"]);
        assert_eq!(read_anyway.act, expected.act);
        let mut without_channel = click();
        without_channel["channel"] = Value::Null;
        assert_eq!(read("interactive", &without_channel).unwrap().act, expected.act);
    }

    #[test]
    fn a_submitted_reason_is_read() {
        let payload = json!({
            "type": "view_submission", "user": {"id": "U0APP1"}, "team": {"id": "T01"},
            "view": {
                "callback_id": "reject", "private_metadata": r#"{"r":"qg-1","h":"00","c":"C01","t":"1.2"}"#,
                "state": {"values": {"why": {"text": {"type": "plain_text_input", "value": "no"}}}},
            },
        });
        let Act::Words { release: false, remembered, reason } = read("interactive", &payload).unwrap().act else {
            panic!()
        };
        assert_eq!((remembered.r.as_str(), remembered.c.as_str(), reason.as_str()), ("qg-1", "C01", "no"));
        let mut emergency = payload.clone();
        emergency["view"]["callback_id"] = json!("break_glass");
        assert!(matches!(read("interactive", &emergency).unwrap().act, Act::Words { release: true, .. }));
        let mut unknown = payload;
        unknown["view"]["callback_id"] = json!("approve");
        assert_eq!(read("interactive", &unknown), None);
    }

    #[test]
    fn commands_and_the_home_are_read() {
        let payload = json!({"command": "/querygate", "text": "show qg-1", "user_id": "U01", "team_id": "T01", "channel_id": "C01"});
        let act = Act::Command { text: "show qg-1".into(), conversation: "C01".into() };
        assert_eq!(read("slash_commands", &payload).unwrap().act, act);
        let payload = json!({"team_id": "T01", "event": {"type": "app_home_opened", "user": "U01", "tab": "home"}});
        assert_eq!(read("events_api", &payload).unwrap().act, Act::Home);
    }

    #[test]
    fn nonsense_is_nobodys_act() {
        for (kind, payload) in [
            ("interactive", json!(null)),
            ("interactive", json!({"type": "block_actions", "user": {"id": 7}})),
            ("interactive", json!({"type": "block_actions", "user": {"id": "U01"}, "actions": []})),
            ("interactive", json!({"type": "view_closed", "user": {"id": "U01"}})),
            ("slash_commands", json!({"user_id": "<!channel>"})),
            ("events_api", json!({"event": {"type": "message", "user": "U01"}})),
            ("new_kind", json!({})),
        ] {
            assert_eq!(read(kind, &payload), None, "{payload}");
        }
    }
}
