#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use proptest::prelude::*;
use std::collections::BTreeSet;

use super::*;
use crate::approval::profile::{Approvers, Escalation};
use crate::approval::testing::{at, request, settings};
use crate::hold::Outcome;
use crate::judge::Ownership;

/// An answer or an end, as it may come.
#[derive(Debug, Clone)]
enum Happening {
    Answer { by: usize, approve: bool, break_glass: bool, wrong_hash: bool, late: bool },
    Expire,
    Withdraw,
}

const PEOPLE: [&str; 5] = ["ann", "bob", "carol", "dev", "nobody"];

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..PEOPLE.len(), prop::bool::weighted(0.8), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(by, approve, break_glass, wrong_hash, late)| Happening::Answer { by, approve, break_glass, wrong_hash, late }),
        1 => Just(Happening::Expire),
        1 => Just(Happening::Withdraw),
    ]
}

fn submission(case: &Case, by: &str, happening: &Happening, now: i64) -> Submission {
    let Happening::Answer { approve, break_glass, wrong_hash, late, .. } = *happening else { unreachable!() };
    let person = settings().people.named(by).cloned();
    let actor =
        person.map_or_else(|| Actor { identity: by.to_owned(), ..Actor::default() }, |person| Actor::person(&person));
    Submission {
        id: case.view.request.id.clone(),
        channel: "test".to_owned(),
        actor,
        approve,
        break_glass,
        again: None,
        reason: break_glass.then(|| "fire".to_owned()),
        statement_sha256: wrong_hash.then(|| "11".repeat(32)),
        round: None,
        at: if late { at(5_000) } else { at(now) },
    }
}

proptest! {
    /// Any order of answers and ends: at most one decision, never by somebody who may not, never with fewer people than needed.
    #[test]
    fn nothing_is_decided_without_those_who_may(
        happenings in prop::collection::vec(happening(), 0..25),
        quorum in 1_usize..4,
        requester in prop::sample::select(vec!["ann_db", "dev_db", "stranger"]),
        with_break_glass in any::<bool>(),
    ) {
        let settings = settings();
        let mut profile = (*settings.default).clone();
        profile.quorum = quorum;
        profile.unknown_requester = UnknownRequester::TwoApprovals;
        if with_break_glass {
            profile.break_glass = vec!["dev".to_owned()];
        }
        let needed = if requester == "stranger" { quorum.max(2) } else { quorum };
        let mut case = Case::new(&Arc::new(request(requester, "DROP TABLE t")), Arc::new(profile), &settings.people);
        let mut approvals: BTreeSet<&str> = BTreeSet::new();
        let mut over = false;
        for (now, happening) in (1..).zip(&happenings) {
            match happening {
                Happening::Expire | Happening::Withdraw => {
                    if case.is_pending() {
                        let ended = Ended { outcome: Outcome::Expired, decision: None, at: at(now) };
                        case.end(&ended, "over".to_owned());
                        over = true;
                    }
                }
                Happening::Answer { by, approve, break_glass, wrong_hash, late } => {
                    let name = PEOPLE[*by];
                    let submission = submission(&case, name, happening, now);
                    let was_pending = case.is_pending();
                    let step = case.consider(&submission, &settings.people);
                    let Ok(step) = step else { continue };
                    prop_assert!(was_pending && !over && !wrong_hash && !late);
                    let alone = *break_glass && *approve;
                    if alone {
                        prop_assert!(with_break_glass && name == "dev");
                    } else {
                        prop_assert!(matches!(name, "ann" | "bob" | "carol"));
                        prop_assert!(!(name == "ann" && requester == "ann_db"));
                    }
                    if *approve && !alone {
                        prop_assert!(approvals.insert(name), "one person, one vote");
                    }
                    if let Step::Decide(Decision::Approve { .. }) = &step {
                        prop_assert!(alone || approvals.len() >= needed);
                    }
                    if let Step::Count { have, need } = &step {
                        prop_assert_eq!((*have, *need), (approvals.len(), needed));
                    }
                    case.apply(&submission, &step);
                    prop_assert_eq!(case.is_pending(), matches!(step, Step::Count { .. }));
                }
            }
        }
    }
}

