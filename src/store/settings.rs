//! Where the record is kept, and how.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::judge::Redact;

/// Settings of the store and of the audit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The database file; `None` keeps the record in memory, for tests and the demo.
    pub path: Option<PathBuf>,
    /// The audit file; `None` for none.
    pub audit_file: Option<PathBuf>,
    /// File with an Ed25519 private key (PKCS #8, PEM) that signs checkpoints; `None` for no checkpoints.
    pub checkpoint_key: Option<PathBuf>,
    /// Events after which the next checkpoint is due.
    pub checkpoint_every: u64,
    /// Time after which a checkpoint is due if anything happened.
    pub checkpoint_interval: Duration,
    /// What of statements is kept off the record, at least: a rule may want more. Approvers see everything all the same, unless
    /// a rule says otherwise; the statement's hash is kept.
    pub redact: Redact,
    /// Calls that may wait for the store; further ones fail at once.
    pub queue: usize,
    /// How long a call waits for the disk.
    pub patience: Duration,
}

impl Default for StoreSettings {
    /// In memory.
    fn default() -> Self {
        Self {
            path: None,
            audit_file: None,
            checkpoint_key: None,
            checkpoint_every: 100,
            checkpoint_interval: Duration::from_secs(60),
            redact: Redact::None,
            queue: 4_096,
            patience: Duration::from_secs(10),
        }
    }
}

impl StoreSettings {
    /// What a configuration without `[store]` and `[audit]` means, before its paths are made relative to it.
    #[must_use]
    pub fn on_disk() -> Self {
        Self {
            path: Some(PathBuf::from("querygate.db")),
            audit_file: Some(PathBuf::from("querygate-audit.jsonl")),
            ..Self::default()
        }
    }

    /// The file that checkpoints stand beside.
    pub(super) fn record(&self) -> Option<&Path> {
        self.audit_file.as_deref().or(self.path.as_deref())
    }
}
