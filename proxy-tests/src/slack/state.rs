//! What the workspace holds and remembers. Tests look at it through [`State`]'s methods, inside
//! [`Workspace::look`](super::Workspace::look) and [`Workspace::wait_for`](super::Workspace::wait_for).
//!
//! It knows no sockets: time and randomness come in as arguments or from its own seeded generator.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use querygate::clock;
use serde_json::{Map, Value, json};

use super::delivery::Record;
use super::fault::Faults;
use super::message::{Content, Ephemeral, Message, View, with_defaults};
use super::people::{Channel, Group, Kind, User};

/// Longest line of a summary.
const SUMMARY_WIDTH: usize = 240;

/// The app as the workspace knows it.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) bot_id: String,
    pub(crate) bot_user: String,
    pub(crate) bot_token: String,
    /// The app-level token.
    pub(crate) token: String,
    pub(crate) signing_secret: String,
    /// What the bot token may do.
    pub(crate) scopes: BTreeSet<String>,
    /// What the app-level token may do.
    pub(crate) socket_scopes: BTreeSet<String>,
    /// Answered to every call instead of its result: `token_revoked`, `account_inactive` …
    pub(crate) locked_out: Option<String>,
}

/// The team: a workspace, maybe within an organisation.
#[derive(Debug, Clone)]
pub(crate) struct Team {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) domain: String,
    /// Installed for a whole organisation: interactions then carry `team: null` and the organisation.
    pub(crate) organisation: Option<String>,
}

/// Which token a call was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// None at all.
    Missing,
    /// One that was never issued.
    Unknown,
    /// The bot's, `xoxb-…`.
    Bot,
    /// The app's, `xapp-…`.
    App,
}

/// One call of the Web API, of an upload URL (`upload`) or of a response URL (`response_url`).
#[derive(Debug, Clone)]
pub struct Call {
    /// `chat.postMessage` …
    pub method: String,
    /// Its arguments, without the token; what came as a JSON string is parsed.
    pub arguments: Map<String, Value>,
    /// Whose token.
    pub token: Token,
    /// When it arrived.
    pub at: Instant,
    /// Whether it was carried out (or refused for a reason of its own); `false` where a fault came first.
    pub processed: bool,
    /// What it would be answered; `None` while it is not.
    pub answer: Option<Value>,
    /// What was injected, if anything.
    pub fault: Option<String>,
}

impl Call {
    /// Whether it was carried out, whatever became of the answer.
    pub fn succeeded(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.get("ok") == Some(&json!(true)))
    }

    /// The error it was answered with.
    pub fn error(&self) -> Option<&str> {
        self.answer.as_ref()?.get("error")?.as_str()
    }

    /// An argument that is a string.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.get(name)?.as_str()
    }
}

/// A file, from the request for its upload URL on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// `F…`
    pub id: String,
    /// As announced.
    pub name: String,
    /// As announced, bytes.
    pub length: usize,
    /// What was uploaded.
    pub content: Option<Vec<u8>>,
    /// Its title, and that the upload was completed.
    pub title: Option<String>,
    /// Where it was shared.
    pub channels: Vec<String>,
    pub(crate) ticket: String,
}

/// A connection of Socket Mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Counted from 1.
    pub number: usize,
    /// Hello was said and neither side has closed it.
    pub open: bool,
}

/// The right to open a view.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) user: String,
    pub(crate) ends: Instant,
    pub(crate) used: bool,
    /// The view it was clicked in: what `views.push` builds on.
    pub(crate) view: Option<String>,
}

/// The right to answer an interaction without a token.
#[derive(Debug, Clone)]
pub(crate) struct ResponseUrl {
    pub(crate) user: String,
    pub(crate) channel: String,
    /// The message clicked in, unless it was a command.
    pub(crate) message: Option<String>,
    pub(crate) ends: Instant,
    pub(crate) uses_left: usize,
}

/// Everything in the workspace.
#[derive(Debug)]
pub struct State {
    pub(crate) team: Team,
    pub(crate) app: App,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) channels: BTreeMap<String, Channel>,
    pub(crate) messages: Vec<Message>,
    pub(crate) ephemerals: Vec<Ephemeral>,
    pub(crate) views: Vec<View>,
    pub(crate) files: Vec<File>,
    pub(crate) calls: Vec<Call>,
    pub(crate) deliveries: Vec<Record>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) triggers: HashMap<String, Trigger>,
    pub(crate) responses: HashMap<String, ResponseUrl>,
    pub(crate) tickets: HashMap<String, bool>,
    pub(crate) faults: Faults,
    pub(crate) buckets: HashMap<String, (Instant, Duration)>,
    pub(crate) violations: Vec<String>,
    pub(crate) random: fastrand::Rng,
    serial: u64,
    last_ts: i64,
}

