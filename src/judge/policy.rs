//! Rules, and the verdict they give. Knows effects and facts; knows no text.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::Analysis;

/// What the policy says to a statement or message. Ordered: the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Forward it.
    Allow,
    /// Ask people first.
    Hold,
    /// Refuse it.
    Reject,
}

/// Who is asking, from where: what rules may match besides effects.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Database user of the startup message.
    pub user: &'a str,
    /// Database of the startup message (the user's name if absent, as in Postgres).
    pub database: &'a str,
    /// `application_name`, as the server last reported it.
    pub application_name: &'a str,
    /// The client's address; `None` for a Unix socket.
    pub client_addr: Option<IpAddr>,
    /// A transaction block is open.
    pub in_transaction: bool,
}

/// The answer for one message (or one piece of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The strictest verdict of all effects of all pieces.
    pub verdict: Verdict,
    /// Name of the rule that gave it; `default` when no rule matched.
    pub rule: Arc<str>,
    /// One sentence: which effect on what, and why the text has it.
    pub why: String,
    /// The rule's own message to the requester (`message = …`).
    pub message: Option<Arc<str>>,
}

/// Looks up what a prepared statement of this session does, for `EXECUTE name`.
pub trait Prepared {
    /// `None`: no such name is known, which is judged as `Unknown`.
    fn prepared(&self, name: &str) -> Option<Arc<Analysis>>;
}