#[test]
fn an_actor_is_known_by_every_name_a_channel_knows() {
    let approvers = Approvers { groups: vec!["slack:S1".to_owned()], people: vec!["zoe@example.com".to_owned()] };
    let actor = |names: &[&str], groups: &[&str]| Actor {
        identity: "slack:T1/U1".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    assert!(approvers.include(&actor(&["zoe@example.com"], &[])));
    assert!(approvers.include(&actor(&[], &["slack:S1"])));
    assert!(!approvers.include(&actor(&["zoe@example.org"], &["slack:S2"])));
    assert_eq!(approvers.in_words(), "group slack:S1, zoe@example.com");
}

#[test]
fn where_several_rules_hold_each_profile_has_to_be_satisfied() {
    let settings = settings();
    let profile = |name: &str, people: &[&str], quorum| {
        let people = people.iter().map(|name| (*name).to_owned()).collect();
        let approvers = Approvers { groups: Vec::new(), people };
        Arc::new(Profile {
            name: name.to_owned(),
            approvers,
            quorum,
            unknown_requester: UnknownRequester::Allow,
            ..Profile::default()
        })
    };
    let yes = Happening::Answer { by: 0, approve: true, break_glass: false, wrong_hash: false, late: false };
    let play = |profiles: &[&Arc<Profile>], voters: &[&str]| {
        let profile = Profile::all_of(profiles.iter().map(|one| Arc::clone(one)).collect());
        let mut case = Case::new(&Arc::new(request("stranger", "DROP TABLE t")), profile, &settings.people);
        for (now, by) in (1..).zip(voters) {
            let submission = submission(&case, by, &yes, now);
            let step = case.consider(&submission, &settings.people).unwrap();
            case.apply(&submission, &step);
        }
        !case.is_pending()
    };
    let (devs, two) = (profile("devs", &["dev"], 1), profile("two", &["ann", "bob", "carol"], 2));
    assert!(play(&[&devs], &["dev"]) && play(&[&two], &["ann", "bob"]));
    for both in [[&devs, &two], [&two, &devs]] {
        assert!(!play(&both, &["dev"]), "the lax one alone");
        assert!(!play(&both, &["ann", "bob"]), "the strict one alone");
        assert!(!play(&both, &["dev", "ann"]));
        assert!(play(&both, &["ann", "dev", "bob"]) && play(&both, &["dev", "ann", "bob"]));
    }
    // Who is in both counts for both.
    let ann = profile("ann", &["ann"], 1);
    assert!(play(&[&ann, &two], &["ann", "bob"]));
    assert!(play(&[&ann, &ann], &["ann"]), "named twice it is still one");
}

#[test]
fn of_what_several_profiles_say_the_stricter_counts() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let step = |after| Escalation { after, approvers: Approvers::default(), channels: vec![format!("{after:?}")] };
    let one = Profile {
        name: "one".to_owned(),
        break_glass: vec!["ann".to_owned(), "bob".to_owned()],
        deadline: Some(minutes(9)),
        again: minutes(5),
        unknown_requester: UnknownRequester::Allow,
        channels: vec!["x".to_owned()],
        escalation: vec![step(minutes(1)), step(minutes(3))],
        ..Profile::default()
    };
    let two = Profile {
        name: "two".to_owned(),
        break_glass: vec!["bob".to_owned()],
        again: Duration::ZERO,
        unknown_requester: UnknownRequester::Refuse,
        channels: vec!["y".to_owned()],
        escalation: vec![step(minutes(2))],
        ..Profile::default()
    };
    let both = Profile::all_of(vec![Arc::new(one), Arc::new(two)]);
    assert_eq!(both.break_glass, ["bob"]);
    assert_eq!((both.deadline, both.again), (Some(minutes(9)), Duration::ZERO));
    assert_eq!(both.unknown_requester, UnknownRequester::Refuse);
    let taken = |escalated| both.each(escalated).into_iter().map(|(_, taken)| taken).collect::<Vec<_>>();
    assert_eq!([taken(0), taken(1), taken(2), taken(3)], [[0, 0], [1, 0], [1, 1], [2, 1]]);
    assert_eq!(taken(usize::MAX), [2, 1]);
    let audience = Audience::of(&both, 2);
    assert!(["x", "y", "60s", "120s"].iter().all(|name| audience.names(name)) && !audience.names("180s"));
}

fn owner(groups: &[&str], people: &[&str], of: &str) -> Ownership {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Ownership {
        of: vec![of.to_owned()],
        more: false,
        groups: names(groups),
        people: names(people),
        slack: vec![format!("C0{}", of.to_uppercase())],
        webhooks: Vec::new(),
        lines: vec![1],
    }
}

