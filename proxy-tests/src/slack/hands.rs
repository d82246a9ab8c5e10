//! What people do in the workspace: click, fill in, type commands, open the app's home.
//!
//! A person can only do what their screen shows: a button that is gone cannot be clicked. What arrives late or forged is
//! made with [`Workspace::stale_click`] and [`Workspace::forge`], which say so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Workspace;
use super::delivery::{Consequence, Delivery, Kind, deliver};
use super::message::{Action, View, actions};
use super::payload::Maker;
use super::people::User;
use super::state::State;

/// Why somebody could not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Impossible {
    /// There is no such user, or the user was deactivated.
    NoUser(String),
    /// There is no such message, or the user is not in its channel.
    NoMessage,
    /// There is no such view on the user's screen.
    NoView,
    /// There is nothing with this action id, or more than one; here is what there is.
    NoAction(Vec<String>),
    /// There is no such option.
    NoOption,
    /// This cannot be filled in like that: the client would not send it off.
    Invalid(String),
}

impl Workspace {
    /// `user` clicks a button of a message (and confirms, if asked to).
    pub fn click(&self, channel: &str, ts: &str, action_id: &str, user: &str) -> Result<Delivery, Impossible> {
        self.choose(channel, ts, action_id, None, user)
    }

    /// `user` chooses an option, by its value, in a message.
    pub fn choose(
        &self,
        channel: &str,
        ts: &str,
        action_id: &str,
        option: Option<&str>,
        user: &str,
    ) -> Result<Delivery, Impossible> {
        self.interact(|maker| {
            let user = person(maker.state, user)?;
            let inside = maker.state.channels.get(channel).is_some_and(|channel| channel.members.contains(&user.id));
            let message = maker.state.message(channel, ts).filter(|message| inside && !message.deleted).cloned();
            let message = message.ok_or(Impossible::NoMessage)?;
            let action = only(message.content.actions(), action_id)?;
            maker.message_click(&user, &message, &action, option).ok_or(Impossible::NoOption)
        })
    }

    /// A click that was on its way while the message changed: the newest version that had the button, by anybody known,
    /// member of the channel or not, deactivated or not.
    pub fn stale_click(&self, channel: &str, ts: &str, action_id: &str, user: &str) -> Result<Delivery, Impossible> {
        self.interact(|maker| {
            let user = maker.state.users.get(user).cloned().ok_or_else(|| Impossible::NoUser(user.to_owned()))?;
            let mut message = maker.state.message(channel, ts).cloned().ok_or(Impossible::NoMessage)?;
            let found = message.action_ever(action_id).map(|(action, content)| (action, content.clone()));
            let (action, content) = found.ok_or_else(|| Impossible::NoAction(Vec::new()))?;
            message.content = content;
            maker.message_click(&user, &message, &action, None).ok_or(Impossible::NoOption)
        })
    }

    /// `user` clicks something in their open modal or, with none open, their home tab.
    pub fn click_view(&self, action_id: &str, user: &str) -> Result<Delivery, Impossible> {
        self.interact(|maker| {
            let user = person(maker.state, user)?;
            let view = maker.state.modal(&user.id).or_else(|| maker.state.home(&user.id)).cloned();
            let view = view.ok_or(Impossible::NoView)?;
            let action = only(actions(view.blocks()), action_id)?;
            maker.view_click(&user, &view, &action, None).ok_or(Impossible::NoOption)
        })
    }

    /// `user` fills in `values` (block id, text or option value) in their open modal and sends it off.
    pub fn submit_view(&self, user: &str, values: &[(&str, &str)]) -> Result<Delivery, Impossible> {
        let (payload, id) = self.make(|maker| {
            let user = person(maker.state, user)?;
            let view = maker.state.modal(&user.id).cloned().ok_or(Impossible::NoView)?;
            let filled = fill(&view, values)?;
            Ok((maker.submission(&user, &view, &filled), view.id))
        })?;
        Ok(deliver(&self.inner, Kind::Interactive, payload, Consequence::Submission(id)))
    }

    /// `user` closes their open modal. The app hears of it only if it asked to: then the delivery is returned.
    pub fn close_view(&self, user: &str) -> Result<Option<Delivery>, Impossible> {
        let payload = self.make(|maker| {
            let user = person(maker.state, user)?;
            let view = maker.state.modal(&user.id).cloned().ok_or(Impossible::NoView)?;
            if let Some(open) = maker.state.views.iter_mut().find(|open| open.id == view.id) {
                open.open = false;
            }
            let told = view.view.get("notify_on_close") == Some(&json!(true));
            Ok(told.then(|| maker.closed(&user, &view)))
        })?;
        Ok(payload.map(|payload| deliver(&self.inner, Kind::Interactive, payload, Consequence::Nothing)))
    }

