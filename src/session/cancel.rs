//! CancelRequests: they come on a connection of their own and name a session by its backend's process id and secret key.
//! One that names a held session withdraws the hold; every other goes to the backend unchanged. Never touches a session
//! whose key it does not carry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::signal::SessionSignal;
use super::upstream::Upstream;
use crate::wire::startup::CancelRequest;

/// How long the backend may take to close after a CancelRequest.
const PATIENCE: Duration = Duration::from_secs(10);

/// The live sessions by the pid and key of their BackendKeyData. Clones share one registry.
#[derive(Clone, Default)]
pub struct CancelRegistry {
    // Several sessions may share a pid: the upstream address can stand for several servers.
    sessions: Arc<DashMap<i32, Vec<Entry>>>,
}

struct Entry {
    key: Box<[u8]>,
    signal: Arc<SessionSignal>,
}

impl CancelRegistry {
    /// Enters a session; the guard's drop removes it.
    pub fn register(&self, pid: i32, key: &[u8], signal: Arc<SessionSignal>) -> CancelGuard {
        let entry = Entry { key: key.into(), signal: Arc::clone(&signal) };
        self.sessions.entry(pid).or_insert_with(|| Vec::with_capacity(1)).push(entry);
        CancelGuard { registry: self.clone(), pid, signal }
    }

    /// Withdraws the hold of the session the request names. `false`: no such session, or it holds nothing, so the request
    /// belongs to the backend.
    #[must_use]
    pub fn withdraw(&self, request: &CancelRequest) -> bool {
        let Some(entries) = self.sessions.get(&request.pid) else {
            return false;
        };
        // Every key of that pid is compared, in constant time: how long it takes says nothing about a key.
        let mut found = None;
        for entry in entries.value() {
            if bool::from(entry.key.ct_eq(&request.key)) {
                found = Some(Arc::clone(&entry.signal));
            }
        }
        drop(entries);
        found.is_some_and(|signal| signal.try_cancel())
    }

    /// A request for every session there is.
    #[must_use]
    pub fn requests(&self) -> Vec<CancelRequest> {
        let mut requests = Vec::new();
        for entries in self.sessions.iter() {
            for entry in entries.value() {
                requests.push(CancelRequest { pid: *entries.key(), key: entry.key.clone() });
            }
        }
        requests
    }

    /// How many sessions are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.iter().map(|entries| entries.len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl fmt::Debug for CancelRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRegistry").finish_non_exhaustive()
    }
}

/// Passes a request on to the backend, and waits until it has been dealt with. Nobody is told how a cancel ended, by Postgres
/// neither; what goes wrong is logged.
pub async fn forward(upstream: &Upstream, request: &CancelRequest) {
    let send = async {
        let mut backend = match upstream.connect().await {
            Ok(backend) => backend,
            Err(error) => {
                tracing::error!("cancel request not passed on: {error}");
                return;
            }
        };
        if backend.write_all(&request.to_bytes()).await.is_ok() && backend.flush().await.is_ok() {
            // The server closes when it has sent the signal; only then may the client believe in it.
            let _ = backend.read(&mut [0_u8; 16]).await;
        }
    };
    if timeout(PATIENCE, send).await.is_err() {
        tracing::warn!("the server did not answer a cancel request in time");
    }
}

/// Its drop removes the session from the registry.
#[must_use]
#[derive(Debug)]
pub struct CancelGuard {
    registry: CancelRegistry,
    pid: i32,
    signal: Arc<SessionSignal>,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(mut entries) = self.registry.sessions.get_mut(&self.pid) {
            entries.retain(|entry| !Arc::ptr_eq(&entry.signal, &self.signal));
        }
        self.registry.sessions.remove_if(&self.pid, |_, entries| entries.is_empty());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

    use super::*;

    fn request(pid: i32, key: &[u8]) -> CancelRequest {
        CancelRequest { pid, key: key.into() }
    }

    fn held() -> Arc<SessionSignal> {
        let signal = Arc::new(SessionSignal::default());
        signal.begin_hold();
        signal
    }

    #[test]
    fn only_the_right_pid_and_key_withdraw_and_only_a_hold() {
        let registry = CancelRegistry::default();
        let (one, two) = (held(), Arc::new(SessionSignal::default()));
        let _one = registry.register(7, b"aaaa", Arc::clone(&one));
        let _two = registry.register(8, b"bbbb", Arc::clone(&two));
        for (pid, key) in [(7, b"bbbb".as_slice()), (8, b"aaaa"), (9, b"aaaa"), (7, b"aaa"), (7, b"aaaab"), (7, b"")] {
            assert!(!registry.withdraw(&request(pid, key)), "{pid} {key:?}");
        }
        assert!(!one.asked().cancel);
        // The right key of a session that holds nothing: for the backend.
        assert!(!registry.withdraw(&request(8, b"bbbb")));
        assert!(registry.withdraw(&request(7, b"aaaa")));
        assert!(one.asked().cancel && !two.asked().cancel);
    }

    #[test]
    fn long_keys_and_shared_pids_are_told_apart() {
        let registry = CancelRegistry::default();
        let (one, two) = (held(), held());
        let (key_one, mut key_two) = ([1; 256], [1; 256]);
        key_two[255] = 2;
        let _one = registry.register(7, &key_one, Arc::clone(&one));
        let _two = registry.register(7, &key_two, Arc::clone(&two));
        assert!(registry.withdraw(&request(7, &key_two)));
        assert!(two.asked().cancel && !one.asked().cancel);
    }

    #[test]
    fn a_dropped_guard_removes_its_own_session_only() {
        let registry = CancelRegistry::default();
        let (one, two) = (held(), held());
        let first = registry.register(7, b"aaaa", one);
        let second = registry.register(7, b"bbbb", two);
        drop(first);
        assert_eq!(registry.len(), 1);
        assert!(!registry.withdraw(&request(7, b"aaaa")));
        assert!(registry.withdraw(&request(7, b"bbbb")));
        drop(second);
        assert!(registry.is_empty());
    }
}
