//! What the gate does with a click, a submitted window, a command or a look at the App Home. Entitlement is the desk's alone;
//! here is only who somebody is and what they were shown.

use std::sync::Arc;
use std::time::Duration;

use crate::approval::channel::{Acknowledgement, Desk, RequestView, Revocation, Submission};
use crate::hold::HoldId;

use super::again;
use super::blocks::{self, Message};
use super::channel::without_buttons;
use super::copies::Place;
use super::glass;
use super::interaction::{Act, Clicker, Interaction};
use super::panels::{self, Remembered};
use super::text::{escape, plain};
use super::who::Known;
use super::{Inner, trouble::ApiError};

/// An answer on its way: what was clicked, and where.
struct Answer {
    id: HoldId,
    sha256: String,
    place: Option<Place>,
    approve: bool,
    /// As an emergency, alone.
    break_glass: bool,
    /// Again in its session, for so long.
    again: Option<Duration>,
    reason: Option<String>,
    /// It is from before a restart.
    old: bool,
}

/// A button whose answer needs words.
struct Asked {
    /// An emergency release; otherwise a rejection.
    release: bool,
    id: HoldId,
    sha256: String,
    place: Option<Place>,
}

impl Answer {
    fn approval(id: HoldId, sha256: String, place: Option<Place>, again: Option<Duration>, old: bool) -> Self {
        Self { id, sha256, place, approve: true, break_glass: false, again, reason: None, old }
    }
}

impl Inner {
    /// Does what the interaction asks for, and tells its author what came of it. `old`: it is from before a restart.
    pub(super) async fn handle(&self, desk: &Arc<dyn Desk>, interaction: Interaction, old: bool) {
        let Interaction { by, act } = interaction;
        let bound = act.bound();
        match act {
            Act::Click { action, trigger, place, value } => match (action.as_str(), bound) {
                (blocks::APPROVE, Some((id, sha256))) => {
                    self.submit(&**desk, &by, Answer::approval(id, sha256, place, None, old)).await;
                }
                (again::APPROVE_AGAIN, Some((id, sha256))) => {
                    // Fail closed: without a time that can be read it is no approval at all.
                    let Some(time) = again::bound(&value) else { return };
                    self.submit(&**desk, &by, Answer::approval(id, sha256, place, Some(time), old)).await;
                }
                (again::REVOKE, Some((id, _))) => self.revoke(&**desk, &by, id, place).await,
                (blocks::REJECT | glass::BREAK, Some((id, sha256))) => {
                    let release = action == glass::BREAK;
                    self.ask_why(&**desk, &by, &trigger, Asked { release, id, sha256, place }).await;
                }
                (glass::ACKNOWLEDGE, Some((id, _))) => self.acknowledge(&**desk, &by, id, place).await,
                (blocks::DETAILS | blocks::OPEN, Some((id, _))) => {
                    self.details(&**desk, &by, &trigger, &id, place.as_ref()).await;
                }
                _ => tracing::debug!("Slack: a click that means nothing here"),
            },
            Act::Words { release, remembered, reason } => {
                if let Some((id, sha256)) = bound {
                    let place = Place::parse(&remembered.c, &remembered.t);
                    let (approve, break_glass, reason) = (release, release, Some(reason));
                    let answer = Answer { id, sha256, place, approve, break_glass, again: None, reason, old };
                    self.submit(&**desk, &by, answer).await;
                }
            }
            Act::Command { text, conversation } => {
                let message = self.command(&**desk, &by, &text).await;
                self.tell(&by.user, Some(&conversation), &message).await;
            }
            Act::Home => self.home(&**desk, &by).await,
        }
    }

    async fn submit(&self, desk: &dyn Desk, by: &Clicker, answer: Answer) {
        let Answer { id, sha256, place, approve, break_glass, again, reason, old } = answer;
        let refused = match self.who(by).await {
            Err(why) => Some(why),
            // It counted, but the gate ended before it could forget it.
            Ok(known) if old && has_counted(desk, &id, &known) => None,
            Ok(known) => {
                let (sha256, round) = blocks::digest_and_round(&sha256);
                let submission = Submission {
                    id: id.clone(),
                    channel: self.settings.name.clone(),
                    actor: known.actor,
                    approve,
                    break_glass,
                    again,
                    reason,
                    statement_sha256: Some(sha256.to_owned()),
                    round,
                    at: crate::clock::wall(),
                };
                desk.submit(submission).await.err().map(|why| with_doubt(why, &known.unknown_groups))
            }
        };
        self.settled(desk, by, &id, place.as_ref(), refused).await;
    }

