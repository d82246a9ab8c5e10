//! Asks people in Slack and takes their clicks. Knows the desk only as the trait [`Desk`].
//!
//! Start at [`Slack`]: [`Slack::new`], then [`Slack::start`] with the desk. A request goes out through `channel`, rendered by
//! `blocks`; a click comes in over `socket` or `callback`, is put into the `inbox` and acknowledged at once, read by
//! `interaction`, its author looked up by `who`, and handed to the desk by `answer`.

pub mod settings;
mod health;
mod transport;
mod trouble;
mod api;
mod text;
mod kit;
mod blocks;
mod footer;
mod glass;
mod again;
mod beforehand;
mod panels;
pub mod passed;
mod copies;
mod directory;
mod announce;
mod beside;
mod channel;
mod interaction;
mod who;
mod answer;
mod inbox;
mod socket;
mod callback;
pub mod check;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::channel::Desk;
use super::people::People;
use crate::store::Store;
use api::{Api, Workspace};
use copies::Copies;
use directory::Directory;
use health::Pulse;
use inbox::Inbox;
use settings::{SlackMode, SlackSettings};
use transport::Transport;
use trouble::ApiError;

pub use health::{Health, LostConversation};

/// How often it is looked at whether Slack has to be asked.
const RETRY: Duration = Duration::from_secs(20);
/// After so long without a call that went well Slack is asked how it is, so that health is never old.
const SILENCE: Duration = Duration::from_secs(60);

/// The Slack channel. Cheap to clone.
#[derive(Clone)]
pub struct Slack {
    inner: Arc<Inner>,
}

/// What everything here works with.
struct Inner {
    settings: SlackSettings,
    api: Api,
    transport: Transport,
    /// What a reload may change.
    directory: ArcSwap<Directory>,
    /// Known since Slack first answered.
    workspace: ArcSwapOption<Workspace>,
    copies: Copies,
    pulse: Pulse,
}

/// Why the channel cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SlackError {
    /// TLS cannot be set up.
    #[error("TLS towards Slack: {0}")]
    Tls(rustls::Error),
    /// The address of the signed endpoint.
    #[error("cannot listen for Slack's callbacks on {address} ([slack] callback_address): {source}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Slack {
    /// The channel; it can announce at once, and takes clicks after [`Slack::start`].
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(settings: SlackSettings, people: People) -> Result<Self, SlackError> {
        let transport = Transport::new().map_err(SlackError::Tls)?;
        let api = Api::new(&settings, &transport);
        let needs_sockets = settings.mode == SlackMode::Socket;
        let directory = Directory::new(&settings, people);
        let pulse = Pulse::new(needs_sockets, crate::clock::wall());
        pulse.expect(directory.conversations(), crate::clock::wall());
        let inner = Inner {
            settings,
            api,
            transport,
            directory: ArcSwap::from_pointee(directory),
            workspace: ArcSwapOption::empty(),
            copies: Copies::default(),
            pulse,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Uses other people from now on, and the groups and further conversations that `settings` name. Everything else of them is for
    /// the next start.
    pub fn reload(&self, settings: &SlackSettings, people: People) {
        let Inner { settings: own, directory, pulse, .. } = &*self.inner;
        let named =
            Directory { name: own.name.clone(), usual: own.channel.clone(), ..Directory::new(settings, people) };
        pulse.expect(named.conversations(), crate::clock::wall());
        directory.store(Arc::new(named));
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.settings.name
    }

    /// How the channel is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.pulse.health()
    }

    /// Takes clicks until `stop` says `true` (or its sender is gone), and hands answers to the desk. A click is in the store before it
    /// is acknowledged; what an earlier process did not finish is finished. What is wrong with the
    /// app or its configuration is logged; a Slack that is down is waited for.
    ///
    /// # Errors
    /// The signed endpoint's address cannot be used.
    pub async fn start(
        &self,
        desk: Arc<dyn Desk>,
        store: Store,
        stop: watch::Receiver<bool>,
    ) -> Result<Running, SlackError> {
        let inner = &self.inner;
        let inbox = Inbox::start(Arc::clone(inner), desk, store, stop.clone()).await;
        let mut tasks = vec![tokio::spawn(look_after(Arc::clone(inner), stop.clone()))];
        let mut address = None;
        match inner.settings.mode {
            SlackMode::Socket => {
                for _ in 0..inner.settings.sockets.max(1) {
                    tasks.push(tokio::spawn(socket::keep(Arc::clone(inner), inbox.clone(), stop.clone())));
                }
            }
            SlackMode::Http => {
                let wanted = inner.settings.callback_address;
                let failed = |source| SlackError::Listen { address: wanted, source };
                let listener = TcpListener::bind(wanted).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                tracing::info!("Slack: its requests are taken on http://{bound}/slack");
                address = Some(bound);
                tasks.push(tokio::spawn(callback::serve(listener, Arc::clone(inner), inbox, stop)));
            }
        }
        Ok(Running { callback_address: address, tasks })
    }
}

/// What [`Slack::start`] started; ends by its `stop`, or when dropped.
pub struct Running {
    callback_address: Option<std::net::SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Where the signed endpoint listens, if it does.
    #[must_use]
    pub fn callback_address(&self) -> Option<std::net::SocketAddr> {
        self.callback_address
    }
}

impl Drop for Running {
    /// Ends the tasks.
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    /// The workspace the token belongs to, asked once.
    async fn workspace(&self) -> Result<Arc<Workspace>, ApiError> {
        if let Some(workspace) = self.workspace.load_full() {
            return Ok(workspace);
        }
        let workspace = self.api.workspace().await;
        self.report(&workspace);
        let workspace = Arc::new(workspace?);
        if self.settings.team_id.as_ref().is_some_and(|team| *team != workspace.team_id) {
            // Fail closed: the token is of a workspace nobody meant.
            return Err(ApiError::refused("team_access_not_granted"));
        }
        self.workspace.store(Some(Arc::clone(&workspace)));
        Ok(workspace)
    }
}

/// Returns when `stop` says `true`, or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}

/// Checks the app at the start, and asks again while Slack is away or has not been asked for a while.
async fn look_after(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    for finding in check::run(&inner).await {
        finding.log();
    }
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        if inner.pulse.is_doubtful(crate::clock::wall(), SILENCE) {
            check::reach(&inner).await;
        }
    }
}
