//! What the parts of the workspace share: the state behind its lock, the news that it changed, the settings.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::socket::Order;
use super::state::State;

/// Slack's time limits; tests may shorten them.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How long an acknowledgement may take.
    pub acknowledge: Duration,
    /// Pauses before a payload is delivered again.
    pub redeliver: Vec<Duration>,
    /// How long a `trigger_id` is good for.
    pub trigger: Duration,
    /// How long a `response_url` is good for.
    pub response_url: Duration,
    /// How often sockets are pinged; one that did not answer by the next ping is closed.
    pub ping: Duration,
    /// From the warning to the close, when sockets are asked to reconnect.
    pub refresh: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            acknowledge: Duration::from_secs(3),
            redeliver: vec![Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)],
            trigger: Duration::from_secs(3),
            response_url: Duration::from_secs(30 * 60),
            ping: Duration::from_secs(10),
            refresh: Duration::from_secs(10),
        }
    }
}

/// Which payloads are delivered again when nobody acknowledged them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Redelivery {
    /// All of them: more than Slack does, which tells the person that clicked that the app did not respond.
    #[default]
    Everything,
    /// Events only, as in Slack.
    EventsOnly,
    /// None.
    Nothing,
}

/// Where signed HTTP callbacks go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// Clicks and submissions.
    pub interactivity: String,
    /// Slash commands.
    pub commands: String,
    /// Events.
    pub events: String,
}

/// Shared by everything in the workspace.
#[derive(Debug)]
pub(crate) struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Orders to open sockets, by their number.
    pub(super) orders: Mutex<Vec<(usize, mpsc::Sender<Order>)>>,
    pub(super) callbacks: Mutex<Option<Callbacks>>,
    pub(super) timing: Timing,
    pub(super) redelivery: Redelivery,
    /// Posts to one channel faster than one per second (with a little burst) are answered 429.
    pub(super) paced: bool,
    pub(super) web: SocketAddr,
    pub(super) socket: SocketAddr,
    /// The workspace's own runtime.
    pub(super) runtime: Handle,
}

impl Inner {
    pub(super) fn new(state: State, settings: Settings, web: SocketAddr, socket: SocketAddr) -> Inner {
        Inner {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            orders: Mutex::default(),
            callbacks: Mutex::default(),
            timing: settings.timing,
            redelivery: settings.redelivery,
            paced: settings.paced,
            web,
            socket,
            runtime: Handle::current(),
        }
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and tells everybody who waits for something.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        result
    }

    /// Waits until `probe` finds something.
    ///
    /// # Cancellation safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn wait<T>(&self, mut probe: impl FnMut(&State) -> Option<T>) -> T {
        let mut news = self.changed.subscribe();
        loop {
            news.borrow_and_update();
            if let Some(found) = self.look(&mut probe) {
                return found;
            }
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes what Slack would pass over in silence.
    pub(super) fn violation(&self, what: String) {
        self.change(|state| state.violations.push(what));
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.web)
    }
}

/// What a workspace is started with.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) timing: Timing,
    pub(super) redelivery: Redelivery,
    pub(super) paced: bool,
}
