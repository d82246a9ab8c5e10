//! Any order of steps on a few holds, against a model that is too simple to be wrong.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::super::{Board, Cause, Decision, Ended, HoldId, HoldSettings, Outcome, Phase, Refused, Ticket};
use super::{approve, at, reject, request};

#[derive(Debug, Clone)]
enum Step {
    Open,
    Poll,
    Decide { yes: bool, by: u8 },
    Expire,
    Withdraw,
    Finish,
    Drop,
    Wait(u8),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        3 => Just(Step::Open),
        2 => Just(Step::Poll),
        3 => (any::<bool>(), 0..3_u8).prop_map(|(yes, by)| Step::Decide { yes, by }),
        1 => Just(Step::Expire),
        1 => Just(Step::Withdraw),
        2 => Just(Step::Finish),
        1 => Just(Step::Drop),
        1 => (1..60_u8).prop_map(Step::Wait),
    ];
    prop::collection::vec((0..3_usize, step), 0..60)
}

/// One hold after another under the same session number.
#[derive(Default)]
struct Slot {
    ticket: Option<Ticket>,
    model: Option<Model>,
    opened: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Model {
    id: HoldId,
    decision: Option<Decision>,
    outcome: Option<Outcome>,
}

fn run(steps: Vec<(usize, Step)>) {
    let board = Board::new(HoldSettings::default());
    let mut slots: [Slot; 3] = Default::default();
    let mut now = 0;
    for (which, step) in steps {
        let slot = &mut slots[which];
        match step {
            Step::Wait(seconds) => now += i64::from(seconds),
            Step::Open => open(&board, slot, which),
            Step::Decide { yes, by } => {
                let by = format!("p{by}");
                let decision = if yes { approve(&by, now) } else { reject(&by, now) };
                decide(&board, slot, decision, now);
            }
            Step::Poll | Step::Expire | Step::Withdraw | Step::Finish | Step::Drop => {
                session_acts(slot, &step, now);
            }
        }
        for slot in &slots {
            agrees(&board, slot);
        }
    }
    drop(slots);
    assert!(board.is_clean());
}

fn open(board: &Board, slot: &mut Slot, which: usize) {
    let id = format!("qg-{which}x{}", slot.opened);
    let opened = board.open(request(&id, which as u64, "app"));
    let live = slot.model.as_ref().is_some_and(|model| model.outcome.is_none());
    assert_eq!(opened.is_err(), live, "one hold per session");
    if let Ok(ticket) = opened {
        slot.opened += 1;
        slot.ticket = Some(ticket);
        slot.model = Some(Model { id: HoldId(id), decision: None, outcome: None });
    }
}

fn decide(board: &Board, slot: &mut Slot, decision: Decision, now: i64) {
    let Some(model) = &mut slot.model else {
        return;
    };
    let answer = board.decide(&model.id, decision.clone());
    match (&model.outcome, &model.decision) {
        (Some(_), _) => assert!(matches!(answer, Err(Refused::Ended(_)))),
        (None, Some(first)) => assert_eq!(answer, Err(Refused::Decided(first.clone()))),
        (None, None) if now >= 100 => assert!(matches!(answer, Err(Refused::Late { .. }))),
        (None, None) => {
            assert!(answer.is_ok());
            model.decision = Some(decision);
        }
    }
}

fn session_acts(slot: &mut Slot, step: &Step, now: i64) {
    let Some((mut ticket, model)) = slot.ticket.take().zip(slot.model.as_mut()) else {
        return;
    };
    let withdrawn = |cause| Outcome::Withdrawn { cause };
    let demanded = match &model.decision {
        Some(Decision::Approve { .. }) => Outcome::Released,
        Some(Decision::Reject { .. }) => Outcome::Rejected,
        None => withdrawn(Cause::Internal),
    };
    match step {
        Step::Poll => {
            let mut context = Context::from_waker(Waker::noop());
            let expected = match (&model.outcome, &model.decision) {
                (None, Some(decision)) => Poll::Ready(decision.clone()),
                (Some(_), _) | (None, None) => Poll::Pending,
            };
            assert_eq!(ticket.poll_decision(&mut context), expected);
            slot.ticket = Some(ticket);
        }
        Step::Expire => {
            let expected = match (&model.outcome, &model.decision) {
                (None, Some(decision)) => Err(decision.clone()),
                (Some(_), _) | (None, None) => Ok(()),
            };
            assert_eq!(ticket.expire(at(now)), expected);
            if expected.is_ok() && model.outcome.is_none() {
                model.outcome = Some(Outcome::Expired);
            }
            slot.ticket = Some(ticket);
        }
        Step::Withdraw => {
            let known = model.outcome.is_some();
            let seen = ticket.withdraw(Cause::ClientGone, at(now));
            assert_eq!(seen, model.decision.clone().filter(|_| !known));
            model.outcome.get_or_insert_with(|| withdrawn(Cause::ClientGone));
        }
        Step::Finish => {
            let outcome = model.outcome.get_or_insert(demanded);
            assert_eq!(ticket.finish(at(now)), *outcome);
        }
        Step::Drop => {
            model.outcome.get_or_insert_with(|| withdrawn(Cause::Internal));
        }
        Step::Open | Step::Decide { .. } | Step::Wait(_) => {}
    }
}

fn agrees(board: &Board, slot: &Slot) {
    let Some(model) = &slot.model else {
        return;
    };
    let phase = board.find(&model.id).expect("remembered").phase;
    match (&model.outcome, &model.decision) {
        (None, None) => assert_eq!(phase, Phase::Pending),
        (None, Some(decision)) => assert_eq!(phase, Phase::Decided(decision.clone())),
        (Some(outcome), decision) => {
            let Phase::Ended(Ended { outcome: told, decision: by, at: _ }) = phase else {
                panic!("not ended: {phase:?}");
            };
            assert_eq!((&told, &by), (outcome, decision));
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_steps_gives_each_hold_one_outcome_and_leaves_nothing_behind(steps in steps()) {
        run(steps);
    }
}
