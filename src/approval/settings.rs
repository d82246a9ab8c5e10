//! What approval may be told by configuration.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::channel::Actor;
use super::integration::Integration;
use super::people::{People, Person};
use super::profile::Profile;
use crate::hold::HoldRequest;
use crate::judge::{Owner, Owners, Policy};

/// Who is who, and who may decide what.
#[derive(Debug, Clone, Default)]
pub struct ApprovalSettings {
    /// Everybody known.
    pub people: People,
    /// What holds for rules that name no profile.
    pub default: Arc<Profile>,
    /// The other profiles, by name.
    pub profiles: BTreeMap<String, Arc<Profile>>,
    /// Which profile a policy rule names.
    pub by_rule: HashMap<String, String>,
    /// What judges statements; says what to keep off the record of those that are asked for beforehand.
    pub policy: Option<Arc<Policy>>,
    /// The name of the channel to Slack, whose conversations owners are asked in.
    pub slack: Option<String>,
    /// Programs that hand in people's decisions.
    pub integrations: Vec<Integration>,
}

impl ApprovalSettings {
    /// The profile for statements held by `rule`.
    #[must_use]
    pub fn profile(&self, rule: &str) -> &Arc<Profile> {
        // A decision in Rego may name a profile: its rule is then called `rule@profile`, and `@profile` is known.
        let named = || rule.rfind('@').and_then(|at| self.by_rule.get(rule.get(at..)?));
        self.by_rule.get(rule).or_else(named).and_then(|name| self.profiles.get(name)).unwrap_or(&self.default)
    }

    /// The profile for a request: of its rule, of every other rule that holds it, and of the owners of what it touches, as they
    /// were when it was held.
    #[must_use]
    pub fn profile_of(&self, request: &HoldRequest) -> Arc<Profile> {
        Profile::with_owners(self.profile_of_rules(request), &request.owners, self.slack.as_deref())
    }

    /// The same without owners.
    #[must_use]
    pub fn profile_of_rules(&self, request: &HoldRequest) -> Arc<Profile> {
        let rules = std::iter::once(&*request.rule).chain(request.also.iter().map(String::as_str));
        Profile::all_of(rules.map(|rule| Arc::clone(self.profile(rule))).collect())
    }

    /// Whether a person may decide some requests.
    #[must_use]
    pub fn is_approver(&self, person: &Person) -> bool {
        let actor = Actor::person(person);
        let owns = |owner: &Owner| {
            owner.people.contains(&person.name) || person.groups.iter().any(|group| owner.groups.contains(group))
        };
        let lines = self.policy.iter().filter_map(|policy| policy.owners()).flat_map(Owners::lines);
        self.profiles.values().chain([&self.default]).any(|profile| profile.may_ever_include(&actor))
            || lines.flat_map(|line| &line.owners).any(owns)
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
