#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::approval::profile::Approvers;
use crate::approval::testing::{at, request, settings};
use crate::hold::Outcome;

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
                    case.apply(&submission, &step, &settings.people);
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
