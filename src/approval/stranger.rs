//! Whether somebody may be the requester without anybody being able to tell. Pure.
//!
//! "Nobody decides their own request" compares people. The admin API's callers are people of the configuration, so there it can
//! always be told. A channel's user who is none of them is only a Slack id or an address; whoever asked is a person of the
//! configuration. If that person has neither in the configuration, the two cannot be compared: the click may be the
//! requester's own, or a second vote of somebody who has voted. Then what `unknown_requester` says holds for this one answer, as it does for everybody's where the
//! requester is nobody known: two approvals (one of them is somebody else's), refusal, or trust.

use super::channel::Actor;
use super::people::{People, Person};
use crate::hold::HoldRequest;

/// Whether the actor may be whoever asked.
pub(super) fn may_be_requester(actor: &Actor, people: &People, request: &HoldRequest) -> bool {
    let asked = |person: &Person| match &request.beforehand {
        Some(own) => own.by == person.name,
        None => people.is_own(&request.origin, &person.name),
    };
    // Two people of the configuration are told apart by their names.
    people.named(&actor.identity).is_none() && people.iter().any(|person| asked(person) && !can_compare(person, actor))
}

/// How many people have certainly voted. Somebody of the configuration and a channel's user who may be the same count once.
pub(super) fn certainly_different(votes: &[&Actor], people: &People) -> usize {
    let (mut known, mut strangers) = (Vec::new(), Vec::new());
    for vote in votes {
        match people.named(&vote.identity) {
            Some(person) => known.push(person),
            None => strangers.push(*vote),
        }
    }
    let doubtful = |person: &Person, vote: &Actor| !can_compare(person, vote);
    let people_in_doubt = known.iter().filter(|person| strangers.iter().any(|vote| doubtful(person, vote))).count();
    let strangers_in_doubt = strangers.iter().filter(|vote| known.iter().any(|person| doubtful(person, vote))).count();
    // Fail closed: as many pairs as there may be are taken for one person each.
    votes.len().saturating_sub(people_in_doubt.min(strangers_in_doubt))
}

/// Whether the actor may be the one with this name on record.
pub(super) fn may_be(actor: &Actor, identity: &str, people: &People) -> bool {
    match (people.named(&actor.identity), people.named(identity)) {
        (Some(_), Some(_)) | (None, None) => false,
        (None, Some(person)) => !can_compare(person, actor),
        // Nothing but a name is on record of a channel's user.
        (Some(person), None) => {
            let own = person.slack_user.as_deref();
            own.is_none_or(|own| identity.rsplit('/').next() == Some(own))
        }
    }
}

/// Both have a Slack user, or both have an address, and none of these is the same: then they are two. (The same one on both sides: the
/// person was told of it in the configuration after the actor had answered.)
fn can_compare(person: &Person, actor: &Actor) -> bool {
    let (mut differ, mut same) = (false, false);
    for name in &actor.names {
        let own = match name.strip_prefix("slack:") {
            Some(user) => person.slack_user.as_deref().map(|own| own == user),
            None if name.contains('@') => person.email.as_deref().map(|own| own.eq_ignore_ascii_case(name)),
            None => None,
        };
        differ |= own == Some(false);
        same |= own == Some(true);
    }
    differ && !same
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
        let origin = request("app", "DELETE FROM t");
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
        assert!(!may_be_requester(&full, &people, &request("other", "DELETE FROM t")));
    }

    #[test]
    fn a_vote_from_before_the_configuration_knew_the_slack_user_is_that_persons() {
        let person = Person {
            name: "ann".to_owned(),
            slack_user: Some("U09".to_owned()),
            email: Some("Ann@example.com".to_owned()),
            database_users: vec!["app".to_owned()],
            ..Person::default()
        };
        let people = People::new(vec![person]).unwrap();
        let actor = |identity: &str, names: &[&str]| Actor {
            identity: identity.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
        };
        let ann = actor("ann", &[]);
        for earlier in [
            actor("slack:T01/U09", &["slack:U09"]),
            actor("slack:T01/U09", &["slack:U09", "x@example.com"]),
            actor("slack:T01/U08", &["slack:U08", "ann@example.com"]),
        ] {
            assert_eq!(certainly_different(&[&earlier, &ann], &people), 1, "{earlier:?}");
            assert!(may_be(&earlier, "ann", &people), "{earlier:?}");
            assert!(may_be_requester(&earlier, &people, &request("app", "DELETE FROM t")), "{earlier:?}");
        }
        assert!(may_be(&ann, "slack:T01/U09", &people));
        let other = actor("slack:T01/U07", &["slack:U07"]);
        assert_eq!(certainly_different(&[&other, &ann], &people), 2);
        assert!(!may_be(&ann, "slack:T01/U07", &people));
    }

    #[test]
    fn votes_that_may_be_of_one_person_count_once() {
        let person = |name: &str, slack: Option<&str>| Person {
            name: name.to_owned(),
            slack_user: slack.map(str::to_owned),
            ..Person::default()
        };
        let people = People::new(vec![person("ann", Some("U01")), person("bob", None), person("cem", None)]).unwrap();
        let actor = |identity: &str, names: &[&str]| Actor {
            identity: identity.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
        };
        let (ann, bob, cem) = (actor("ann", &[]), actor("bob", &[]), actor("cem", &[]));
        let (one, two) = (actor("slack:T01/U08", &["slack:U08"]), actor("slack:T01/U09", &["slack:U09"]));
        for (votes, expected) in [
            (&[&ann, &one][..], 2),
            (&[&bob, &one], 1),
            (&[&one, &two], 2),
            (&[&bob, &one, &two], 2),
            (&[&bob, &cem, &one, &two], 2),
            (&[&ann, &bob, &one], 2),
            (&[&ann, &bob, &cem], 3),
        ] {
            assert_eq!(certainly_different(votes, &people), expected, "{votes:?}");
        }
        assert!(may_be(&one, "bob", &people) && may_be(&bob, "slack:T01/U08", &people));
        assert!(
            !may_be(&one, "ann", &people) && !may_be(&ann, "slack:T01/U08", &people) && !may_be(&ann, "bob", &people)
        );
    }
}
