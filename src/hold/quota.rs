//! Counts of what waits, against the limits. Knows names and numbers only.

use std::collections::{HashMap, HashSet};

use super::request::{HoldRequest, SessionId};
use super::settings::HoldSettings;

/// Why a hold could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// The session already waits for another decision.
    #[error("this session already has a statement waiting for approval")]
    Session,
    /// The database user has as many holds as one user may.
    #[error("user {user:?} already has {limit} statements waiting for approval")]
    User {
        /// The database user.
        user: String,
        /// The setting.
        limit: usize,
    },
    /// The gate has as many holds as it may.
    #[error("{limit} statements are already waiting for approval")]
    Total {
        /// The setting.
        limit: usize,
    },
    /// What waits is as large as it may be.
    #[error("the statements waiting for approval would take more than {limit} bytes with this one")]
    Bytes {
        /// The setting.
        limit: usize,
    },
    /// Another request has this name; a generated name never should.
    #[error("the request id is already in use")]
    Id,
}

/// What waits now.
#[derive(Default)]
pub(super) struct Quota {
    sessions: HashSet<SessionId>,
    users: HashMap<String, usize>,
    bytes: usize,
}

/// On whose account a request is: the database user's, or, asked for beforehand, the person's, so that nobody can use up the places of
/// a database user that is not theirs.
fn asker(request: &HoldRequest) -> String {
    match &request.beforehand {
        // No name of a database user has a NUL in it.
        Some(own) => format!("\0{}", own.by),
        None => request.origin.user.clone(),
    }
}

impl Quota {
    /// Takes a place for one hold; [`Quota::release`] gives it back.
    pub(super) fn take(&mut self, request: &HoldRequest, limits: &HoldSettings) -> Result<(), OverLimit> {
        let origin = &request.origin;
        if self.sessions.contains(&origin.session) {
            return Err(OverLimit::Session);
        }
        if self.sessions.len() >= limits.total {
            let limit = limits.total;
            return Err(OverLimit::Total { limit });
        }
        let key = asker(request);
        let of_user = self.users.get(&key).copied().unwrap_or(0);
        if of_user >= limits.per_user {
            return Err(OverLimit::User { user: origin.user.clone(), limit: limits.per_user });
        }
        let bytes = self.bytes.saturating_add(request.weight());
        if bytes > limits.total_bytes {
            return Err(OverLimit::Bytes { limit: limits.total_bytes });
        }
        self.bytes = bytes;
        self.users.insert(key, of_user.saturating_add(1));
        self.sessions.insert(origin.session);
        Ok(())
    }

    /// Gives the place back.
    pub(super) fn release(&mut self, request: &HoldRequest) {
        let origin = &request.origin;
        self.bytes = self.bytes.saturating_sub(request.weight());
        self.sessions.remove(&origin.session);
        let key = asker(request);
        if let Some(count) = self.users.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.users.remove(&key);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.users.is_empty() && self.bytes == 0
    }
}
