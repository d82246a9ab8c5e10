//! How much may wait at once, and how much is remembered.

/// Limits of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldSettings {
    /// Most holds of one database user at once. (A session holds one statement at a time in any case.)
    pub per_user: usize,
    /// Most holds at once.
    pub total: usize,
    /// Most bytes of statement text and parameters that wait at once.
    pub total_bytes: usize,
    /// Ended requests remembered for `show` and "already decided by".
    pub history: usize,
    /// Bytes of statement text and parameters those may keep in memory.
    pub history_bytes: usize,
    /// Changes a slow listener may fall behind before it has to list again.
    pub event_backlog: usize,
}

impl Default for HoldSettings {
    fn default() -> Self {
        Self {
            per_user: 20,
            total: 1_000,
            total_bytes: 256 << 20,
            history: 1_000,
            history_bytes: 64 << 20,
            event_backlog: 1_024,
        }
    }
}
