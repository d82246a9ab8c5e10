//! `chat.*`: posting, updating, deleting, and messages for one person's eyes.
//!
//! Stricter than Slack: `text` is required beside `blocks` (it is what notifications and screen readers get), and a text
//! that is too long is refused, not cut.

use serde_json::{Value, json};

use super::methods::{Context, Refusal, pace};
use crate::slack::blocks;
use crate::slack::message::{Content, Ephemeral, Message};
use crate::slack::people::Kind;

/// Most characters of a message's text.
const POST_TEXT: usize = 40_000;
/// Most characters of an updated message's text.
const UPDATE_TEXT: usize = 4_000;

/// `chat.postMessage`.
pub(super) fn post(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let channel = target(cx, cx.must("channel")?)?;
    let content = content(cx, POST_TEXT)?.ok_or_else(|| Refusal::new("no_text"))?;
    let thread_ts = thread(cx, &channel)?;
    if cx.flag("reply_broadcast") && thread_ts.is_none() {
        return Err(Refusal::arguments("reply_broadcast needs thread_ts"));
    }
    pace(cx, &channel)?;
    let metadata = cx.structured("metadata");
    let ts = cx.state.next_ts();
    let message = Message {
        channel: channel.clone(),
        ts: ts.clone(),
        thread_ts,
        content,
        earlier: Vec::new(),
        deleted: false,
        files: Vec::new(),
        metadata,
    };
    let shown = cx.state.message_json(&message);
    cx.state.messages.push(message);
    Ok(json!({ "channel": channel, "ts": ts, "message": shown }))
}

/// `chat.update`: with a text and no blocks, the blocks go.
pub(super) fn update(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    // Direct conversations by their own id only, not by the person's.
    let channel = reachable(cx, cx.must("channel")?)?;
    let ts = cx.must("ts")?.to_owned();
    find(cx, &channel, &ts).ok_or_else(|| Refusal::new("message_not_found"))?;
    let content = content(cx, UPDATE_TEXT)?.ok_or_else(|| Refusal::new("no_text"))?;
    let metadata = cx.structured("metadata");
    let text = content.text.clone();
    let Some(message) = find(cx, &channel, &ts) else { return Err(Refusal::new("message_not_found")) };
    message.earlier.push(std::mem::replace(&mut message.content, content));
    if metadata.is_some() {
        message.metadata = metadata;
    }
    let message = message.clone();
    let shown = cx.state.message_json(&message);
    Ok(json!({ "channel": channel, "ts": ts, "text": text, "message": shown }))
}

/// `chat.postEphemeral`.
pub(super) fn post_ephemeral(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let channel = target(cx, cx.must("channel")?)?;
    let user = cx.must("user")?.to_owned();
    if !cx.state.users.contains_key(&user) {
        return Err(Refusal::new("user_not_found"));
    }
    let inside = cx.state.channels.get(&channel).is_some_and(|channel| channel.members.contains(&user));
    if !inside {
        return Err(Refusal::new("user_not_in_channel"));
    }
    let content = content(cx, POST_TEXT)?.ok_or_else(|| Refusal::new("no_text"))?;
    let thread_ts = thread(cx, &channel)?;
    pace(cx, &channel)?;
    let ts = cx.state.next_ts();
    cx.state.ephemerals.push(Ephemeral { channel, user, ts: ts.clone(), thread_ts, content });
    Ok(json!({ "message_ts": ts }))
}

/// `chat.delete`.
pub(super) fn delete(cx: &mut Context<'_>) -> Result<Value, Refusal> {
    let channel = reachable(cx, cx.must("channel")?)?;
    let ts = cx.must("ts")?.to_owned();
    let message = find(cx, &channel, &ts).ok_or_else(|| Refusal::new("message_not_found"))?;
    message.deleted = true;
    Ok(json!({ "channel": channel, "ts": ts }))
}

fn find<'s>(cx: &'s mut Context<'_>, channel: &str, ts: &str) -> Option<&'s mut Message> {
    let messages = &mut cx.state.messages;
    messages.iter_mut().find(|message| message.channel == channel && message.ts == ts && !message.deleted)
}

/// The channel a post goes to: by id, by a public channel's name, or a person's direct conversation.
pub(super) fn target(cx: &mut Context<'_>, name: &str) -> Result<String, Refusal> {
    if let Some(user) = cx.state.users.get(name) {
        if user.bot {
            return Err(Refusal::new("cannot_dm_bot"));
        }
        if user.deleted {
            return Err(Refusal::new("user_disabled"));
        }
        return Ok(cx.state.open_direct(name));
    }
    let plain = name.strip_prefix('#').unwrap_or(name);
    let named = cx.state.channels.values().find(|channel| channel.kind == Kind::Public && channel.name == plain);
    let id = named.map_or_else(|| name.to_owned(), |channel| channel.id.clone());
    reachable(cx, &id)
}

/// A channel by its id that the bot may write to.
fn reachable(cx: &Context<'_>, id: &str) -> Result<String, Refusal> {
    let state = &cx.state;
    let channel = state.channels.get(id).ok_or_else(|| Refusal::new("channel_not_found"))?;
    if channel.kind == Kind::Private && !channel.has_bot {
        return Err(Refusal::new("channel_not_found"));
    }
    if channel.archived {
        return Err(Refusal::new("is_archived"));
    }
    if !channel.has_bot && !state.app.scopes.contains("chat:write.public") {
        return Err(Refusal::new("not_in_channel"));
    }
    Ok(id.to_owned())
}

fn thread(cx: &Context<'_>, channel: &str) -> Result<Option<String>, Refusal> {
    let Some(ts) = cx.str("thread_ts") else { return Ok(None) };
    let parent = cx.state.message(channel, ts).filter(|message| !message.deleted && message.thread_ts.is_none());
    parent.map(|parent| Some(parent.ts.clone())).ok_or_else(|| Refusal::new("thread_not_found"))
}

/// The content of a call; `None` when there is neither text nor blocks.
pub(super) fn content(cx: &mut Context<'_>, most: usize) -> Result<Option<Content>, Refusal> {
    let text = match cx.arguments.get("text") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text.as_str(),
        Some(_) => return Err(Refusal::arguments("must provide a string [json-pointer:/text]")),
    };
    if text.chars().count() > most {
        return Err(Refusal::new("msg_too_long"));
    }
    let blocks = cx.structured("blocks").unwrap_or_else(|| json!([]));
    blocks::message(&blocks)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let list = blocks.as_array().map_or(&[][..], Vec::as_slice);
    Ok(Some(cx.state.store(text, list)))
}
