//! The table of methods, and what is checked before any of them runs: verb, encoding, arguments, token, scope.
//!
//! Stricter than Slack in one thing: an argument no method documents is refused, where Slack would ignore it.

use axum::http::Method as Verb;
use querygate::clock;
use serde_json::{Map, Value, json};

use super::request::{Encoding, Incoming};
use super::{Answer, chat, directory, files, views};
use crate::slack::blocks::Refused;
use crate::slack::inner::Inner;
use crate::slack::state::{State, Token};

/// A method.
struct Method {
    name: &'static str,
    scope: Option<&'static str>,
    /// Takes a JSON body; methods that only read take none.
    json: bool,
    /// Required ones begin with `!`.
    arguments: &'static [&'static str],
    run: Run,
}

type Run = fn(&mut Context<'_>) -> Result<Value, Refusal>;

/// The one method of the app's token.
const OPEN: &str = "apps.connections.open";

const POST: &[&str] = &[
    "!channel",
    "text",
    "blocks",
    "thread_ts",
    "reply_broadcast",
    "unfurl_links",
    "unfurl_media",
    "metadata",
    "mrkdwn",
    "parse",
    "link_names",
];
const UPDATE: &[&str] =
    &["!channel", "!ts", "text", "blocks", "metadata", "parse", "link_names", "as_user", "reply_broadcast"];
const EPHEMERAL: &[&str] = &["!channel", "!user", "text", "blocks", "thread_ts", "parse", "link_names"];
const GROUPS: &[&str] = &["include_count", "include_disabled", "include_users", "team_id"];
const COMPLETE: &[&str] = &["!files", "channel_id", "channels", "initial_comment", "blocks", "thread_ts"];

const METHODS: &[Method] = &[
    writes("auth.test", None, &[], directory::auth_test),
    writes(OPEN, Some("connections:write"), &[], directory::open_connection),
    writes("chat.postMessage", Some("chat:write"), POST, chat::post),
    writes("chat.update", Some("chat:write"), UPDATE, chat::update),
    writes("chat.postEphemeral", Some("chat:write"), EPHEMERAL, chat::post_ephemeral),
    writes("chat.delete", Some("chat:write"), &["!channel", "!ts", "as_user"], chat::delete),
    // Its scope depends on the kind of channel.
    reads("conversations.info", None, &["!channel", "include_locale", "include_num_members"], directory::conversation),
    writes(
        "conversations.open",
        Some("im:write"),
        &["users", "channel", "return_im", "prevent_creation"],
        directory::open_conversation,
    ),
    reads("users.info", Some("users:read"), &["!user", "include_locale"], directory::user),
    reads("users.lookupByEmail", Some("users:read.email"), &["!email"], directory::user_by_email),
    reads("usergroups.list", Some("usergroups:read"), GROUPS, directory::groups),
    reads(
        "usergroups.users.list",
        Some("usergroups:read"),
        &["!usergroup", "include_disabled", "team_id"],
        directory::group_members,
    ),
    writes("views.open", None, &["!trigger_id", "!view"], views::open),
    writes("views.push", None, &["!trigger_id", "!view"], views::push),
    writes("views.update", None, &["view_id", "external_id", "hash", "!view"], views::update),
    writes("views.publish", None, &["!user_id", "!view", "hash"], views::publish_home),
    reads(
        "files.getUploadURLExternal",
        Some("files:write"),
        &["!filename", "!length", "alt_txt", "snippet_type"],
        files::upload_url,
    ),
    writes("files.completeUploadExternal", Some("files:write"), COMPLETE, files::complete),
];

const fn writes(
    name: &'static str,
    scope: Option<&'static str>,
    arguments: &'static [&'static str],
    run: Run,
) -> Method {
    Method { name, scope, json: true, arguments, run }
}

const fn reads(
    name: &'static str,
    scope: Option<&'static str>,
    arguments: &'static [&'static str],
    run: Run,
) -> Method {
    Method { name, scope, json: false, arguments, run }
}

/// Why a call is refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Refusal {
    error: String,
    messages: Vec<String>,
    more: Vec<(&'static str, Value)>,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(error: &str) -> Refusal {
        Refusal { error: error.to_owned(), ..Refusal::default() }
    }

    /// `invalid_arguments` with an explanation.
    pub(super) fn arguments(message: impl Into<String>) -> Refusal {
        Refusal { messages: vec![message.into()], ..Refusal::new("invalid_arguments") }
    }

    pub(super) fn missing_scope(state: &State, needed: &str) -> Refusal {
        let provided: Vec<&str> = state.app.scopes.iter().map(String::as_str).collect();
        Refusal {
            more: vec![("needed", json!(needed)), ("provided", json!(provided.join(",")))],
            ..Refusal::new("missing_scope")
        }
    }

    pub(super) fn rate_limited(seconds: u64) -> Refusal {
        Refusal { retry_after: Some(seconds), ..Refusal::new("ratelimited") }
    }

    /// Slack's answer.
    pub(super) fn json(&self) -> Value {
        let mut answer = Map::from_iter([("ok".to_owned(), json!(false)), ("error".to_owned(), json!(self.error))]);
        answer.extend(self.more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        if !self.messages.is_empty() {
            let messages: Vec<String> = self.messages.iter().map(|message| format!("[ERROR] {message}")).collect();
            answer.insert("errors".to_owned(), json!(self.messages));
            answer.insert("response_metadata".to_owned(), json!({ "messages": messages }));
        }
        Value::Object(answer)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        Refusal { messages: refused.messages, ..Refusal::new(refused.error) }
    }
}