    /// `user` types `/command text` in a channel.
    pub fn slash(&self, channel: &str, command: &str, text: &str, user: &str) -> Result<Delivery, Impossible> {
        let (payload, url) = self.make(|maker| {
            let user = person(maker.state, user)?;
            Ok(maker.command(&user, channel, command, text))
        })?;
        Ok(deliver(&self.inner, Kind::Command, payload, Consequence::Command(url)))
    }

    /// `user` opens the app's home tab.
    pub fn open_home(&self, user: &str) -> Result<Delivery, Impossible> {
        let payload = self.make(|maker| {
            let user = person(maker.state, user)?;
            Ok(maker.home_opened(&user))
        })?;
        Ok(deliver(&self.inner, Kind::Event, payload, Consequence::Nothing))
    }

    /// Delivers any payload at all.
    pub fn forge(&self, kind: Kind, payload: Value) -> Delivery {
        deliver(&self.inner, kind, payload, Consequence::Nothing)
    }

    fn interact(&self, make: impl FnOnce(&mut Maker<'_>) -> Result<Value, Impossible>) -> Result<Delivery, Impossible> {
        let payload = self.make(make)?;
        Ok(deliver(&self.inner, Kind::Interactive, payload, Consequence::Nothing))
    }

    fn make<T>(&self, make: impl FnOnce(&mut Maker<'_>) -> Result<T, Impossible>) -> Result<T, Impossible> {
        let (timing, base_url) = (&self.inner.timing, self.inner.base_url());
        self.inner.change(|state| make(&mut Maker { state, timing, base_url }))
    }
}

fn person(state: &State, id: &str) -> Result<User, Impossible> {
    let active = state.users.get(id).filter(|user| !user.deleted);
    active.cloned().ok_or_else(|| Impossible::NoUser(id.to_owned()))
}

fn only(actions: Vec<Action>, action_id: &str) -> Result<Action, Impossible> {
    let known = actions.iter().map(|action| action.action_id.clone()).collect();
    let mut matching = actions.into_iter().filter(|action| action.action_id == action_id);
    match (matching.next(), matching.next()) {
        (Some(action), None) => Ok(action),
        (_, _) => Err(Impossible::NoAction(known)),
    }
}

/// What the client sends of the inputs of a view, if it lets them pass.
fn fill(view: &View, values: &[(&str, &str)]) -> Result<BTreeMap<(String, String), Value>, Impossible> {
    let inputs: Vec<&Value> = view.blocks().iter().filter(|block| block.get("type") == Some(&json!("input"))).collect();
    let id_of = |block: &Value| block.get("block_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some((unknown, _)) = values.iter().find(|(id, _)| !inputs.iter().any(|block| id_of(block) == *id)) {
        return Err(Impossible::Invalid(format!("no input block {unknown:?}")));
    }
    let mut filled = BTreeMap::new();
    for block in inputs {
        let Some(action) = actions(std::slice::from_ref(block)).into_iter().next() else { continue };
        let given = values.iter().find(|(id, _)| *id == action.block_id).map(|(_, text)| *text);
        let optional = block.get("optional") == Some(&json!(true));
        if given.is_none_or(str::is_empty) && !optional {
            return Err(Impossible::Invalid(format!("{:?} must be filled in", action.block_id)));
        }
        let value = if action.kind == "plain_text_input" {
            within(&action, given)?;
            json!({ "type": action.kind, "value": given.filter(|text| !text.is_empty()) })
        } else {
            let mut chosen = match given {
                Some(_) => action.json("", given).ok_or(Impossible::NoOption)?,
                None => json!({ "selected_option": null }),
            };
            if let Some(object) = chosen.as_object_mut() {
                object.retain(|key, _| key.starts_with("selected_"));
                object.insert("type".to_owned(), json!(action.kind));
            }
            chosen
        };
        filled.insert((action.block_id.clone(), action.action_id.clone()), value);
    }
    Ok(filled)
}

fn within(action: &Action, given: Option<&str>) -> Result<(), Impossible> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(()) };
    let bound = |key: &str| action.element.get(key).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    if bound("min_length").is_some_and(|least| length < least) || bound("max_length").is_some_and(|most| length > most)
    {
        return Err(Impossible::Invalid(format!("{:?} is too short or too long", action.block_id)));
    }
    Ok(())
}
