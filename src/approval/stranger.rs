//! Whether somebody may be the requester without anybody being able to tell. Pure.
//!
//! "Nobody decides their own request" compares people. The admin API's callers are people of the configuration, so there it can
//! always be told. A channel's user who is none of them is only a Slack id or an address; whoever asked is a person of the
//! configuration. If that person has neither in the configuration, the two cannot be compared: the click may be the
//! requester's own. Then what `unknown_requester` says holds for this one answer, as it does for everybody's where the
//! requester is nobody known: two approvals (one of them is somebody else's), refusal, or trust.

use super::channel::Actor;
use super::people::{People, Person};
use crate::hold::Origin;

/// Whether the actor may be whoever asked.
pub(super) fn may_be_requester(actor: &Actor, people: &People, origin: &Origin) -> bool {
    // Two people of the configuration are told apart by their names.
    people.named(&actor.identity).is_none()
        && people.iter().any(|person| people.is_own(origin, &person.name) && !can_compare(person, actor))
}

/// Both have a Slack user, or both have an address: had they been the same, the actor would have been taken for the person.
fn can_compare(person: &Person, actor: &Actor) -> bool {
    let has = |is: fn(&str) -> bool| actor.names.iter().any(|name| is(name));
    (person.slack_user.is_some() && has(|name| name.starts_with("slack:")))
        || (person.email.is_some() && has(|name| name.contains('@')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::testing::request;

    #[test]
    fn somebody_is_told_apart_from_the_requester_by_what_both_have() {
        let person = |name: &str, slack: Option<&str>, email: Option<&str>| Person {
            name: name.to_owned(),
            slack_user: slack.map(str::to_owned),
            email: email.map(str::to_owned),
            database_users: vec!["app".to_owned()],
            ..Person::default()
        };
        let stranger = |names: &[&str]| Actor {
            identity: "slack:T01/U09".to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
        };
        let (bare, full) = (stranger(&["slack:U09"]), stranger(&["slack:U09", "x@example.com"]));
        let origin = request("app", "DELETE FROM t").origin;
        for (slack, email, actor, expected) in [
            (None, None, &full, true),
            (None, Some("ann@example.com"), &bare, true),
            (None, Some("ann@example.com"), &full, false),
            (Some("U01"), None, &bare, false),
        ] {
            let people = People::new(vec![person("ann", slack, email)]).unwrap();
            assert_eq!(may_be_requester(actor, &people, &origin), expected, "{slack:?} {email:?} {actor:?}");
            let known = Actor { identity: "ann".to_owned(), ..actor.clone() };
            assert!(!may_be_requester(&known, &people, &origin), "a person is compared by name");
        }
        // Two work as that user, and one of them cannot be compared.
        let people = People::new(vec![person("ann", Some("U01"), None), person("bob", None, None)]).unwrap();
        assert!(may_be_requester(&full, &people, &origin));
        assert!(!may_be_requester(&full, &people, &request("other", "DELETE FROM t").origin));
    }
}
