//! A Slack workspace to test against: Web API, Socket Mode, signed callbacks, people who click, and everything that can
//! go wrong.
//!
//! It judges the Slack adapter and shares no code with it. It is strict: what Slack's documentation does not allow is
//! refused, in Slack's words, and where Slack is lenient in ways an adapter should not rely on, the workspace is not (each
//! module says where). What Slack would pass over in silence is collected as [`State::violations`].
//!
//! Start from [`Workspace::start`]; fill it with [`User`]s, [`Group`]s and [`Channel`]s; point the adapter at
//! [`Workspace::api_url`] with [`Workspace::bot_token`] and [`Workspace::app_token`]; then [`Workspace::wait_for`] what it
//! does, let people act ([`hands`]), and let things go wrong ([`Workspace::fail`] and its neighbours).
//!
//! The workspace runs on a thread of its own, so blocking fixtures may be used beside it in any test.

mod callbacks;
mod delivery;
mod fault;
mod inner;
mod message;
mod payload;
mod people;
mod socket;
mod state;
mod web;

pub mod blocks;
pub mod console;
pub mod hands;
pub mod render;

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use querygate::clock;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use self::callbacks::signature;
pub use self::delivery::{Attempt, Delivery, Ending, Kind as PayloadKind, Record, Reply, Via};
pub use self::fault::{DeliveryFault, Fault, SocketFault};
pub use self::hands::Impossible;
pub use self::inner::{Callbacks, Redelivery, Timing};
pub use self::message::{Action, Content, Ephemeral, Message, View};
pub use self::people::{Channel, Group, Kind as ChannelKind, Membership, User};
pub use self::socket::SOCKETS;
pub use self::state::{Call, File, Socket, State, Token};

use self::inner::{Inner, Settings};
use self::socket::Order;
use self::state::{App, Team};
use crate::DEADLINE;

/// The scopes the product asks for in its manifest.
pub const SCOPES: &[&str] =
    &["chat:write", "commands", "usergroups:read", "users:read", "users:read.email", "files:write"];

/// As often as it comes to it: for [`Workspace::fail`].
pub const ALWAYS: usize = usize::MAX;

/// What a workspace is started with.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    settings: Settings,
    seed: u64,
    port: u16,
    socket_port: u16,
    more: Router,
}

impl Builder {
    /// Other time limits than Slack's.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Builder {
        self.settings.timing = timing;
        self
    }

    /// What is delivered again.
    #[must_use]
    pub fn redelivery(mut self, redelivery: Redelivery) -> Builder {
        self.settings.redelivery = redelivery;
        self
    }

    /// Posts to a channel faster than one per second (three at once) are answered 429.
    #[must_use]
    pub fn paced(mut self) -> Builder {
        self.settings.paced = true;
        self
    }

    /// Another choice of sockets, ids and secrets.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = seed;
        self
    }

    /// Fixed ports of 127.0.0.1, for a workspace that is used by hand.
    #[must_use]
    pub fn ports(mut self, web: u16, socket: u16) -> Builder {
        (self.port, self.socket_port) = (web, socket);
        self
    }

    /// Further routes on the Web API's port.
    #[must_use]
    pub fn routes(mut self, more: Router) -> Builder {
        self.more = more;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(self) -> Workspace {
        let (started, ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("slack".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let _ = started.send(self.serve().await);
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        });
        let inner = ready.await.expect("the workspace listens");
        Workspace { inner, stop: Some(stop), thread: Some(thread.expect("a thread")) }
    }

    async fn serve(self) -> Arc<Inner> {
        let web = TcpListener::bind(("127.0.0.1", self.port)).await.expect("a port for the Web API");
        let socket = TcpListener::bind(("127.0.0.1", self.socket_port)).await.expect("a port for sockets");
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound listener has an address");
        let state = new_state(self.seed);
        let inner = Arc::new(Inner::new(state, self.settings, address(&web), address(&socket)));
        tokio::spawn(web::serve(web, Arc::clone(&inner), self.more));
        tokio::spawn(socket::serve(socket, Arc::clone(&inner)));
        inner
    }
}

fn new_state(seed: u64) -> State {
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let team = Team { id: "T0HOLD".into(), name: "Holdout".into(), domain: "holdout".into(), organisation: None };
    let app = App {
        id: "A0GATE".into(),
        name: "query-approver".into(),
        bot_id: "B0GATE".into(),
        bot_user: "U0GATE".into(),
        bot_token: String::new(),
        token: String::new(),
        signing_secret: String::new(),
        scopes: strings(SCOPES),
        socket_scopes: strings(&["connections:write"]),
        locked_out: None,
    };
    let mut state = State::new(team, app, seed);
    state.app.bot_token = format!("xoxb-1000-2000-{}", state.secret(24));
    state.app.token = format!("xapp-1-A0GATE-3000-{}", state.secret(48).to_lowercase());
    state.app.signing_secret = state.secret(32).to_lowercase();
    let bot = User::new("U0GATE", "query-approver").bot();
    state.users.insert(bot.id.clone(), bot);
    state
}