impl State {
    pub(crate) fn new(team: Team, app: App, seed: u64) -> State {
        State {
            team,
            app,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            channels: BTreeMap::new(),
            messages: Vec::new(),
            ephemerals: Vec::new(),
            views: Vec::new(),
            files: Vec::new(),
            calls: Vec::new(),
            deliveries: Vec::new(),
            sockets: Vec::new(),
            triggers: HashMap::new(),
            responses: HashMap::new(),
            tickets: HashMap::new(),
            faults: Faults::default(),
            buckets: HashMap::new(),
            violations: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            serial: 0,
            last_ts: 0,
        }
    }

    /// The messages of a channel that were not deleted, in order of posting, replies among them.
    pub fn messages(&self, channel: &str) -> Vec<&Message> {
        self.messages.iter().filter(|message| message.channel == channel && !message.deleted).collect()
    }

    /// A message, also a deleted one.
    pub fn message(&self, channel: &str, ts: &str) -> Option<&Message> {
        self.messages.iter().find(|message| message.channel == channel && message.ts == ts)
    }

    /// The replies to a message.
    pub fn thread(&self, channel: &str, ts: &str) -> Vec<&Message> {
        self.messages(channel).into_iter().filter(|message| message.thread_ts.as_deref() == Some(ts)).collect()
    }

    /// The messages in the direct conversation with `user`.
    pub fn direct(&self, user: &str) -> Vec<&Message> {
        self.direct_channel(user).map(|channel| self.messages(channel)).unwrap_or_default()
    }

    /// What only `user` saw.
    pub fn ephemerals(&self, user: &str) -> Vec<&Ephemeral> {
        self.ephemerals.iter().filter(|message| message.user == user).collect()
    }

    /// The modal on `user`'s screen.
    pub fn modal(&self, user: &str) -> Option<&View> {
        self.views.iter().rev().find(|view| view.user == user && view.open && view.kind() == "modal")
    }

    /// `user`'s home tab.
    pub fn home(&self, user: &str) -> Option<&View> {
        self.views.iter().find(|view| view.user == user && view.kind() == "home")
    }

    /// A view by its id.
    pub fn view(&self, id: &str) -> Option<&View> {
        self.views.iter().find(|view| view.id == id)
    }

    /// Every call so far of `method`; of all of them with `*`.
    pub fn calls(&self, method: &str) -> Vec<&Call> {
        self.calls.iter().filter(|call| method == "*" || call.method == method).collect()
    }

    /// The files, from the request for their upload URL on.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// What was sent to the app.
    pub fn deliveries(&self) -> &[Record] {
        &self.deliveries
    }

    /// The sockets that are open.
    pub fn sockets(&self) -> Vec<&Socket> {
        self.sockets.iter().filter(|socket| socket.open).collect()
    }

    /// How many sockets there have been, with those that were turned away.
    pub fn sockets_ever(&self) -> usize {
        self.sockets.len()
    }

