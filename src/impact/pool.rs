//! Connections of the prober's that nobody uses at the moment: a few per database, for a short time. Only those whose transaction was
//! rolled back in good order are kept; everything a look sets, it sets for its transaction alone. Knows nothing of what is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::clock;

/// Kept for one database.
const PER_DATABASE: usize = 2;
/// Kept for all of them.
const TOTAL: usize = 16;
/// One that nobody used for so long is closed: it is in the way of DROP DATABASE, and costs the server memory.
const IDLE: Duration = Duration::from_secs(5);

/// A connection. Its drop closes it.
pub(super) struct Link {
    pub(super) client: Client,
    task: JoinHandle<()>,
}

impl Link {
    pub(super) fn new(client: Client, task: JoinHandle<()>) -> Self {
        Self { client, task }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The connections. Shared by all looks.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<String, Vec<(Link, Instant)>>>,
}

impl Pool {
    /// One that nobody uses, if there is one.
    pub(super) fn take(&self, database: &str) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let links = idle.get_mut(database)?;
        while let Some((link, since)) = links.pop() {
            if !link.client.is_closed() && clock::now().saturating_duration_since(since) < IDLE {
                return Some(link);
            }
        }
        idle.remove(database);
        None
    }

    /// Keeps one, if there is room, for as long as idle ones are kept.
    pub(super) fn keep(self: &Arc<Self>, database: &str, link: Link) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.values().map(Vec::len).sum::<usize>() >= TOTAL {
            return;
        }
        let links = idle.entry(database.to_owned()).or_default();
        if links.len() >= PER_DATABASE {
            return;
        }
        links.push((link, clock::now()));
        drop(idle);
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            Weak::upgrade(&pool).inspect(|pool| pool.sweep());
        });
    }

    fn sweep(&self) {
        let now = clock::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, links| {
            links.retain(|(link, since)| now.saturating_duration_since(*since) < IDLE && !link.client.is_closed());
            !links.is_empty()
        });
    }
}
