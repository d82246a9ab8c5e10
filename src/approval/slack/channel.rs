//! Makes Slack's messages agree with a request's state: the channel's side of [`Channel`]. Knows no clicks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slack_morphism::blocks::SlackBlock;

use crate::approval::channel::{Channel, ChannelError, Reached, RequestView, Rest, Shown};
use crate::hold::HoldId;

use super::blocks::{self, Look, Message};
use super::copies::{Announced, Place};
use super::directory::Directory;
use super::trouble::{ApiError, Lost};
use super::{Inner, Slack, panels};

/// How long a request is waited for once its message is right.
const BESIDE: Duration = Duration::from_millis(2_500);

impl Channel for Slack {
    fn name(&self) -> &str {
        &self.inner.settings.name
    }

    fn show<'a>(&'a self, view: &'a RequestView, reference: Option<&'a str>) -> Reached<'a, Shown> {
        let inner = Arc::clone(&self.inner);
        let view = view.clone();
        let reference = reference.map(str::to_owned);
        // A task of its own: when the caller gives up, what was posted must still be remembered, or it would be an orphan.
        Box::pin(contained(async move { inner.show(&view, reference.as_deref()).await }))
    }

    fn remind<'a>(&'a self, view: &'a RequestView, reference: &'a str) -> Reached<'a, ()> {
        let inner = Arc::clone(&self.inner);
        let view = view.clone();
        let reference = reference.to_owned();
        Box::pin(contained(async move { inner.remind(&view, &reference).await }))
    }
}

async fn contained<T: Send + 'static>(
    work: impl Future<Output = Result<T, ChannelError>> + Send + 'static,
) -> Result<T, ChannelError> {
    let broken = |_| ChannelError { why: "trouble inside the gate while calling Slack".to_owned(), permanent: false };
    tokio::spawn(work).await.map_err(broken)?
}

impl Inner {
    async fn show(self: Arc<Self>, view: &RequestView, reference: Option<&str>) -> Result<Shown, ChannelError> {
        let copy = self.copies.of(&view.request.id);
        copy.newest.fetch_max(view.revision, Ordering::Relaxed);
        let mut kept = Arc::clone(&copy.kept).lock_owned().await;
        if let Some(reference) = reference {
            kept.announced.merge(Announced::parse(reference));
        }
        // Somebody waits to show a newer state, or has shown one.
        let newest = copy.newest.load(Ordering::Relaxed).max(kept.revision);
        if view.revision < newest && !kept.announced.places.is_empty() {
            return Ok(Shown { reference: kept.announced.to_string(), rest: Rest::Nothing });
        }
        let directory = self.directory.load_full();
        let rest = self.agree(view, &directory, &mut kept).await.map_err(Lost::into_channel_error)?;
        let reference = kept.announced.to_string();
        if rest == Rest::More {
            return Ok(Shown { reference, rest });
        }
        kept.revision = view.revision;
        let (inner, view) = (Arc::clone(&self), view.clone());
        let beside = tokio::spawn(async move {
            inner.beside(&view, &directory, &mut kept.announced).await;
            kept.announced.to_string()
        });
        // Nobody's announcement waits long for a line in another request's thread; the next time tells where that is.
        let reference = match tokio::time::timeout(BESIDE, beside).await {
            Ok(Ok(reference)) => reference,
            Ok(Err(_)) | Err(_) => reference,
        };
        Ok(Shown { reference, rest })
    }

    async fn remind(&self, view: &RequestView, reference: &str) -> Result<(), ChannelError> {
        let copy = self.copies.of(&view.request.id);
        let mut kept = copy.kept.lock().await;
        kept.announced.merge(Announced::parse(reference));
        let directory = self.directory.load_full();
        let message = panels::reminder(view, &self.look(&directory, false));
        let mut lost = None;
        let mut reached = false;
        for Place { conversation, ts } in kept.announced.heads() {
            let result = self.api.post(&conversation, &message, Some(&ts)).await.map(drop);
            self.report_in(&conversation, &result);
            match result {
                Ok(()) => reached = true,
                Err(error) => lost = Some(Lost { conversation, error }),
            }
        }
        match lost {
            Some(lost) => Err(lost.into_channel_error()),
            None if reached => Ok(()),
            None => {
                let why = "the request was not announced in Slack".to_owned();
                Err(ChannelError { why, permanent: true })
            }
        }
    }

    pub(super) fn look<'a>(&self, directory: &'a Directory, filed: bool) -> Look<'a> {
        Look { people: &directory.people, groups: &directory.groups, long: self.settings.long_statements, filed }
    }

    /// Where a browser finds a message.
    pub(super) fn link(&self, place: &Place) -> Option<String> {
        let workspace = self.workspace.load();
        place.link(&workspace.as_ref()?.url)
    }

    /// Where a browser finds a request's message.
    pub(super) fn link_of(&self, id: &HoldId) -> Option<String> {
        let copy = self.copies.find(id)?;
        // Whoever posts or updates holds it; a list can do without the link.
        let place = copy.kept.try_lock().ok()?.announced.places.first().cloned();
        self.link(&place?)
    }

    /// A message that shows the request, found by a click on it: its post was not answered, or it is from before a restart.
    pub(super) async fn adopt(&self, id: &HoldId, place: &Place, view: Option<&RequestView>) {
        let copy = self.copies.of(id);
        let mut kept = copy.kept.lock().await;
        let unknown = kept.announced.adopt_place(Some(place.clone()));
        let Some(view) = view else { return };
        // What is known to show the newest state is left alone.
        if !unknown && kept.revision >= view.revision {
            return;
        }
        let directory = self.directory.load();
        let filed = kept.announced.thread(&place.conversation).filed;
        let message = blocks::message(view, &self.look(&directory, filed));
        let fingerprint = message.fingerprint();
        if kept.shown.get(place) == Some(&fingerprint) {
            return;
        }
        match self.api.update(&place.conversation, &place.ts, &message).await {
            Ok(()) => {
                kept.shown.insert(place.clone(), fingerprint);
            }
            Err(error) => self.complain_in(&place.conversation, id, "update the message that was clicked", &error),
        }
    }

    pub(super) fn complain(&self, id: &HoldId, what: &str, error: &ApiError) {
        self.complain_in(&self.settings.channel, id, what, error);
    }

    #[expect(clippy::unused_self, reason = "as `complain`")]
    pub(super) fn complain_in(&self, conversation: &str, id: &HoldId, what: &str, error: &ApiError) {
        tracing::warn!(request = %id, conversation, "Slack: cannot {what}: {}", error.explain(conversation));
    }

    /// For health: people can be asked, or why not.
    pub(super) fn report<T>(&self, result: &Result<T, ApiError>) {
        self.report_in(&self.settings.channel, result);
    }

    /// The same of a call that was about one conversation.
    pub(super) fn report_in<T>(&self, conversation: &str, result: &Result<T, ApiError>) {
        let now = crate::clock::wall();
        match result {
            Ok(_) => {
                self.pulse.call(Ok(()), now);
                self.pulse.conversation(conversation, Ok(()), now);
            }
            Err(error) if error.is_of_conversation() => {
                self.pulse.conversation(conversation, Err(error.explain(conversation)), now);
            }
            Err(error) => self.pulse.call(Err(error.explain(conversation)), now),
        }
    }
}

/// A message without its buttons, for where they could not be updated.
pub(super) fn without_buttons(mut message: Message) -> Message {
    message.blocks.retain(|block| !matches!(block, SlackBlock::Actions(_)));
    message
}
