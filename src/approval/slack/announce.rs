//! The messages themselves: posted in every conversation that wants the request, and every copy updated. Knows no clicks and nothing of
//! what stands beside a message.

use futures_util::future::join_all;

use crate::approval::channel::{RequestView, Rest};
use crate::hold::HoldRequest;

use super::Inner;
use super::blocks::{self, Message, State};
use super::copies::{Announced, Kept, Place, Thread};
use super::directory::Directory;
use super::text::literal;
use super::trouble::{ApiError, Lost};

impl Inner {
    /// Posts where a message is missing, and updates every copy. One message is posted each time, so that it is on record where it is
    /// before there is another.
    pub(super) async fn agree(&self, view: &RequestView, directory: &Directory, kept: &mut Kept) -> Result<Rest, Lost> {
        let never = kept.announced.places.is_empty();
        let open = State::of(view).is_open();
        let mut lost = self.update_all(view, directory, kept).await;
        if open || never || view.is_unreviewed() {
            match self.announce_next(view, directory, kept).await {
                Next::Done => {}
                Next::More => return Ok(Rest::More),
                Next::Lost(other) => lost = Some(other),
            }
        }
        if open {
            self.file_all(view, directory, kept).await;
        }
        match lost {
            None => Ok(Rest::Nothing),
            Some(lost) if kept.announced.places.is_empty() => Err(lost),
            Some(lost) => Ok(Rest::Failed(lost.into_channel_error())),
        }
    }

    fn message(&self, view: &RequestView, directory: &Directory, announced: &Announced, conversation: &str) -> Message {
        blocks::message(view, &self.look(directory, announced.thread(conversation).filed))
    }

    /// Posts it in the next conversation where it is missing; those that failed before come last.
    async fn announce_next(&self, view: &RequestView, directory: &Directory, kept: &mut Kept) -> Next {
        let mut missing = directory.wanted(&view.audience);
        missing.retain(|conversation| !kept.announced.is_in(conversation));
        missing.sort_by_key(|conversation| kept.lost.contains(conversation));
        let mut failed = Next::Done;
        for (index, conversation) in missing.iter().enumerate() {
            let result = self.announce(view, directory, conversation, kept).await;
            self.report_in(conversation, &result);
            match result {
                Ok(()) => {
                    kept.lost.remove(conversation);
                    return if missing.len() > index.saturating_add(1) || index > 0 { Next::More } else { Next::Done };
                }
                Err(error) => {
                    kept.lost.insert(conversation.clone());
                    failed = Next::Lost(Lost { conversation: conversation.clone(), error });
                }
            }
        }
        failed
    }

    async fn announce(
        &self,
        view: &RequestView,
        directory: &Directory,
        conversation: &str,
        kept: &mut Kept,
    ) -> Result<(), ApiError> {
        // Whatever an earlier message here had in its thread went with it. What an escalation has to say the message says itself.
        *kept.announced.thread_mut(conversation) = Thread { escalated: view.escalated, ..Thread::default() };
        let message = self.message(view, directory, &kept.announced, conversation);
        let (_, ts) = self.api.post(conversation, &message, None).await?;
        let Some(place) = Place::parse(conversation, &ts) else {
            return Err(ApiError::Unanswered("its message has no usable place".to_owned()));
        };
        if !kept.announced.adopt_place(Some(place.clone())) {
            return Err(ApiError::Unanswered("there are too many messages about one request".to_owned()));
        }
        kept.shown.insert(place, message.fingerprint());
        Ok(())
    }

    /// Updates every copy that shows something else; those that are gone are forgotten. Returns one that could not be updated.
    async fn update_all(&self, view: &RequestView, directory: &Directory, kept: &mut Kept) -> Option<Lost> {
        let mut updates = Vec::new();
        for place in &kept.announced.places {
            let message = self.message(view, directory, &kept.announced, &place.conversation);
            let fingerprint = message.fingerprint();
            // Much that happens changes nothing here: Slack counts every update against the conversation's limit.
            if kept.shown.get(place) != Some(&fingerprint) {
                let place = place.clone();
                updates.push(async move {
                    let result = self.api.update(&place.conversation, &place.ts, &message).await;
                    (place, fingerprint, result)
                });
            }
        }
        let mut lost = None;
        for (place, fingerprint, result) in join_all(updates).await {
            kept.shown.remove(&place);
            match result {
                Ok(()) => {
                    self.report_in(&place.conversation, &result);
                    kept.shown.insert(place, fingerprint);
                }
                // Somebody deleted it; a request nobody sees would wait in vain, so it is missing there.
                Err(error) if is_gone(&error) => kept.announced.places.retain(|known| *known != place),
                Err(error) => {
                    self.report_in(&place.conversation, &Err::<(), _>(error.clone()));
                    lost = Some(Lost { conversation: place.conversation, error });
                }
            }
        }
        lost
    }

    /// The whole text into every thread where the message does not show it; then the message says so, and may be approved where the
    /// setting says so.
    async fn file_all(&self, view: &RequestView, directory: &Directory, kept: &mut Kept) {
        if blocks::message(view, &self.look(directory, false)).whole {
            return;
        }
        let request = &view.request;
        let mut heads = kept.announced.heads();
        heads.retain(|head| !kept.announced.thread(&head.conversation).filed);
        if heads.is_empty() {
            return;
        }
        let Some(text) = file_text(request, self.settings.max_file_bytes) else {
            tracing::warn!(request = %request.id, "the statement is too long for a file in Slack");
            return;
        };
        let name = format!("{}.sql.txt", request.id);
        for Place { conversation, ts } in heads {
            match self.api.upload(&conversation, &ts, &name, text.clone()).await {
                Ok(()) => kept.announced.thread_mut(&conversation).filed = true,
                // Fail closed: without the file there is no Approve button.
                Err(error) => {
                    self.complain_in(&conversation, &request.id, "put the whole statement into the thread", &error);
                }
            }
        }
        if let Some(Lost { conversation, error }) = self.update_all(view, directory, kept).await {
            self.complain_in(&conversation, &request.id, "update the message", &error);
        }
    }
}

/// What comes after a post.
enum Next {
    /// It stands everywhere.
    Done,
    /// It stands in one conversation more, and there are others.
    More,
    /// There are conversations that do not take it, and none left to try.
    Lost(Lost),
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
