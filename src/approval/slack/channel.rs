//! Makes Slack's messages agree with a request's state: the channel's side of [`Channel`]. Knows no clicks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slack_morphism::blocks::SlackBlock;

use crate::approval::channel::{Channel, ChannelError, Reached, RequestView};
use crate::approval::people::People;
use crate::hold::{HoldId, HoldRequest};

use super::blocks::{self, Look, Message, State};
use super::copies::{Announced, Kept, Place};
use super::text::{channels, literal};
use super::trouble::ApiError;
use super::{Inner, Slack, glass, panels};

/// How long a request is waited for once its message is right.
const BESIDE: Duration = Duration::from_millis(2_500);

impl Channel for Slack {
    fn name(&self) -> &str {
        &self.inner.settings.name
    }

    fn show<'a>(&'a self, view: &'a RequestView, reference: Option<&'a str>) -> Reached<'a, String> {
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
    async fn show(self: Arc<Self>, view: &RequestView, reference: Option<&str>) -> Result<String, ChannelError> {
        let copy = self.copies.of(&view.request.id);
        copy.newest.fetch_max(view.revision, Ordering::Relaxed);
        let mut kept = Arc::clone(&copy.kept).lock_owned().await;
        if let Some(reference) = reference {
            kept.announced.merge(Announced::parse(reference));
        }
        // Somebody waits to show a newer state, or has shown one.
        let newest = copy.newest.load(Ordering::Relaxed).max(kept.revision);
        if view.revision < newest && !kept.announced.places.is_empty() {
            return Ok(kept.announced.to_string());
        }
        let people = self.people.load();
        let result = self.agree(view, &people, &mut kept).await;
        self.report(&result);
        result.map_err(|error| error.into_channel_error(&self.settings.channel))?;
        kept.revision = view.revision;
        drop(people);
        let reference = kept.announced.to_string();
        let (inner, view) = (Arc::clone(&self), view.clone());
        let beside = tokio::spawn(async move {
            let people = inner.people.load_full();
            inner.beside(&view, &people, &mut kept.announced).await;
            kept.announced.to_string()
        });
        // Nobody's announcement waits long for a line in another request's thread; the next time tells where that is.
        Ok(match tokio::time::timeout(BESIDE, beside).await {
            Ok(Ok(reference)) => reference,
            Ok(Err(_)) | Err(_) => reference,
        })
    }

    async fn remind(&self, view: &RequestView, reference: &str) -> Result<(), ChannelError> {
        let copy = self.copies.of(&view.request.id);
        let mut kept = copy.kept.lock().await;
        kept.announced.merge(Announced::parse(reference));
        let Some(place) = kept.announced.places.first().cloned() else {
            let why = "the request was not announced in Slack".to_owned();
            return Err(ChannelError { why, permanent: true });
        };
        let people = self.people.load();
        let message = panels::reminder(view, &self.look(&people, false));
        let result = self.api.post(&place.conversation, &message, Some(&place.ts)).await.map(drop);
        self.report(&result);
        result.map_err(|error| error.into_channel_error(&self.settings.channel))
    }

    /// The message itself: posted, or every copy of it updated.
    async fn agree(&self, view: &RequestView, people: &People, kept: &mut Kept) -> Result<(), ApiError> {
        let announced = &mut kept.announced;
        let message = blocks::message(view, &self.look(people, announced.filed));
        let open = State::of(view).is_open();
        if announced.places.is_empty() {
            self.announce(&message, &self.settings.channel, announced).await?;
            kept.shown = Some((message.fingerprint(), announced.places.len()));
        } else if kept.shown != Some((message.fingerprint(), announced.places.len())) {
            kept.shown = None;
            let gone = self.update_all(&message, announced).await?;
            // Somebody deleted it; a request nobody sees would wait in vain.
            if gone && open {
                announced.timeline = None;
                announced.filed = false;
                let message = blocks::message(view, &self.look(people, false));
                self.announce(&message, &self.settings.channel, announced).await?;
            } else {
                // Much that happens changes nothing here: Slack counts every update against the channel's limit.
                kept.shown = Some((message.fingerprint(), announced.places.len()));
            }
        }
        if open && !message.whole && !announced.filed {
            self.file(view, people, announced).await;
        }
        Ok(())
    }

    async fn announce(&self, message: &Message, channel: &str, announced: &mut Announced) -> Result<(), ApiError> {
        let (conversation, ts) = self.api.post(channel, message, None).await?;
        let place = Place::parse(&conversation, &ts);
        if place.is_none() {
            return Err(ApiError::Unanswered("its message has no usable place".to_owned()));
        }
        announced.adopt_place(place);
        Ok(())
    }

    /// Updates every copy. `Ok(true)`: none is left.
    async fn update_all(&self, message: &Message, announced: &mut Announced) -> Result<bool, ApiError> {
        let mut result = Ok(());
        let mut gone = Vec::new();
        for place in &announced.places {
            match self.api.update(&place.conversation, &place.ts, message).await {
                Ok(()) => {}
                Err(error) if is_gone(&error) => gone.push(place.clone()),
                Err(error) => result = Err(error),
            }
        }
        announced.places.retain(|place| !gone.contains(place));
        result.map(|()| announced.places.is_empty())
    }

    /// The whole text into the thread; then the message says so, and may be approved where the setting says so.
    async fn file(&self, view: &RequestView, people: &People, announced: &mut Announced) {
        let Some(place) = announced.places.first().cloned() else {
            return;
        };
        let request = &view.request;
        let Some(text) = file_text(request, self.settings.max_file_bytes) else {
            tracing::warn!(request = %request.id, "the statement is too long for a file in Slack");
            return;
        };
        let name = format!("{}.sql.txt", request.id);
        if let Err(error) = self.api.upload(&place.conversation, &place.ts, &name, text).await {
            // Fail closed: without the file there is no Approve button.
            self.complain(&request.id, "put the whole statement into the thread", &error);
            return;
        }
        announced.filed = true;
        let message = blocks::message(view, &self.look(people, true));
        if let Err(error) = self.update_all(&message, announced).await {
            self.complain(&request.id, "update the message", &error);
        }
    }

    /// What stands beside the message. Failing here leaves the request announced, so it is only reported; the next change
    /// tries again.
    async fn beside(&self, view: &RequestView, people: &People, announced: &mut Announced) {
        let Some(first) = announced.places.first().cloned() else {
            return;
        };
        let id = &view.request.id;
        let open = State::of(view).is_open();
        if view.break_glass
            && !announced.alarmed
            && let Some(alarm) = glass::alarm(view, &self.look(people, false))
        {
            // Where it was announced already people are notified in the thread and, as it concerns everybody, in the channel too.
            match self.api.post_aloud(&first.conversation, &alarm, &first.ts).await {
                Ok(()) => announced.alarmed = true,
                Err(error) => self.complain(id, "tell everybody of the emergency release", &error),
            }
        }
        if open && view.escalated > announced.escalated {
            match self.escalate(view, people, &first, announced).await {
                Ok(()) => announced.escalated = view.escalated,
                Err(error) => self.complain(id, "announce the escalation", &error),
            }
        }
        if view.timeline.len() > 1
            && let Err(error) = self.timeline(view, &first, announced).await
        {
            self.complain(id, "write the timeline", &error);
        }
        if !announced.told
            && self.settings.tell_requester
            && let Some(message) = panels::to_requester(view, &self.look(people, false), self.link(&first).as_deref())
        {
            match self.tell_requester(&view.request, people, &message).await {
                Ok(()) => announced.told = true,
                Err(error) => self.complain(id, "tell the requester", &error),
            }
        }
    }

    /// Says it in the thread, and in the channels the escalation names.
    async fn escalate(
        &self,
        view: &RequestView,
        people: &People,
        first: &Place,
        announced: &mut Announced,
    ) -> Result<(), ApiError> {
        let message = blocks::message(view, &self.look(people, announced.filed));
        for channel in channels(&view.escalated_to) {
            if announced.places.iter().all(|place| place.conversation != channel) {
                self.announce(&message, channel, announced).await?;
            }
        }
        self.api.post(&first.conversation, &panels::escalation(view), Some(&first.ts)).await.map(drop)
    }

    async fn timeline(&self, view: &RequestView, first: &Place, announced: &mut Announced) -> Result<(), ApiError> {
        let message = panels::note(panels::timeline(view));
        if let Some(ts) = &announced.timeline {
            return self.api.update(&first.conversation, ts, &message).await;
        }
        let (_, ts) = self.api.post(&first.conversation, &message, Some(&first.ts)).await?;
        announced.timeline = Some(ts);
        Ok(())
    }

    /// Nothing happens where it is not known who asked.
    async fn tell_requester(&self, request: &HoldRequest, people: &People, message: &Message) -> Result<(), ApiError> {
        let mut known = people.behind(&request.origin);
        let (Some(person), None) = (known.next(), known.next()) else {
            return Ok(());
        };
        let user = match (&person.slack_user, &person.email) {
            (Some(user), _) => user.clone(),
            (None, Some(email)) => self.api.user_by_email(email).await?,
            (None, None) => return Ok(()),
        };
        self.api.post(&user, message, None).await.map(drop)
    }

    pub(super) fn look<'a>(&'a self, people: &'a People, filed: bool) -> Look<'a> {
        Look { people, groups: &self.settings.approver_groups, long: self.settings.long_statements, filed }
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
        let people = self.people.load();
        let message = blocks::message(view, &self.look(&people, kept.announced.filed));
        let shown = (message.fingerprint(), kept.announced.places.len());
        if !unknown && kept.shown == Some(shown) {
            return;
        }
        match self.api.update(&place.conversation, &place.ts, &message).await {
            // Of the other copies nothing is known.
            Ok(()) => kept.shown = Some(shown).filter(|(_, places)| *places == 1),
            Err(error) => self.complain(id, "update the message that was clicked", &error),
        }
    }

    pub(super) fn complain(&self, id: &HoldId, what: &str, error: &ApiError) {
        tracing::warn!(request = %id, "Slack: cannot {what}: {}", error.explain(&self.settings.channel));
    }

    /// For health: people can be asked, or why not.
    pub(super) fn report<T>(&self, result: &Result<T, ApiError>) {
        let result = result.as_ref().map(|_| ()).map_err(|error| error.explain(&self.settings.channel));
        self.pulse.call(result, crate::clock::wall());
    }
}

fn is_gone(error: &ApiError) -> bool {
    matches!(error.code(), Some("message_not_found" | "cant_update_message" | "channel_not_found" | "is_archived"))
}

/// The statement and its parameters as a file, odd characters spelled out; `None` if it is too large to be whole.
fn file_text(request: &HoldRequest, most: usize) -> Option<String> {
    let statement = &request.statement;
    if statement.text.len() > most {
        return None;
    }
    let mut text = format!(
        "-- request {}, sha256 of the statement as it would run: {}\n{}-- odd characters are spelled out, as in ⟨U+202E⟩\n\n{}\n",
        request.id,
        statement.sha256,
        if request.redact.is_none() { "" } else { "-- literals and bound values are redacted\n" },
        literal(&statement.text)
    );
    let parameters = blocks::parameters(request, most);
    if !parameters.is_empty() {
        text.push_str("\n-- parameters\n");
        text.push_str(&parameters);
        text.push('\n');
    }
    // Fail closed: a part of it would look like the whole.
    (text.len() <= most).then_some(text)
}

/// A message without its buttons, for where they could not be updated.
pub(super) fn without_buttons(mut message: Message) -> Message {
    message.blocks.retain(|block| !matches!(block, SlackBlock::Actions(_)));
    message
}