/// What a method works with.
pub(super) struct Context<'c> {
    pub(super) inner: &'c Inner,
    pub(super) state: &'c mut State,
    pub(super) arguments: &'c Map<String, Value>,
    pub(super) token: Token,
}

impl<'c> Context<'c> {
    /// An argument that is a string; `None` also when it is empty.
    pub(super) fn str(&self, name: &str) -> Option<&'c str> {
        self.arguments.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A required argument that is a string.
    pub(super) fn must(&self, name: &str) -> Result<&'c str, Refusal> {
        self.str(name).ok_or_else(|| Refusal::arguments(format!("must provide a string [json-pointer:/{name}]")))
    }

    /// A number, also written as a string.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        let value = self.arguments.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        usize::try_from(number).ok()
    }

    /// A flag, also written as a string.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.arguments.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true" || text == "1",
            Some(Value::Number(number)) => number.as_i64() == Some(1),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => false,
        }
    }

    /// An argument that is JSON; a string is read as JSON, as Slack does.
    pub(super) fn structured(&self, name: &str) -> Option<Value> {
        let value = self.arguments.get(name)?;
        Some(match value.as_str() {
            Some(text) => serde_json::from_str(text).unwrap_or_default(),
            None => value.clone(),
        })
    }
}

/// Whose token a call carries.
pub(super) fn token_of(state: &State, method: &str, call: &Incoming) -> Token {
    // Sockets are opened with the header only; JSON bodies carry no token either.
    let argument = (method != OPEN).then_some(call.token_argument.as_deref()).flatten();
    match call.bearer.as_deref().or(argument) {
        None | Some("") => Token::Missing,
        Some(token) if token == state.app.bot_token => Token::Bot,
        Some(token) if token == state.app.token => Token::App,
        Some(_) => Token::Unknown,
    }
}

/// Runs a method.
pub(super) fn run(inner: &Inner, state: &mut State, name: &str, call: &Incoming, token: Token) -> Answer {
    let result = checked(inner, state, name, call, token);
    let retry_after = result.as_ref().err().and_then(|refusal| refusal.retry_after);
    if let Some(seconds) = retry_after {
        return Answer::rate_limited(seconds);
    }
    let mut json = match result {
        Ok(mut json) => {
            crate::slack::people::set(&mut json, "ok", json!(true));
            json
        }
        Err(refusal) => refusal.json(),
    };
    if call.encoding == Encoding::JsonWithoutCharset {
        crate::slack::people::set(&mut json, "warning", json!("missing_charset"));
    }
    let mut answer = Answer::json(json);
    let scopes: Vec<&str> = state.app.scopes.iter().map(String::as_str).collect();
    if token == Token::Bot {
        answer.headers.push(("x-oauth-scopes", scopes.join(",")));
    }
    answer
}

fn checked(inner: &Inner, state: &mut State, name: &str, call: &Incoming, token: Token) -> Result<Value, Refusal> {
    let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| Refusal::new("unknown_method"))?;
    if let Some(error) = call.malformed {
        return Err(Refusal::new(error));
    }
    if call.verb != Verb::POST && (call.verb != Verb::GET || method.name == OPEN) {
        return Err(Refusal::new("insecure_request"));
    }
    authorised(state, method, token)?;
    if matches!(call.encoding, Encoding::Json | Encoding::JsonWithoutCharset) && !method.json {
        return Err(Refusal::arguments("this method takes a form, no JSON"));
    }
    for name in method.arguments.iter().filter_map(|name| name.strip_prefix('!')) {
        if call.arguments.get(name).is_none_or(Value::is_null) {
            return Err(Refusal::arguments(format!("missing required field: {name}")));
        }
    }
    let documented = |name: &str| method.arguments.iter().any(|known| known.trim_start_matches('!') == name);
    if let Some(name) = call.arguments.keys().find(|name| !documented(name)) {
        return Err(Refusal::arguments(format!("unknown argument: {name}")));
    }
    (method.run)(&mut Context { inner, state, arguments: &call.arguments, token })
}

fn authorised(state: &State, method: &Method, token: Token) -> Result<(), Refusal> {
    match token {
        Token::Missing => return Err(Refusal::new("not_authed")),
        Token::Unknown => return Err(Refusal::new("invalid_auth")),
        Token::Bot | Token::App => {}
    }
    if let Some(error) = &state.app.locked_out {
        return Err(Refusal::new(error));
    }
    let for_app = method.name == OPEN;
    if method.name != "auth.test" && for_app != (token == Token::App) {
        return Err(Refusal::new("not_allowed_token_type"));
    }
    let granted = if for_app { &state.app.socket_scopes } else { &state.app.scopes };
    match method.scope {
        Some(scope) if !granted.contains(scope) => Err(Refusal::missing_scope(state, scope)),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a post that comes too fast for its channel, when the workspace is paced: one per second, three at once.
pub(super) fn pace(cx: &mut Context<'_>, channel: &str) -> Result<(), Refusal> {
    if !cx.inner.paced {
        return Ok(());
    }
    let second = std::time::Duration::from_secs(1);
    let now = clock::now();
    let (last, debt) = cx.state.buckets.get(channel).copied().unwrap_or((now, std::time::Duration::ZERO));
    let debt = debt.saturating_sub(now.saturating_duration_since(last));
    if debt > second.saturating_mul(2) {
        return Err(Refusal::rate_limited(1));
    }
    cx.state.buckets.insert(channel.to_owned(), (now, debt.saturating_add(second)));
    Ok(())
}