    /// What the app did that Slack would pass over in silence and a judge should not.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// A user.
    pub fn user(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// The direct conversation with `user`, if there is one.
    pub(crate) fn direct_channel(&self, user: &str) -> Option<&str> {
        let direct = |channel: &&Channel| channel.kind == Kind::Direct && channel.members.contains(user);
        self.channels.values().find(direct).map(|channel| channel.id.as_str())
    }

    /// The direct conversation with `user`, opened if need be.
    pub(crate) fn open_direct(&mut self, user: &str) -> String {
        if let Some(channel) = self.direct_channel(user) {
            return channel.to_owned();
        }
        let id = self.fresh_id("D");
        self.channels.insert(id.clone(), Channel::direct(&id, user));
        id
    }

    /// A new id such as `V0000000A1`.
    pub(crate) fn fresh_id(&mut self, prefix: &str) -> String {
        self.serial = self.serial.wrapping_add(1);
        format!("{prefix}0{:05X}{:03X}", self.serial, self.random.u16(..0xfff))
    }

    /// A name nobody can guess.
    pub(crate) fn secret(&mut self, length: usize) -> String {
        (0..length).map(|_| self.random.alphanumeric()).collect()
    }

    /// The next `ts`: seconds and microseconds, never the same twice.
    pub(crate) fn next_ts(&mut self) -> String {
        let now = clock::wall().as_microsecond();
        self.last_ts = now.max(self.last_ts.saturating_add(1));
        let (seconds, micros) = (self.last_ts / 1_000_000, self.last_ts % 1_000_000);
        format!("{seconds}.{micros:06}")
    }

    /// Content as Slack stores it.
    pub(crate) fn store(&mut self, text: &str, blocks: &[Value]) -> Content {
        let random = &mut self.random;
        let fresh = || (0..5).map(|_| random.alphanumeric()).collect();
        Content { text: text.to_owned(), blocks: with_defaults(blocks, fresh) }
    }

    /// A new right to open a view.
    pub(crate) fn trigger(&mut self, user: &str, ends: Instant, view: Option<String>) -> String {
        let id = format!(
            "{}.{}.{}",
            self.random.u64(1_000_000..9_999_999),
            self.random.u32(..),
            self.secret(32).to_lowercase()
        );
        self.triggers.insert(id.clone(), Trigger { user: user.to_owned(), ends, used: false, view });
        id
    }

    /// A message as the API and interactions show it.
    pub(crate) fn message_json(&self, message: &Message) -> Value {
        let app = &self.app;
        let mut json = json!({
            "type": "message", "user": app.bot_user, "bot_id": app.bot_id, "app_id": app.id, "ts": message.ts,
            "text": message.content.text, "team": self.team.id, "blocks": message.content.blocks,
            "bot_profile": { "id": app.bot_id, "app_id": app.id, "name": app.name, "deleted": false,
                "updated": 1_795_000_000, "team_id": self.team.id },
        });
        if let Some(object) = json.as_object_mut() {
            if let Some(thread) = &message.thread_ts {
                object.insert("thread_ts".to_owned(), json!(thread));
            }
            if !message.earlier.is_empty() {
                object.insert("edited".to_owned(), json!({ "user": app.bot_user, "ts": message.ts }));
            }
        }
        json
    }

    /// A view as the API and interactions show it.
    pub(crate) fn view_json(&self, view: &View) -> Value {
        let mut json = view.view.clone();
        let text = |key: &str| view.view.get(key).cloned().unwrap_or(json!(""));
        if let Some(object) = json.as_object_mut() {
            for (key, value) in [
                ("id", json!(view.id)),
                ("team_id", json!(self.team.id)),
                ("private_metadata", text("private_metadata")),
                ("callback_id", text("callback_id")),
                ("external_id", text("external_id")),
                ("state", json!({ "values": {} })),
                ("hash", json!(view.hash)),
                ("root_view_id", json!(view.id)),
                ("previous_view_id", json!(view.previous)),
                ("app_id", json!(self.app.id)),
                ("app_installed_team_id", json!(self.team.id)),
                ("bot_id", json!(self.app.bot_id)),
            ] {
                object.insert(key.to_owned(), value);
            }
            for key in ["clear_on_close", "notify_on_close"] {
                object.entry(key).or_insert(json!(false));
            }
            for key in ["title", "submit", "close"] {
                object.entry(key).or_insert(Value::Null);
            }
        }
        json
    }

    /// What happened so far, for the message of a test that waited in vain.
    pub(crate) fn summary(&self) -> String {
        let mut lines = Vec::new();
        for call in &self.calls {
            let outcome = match (&call.answer, call.succeeded()) {
                (None, _) => "unanswered".to_owned(),
                (Some(_), true) => "ok".to_owned(),
                (Some(answer), false) => answer.to_string(),
            };
            let fault = call.fault.as_ref().map(|fault| format!(" [{fault}]")).unwrap_or_default();
            lines.push(format!("call {}{fault}: {outcome}", call.method));
        }
        for message in &self.messages {
            lines.push(format!("message {} {}: {:?}", message.channel, message.ts, message.rendered()));
        }
        lines.extend(self.ephemerals.iter().map(|one| format!("only for {}: {:?}", one.user, one.content.rendered())));
        lines.extend(self.deliveries.iter().map(|record| format!("delivery {record}")));
        lines.extend(self.sockets.iter().map(|socket| format!("socket {socket:?}")));
        lines.extend(self.violations.iter().map(|what| format!("violation: {what}")));
        let short = |line: String| line.chars().take(SUMMARY_WIDTH).collect::<String>();
        lines.into_iter().map(short).collect::<Vec<_>>().join("\n")
    }
}
