use super::*;
use crate::approval::Ineligible;
use crate::approval::channel::person_alone;
use crate::approval::testing::{at, desk, held, person, settings};
use crate::hold::{Phase, Refused};

fn pager(people: &[&str]) -> Integration {
    Integration {
        name: "pager".to_owned(),
        token: TokenDigest::of("pager-token-0123456789").unwrap(),
        secret: "a secret of some length".to_owned(),
        people: people.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_message_is_good_with_its_own_signature_for_a_few_minutes() {
    let pager = pager(&[]);
    let signature = sign(&pager.secret, "1000", "{}").unwrap();
    for now in [1_000, 700, 1_300] {
        assert_eq!(pager.signed("1000", &signature, "{}", second(now)), Ok(second(1_000)), "{now}");
    }
    for now in [699, 1_301, 2_000_000_000] {
        assert_eq!(pager.signed("1000", &signature, "{}", second(now)), Err(Suspect::Stale), "{now}");
    }
    let other = sign("another secret of some length", "1000", "{}").unwrap();
    for (timestamp, signature, body) in [
        ("1000", signature.as_str(), "{ }"),
        ("1001", &signature, "{}"),
        ("1000", &other, "{}"),
        ("1000", "", "{}"),
        ("1000", signature.trim_start_matches("v1="), "{}"),
        ("1000", &signature.to_uppercase(), "{}"),
    ] {
        assert_eq!(pager.signed(timestamp, signature, body, second(1_000)), Err(Suspect::Forged), "{body} {signature}");
    }
    for timestamp in ["", "soon", "1e3", "99999999999999999999", "9223372036854775807"] {
        let signature = sign(&pager.secret, timestamp, "{}").unwrap();
        assert_eq!(pager.signed(timestamp, &signature, "{}", second(1_000)), Err(Suspect::Forged), "{timestamp}");
    }
}

#[test]
fn a_message_counts_once_and_is_forgotten_only_when_it_is_stale() {
    let replays = Replays::default();
    assert_eq!(replays.note("pager", "v1=00", second(1_000), second(1_000)), Ok(()));
    assert_eq!(replays.note("pager", "v1=00", second(1_000), second(1_300)), Err(Suspect::Replayed));
    assert_eq!(replays.note("teams", "v1=00", second(1_000), second(1_000)), Ok(()), "another integration's");
    for n in 2..MAX_REMEMBERED {
        assert_eq!(replays.note("pager", &format!("v1={n}"), second(1_000), second(1_000)), Ok(()));
    }
    assert_eq!(replays.note("pager", "v1=new", second(1_300), second(1_300)), Err(Suspect::TooMany));
    assert_eq!(replays.note("pager", "v1=new", second(1_301), second(1_301)), Ok(()));
}

#[test]
fn an_integration_is_known_by_its_token_and_speaks_for_those_it_names() {
    let people = settings().people;
    let all =
        [Integration { token: TokenDigest::of("teams-token-0123456789").unwrap(), ..pager(&["*"]) }, pager(&["ann"])];
    assert_eq!(Integration::by_token(&all, "pager-token-0123456789"), all.get(1));
    assert_eq!(Integration::by_token(&all, "teams-token-0123456789"), all.first());
    assert_eq!(Integration::by_token(&all, "ann-token-0123456789abcdef"), None);
    assert_eq!(Integration::by_token(&[], ""), None);
    let [teams, pager] = &all;
    assert_eq!(pager.person(&people, "ann").map(|person| person.name.as_str()), Some("ann"));
    assert_eq!(pager.person(&people, "bob"), None);
    assert_eq!(teams.person(&people, "bob").map(|person| person.name.as_str()), Some("bob"));
    assert_eq!(teams.person(&people, "*"), None);
    assert!(!format!("{pager:?}").contains("secret of"));
}

fn approve(id: &HoldId, sha256: &str) -> Told {
    Told { id: id.clone(), statement_sha256: sha256.to_owned(), approve: true, reason: None, round: None }
}

#[tokio::test]
async fn a_person_has_the_same_rights_through_an_integration_and_the_record_says_through_which() {
    let (desk, board) = desk();
    let ticket = held(&desk, &board, "ann_db").await;
    let shown = ticket.request().statement.sha256.clone();
    let pager = pager(&["*"]);
    for (name, expected) in [("ann", Ineligible::OwnRequest), ("dev", Ineligible::NotApprover)] {
        let denied = desk.answer_through(&pager, &person(&desk, name), approve(ticket.id(), &shown), at(1)).await;
        assert_eq!(denied, Err(expected.into()));
    }
    let bob = person(&desk, "bob");
    let other = desk.answer_through(&pager, &bob, approve(ticket.id(), &"11".repeat(32)), at(1)).await;
    assert_eq!(other, Err(Denied::OtherStatement));
    assert_eq!(board.find(ticket.id()).map(|hold| hold.phase), Some(Phase::Pending));
    let taken = desk.answer_through(&pager, &bob, approve(ticket.id(), &shown), at(1)).await;
    assert_eq!(taken, Ok(Receipt::Decided));
    let Some(Phase::Decided(decision)) = board.find(ticket.id()).map(|hold| hold.phase) else { panic!("not decided") };
    assert_eq!(decision.by(), "bob through integration pager");
    assert_eq!(person_alone(decision.by()), "bob");
    let again = desk.answer_through(&pager, &bob, approve(ticket.id(), &shown), at(2)).await;
    assert!(matches!(again, Err(Denied::Refused(Refused::Decided(_)))), "{again:?}");
}

#[tokio::test]
async fn one_person_has_one_vote_whichever_way_they_take() {
    let mut settings = settings();
    Arc::make_mut(&mut settings.default).quorum = 2;
    let (desk, board) = crate::approval::testing::desk_with(settings, Arc::new(crate::approval::record::Forgetful));
    let ticket = held(&desk, &board, "app").await;
    let shown = ticket.request().statement.sha256.clone();
    let bob = person(&desk, "bob");
    let yes = crate::approval::Answer { approve: true, ..crate::approval::Answer::default() };
    assert_eq!(desk.answer(&bob, ticket.id(), yes, at(1)).await, Ok(Receipt::Counted { have: 1, need: 2 }));
    let again = desk.answer_through(&pager(&["bob"]), &bob, approve(ticket.id(), &shown), at(2)).await;
    assert_eq!(again, Err(Denied::AlreadyApproved { have: 1, need: 2 }));
}
