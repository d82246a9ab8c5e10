//! `views.*`: modals and home tabs.

use querygate::clock;
use serde_json::{Map, Value, json};

use super::methods::{Context, Refusal};
use crate::slack::blocks::{self, Refused};
use crate::slack::message::View;
use crate::slack::people::set;
use crate::slack::state::{State, Trigger};

/// Most views on top of each other.
const STACK: usize = 3;

/// `views.open`.
pub(super) fn open(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let view = given(cx)?;
    blocks::view(&view, "modal")?;
    unique_external(cx.state, &view, None)?;
    let trigger = redeem(cx)?;
    let id = open_view(cx.state, &trigger.user, &view, None)?;
    shown(cx.state, &id)
}

/// `views.push`: only onto the view that was clicked in.
pub(super) fn push(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let view = given(cx)?;
    blocks::view(&view, "modal")?;
    unique_external(cx.state, &view, None)?;
    let trigger = redeem(cx)?;
    let Some(below) = trigger.view else { return Err(Refusal::new("not_found")) };
    let depth = cx.state.views.iter().filter(|view| view.user == trigger.user && view.open && view.kind() == "modal");
    if depth.count() >= STACK {
        return Err(Refusal::new("push_limit_reached"));
    }
    let id = open_view(cx.state, &trigger.user, &view, Some(below))?;
    shown(cx.state, &id)
}

/// `views.update`.
pub(super) fn update(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let view = given(cx)?;
    let (id, external) = (cx.str("view_id"), cx.str("external_id"));
    if id.is_none() && external.is_none() {
        return Err(Refusal::arguments("missing required field: view_id or external_id"));
    }
    let matches = |view: &&View| match id {
        Some(id) => view.id == id,
        None => view.view.get("external_id").and_then(Value::as_str) == external,
    };
    let found = cx.state.views.iter().find(|view| view.open && matches(view)).cloned();
    let found = found.ok_or_else(|| Refusal::new("not_found"))?;
    blocks::view(&view, found.kind())?;
    unique_external(cx.state, &view, Some(&found.id))?;
    fresh_hash(cx, &found)?;
    replace(cx.state, &found.id, &view);
    shown(cx.state, &found.id)
}

/// `views.publish`.
pub(super) fn publish_home(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let view = given(cx)?;
    blocks::view(&view, "home")?;
    let user = cx.must("user_id")?;
    if !cx.state.users.contains_key(user) {
        return Err(Refusal::new("user_not_found"));
    }
    if let Some(home) = cx.state.home(user).cloned() {
        fresh_hash(cx, &home)?;
    }
    let id = publish(cx.state, user, &view);
    shown(cx.state, &id)
}

/// The view of a call; a form carries it as a JSON string.
fn given(cx: &Context<'_>) -> Result<Value, Refusal> {
    cx.structured("view")
        .filter(Value::is_object)
        .ok_or_else(|| Refusal::arguments("must provide an object [json-pointer:/view]"))
}

fn fresh_hash(cx: &Context<'_>, view: &View) -> Result<(), Refusal> {
    match cx.str("hash") {
        Some(hash) if hash != view.hash => Err(Refusal::new("hash_conflict")),
        Some(_) | None => Ok(()),
    }
}

/// Takes a trigger: once, and in time.
fn redeem(cx: &mut Context<'_>) -> Result<Trigger, Refusal> {
    let id = cx.must("trigger_id")?;
    let trigger = cx.state.triggers.get_mut(id).ok_or_else(|| Refusal::new("invalid_trigger_id"))?;
    if trigger.used {
        return Err(Refusal::new("exchanged_trigger_id"));
    }
    if trigger.ends <= clock::now() {
        return Err(Refusal::new("expired_trigger_id"));
    }
    trigger.used = true;
    Ok(trigger.clone())
}

fn unique_external(state: &State, view: &Value, except: Option<&str>) -> Result<(), Refusal> {
    let Some(external) = view.get("external_id").and_then(Value::as_str).filter(|id| !id.is_empty()) else {
        return Ok(());
    };
    let taken = |other: &View| {
        other.open
            && Some(other.id.as_str()) != except
            && other.view.get("external_id").and_then(Value::as_str) == Some(external)
    };
    if state.views.iter().any(taken) { Err(Refusal::new("duplicate_external_id")) } else { Ok(()) }
}

fn shown(state: &State, id: &str) -> Result<Value, Refusal> {
    let view = state.view(id).ok_or_else(|| Refusal::new("not_found"))?;
    Ok(json!({ "view": state.view_json(view) }))
}

/// Puts a modal on somebody's screen.
pub(crate) fn open_view(
    state: &mut State,
    user: &str,
    view: &Value,
    previous: Option<String>,
) -> Result<String, Refused> {
    blocks::view(view, "modal")?;
    Ok(add(state, user, view, previous))
}

/// Puts a home tab up.
pub(crate) fn publish(state: &mut State, user: &str, view: &Value) -> String {
    let old = state.home(user).map(|view| view.id.clone());
    match old {
        Some(id) => {
            replace(state, &id, view);
            id
        }
        None => add(state, user, view, None),
    }
}

fn add(state: &mut State, user: &str, view: &Value, previous: Option<String>) -> String {
    let id = state.fresh_id("V");
    let view = stored(state, view);
    let hash = hash(state);
    state.views.push(View {
        id: id.clone(),
        user: user.to_owned(),
        view,
        hash,
        open: true,
        errors: Map::new(),
        previous,
    });
    id
}

/// Puts another content into a view.
pub(crate) fn replace(state: &mut State, id: &str, view: &Value) {
    let (view, hash) = (stored(state, view), hash(state));
    if let Some(old) = state.views.iter_mut().find(|view| view.id == id) {
        old.view = view;
        old.hash = hash;
        old.errors = Map::new();
    }
}

fn stored(state: &mut State, view: &Value) -> Value {
    let mut view = view.clone();
    let blocks = view.get("blocks").and_then(Value::as_array).cloned().unwrap_or_default();
    let blocks = state.store("", &blocks).blocks;
    set(&mut view, "blocks", json!(blocks));
    view
}

fn hash(state: &mut State) -> String {
    let tail = state.secret(8);
    format!("{}.{tail}", state.next_ts().split('.').next().unwrap_or_default())
}
