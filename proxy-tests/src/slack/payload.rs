//! What the app is told: interactions, commands and events in the shape Slack gives them.
//!
//! <https://docs.slack.dev/reference/interaction-payloads>. It reads the state and makes triggers and response URLs in it;
//! it sends nothing.

use std::collections::BTreeMap;

use querygate::clock;
use serde_json::{Map, Value, json};

use super::inner::Timing;
use super::message::{Action, Message, View};
use super::people::{User, set};
use super::state::{ResponseUrl, State};

/// How often a response URL may be used.
const RESPONSE_USES: usize = 5;
/// The old verification token, which is still sent along and proves nothing.
const VERIFICATION: &str = "deprecated-verification-token";

/// Makes payloads.
pub(super) struct Maker<'s> {
    pub(super) state: &'s mut State,
    pub(super) timing: &'s Timing,
    pub(super) base_url: String,
}

/// Where a command was typed or a button clicked.
pub(super) struct Place<'p> {
    pub(super) channel: &'p str,
    pub(super) message: Option<&'p str>,
}

impl Maker<'_> {
    /// A click on something in a message, which looks as `message` says.
    pub(super) fn message_click(
        &mut self,
        user: &User,
        message: &Message,
        action: &Action,
        chosen: Option<&str>,
    ) -> Option<Value> {
        let mut payload = self.interaction("block_actions", user, None);
        let mut container = json!({
            "type": "message", "message_ts": message.ts, "channel_id": message.channel, "is_ephemeral": false,
        });
        if let Some(thread) = &message.thread_ts {
            set(&mut container, "thread_ts", json!(thread));
        }
        let place = Place { channel: &message.channel, message: Some(&message.ts) };
        let response_url = self.response_url(&user.id, &place);
        for (key, value) in [
            ("container", container),
            ("channel", self.channel(&message.channel)),
            ("message", self.state.message_json(message)),
            ("state", json!({ "values": {} })),
            ("response_url", json!(response_url)),
            ("actions", json!([self.action(action, chosen)?])),
        ] {
            set(&mut payload, key, value);
        }
        Some(payload)
    }

    /// A click on something in a view.
    pub(super) fn view_click(
        &mut self,
        user: &User,
        view: &View,
        action: &Action,
        chosen: Option<&str>,
    ) -> Option<Value> {
        let mut payload = self.interaction("block_actions", user, Some(view.id.clone()));
        for (key, value) in [
            ("container", json!({ "type": "view", "view_id": view.id })),
            ("view", self.state.view_json(view)),
            ("actions", json!([self.action(action, chosen)?])),
        ] {
            set(&mut payload, key, value);
        }
        Some(payload)
    }

    /// A modal sent off with what was filled in, by block and action.
    pub(super) fn submission(&mut self, user: &User, view: &View, values: &BTreeMap<(String, String), Value>) -> Value {
        let mut payload = self.interaction("view_submission", user, Some(view.id.clone()));
        let mut shown = self.state.view_json(view);
        let mut blocks: Map<String, Value> = Map::new();
        for ((block, action), value) in values {
            set(blocks.entry(block.clone()).or_insert_with(|| json!({})), action, value.clone());
        }
        set(&mut shown, "state", json!({ "values": blocks }));
        set(&mut payload, "view", shown);
        set(&mut payload, "response_urls", json!([]));
        payload
    }

    /// A modal closed without sending it off.
    pub(super) fn closed(&mut self, user: &User, view: &View) -> Value {
        let mut payload = self.interaction("view_closed", user, None);
        if let Some(object) = payload.as_object_mut() {
            object.remove("trigger_id");
        }
        set(&mut payload, "view", self.state.view_json(view));
        set(&mut payload, "is_cleared", json!(false));
        payload
    }

    /// A slash command.
    pub(super) fn command(&mut self, user: &User, channel: &str, command: &str, text: &str) -> (Value, ResponseUrl) {
        let url = self.response(&user.id, &Place { channel, message: None });
        let response_url = self.keep(url.clone());
        let trigger = self.trigger(&user.id, None);
        let name = self.state.channels.get(channel).map(|channel| channel.shown_name().to_owned());
        let (team, app) = (&self.state.team, &self.state.app);
        let payload = json!({
            "token": VERIFICATION, "team_id": user.team_or(&team.id), "team_domain": team.domain, "channel_id": channel,
            "channel_name": name, "user_id": user.id, "user_name": user.name, "command": command, "text": text,
            "api_app_id": app.id, "is_enterprise_install": team.organisation.is_some().to_string(),
            "response_url": response_url, "trigger_id": trigger,
        });
        (payload, url)
    }

    /// A home tab opened.
    pub(super) fn home_opened(&mut self, user: &User) -> Value {
        let channel = self.state.open_direct(&user.id);
        let event_ts = self.state.next_ts();
        let mut event = json!({
            "type": "app_home_opened", "user": user.id, "channel": channel, "tab": "home", "event_ts": event_ts,
        });
        if let Some(home) = self.state.home(&user.id).cloned() {
            set(&mut event, "view", self.state.view_json(&home));
        }
        let event_id = self.state.fresh_id("Ev");
        let (team, app) = (&self.state.team, &self.state.app);
        json!({
            "token": VERIFICATION, "team_id": team.id, "api_app_id": app.id, "event": event, "type": "event_callback",
            "event_id": event_id, "event_time": clock::wall().as_second(), "is_ext_shared_channel": false,
            "authorizations": [{ "enterprise_id": team.organisation, "team_id": team.id, "user_id": app.bot_user,
                "is_bot": true, "is_enterprise_install": team.organisation.is_some() }],
        })
    }

    /// What every interaction has.
    fn interaction(&mut self, kind: &str, user: &User, view: Option<String>) -> Value {
        let trigger = self.trigger(&user.id, view);
        let (team, app) = (&self.state.team, &self.state.app);
        // Installed for a whole organisation, Slack names no team.
        let (own, organisation) = match &team.organisation {
            Some(id) => (Value::Null, json!({ "id": id, "name": team.name })),
            None => (json!({ "id": team.id, "domain": team.domain }), Value::Null),
        };
        json!({
            "type": kind,
            "user": { "id": user.id, "username": user.name, "name": user.name, "team_id": user.team_or(&team.id) },
            "team": own, "enterprise": organisation, "is_enterprise_install": team.organisation.is_some(),
            "api_app_id": app.id, "token": VERIFICATION, "trigger_id": trigger,
        })
    }

    fn action(&mut self, action: &Action, chosen: Option<&str>) -> Option<Value> {
        let ts = self.state.next_ts();
        action.json(&ts, chosen)
    }

    fn channel(&self, id: &str) -> Value {
        let name = self.state.channels.get(id).map(super::people::Channel::shown_name);
        json!({ "id": id, "name": name })
    }

    fn trigger(&mut self, user: &str, view: Option<String>) -> String {
        let ends = clock::now() + self.timing.trigger;
        self.state.trigger(user, ends, view)
    }

    fn response(&self, user: &str, place: &Place<'_>) -> ResponseUrl {
        ResponseUrl {
            user: user.to_owned(),
            channel: place.channel.to_owned(),
            message: place.message.map(str::to_owned),
            ends: clock::now() + self.timing.response_url,
            uses_left: RESPONSE_USES,
        }
    }

    fn response_url(&mut self, user: &str, place: &Place<'_>) -> String {
        let url = self.response(user, place);
        self.keep(url)
    }

    fn keep(&mut self, url: ResponseUrl) -> String {
        let ticket = self.state.secret(24);
        self.state.responses.insert(ticket.clone(), url);
        format!("{}/response/{ticket}", self.base_url)
    }
}