    /// A trigger lives three seconds, so who they are is asked when they submit.
    async fn ask_why(&self, desk: &dyn Desk, by: &Clicker, trigger: &str, asked: Asked) {
        let Asked { release, id, sha256, place } = asked;
        let conversation = place.as_ref().map(|place| place.conversation.clone());
        let Some(view) = open(desk, &id) else {
            self.too_late(desk, by, &id, place.as_ref()).await;
            return;
        };
        let Place { conversation: c, ts: t } =
            place.unwrap_or_else(|| Place { conversation: String::new(), ts: String::new() });
        let remembered = Remembered { r: id.0.clone(), h: sha256, c, t };
        let people = &self.directory.load().people;
        let modal = if release {
            glass::modal(&view, &remembered, people)
        } else {
            panels::reject_modal(&view, &remembered, people)
        };
        let opened = self.api.open_view(trigger, &modal).await;
        self.opened(by, conversation.as_deref(), &id, opened).await;
    }

    /// Somebody else has looked at an emergency release.
    async fn acknowledge(&self, desk: &dyn Desk, by: &Clicker, id: HoldId, place: Option<Place>) {
        let refused = match self.who(by).await {
            Err(why) => Some(why),
            Ok(known) => {
                let (channel, at) = (self.settings.name.clone(), crate::clock::wall());
                let seen = Acknowledgement { id: id.clone(), channel, actor: known.actor, comment: None, at };
                desk.review(seen).await.err().map(|why| with_doubt(why, &known.unknown_groups))
            }
        };
        self.settled(desk, by, &id, place.as_ref(), refused).await;
    }

    /// Somebody ends a standing approval.
    async fn revoke(&self, desk: &dyn Desk, by: &Clicker, id: HoldId, place: Option<Place>) {
        let refused = match self.who(by).await {
            Err(why) => Some(why),
            Ok(known) => {
                let (channel, at) = (self.settings.name.clone(), crate::clock::wall());
                let revocation = Revocation { id: id.clone(), channel, actor: known.actor, at };
                desk.revoke(revocation).await.err().map(|why| with_doubt(why, &known.unknown_groups))
            }
        };
        self.settled(desk, by, &id, place.as_ref(), refused).await;
    }

    /// The copy that was clicked may be one nobody remembers; it has to follow what happens. Who is refused is told why.
    async fn settled(
        &self,
        desk: &dyn Desk,
        by: &Clicker,
        id: &HoldId,
        place: Option<&Place>,
        refused: Option<String>,
    ) {
        if let Some(place) = place {
            self.adopt(id, place, desk.view(id).as_ref()).await;
        }
        if let Some(why) = refused {
            self.tell(&by.user, place.map(|place| place.conversation.as_str()), &denied(id, &why)).await;
        }
    }

    async fn details(&self, desk: &dyn Desk, by: &Clicker, trigger: &str, id: &HoldId, place: Option<&Place>) {
        let Some(view) = desk.view(id) else {
            self.too_late(desk, by, id, place).await;
            return;
        };
        let modal = panels::details_modal(&view, &self.directory.load().people);
        let opened = self.api.open_view(trigger, &modal).await;
        self.opened(by, place.map(|place| place.conversation.as_str()), id, opened).await;
    }

    async fn opened(&self, by: &Clicker, conversation: Option<&str>, id: &HoldId, result: Result<(), ApiError>) {
        if let Err(error) = result {
            self.complain(id, "open a window", &error);
            let why = format!("The window did not open: {}.", error.explain(&self.settings.channel));
            self.tell(&by.user, conversation, &panels::note(format!(":warning: {}", escape(&why)))).await;
        }
    }

    async fn too_late(&self, desk: &dyn Desk, by: &Clicker, id: &HoldId, place: Option<&Place>) {
        let view = desk.view(id);
        if let (Some(place), Some(view)) = (place, &view) {
            self.adopt(id, place, Some(view)).await;
        }
        let why = if view.is_some() { "it is decided or over" } else { "no such request; it may be long over" };
        self.tell(&by.user, place.map(|place| place.conversation.as_str()), &denied(id, why)).await;
    }

