//! Response URLs: five uses in thirty minutes, no token.

use querygate::clock;
use serde_json::{Map, Value, json};

use super::Answer;
use super::methods::Refusal;
use super::request::{Encoding, Incoming};
use crate::slack::blocks;
use crate::slack::message::{Content, Ephemeral, Message};
use crate::slack::state::{ResponseUrl, State};

const KNOWN: &[&str] = &["text", "blocks", "response_type", "replace_original", "delete_original", "thread_ts"];

/// A POST to a response URL.
pub(super) fn respond(state: &mut State, ticket: &str, call: &Incoming) -> Answer {
    let refuse = |error: &str| {
        let mut answer = Answer::json(json!({ "ok": false, "error": error }));
        answer.status = 404;
        answer
    };
    let Some(url) = state.responses.get_mut(ticket) else { return refuse("no_such_url") };
    if url.ends <= clock::now() {
        return refuse("expired_url");
    }
    if url.uses_left == 0 {
        return refuse("used_url");
    }
    if !matches!(call.encoding, Encoding::Json | Encoding::JsonWithoutCharset) || call.malformed.is_some() {
        return refuse(call.malformed.unwrap_or("invalid_payload"));
    }
    url.uses_left = url.uses_left.saturating_sub(1);
    let url = url.clone();
    match apply(state, &url, &call.arguments) {
        Ok(()) => Answer::text(200, "ok"),
        Err(refusal) => {
            let mut answer = Answer::json(refusal);
            answer.status = 400;
            answer
        }
    }
}

/// Does what an answer to an interaction says, whether it came to the URL or with the acknowledgement.
pub(crate) fn apply(state: &mut State, url: &ResponseUrl, answer: &Map<String, Value>) -> Result<(), Value> {
    if let Some(name) = answer.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(Refusal::arguments(format!("unknown argument: {name}")).json());
    }
    let flag = |name: &str| answer.get(name) == Some(&json!(true));
    let original = url.message.as_ref();
    if flag("delete_original") {
        change(state, url, |message| message.deleted = true);
        return Ok(());
    }
    let blocks = answer.get("blocks").cloned().unwrap_or_else(|| json!([]));
    blocks::message(&blocks).map_err(|refused| Refusal::from(refused).json())?;
    let text = answer.get("text").and_then(Value::as_str).unwrap_or_default();
    let list = blocks.as_array().map_or(&[][..], Vec::as_slice);
    if text.is_empty() {
        return Err(Refusal::new("no_text").json());
    }
    let content = state.store(text, list);
    if flag("replace_original") && original.is_some() {
        change(state, url, |message| message.earlier.push(std::mem::replace(&mut message.content, content)));
        return Ok(());
    }
    let thread_ts = answer.get("thread_ts").and_then(Value::as_str).map(str::to_owned);
    say(state, url, answer, content, thread_ts)
}

fn change(state: &mut State, url: &ResponseUrl, change: impl FnOnce(&mut Message)) {
    let found = |message: &&mut Message| message.channel == url.channel && Some(&message.ts) == url.message.as_ref();
    if let Some(message) = state.messages.iter_mut().find(found) {
        change(message);
    }
}

fn say(
    state: &mut State,
    url: &ResponseUrl,
    answer: &Map<String, Value>,
    content: Content,
    thread_ts: Option<String>,
) -> Result<(), Value> {
    let (channel, ts) = (url.channel.clone(), state.next_ts());
    match answer.get("response_type").and_then(Value::as_str) {
        None | Some("ephemeral") => {
            state.ephemerals.push(Ephemeral { channel, user: url.user.clone(), ts, thread_ts, content });
        }
        Some("in_channel") => {
            let (earlier, files) = (Vec::new(), Vec::new());
            state.messages.push(Message {
                channel,
                ts,
                thread_ts,
                content,
                earlier,
                deleted: false,
                files,
                metadata: None,
            });
        }
        Some(_) => {
            return Err(
                Refusal::arguments("must be one of: ephemeral, in_channel [json-pointer:/response_type]").json()
            );
        }
    }
    Ok(())
}
