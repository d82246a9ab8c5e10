//! The ways people and programs are told of requests: starts and ends them. Knows them only by their settings.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::settings::Settings;
use crate::approval::audience::Audience;
use crate::approval::channel::{Channel, Desk};
use crate::approval::http::{Configuration, Vitals};
use crate::approval::reach::Reach;
use crate::approval::slack::passed::ROOM;
use crate::approval::slack::{Running, Slack, SlackError};
use crate::approval::{ApprovalDesk, publisher, webhook};
use crate::hold::{Dropped, Notice, Notices};
use crate::store::Store;

/// Time to tell how the last requests ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What runs. Its drop ends everything at once.
pub(super) struct Channels {
    slack: Option<(Slack, Running)>,
    webhooks: Vec<String>,
    /// Where what passes is put to be told in Slack.
    passed: Option<Notices<Box<Notice>>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Channels {
    /// Starts what the settings name.
    ///
    /// # Errors
    /// A channel's own address cannot be used, or TLS towards it. One that cannot be reached is no error: it is waited for.
    pub(super) async fn start(
        desk: &Arc<ApprovalDesk>,
        store: &Store,
        settings: &Settings,
    ) -> Result<Self, SlackError> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let (mut slack, mut passed) = (None, None);
        let announcing = settings.slack.iter().map(|slack| slack.name.clone());
        let told = settings.webhooks.iter().map(|hook| hook.name.clone());
        let reach = Reach::new(Arc::clone(desk), announcing, told);
        tasks.spawn(reach.clone().watch(stopped.clone()));
        if let Some(own) = &settings.slack {
            let channel = Slack::new(own.clone(), settings.approval.people.clone())?;
            let answers: Arc<dyn Desk> = Arc::new(Arc::clone(desk));
            let running = channel.start(answers, store.clone(), stopped.clone()).await?;
            let announces: Arc<dyn Channel> = Arc::new(channel.clone());
            tasks.spawn(publisher::run_among(Arc::clone(desk), announces, reach.clone(), stopped.clone()));
            if own.tell_passed {
                let (notices, told) = Notices::new(ROOM);
                let (lost, desk) = (notices.dropped().clone(), Arc::clone(desk));
                let audiences = Box::new(move |rule: &str| Audience::of(desk.settings().profile(rule), 0));
                tasks.spawn(channel.clone().tell_of_what_passes(told, audiences, lost, stopped.clone()));
                passed = Some(notices);
            }
            slack = Some((channel, running));
        }
        for hook in &settings.webhooks {
            tasks.spawn(webhook::run(store.clone(), hook.clone(), Some(reach.clone()), stopped.clone()));
        }
        let webhooks = settings.webhooks.iter().map(|hook| hook.name.clone()).collect();
        Ok(Self { slack, webhooks, passed, tasks, stop })
    }

    /// Where what passes, and is to be told, is put.
    pub(super) fn passed(&self) -> Option<Notices<Box<Notice>>> {
        self.passed.clone()
    }

    /// What the health endpoint asks.
    pub(super) fn vitals(&self, store: &Store, dropped: Dropped, configuration: Configuration) -> Vitals {
        let slack = self.slack.iter().map(|(slack, _running)| slack.clone()).collect();
        let untold = self.passed.as_ref().map(|passed| passed.dropped().clone()).unwrap_or_default();
        Vitals {
            store: Some(store.clone()),
            slack,
            webhooks: self.webhooks.clone(),
            dropped,
            untold,
            configuration,
            functions: None,
        }
    }

    /// Other people, groups and conversations from now on.
    pub(super) fn reload(&self, settings: &Settings) {
        if let (Some((slack, _running)), Some(own)) = (&self.slack, &settings.slack) {
            slack.reload(own, settings.approval.people.clone());
        }
    }

    /// Tells how the last requests ended, and ends.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let told = timeout(LAST_WORDS, all).await;
        self.slack = None;
        if told.is_err() {
            tracing::warn!(
                "channels could not be told in time how the last requests ended; they are told after the next start"
            );
        }
    }
}
