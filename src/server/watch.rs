//! Notices that the configuration, or a file it includes, has changed. Knows no settings: it compares what is in the files.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::settings::{Fingerprint, fingerprint};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at the configuration from time to time.
#[derive(Debug)]
pub struct Watcher {
    path: Option<PathBuf>,
    /// What was loaded, or tried to be.
    loaded: Fingerprint,
    /// What else was there at the last look.
    seen: Option<Fingerprint>,
    ticks: Interval,
}

impl Watcher {
    /// Watches what is there from now on; without a path there is nothing to watch.
    pub async fn new(path: Option<PathBuf>) -> Self {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Self { path, loaded: Fingerprint::default(), seen: None, ticks };
        watcher.note().await;
        watcher
    }

    /// What is there now is about to be loaded.
    pub async fn note(&mut self) {
        self.loaded = self.look().await;
        self.seen = None;
    }

    /// Waits until something else is there, and has been for two looks: whoever writes a file may not be done with it at the first.
    ///
    /// # Cancellation safety
    /// May be called again.
    pub async fn changed(&mut self) {
        if self.path.is_none() {
            return std::future::pending().await;
        }
        loop {
            self.ticks.tick().await;
            let now = self.look().await;
            if now == self.loaded {
                self.seen = None;
            } else if self.seen == Some(now) {
                self.loaded = now;
                self.seen = None;
                return;
            } else {
                self.seen = Some(now);
            }
        }
    }

    async fn look(&self) -> Fingerprint {
        let Some(path) = self.path.clone() else { return Fingerprint::default() };
        // A disk that hangs holds up a thread of its own.
        tokio::task::spawn_blocking(move || fingerprint(&path)).await.unwrap_or_default()
    }
}
