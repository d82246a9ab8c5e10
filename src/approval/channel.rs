//! How people are reached: what a channel is told of a request, and how it hands in answers. Knows no particular channel.
//!
//! A channel is told a request's whole state each time, not what changed: it makes what it shows agree with that, whatever it
//! showed before and however often it is told. So a lost message, a restart or a slow network needs no bookkeeping elsewhere.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::audience::Audience;
use super::people::Person;
use crate::hold::{Decision, Ended, Execution, HoldId, HoldRequest, Undone};
use crate::impact::Impact;

/// A request as channels show it.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestView {
    /// What is asked, without what the rules want hidden from channels.
    pub request: Arc<HoldRequest>,
    /// Grows with every change; a channel never shows an older state after a newer one.
    pub revision: u64,
    /// Where it is announced.
    pub audience: Audience,
    /// What it would touch, as far as that is known; `None`: nobody looks into it, or has not yet.
    pub impact: Option<Arc<Impact>>,
    /// That is being looked into; people are asked after.
    pub examining: bool,
    /// How often it was asked anew, because what it touches had changed when it was to be released.
    pub round: u32,
    /// What had changed the last time, in sentences.
    pub changed: Vec<String>,
    /// Who may decide, in words ("group dba, ann").
    pub asked: String,
    /// Approvals needed.
    pub quorum: usize,
    /// Who has approved so far, by name.
    pub approved_by: Vec<String>,
    /// Owners of what it touches who have not agreed yet, in words.
    pub owners_missing: Vec<String>,
    /// The last escalation step taken, from 1; 0 for none.
    pub escalated: usize,
    /// Whom the escalation asks, in words; empty for none.
    pub escalated_to: String,
    /// The decision, once there is one.
    pub decision: Option<Decision>,
    /// Somebody is named who may release it alone in an emergency.
    pub glass: bool,
    /// The decision was made by one person in an emergency.
    pub break_glass: bool,
    /// The review such a release asks for; `None` for every other request.
    pub review: Option<Review>,
    /// For how long at most an answer may approve it again in its session; `None`: only once.
    pub may_again: Option<Duration>,
    /// "This statement again, in this session": given with the decision.
    pub again: Option<Again>,
    /// What has passed of statements that were asked for beforehand; `None` for a held statement.
    pub window: Option<Window>,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// What the database said, once it has.
    pub execution: Option<Execution>,
    /// How often what it did was undone, and how far.
    pub undone: Vec<Undone>,
    /// What has happened so far, oldest first.
    pub timeline: Vec<Milestone>,
}

/// The look another person has to take at what one person released alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Who released it.
    pub broken_by: String,
    /// Why it could not wait, in their words.
    pub why: Option<String>,
    /// Who has looked at it since; `None` while the review is open.
    pub acknowledged: Option<Acknowledged>,
}

/// A standing approval: the same statement again in the same session, until its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// When it ends at the latest.
    pub until: Timestamp,
    /// How often it was used.
    pub uses: u64,
    /// Why it holds no more; `None` while it does.
    pub ended: Option<String>,
}

/// Statements that were asked for beforehand, each of which may pass once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// How many they are.
    pub statements: usize,
    /// Those that have passed, counted from 0.
    pub passed: BTreeSet<usize>,
    /// Why no more pass; `None` while they may.
    pub over: Option<String>,
}

/// Somebody has looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// Their words, if any.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl RequestView {
    /// Released in an emergency, and nobody else has looked at it yet.
    #[must_use]
    pub fn is_unreviewed(&self) -> bool {
        self.review.as_ref().is_some_and(|review| review.acknowledged.is_none())
    }

    /// Its statement may run again without anybody being asked.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.ended.is_none())
    }
}

/// A line of a request's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestone {
    /// When.
    pub at: Timestamp,
    /// What, in a sentence without markup.
    pub what: String,
}

/// Why a channel could not reach people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ChannelError {
    /// In a sentence, with what to do about it where that is known.
    pub why: String,
    /// Trying again cannot help until the configuration changes (a revoked token, no such channel).
    pub permanent: bool,
}

/// Where a request can be found again in a channel, and what is still to be done there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// To be kept, and handed in with the next call.
    pub reference: String,
    /// What is missing.
    pub rest: Rest,
}

/// What a channel has not shown yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is missing.
    Nothing,
    /// It is not announced in all of the channel's conversations yet. To be called again at once, once the reference is kept: so a
    /// crash between leaves no message behind that nobody knows of.
    More,
    /// Some of its conversations could not be reached; others were.
    Failed(ChannelError),
}

/// What a channel's method returns.
pub type Reached<'a, T> = Pin<Box<dyn Future<Output = Result<T, ChannelError>> + Send + 'a>>;

