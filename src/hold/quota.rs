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
        let of_user = self.users.get(&origin.user).copied().unwrap_or(0);
        if of_user >= limits.per_user {
            return Err(OverLimit::User { user: origin.user.clone(), limit: limits.per_user });
        }
        let bytes = self.bytes.saturating_add(request.weight());
        if bytes > limits.total_bytes {
            return Err(OverLimit::Bytes { limit: limits.total_bytes });
        }
        self.bytes = bytes;
        self.users.insert(origin.user.clone(), of_user.saturating_add(1));
        self.sessions.insert(origin.session);
        Ok(())
    }

    /// Gives the place back.
    pub(super) fn release(&mut self, request: &HoldRequest) {
        let origin = &request.origin;
        self.bytes = self.bytes.saturating_sub(request.weight());
        self.sessions.remove(&origin.session);
        if let Some(count) = self.users.get_mut(&origin.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.users.remove(&origin.user);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.users.is_empty() && self.bytes == 0
    }
}