    async fn command(&self, desk: &dyn Desk, by: &Clicker, text: &str) -> Message {
        let mut words = text.split_whitespace();
        match (words.next(), words.next()) {
            (Some("pending"), None) => match self.who(by).await {
                Ok(known) => {
                    let views = decidable(desk, &known);
                    panels::pending(&views, &self.directory.load().people, |id| self.link_of(id))
                }
                Err(why) => panels::note(format!(":lock: {}.", escape(&why))),
            },
            (Some("show"), Some(id)) => match self.who(by).await {
                Ok(known) => self.shown(desk, &known, &HoldId::parse(id)),
                Err(why) => panels::note(format!(":lock: {}.", escape(&why))),
            },
            _ => panels::help(),
        }
    }

    /// To those who may decide it and to those whose own it is; to others there is no such request.
    fn shown(&self, desk: &dyn Desk, known: &Known, id: &HoldId) -> Message {
        let directory = self.directory.load();
        let view = desk.view(id).filter(|view| {
            let own = directory.people.is_own(&view.request.origin, &known.actor.identity)
                || view.request.beforehand.as_ref().is_some_and(|own| known.actor.is_named(&own.by));
            own || desk.may_decide(&known.actor, id).is_ok()
        });
        match view {
            Some(view) => without_buttons(blocks::message(&view, &self.look(&directory, false))),
            None => panels::note(format!("There is no request {} that you may see.", escape(&plain(&id.0, 40)))),
        }
    }

    async fn home(&self, desk: &dyn Desk, by: &Clicker) {
        let (views, reviews) = match self.who(by).await {
            Ok(known) => (decidable(desk, &known), reviewable(desk, &known)),
            Err(why) => {
                tracing::debug!("Slack: an App Home stays empty: {why}");
                (Vec::new(), Vec::new())
            }
        };
        let home = panels::home(&views, &reviews, &self.directory.load().people, crate::clock::wall());
        if let Err(error) = self.api.publish_home(&by.user, &home).await {
            tracing::warn!("Slack: cannot show an App Home: {}", error.explain(&self.settings.channel));
        }
    }

    /// Only to them: where they are, or directly where the app cannot write there.
    async fn tell(&self, user: &str, conversation: Option<&str>, message: &Message) {
        if let Some(conversation) = conversation.filter(|conversation| !conversation.is_empty())
            && self.api.whisper(conversation, user, message).await.is_ok()
        {
            return;
        }
        if let Err(error) = self.api.post(user, message, None).await {
            tracing::warn!("Slack: cannot answer {user}: {}", error.explain(&self.settings.channel));
        }
    }
}

/// Whether one of those who decided the request is this person.
fn has_counted(desk: &dyn Desk, id: &HoldId, known: &Known) -> bool {
    let decision = desk.view(id).and_then(|view| view.decision);
    decision.is_some_and(|decision| decision.by().split(", ").any(|by| by == known.actor.identity))
}

fn open(desk: &dyn Desk, id: &HoldId) -> Option<RequestView> {
    desk.view(id).filter(|view| blocks::State::of(view).is_open())
}

fn decidable(desk: &dyn Desk, known: &Known) -> Vec<RequestView> {
    let mut views = desk.waiting();
    views.retain(|view| desk.may_decide(&known.actor, &view.request.id).is_ok());
    views
}

/// Emergency releases they may review.
fn reviewable(desk: &dyn Desk, known: &Known) -> Vec<RequestView> {
    let mut views = desk.unreviewed();
    views.retain(|view| desk.may_review(&known.actor, &view.request.id).is_ok());
    views
}

/// When a group could not be read, a refusal may be Slack's fault.
fn with_doubt(why: String, unknown_groups: &[String]) -> String {
    if unknown_groups.is_empty() {
        return why;
    }
    format!("{why} (Slack did not say who is in {}; try again)", unknown_groups.join(", "))
}

fn denied(id: &HoldId, why: &str) -> Message {
    let why = plain(why, 400);
    let why = why.trim_end_matches('.');
    panels::note(format!(":lock: Your answer to `{}` does not count: {}. Nothing was changed.", id, escape(why)))
}
