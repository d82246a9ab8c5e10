//! What a session may be told by configuration.

use std::time::Duration;

/// Limits and switches of sessions. All sizes in bytes.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Largest startup packet accepted; Postgres's own limit is 10,000 (`MAX_STARTUP_PACKET_LENGTH`).
    pub max_startup_packet: usize,
    /// From accept to the end of authentication.
    pub startup_deadline: Duration,
    /// Largest message carrying SQL text (Query, Parse) that is accepted; beyond it the statement fails with 54000.
    pub max_statement_bytes: usize,
    /// Frames a client may send behind a held statement before the hold is withdrawn.
    pub read_ahead_bytes: usize,
    /// Text longer than this is analysed off the session's thread.
    pub inline_analysis_bytes: usize,
    /// How long a statement waits for a decision.
    pub hold_deadline: Duration,
    /// How often the client is reminded with a NOTICE while held; zero for never.
    pub reminder_interval: Duration,
    /// Refuse holds inside an open transaction instead of keeping its locks while people are asked.
    pub reject_holds_in_transaction: bool,
    /// Relay replication connections (`replication=…` at startup).
    pub allow_replication: bool,
    /// Relay FunctionCall messages.
    pub allow_function_call: bool,
    /// TCP keepalive: idle time before the first probe, on both legs.
    pub tcp_keepalive: Duration,
    /// Time given to running statements at shutdown.
    pub drain_deadline: Duration,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            max_startup_packet: 10_000,
            startup_deadline: Duration::from_secs(60),
            max_statement_bytes: 256 << 20,
            read_ahead_bytes: 1 << 20,
            inline_analysis_bytes: 16 << 10,
            hold_deadline: Duration::from_secs(15 * 60),
            reminder_interval: Duration::from_secs(60),
            reject_holds_in_transaction: false,
            allow_replication: false,
            allow_function_call: false,
            tcp_keepalive: Duration::from_secs(60),
            drain_deadline: Duration::from_secs(30),
        }
    }
}
