//! What approval may be told by configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::people::{People, Person};

/// Who may decide.
#[derive(Debug, Clone, Default)]
pub struct ApprovalSettings {
    /// Everybody known.
    pub people: People,
    /// Groups whose members may decide.
    pub approver_groups: Vec<String>,
    /// People who may decide by name.
    pub approvers: Vec<String>,
    /// Nobody may decide a request whose database user belongs to no known person, because it might be their own.
    pub require_known_requester: bool,
}

impl ApprovalSettings {
    /// Whether a person is an approver at all.
    #[must_use]
    pub fn is_approver(&self, person: &Person) -> bool {
        self.approvers.contains(&person.name) || person.groups.iter().any(|group| self.approver_groups.contains(group))
    }

    /// Who is asked, in words for a notice: `group dba, ann`.
    #[must_use]
    pub fn asked(&self) -> String {
        let groups = self.approver_groups.iter().map(|group| format!("group {group}"));
        let named = self.approvers.iter().cloned();
        let all: Vec<_> = groups.chain(named).collect();
        if all.is_empty() { "nobody (no approvers are configured)".to_owned() } else { all.join(", ") }
    }
}

/// The admin API's address and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens; `None` for nowhere.
    pub address: Option<SocketAddr>,
    /// Most connections at once. For a further one the oldest without a valid token is closed; if there is none, it waits.
    pub max_connections: usize,
    /// Most connections of one address that have not presented a valid token; the oldest goes.
    pub unproved_per_address: usize,
    /// From accepting a connection to a request with a valid token; then it is closed.
    pub token_deadline: Duration,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// From the first byte of a request to the first of its answer.
    pub request_deadline: Duration,
    /// Without a byte either way, after which a connection is closed. Event streams send something more often.
    pub idle_deadline: Duration,
    /// How often an event stream says that it lives.
    pub keep_alive: Duration,
    /// Failed authentications one address may make at once; after that, one per `failure_refill`.
    pub failure_burst: u32,
    /// See `failure_burst`.
    pub failure_refill: Duration,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            address: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7432)),
            max_connections: 256,
            unproved_per_address: 16,
            token_deadline: Duration::from_secs(5),
            max_body_bytes: 64 << 10,
            request_deadline: Duration::from_secs(20),
            idle_deadline: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            failure_burst: 10,
            failure_refill: Duration::from_secs(3),
        }
    }
}
