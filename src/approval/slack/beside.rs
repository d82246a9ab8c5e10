//! What stands beside a request's messages: alarms, escalations and the timeline in every thread, the direct message to the requester.

use crate::approval::channel::RequestView;
use crate::hold::HoldRequest;

use super::blocks::{Message, State};
use super::copies::{Announced, Place};
use super::directory::Directory;
use super::trouble::ApiError;
use super::{Inner, glass, panels};

impl Inner {
    /// Failing here leaves the request announced, so it is only reported; the next change tries again.
    pub(super) async fn beside(&self, view: &RequestView, directory: &Directory, announced: &mut Announced) {
        let heads = announced.heads();
        for head in &heads {
            self.thread(view, directory, head, announced).await;
        }
        let Some(first) = heads.first() else { return };
        if !announced.told
            && self.settings.tell_requester
            && let Some(message) = panels::to_requester(view, &self.look(directory, false), self.link(first).as_deref())
        {
            match self.tell_requester(&view.request, directory, &message).await {
                Ok(()) => announced.told = true,
                Err(error) => self.complain(&view.request.id, "tell the requester", &error),
            }
        }
    }

    /// The thread under one conversation's message.
    async fn thread(&self, view: &RequestView, directory: &Directory, head: &Place, announced: &mut Announced) {
        let id = &view.request.id;
        let Place { conversation, ts } = head;
        let thread = announced.thread_mut(conversation);
        if view.break_glass
            && !thread.alarmed
            && let Some(alarm) = glass::alarm(view, &self.look(directory, false))
        {
            // Where it was announced already people are notified in the thread and, as it concerns everybody, in the channel too.
            match self.api.post_aloud(conversation, &alarm, ts).await {
                Ok(()) => thread.alarmed = true,
                Err(error) => self.complain_in(conversation, id, "tell everybody of the emergency release", &error),
            }
        }
        if State::of(view).is_open() && view.escalated > thread.escalated {
            match self.api.post(conversation, &panels::escalation(view), Some(ts)).await {
                Ok(_) => thread.escalated = view.escalated,
                Err(error) => self.complain_in(conversation, id, "announce the escalation", &error),
            }
        }
        if view.timeline.len() > 1 {
            match self.timeline(view, head, thread.timeline.as_deref()).await {
                Ok(Some(ts)) => thread.timeline = Some(ts),
                Ok(None) => {}
                Err(error) => self.complain_in(conversation, id, "write the timeline", &error),
            }
        }
    }

    /// Where it is, if it was posted now.
    async fn timeline(
        &self,
        view: &RequestView,
        head: &Place,
        known: Option<&str>,
    ) -> Result<Option<String>, ApiError> {
        let message = panels::note(panels::timeline(view));
        if let Some(ts) = known {
            return self.api.update(&head.conversation, ts, &message).await.map(|()| None);
        }
        let (_, ts) = self.api.post(&head.conversation, &message, Some(&head.ts)).await?;
        Ok(Some(ts))
    }

    /// Nothing happens where it is not known who asked.
    async fn tell_requester(
        &self,
        request: &HoldRequest,
        directory: &Directory,
        message: &Message,
    ) -> Result<(), ApiError> {
        let people = &directory.people;
        let mut known = people.behind(&request.origin);
        let person = match (&request.beforehand, known.next(), known.next()) {
            (Some(own), _, _) => people.named(&own.by),
            (None, Some(person), None) => Some(person),
            (None, _, _) => None,
        };
        let Some(person) = person else { return Ok(()) };
        let user = match (&person.slack_user, &person.email) {
            (Some(user), _) => user.clone(),
            (None, Some(email)) => self.api.user_by_email(email).await?,
            (None, None) => return Ok(()),
        };
        self.api.post(&user, message, None).await.map(drop)
    }
}
