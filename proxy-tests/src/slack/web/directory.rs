//! Who and what there is: `auth.test`, users, user groups, conversations, and the address of a new socket.

#![expect(clippy::unnecessary_wraps, reason = "every method has the same type")]

use serde_json::{Value, json};

use super::methods::{Context, Refusal};
use crate::slack::people::{Group, Kind, Membership};
use crate::slack::state::Token;

/// `auth.test`.
pub(super) fn auth_test(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let (app, team) = (&cx.state.app, &cx.state.team);
    if cx.token == Token::App {
        return Ok(json!({ "app_name": app.name, "app_id": app.id }));
    }
    Ok(json!({
        "url": format!("https://{}.slack.com/", team.domain), "team": team.name, "user": app.name, "team_id": team.id,
        "user_id": app.bot_user, "bot_id": app.bot_id, "is_enterprise_install": team.organisation.is_some(),
    }))
}

/// `apps.connections.open`.
pub(super) fn open_connection(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let ticket = cx.state.secret(24);
    cx.state.tickets.insert(ticket.clone(), false);
    let app = &cx.state.app.id;
    Ok(json!({ "url": format!("ws://{}/link/?ticket={ticket}&app_id={app}", cx.inner.socket) }))
}

/// `conversations.info`: the scope depends on what the channel is.
pub(super) fn conversation(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let id = cx.must("channel")?;
    let state = &cx.state;
    let scopes = ["channels:read", "groups:read", "im:read"];
    if !scopes.iter().any(|scope| state.app.scopes.contains(*scope)) {
        return Err(Refusal::missing_scope(state, &scopes.join(",")));
    }
    let channel = state.channels.get(id).ok_or_else(|| Refusal::new("channel_not_found"))?;
    let needed = match channel.kind {
        Kind::Public => "channels:read",
        Kind::Private if !channel.has_bot => return Err(Refusal::new("channel_not_found")),
        Kind::Private => "groups:read",
        Kind::Direct => "im:read",
    };
    if !state.app.scopes.contains(needed) {
        return Err(Refusal::missing_scope(state, needed));
    }
    Ok(json!({ "channel": channel.json() }))
}

/// `conversations.open`: with one person.
pub(super) fn open_conversation(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let Some(user) = cx.str("users") else { return Err(Refusal::arguments("missing required field: users")) };
    if user.contains(',') {
        return Err(Refusal::arguments("the stand-in opens conversations with one person"));
    }
    let known = cx.state.users.get(user).ok_or_else(|| Refusal::new("user_not_found"))?;
    if known.deleted {
        return Err(Refusal::new("user_disabled"));
    }
    let id = cx.state.open_direct(user);
    Ok(json!({ "channel": { "id": id } }))
}

/// `users.info`.
pub(super) fn user(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let id = cx.must("user")?;
    let state = &cx.state;
    let user = state.users.get(id).ok_or_else(|| Refusal::new("user_not_found"))?;
    Ok(json!({ "user": user.json(&state.team.id, state.app.scopes.contains("users:read.email")) }))
}

/// `users.lookupByEmail`: of members that are not deactivated.
pub(super) fn user_by_email(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let email = cx.must("email")?;
    let state = &cx.state;
    if !state.app.scopes.contains("users:read") {
        return Err(Refusal::missing_scope(state, "users:read"));
    }
    let user = state
        .users
        .values()
        .filter(|user| !user.deleted && user.membership != Membership::Stranger)
        .find(|user| user.email.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(email)))
        .ok_or_else(|| Refusal::new("users_not_found"))?;
    Ok(json!({ "user": user.json(&state.team.id, true) }))
}

/// `usergroups.list`.
pub(super) fn groups(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let (users, count) = (cx.flag("include_users"), cx.flag("include_count"));
    let disabled = cx.flag("include_disabled");
    let team = &cx.state.team.id;
    let shown = cx.state.groups.values().filter(|group| disabled || !group.disabled);
    let groups: Vec<Value> = shown.map(|group| group.json(team, users, count)).collect();
    Ok(json!({ "usergroups": groups }))
}

/// `usergroups.users.list`.
pub(super) fn group_members(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let id = cx.must("usergroup")?;
    let visible = |group: &&Group| !group.disabled || cx.flag("include_disabled");
    let group = cx.state.groups.get(id).filter(visible).ok_or_else(|| Refusal::new("no_such_subteam"))?;
    Ok(json!({ "users": group.members }))
}