/// A running workspace; it ends when it is dropped.
#[derive(Debug)]
pub struct Workspace {
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if std::thread::panicking() {
            eprintln!("--- the Slack workspace:\n{}", self.inner.look(State::summary));
        }
    }
}

impl Workspace {
    /// What to start it with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An empty workspace with the app in it.
    pub async fn start() -> Workspace {
        Builder::default().start().await
    }

    /// The people of the mock-ups: `U0REQ` who asks, `U0APP1` and `U0APP2` in `@dba` (`S0DBA`), `U0OUT` who is in the
    /// channel but in no group, a guest, a stranger, and the channel `C0APPR`.
    pub async fn with_people() -> Workspace {
        let workspace = Workspace::start().await;
        workspace.add_people();
        workspace
    }

    /// Adds what [`with_people`](Workspace::with_people) has.
    pub fn add_people(&self) {
        for user in [
            User::new("U0REQ", "rita").email("rita@example.com"),
            User::new("U0APP1", "ann").email("ann@example.com"),
            User::new("U0APP2", "bob").email("bob@example.com"),
            User::new("U0LEAD", "lea").email("lea@example.com"),
            User::new("U0OUT", "olaf").email("olaf@example.com"),
            User::new("U0GUEST", "gus").email("gus@example.org").guest(),
            User::new("U0SOLO", "sol").email("sol@example.org").single_channel_guest(),
            User::new("U0ELSE", "elsa").email("elsa@example.net").stranger("T0ELSE"),
        ] {
            self.add_user(user);
        }
        self.add_group(Group::new("S0DBA", "dba", &["U0APP1", "U0APP2"]));
        self.add_group(Group::new("S0LEAD", "leads", &["U0LEAD"]));
        let everybody = ["U0REQ", "U0APP1", "U0APP2", "U0LEAD", "U0OUT", "U0GUEST", "U0SOLO", "U0ELSE"];
        self.add_channel(Channel::new("C0APPR", "approvals", &everybody).shared());
    }

    /// `http://127.0.0.1:PORT/api`
    pub fn api_url(&self) -> String {
        format!("{}/api", self.inner.base_url())
    }

    /// The bot's token.
    pub fn bot_token(&self) -> String {
        self.inner.look(|state| state.app.bot_token.clone())
    }

    /// The app's token, for sockets.
    pub fn app_token(&self) -> String {
        self.inner.look(|state| state.app.token.clone())
    }

    /// What callbacks are signed with.
    pub fn signing_secret(&self) -> String {
        self.inner.look(|state| state.app.signing_secret.clone())
    }

    /// `T…`
    pub fn team_id(&self) -> String {
        self.inner.look(|state| state.team.id.clone())
    }

    /// Adds a user, or replaces the one with the same id.
    pub fn add_user(&self, user: User) {
        self.inner.change(|state| state.users.insert(user.id.clone(), user));
    }

    /// Changes a user: deactivates, demotes …
    pub fn change_user(&self, id: &str, change: impl FnOnce(&mut User)) {
        self.inner.change(|state| change(state.users.get_mut(id).unwrap_or_else(|| panic!("no user {id}"))));
    }

    /// Adds a user group, or replaces the one with the same id.
    pub fn add_group(&self, group: Group) {
        self.inner.change(|state| state.groups.insert(group.id.clone(), group));
    }

    /// Changes a user group.
    pub fn change_group(&self, id: &str, change: impl FnOnce(&mut Group)) {
        self.inner.change(|state| change(state.groups.get_mut(id).unwrap_or_else(|| panic!("no group {id}"))));
    }

    /// Adds a channel, or replaces the one with the same id.
    pub fn add_channel(&self, channel: Channel) {
        self.inner.change(|state| state.channels.insert(channel.id.clone(), channel));
    }

    /// Changes a channel: archives it, takes the bot out …
    pub fn change_channel(&self, id: &str, change: impl FnOnce(&mut Channel)) {
        self.inner.change(|state| change(state.channels.get_mut(id).unwrap_or_else(|| panic!("no channel {id}"))));
    }

    /// The messages of a channel.
    pub fn messages(&self, channel: &str) -> Vec<Message> {
        self.look(|state| state.messages(channel).into_iter().cloned().collect())
    }