#[test]
fn each_owner_has_to_agree_besides_the_profile_and_nobody_to_their_own() {
    let settings = settings();
    let yes = Happening::Answer { by: 0, approve: true, break_glass: false, wrong_hash: false, late: false };
    // dba (ann, bob) and carol by the profile.
    let play = |owners: &[Ownership], requester: &str, voters: &[&str]| {
        let profile = Profile::with_owners(Arc::clone(&settings.default), owners, Some("slack"));
        let mut case = Case::new(&Arc::new(request(requester, "DROP TABLE t")), profile, &settings.people);
        for (now, by) in (1..).zip(voters) {
            let submission = submission(&case, by, &yes, now);
            match case.consider(&submission, &settings.people) {
                Ok(step) => case.apply(&submission, &step),
                Err(error) => return Err(error.to_string()),
            }
        }
        if case.is_pending() { Ok(case.view.owners_missing.join(" / ")) } else { Ok("approved".to_owned()) }
    };
    let (developers, other) = (owner(&["developers"], &[], "a"), owner(&["other"], &["carol"], "b"));
    let both = [developers.clone(), other.clone()];
    let (no_dev, no_other) = ("group developers, owners of a", "group other or carol, owners of b");
    for (owners, voters, expected) in [
        (&both[..], &["ann"][..], format!("{no_dev} / {no_other}").as_str()),
        (&both, &["ann", "dev"], no_other),
        (&both, &["dev", "ann", "carol"], "approved"),
        (&both, &["dev"], no_other),
        // bob is in `other` and in dba: one person may speak for several.
        (&both, &["dev", "bob"], "approved"),
        (&both, &["bob", "dev"], "approved"),
        (&both[1..], &["bob"], "approved"),
        (&both[..1], &["dev"], ""),
        (&[], &["ann"], "approved"),
    ] {
        assert_eq!(play(owners, "stranger", voters).as_deref(), Ok(expected), "{voters:?}");
    }
    // dev asks, and is the only developer: the owner cannot be spoken for by whoever asked.
    assert_eq!(play(&both, "dev_db", &["ann", "dev"]), Err("nobody decides their own request".to_owned()));
    assert_eq!(play(&both, "stranger", &["nobody"]), Err("not an approver of this request".to_owned()));
}

#[test]
fn owners_add_votes_and_conversations_and_change_nothing_else() {
    let step = Escalation { after: Duration::from_secs(60), approvers: Approvers::default(), channels: Vec::new() };
    let rules = Arc::new(Profile {
        name: "strict".to_owned(),
        quorum: 2,
        unknown_requester: UnknownRequester::Refuse,
        break_glass: vec!["ann".to_owned()],
        deadline: Some(Duration::from_secs(600)),
        again: Duration::from_secs(300),
        remind_every: Duration::from_secs(30),
        escalation: vec![step],
        ..Profile::default()
    });
    let own = owner(&["developers"], &[], "a");
    let both = Profile::with_owners(Arc::clone(&rules), std::slice::from_ref(&own), Some("chat"));
    assert_eq!((both.quorum, both.unknown_requester), (2, UnknownRequester::Refuse));
    assert_eq!((both.deadline, both.again, both.remind_every), (rules.deadline, rules.again, rules.remind_every));
    assert_eq!((&both.break_glass, &both.escalation), (&rules.break_glass, &rules.escalation));
    let audience = Audience::of(&both, 0);
    assert!(audience.is_everywhere() && audience.names("chat:C0A"));
    assert!(both.asked().ends_with("; and besides group developers, owners of a"), "{}", both.asked());
    // Where the rules say where they ask, owners are asked there and in their own conversations.
    let narrow = Arc::new(Profile { channels: vec!["chat:C1".to_owned()], ..Profile::default() });
    let audience = Audience::of(&Profile::with_owners(narrow, &[own], Some("chat")), 0);
    assert_eq!(audience.conversations("chat", "C0").into_iter().collect::<Vec<_>>(), ["C0A", "C1"]);
    // However many owners: what can be kept up is not exceeded, and all of them have to agree.
    let many: Vec<Ownership> = (0..30).map(|n| owner(&[&format!("g{n}")], &[], &format!("t{n}"))).collect();
    let crowd = Profile::with_owners(rules, &many, Some("chat"));
    assert!(Audience::of(&crowd, 0).len() <= crate::approval::MAX_CONVERSATIONS);
    assert_eq!(crowd.parts.len(), 31);
    assert!(crowd.asked().ends_with("; and besides 25 more owners"), "{}", crowd.asked());
}