/// A way to reach people.
pub trait Channel: Send + Sync + 'static {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// Makes what people see agree with `view`: announces the request if it was not announced there, otherwise changes what
    /// was announced. `reference` is what an earlier call returned, also before a restart. Returns where it can be found again, once it
    /// is announced anywhere.
    ///
    /// # Cancellation safety
    /// A dropped future may have reached people; telling them again is harmless.
    fn show<'a>(&'a self, view: &'a RequestView, reference: Option<&'a str>) -> Reached<'a, Shown>;

    /// Reminds people of a request that was announced at `reference`.
    fn remind<'a>(&'a self, view: &'a RequestView, reference: &'a str) -> Reached<'a, ()>;
}

/// Somebody who answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actor {
    /// One person, one identity: the person's name in the configuration, or the channel's name for them (`slack:T01/U02`).
    pub identity: String,
    /// Names under which rules may mean them: the person's name, a Slack user id (`slack:U02`), an e-mail address.
    pub names: Vec<String>,
    /// Their groups: of the configuration, and the channel's own (`slack:S03`), read when they answered.
    pub groups: Vec<String>,
}

impl Actor {
    /// A person of the configuration.
    #[must_use]
    pub fn person(person: &Person) -> Self {
        Self { identity: person.name.clone(), names: Vec::new(), groups: person.groups.clone() }
    }

    /// Whether a rule that names `name` means them.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.identity == name || self.names.iter().any(|known| known == name)
    }
}

/// An answer on its way to the desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The request.
    pub id: HoldId,
    /// The channel's name in the configuration, or `api`.
    pub channel: String,
    /// Who answers.
    pub actor: Actor,
    /// Run it.
    pub approve: bool,
    /// As an emergency, alone; needs a reason.
    pub break_glass: bool,
    /// Run the same statement again in its session, for so long, without asking.
    pub again: Option<Duration>,
    /// Their words.
    pub reason: Option<String>,
    /// SHA-256 of the statement they were shown, lower-case hex. An answer about another statement does not count.
    pub statement_sha256: Option<String>,
    /// The [`RequestView::round`] they were shown, where that is known. An answer to an earlier one does not count.
    pub round: Option<u32>,
    /// When they answered.
    pub at: Timestamp,
}

impl Submission {
    /// Who is told to have answered: the person, and the program that handed it in if one did.
    #[must_use]
    pub fn said_by(&self) -> String {
        if self.channel.starts_with(INTEGRATION) {
            format!("{}{THROUGH}{}", self.actor.identity, self.channel)
        } else {
            self.actor.identity.clone()
        }
    }
}

/// Begins the channel's name of what an integration handed in.
pub(super) const INTEGRATION: &str = "integration ";
/// Between a person and the integration that handed in their answer.
const THROUGH: &str = " through ";

/// The person alone, of a name as [`Submission::said_by`] makes it.
#[must_use]
pub fn person_alone(by: &str) -> &str {
    by.rsplit_once(THROUGH).filter(|(_, channel)| channel.starts_with(INTEGRATION)).map_or(by, |(person, _)| person)
}

/// Somebody says that they have looked at an emergency release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The request.
    pub id: HoldId,
    /// The channel's name in the configuration, or `api`.
    pub channel: String,
    /// Who.
    pub actor: Actor,
    /// Their words.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// Somebody ends a standing approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The request it was given for.
    pub id: HoldId,
    /// The channel's name in the configuration, or `api`.
    pub channel: String,
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

/// Where answers go. The desk; in channels' tests something simpler.
pub trait Desk: Send + Sync + 'static {
    /// Hands in an answer; the result is what the person is told.
    ///
    /// # Cancellation safety
    /// The answer may have counted.
    fn submit<'a>(
        &'a self,
        submission: Submission,
    ) -> Pin<Box<dyn Future<Output = Result<Receipt, String>> + Send + 'a>>;

    /// A request as it stands, if it is known; for views opened from a message or a list.
    fn view(&self, id: &HoldId) -> Option<RequestView>;

    /// Requests that wait for an answer, oldest first.
    fn waiting(&self) -> Vec<RequestView>;

    /// Whether the actor may decide this request now; `Err` says why not, in a sentence.
    fn may_decide(&self, actor: &Actor, id: &HoldId) -> Result<(), String>;

    /// Hands in that somebody has looked at an emergency release; the result is what they are told.
    ///
    /// # Cancellation safety
    /// It may have counted.
    fn review<'a>(
        &'a self,
        acknowledgement: Acknowledgement,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// Whether the actor may do so now; `Err` says why not, in a sentence.
    fn may_review(&self, actor: &Actor, id: &HoldId) -> Result<(), String>;

    /// Ends a standing approval; the result is what they are told.
    ///
    /// # Cancellation safety
    /// It may have been ended.
    fn revoke<'a>(&'a self, revocation: Revocation) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// Emergency releases that nobody else has looked at, oldest first.
    fn unreviewed(&self) -> Vec<RequestView>;
}

/// An answer that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// More people have to approve.
    Counted {
        /// Approvals so far.
        have: usize,
        /// Approvals needed.
        need: usize,
    },
    /// It decided the request.
    Decided,
}