    /// Looks at everything.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.inner.look(look)
    }

    /// Waits until `probe` finds something.
    ///
    /// # Panics
    /// When it did not within [`DEADLINE`].
    pub async fn wait_for<T>(&self, what: &str, probe: impl FnMut(&State) -> Option<T>) -> T {
        let found = timeout(DEADLINE, self.inner.wait(probe)).await;
        found.unwrap_or_else(|_| panic!("never happened: {what}\n{}", self.inner.look(State::summary)))
    }

    /// The gate's section for it, announcing in `channel` without pauses; further keys may follow.
    pub fn section(&self, channel: &str) -> String {
        let (bot, app, api) = (self.bot_token(), self.app_token(), self.api_url());
        format!(
            "[slack]\nbot_token = \"{bot}\"\napp_token = \"{app}\"\nchannel = \"{channel}\"\napi_url = \"{api}\"\npost_interval = \"0s\"\n"
        )
    }

    /// The newest message in a channel that is no reply, once it says `text`.
    pub async fn newest(&self, channel: &str, text: &str) -> Message {
        let probe = |state: &State| {
            let mut top = state.messages(channel).into_iter().filter(|message| message.thread_ts.is_none());
            top.next_back().filter(|message| message.rendered().contains(text)).cloned()
        };
        self.wait_for(text, probe).await
    }

    /// Clicks, and waits until that was acknowledged.
    ///
    /// # Panics
    /// There is no such button for the user, or nobody acknowledged.
    pub async fn click_through(&self, channel: &str, message: &Message, action: &str, user: &str) {
        let clicked = self.click(channel, &message.ts, action, user).unwrap();
        assert!(clicked.ended().await.acknowledged);
    }

    /// Waits for the `count`-th message in a channel that is no reply.
    pub async fn wait_for_message(&self, channel: &str, count: usize) -> Message {
        let what = format!("message {count} in {channel}");
        self.wait_for(&what, |state| {
            let mut top = state.messages(channel).into_iter().filter(|message| message.thread_ts.is_none());
            top.nth(count.checked_sub(1)?).cloned()
        })
        .await
    }

    /// Waits until so many sockets are open.
    pub async fn wait_for_sockets(&self, count: usize) {
        let what = format!("{count} open sockets");
        self.wait_for(&what, |state| (state.sockets().len() == count).then_some(())).await;
    }

    /// Nothing was done that Slack would pass over in silence.
    ///
    /// # Panics
    /// When something was.
    pub fn assert_no_violations(&self) {
        let violations = self.look(|state| state.violations.clone());
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// Delivers by signed HTTP callbacks from now on; by sockets again with `None`.
    pub fn deliver_to(&self, callbacks: Option<Callbacks>) {
        *self.inner.callbacks.lock().unwrap_or_else(PoisonError::into_inner) = callbacks;
    }

    /// Lets the next `times` calls of `method` (`*` for any, `upload`, `response_url`) meet a fault.
    pub fn fail(&self, method: &str, fault: Fault, times: usize) {
        self.inner.change(|state| state.faults.add(method, fault, times));
    }

    /// Lets go the calls of `method` that hang; `*` for all of them.
    pub fn release(&self, method: &str) {
        self.inner.change(|state| state.faults.release(method));
    }

    /// Forgets all faults that did not happen yet.
    pub fn heal(&self) {
        self.inner.change(|state| state.faults.clear());
    }

    /// Lets the next `times` sockets meet a fault when they connect.
    pub fn fail_sockets(&self, fault: SocketFault, times: usize) {
        self.inner.change(|state| state.faults.sockets.extend(std::iter::repeat_n(fault, times)));
    }

    /// Lets the next delivery meet a fault.
    pub fn fail_delivery(&self, fault: DeliveryFault) {
        self.inner.change(|state| state.faults.deliveries.push_back(fault));
    }

    /// Answers every call with this error: `token_revoked`, `account_inactive`, `invalid_auth`; `None` ends that.
    pub fn lock_out(&self, error: Option<&str>) {
        self.inner.change(|state| state.app.locked_out = error.map(str::to_owned));
    }

    /// Gives the bot token these scopes and no others.
    pub fn grant(&self, scopes: &[&str]) {
        self.inner.change(|state| state.app.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect());
    }

    /// Gives the app token these scopes and no others.
    pub fn grant_app(&self, scopes: &[&str]) {
        self.inner.change(|state| state.app.socket_scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect());
    }

    /// Installs the app for a whole organisation (`E…`): interactions then say `team: null`.
    pub fn install_for(&self, organisation: Option<&str>) {
        self.inner.change(|state| state.team.organisation = organisation.map(str::to_owned));
    }

    /// From now on no `trigger_id` made so far is good.
    pub fn expire_triggers(&self) {
        self.inner.change(|state| state.triggers.values_mut().for_each(|trigger| trigger.ends = clock::now()));
    }

    /// From now on no `response_url` made so far is good.
    pub fn expire_response_urls(&self) {
        self.inner.change(|state| state.responses.values_mut().for_each(|url| url.ends = clock::now()));
    }

    /// Resets all open sockets.
    pub async fn drop_sockets(&self) {
        self.inner.order(Order::Reset).await;
    }

    /// Closes all open sockets in an orderly way, without a `disconnect` before.
    pub async fn close_sockets(&self) {
        self.inner.order(Order::Close).await;
    }

    /// Makes all open sockets half-open: connected, and dead.
    pub async fn freeze_sockets(&self) {
        self.inner.order(Order::Freeze).await;
    }

    /// Warns all open sockets; after a while they get `refresh_requested` and are closed.
    pub async fn warn_sockets(&self) {
        self.inner.order(Order::Warn).await;
    }

    /// Tells all open sockets `refresh_requested` and closes them.
    pub async fn refresh_sockets(&self) {
        self.inner.order(Order::Refresh).await;
    }

    /// How long an acknowledgement may take here.
    pub fn acknowledge_within(&self) -> Duration {
        self.inner.timing.acknowledge
    }
}
