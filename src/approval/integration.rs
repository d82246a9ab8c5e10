//! Programs that hand in people's decisions: on-call systems, chat tools without a channel of their own. Knows no HTTP.
//!
//! An integration proves itself twice: by a token, and by a signature over each message under a secret that never travels. It speaks for
//! the people its configuration names and for nobody else; whether such a person may decide is the desk's question, as always.
//! A message is bound to one request and one statement, is good for a few minutes, and only once. Start at [`Integration`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;

use super::case::Denied;
use super::channel::{Actor, INTEGRATION, Receipt, Submission};
use super::desk::ApprovalDesk;
use super::people::{People, Person, TokenDigest};
use super::webhook::sign;
use crate::hold::HoldId;

/// How far a message's timestamp may be from the gate's clock, either way.
pub const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// Messages remembered so that none counts twice.
const MAX_REMEMBERED: usize = 10_000;
/// In the list of people: everybody the configuration knows.
pub const EVERYBODY: &str = "*";

/// A program that hands in decisions.
#[derive(Clone, PartialEq, Eq)]
pub struct Integration {
    /// Its name in the configuration and in the record.
    pub name: String,
    /// Proves who calls.
    pub token: TokenDigest,
    /// What it signs messages with.
    pub secret: String,
    /// Names of the people it may speak for; [`EVERYBODY`] for all.
    pub people: Vec<String>,
}

impl fmt::Debug for Integration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Integration").field("name", &self.name).field("people", &self.people).finish_non_exhaustive()
    }
}

/// Why a message is not taken, before anybody asks what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Suspect {
    /// The signature is missing, or of other bytes, another time or another secret.
    #[error("the signature is not that of this message")]
    Forged,
    /// Signed too long ago, or in the future.
    #[error("the message was signed more than {} minutes from the gate's time", FRESH.as_mins())]
    Stale,
    /// It came before.
    #[error("this very message came before; sign it anew if it is meant again")]
    Replayed,
    /// Too many messages in a few minutes to know whether this one came before.
    #[error("too many messages came in the last minutes")]
    TooMany,
}

impl Integration {
    /// The integration whose token this is. Looks at all of them, whichever it is.
    #[must_use]
    pub fn by_token<'a>(all: &'a [Self], token: &str) -> Option<&'a Self> {
        all.iter().fold(None, |found, one| if one.token.is_of(token) { Some(one) } else { found })
    }

    /// The person meant by a name or an e-mail address, if the integration may speak for them.
    #[must_use]
    pub fn person<'a>(&self, people: &'a People, named: &str) -> Option<&'a Person> {
        let person = people.named(named).or_else(|| people.by_email(named))?;
        let may = self.people.iter().any(|name| name == EVERYBODY || *name == person.name);
        may.then_some(person)
    }

    /// Whether a message was signed by this integration a moment ago. `timestamp` (Unix seconds) and `signature` as they came.
    ///
    /// # Errors
    /// [`Suspect::Forged`] or [`Suspect::Stale`]; which one is told only to who knows the secret.
    pub fn signed(&self, timestamp: &str, signature: &str, body: &str, now: Timestamp) -> Result<Timestamp, Suspect> {
        let expected = sign(&self.secret, timestamp, body).ok_or(Suspect::Forged)?;
        if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            return Err(Suspect::Forged);
        }
        let seconds = timestamp.parse().map_err(|_| Suspect::Forged)?;
        let signed_at = Timestamp::from_second(seconds).map_err(|_| Suspect::Forged)?;
        if now.duration_since(signed_at).abs() > FRESH {
            return Err(Suspect::Stale);
        }
        Ok(signed_at)
    }
}

/// Which messages came. In memory only: after a restart the requests they were about are over.
#[derive(Debug, Default)]
pub struct Replays {
    /// By integration and signature, until when each has to be remembered.
    seen: Mutex<HashMap<(String, String), Timestamp>>,
}

impl Replays {
    /// Notes a message that [`Integration::signed`] found good.
    ///
    /// # Errors
    /// [`Suspect::Replayed`], or [`Suspect::TooMany`].
    pub fn note(
        &self,
        integration: &str,
        signature: &str,
        signed_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Suspect> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (integration.to_owned(), signature.to_owned());
        if seen.contains_key(&key) {
            return Err(Suspect::Replayed);
        }
        if seen.len() >= MAX_REMEMBERED {
            seen.retain(|_, until| *until >= now);
        }
        // Fail closed: what cannot be remembered could come again.
        if seen.len() >= MAX_REMEMBERED {
            return Err(Suspect::TooMany);
        }
        let until = signed_at.checked_add(FRESH).unwrap_or(Timestamp::MAX);
        seen.insert(key, until);
        Ok(())
    }
}

/// A decision as an integration tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The request.
    pub id: HoldId,
    /// SHA-256 of its statement, as the person was shown it.
    pub statement_sha256: String,
    /// The round they were shown, where the program knows it.
    pub round: Option<u32>,
    /// Run it.
    pub approve: bool,
    /// The person's words.
    pub reason: Option<String>,
}

impl ApprovalDesk {
    /// A person answers through an integration, which must be entitled to speak for them.
    ///
    /// # Errors
    /// Why the answer does not count. That is on record too.
    pub async fn answer_through(
        self: &Arc<Self>,
        integration: &Integration,
        person: &Person,
        told: Told,
        at: Timestamp,
    ) -> Result<Receipt, Denied> {
        self.settle(|hold| hold.request.id == told.id).await;
        let submission = Submission {
            id: told.id,
            channel: format!("{INTEGRATION}{}", integration.name),
            actor: Actor::person(person),
            approve: told.approve,
            // Nobody releases alone through a third party.
            break_glass: false,
            again: None,
            reason: told.reason,
            statement_sha256: Some(told.statement_sha256),
            round: told.round,
            at,
        };
        self.take(submission).await
    }
}

#[cfg(test)]
mod tests;
