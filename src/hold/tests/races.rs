//! Races, run by shuttle: the board's own code over locks whose every acquisition is a point where another thread may
//! go first. The small ones are exhaustive, the large one is random.

use shuttle::future::block_on;
use shuttle::thread;

use super::super::board::Board;
use super::super::cell::{Lock, Locks};
use super::super::{Cause, Event, HoldId, HoldSettings, Outcome, Phase};
use super::{approve, at, reject, request};

struct Shuttle;

impl Locks for Shuttle {
    type Mutex<T: Send> = shuttle::sync::Mutex<T>;
}

impl<T: Send> Lock<T> for shuttle::sync::Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.lock().unwrap())
    }
}

/// What one run left behind, checked against what everybody was told.
struct Run {
    board: Board<Shuttle>,
    events: super::super::Subscription,
    id: HoldId,
}

impl Run {
    fn new() -> Self {
        let board = Board::with_locks(HoldSettings::default());
        let events = board.subscribe();
        let id = HoldId("qg-a".to_owned());
        Self { board, events, id }
    }

    /// One `Opened`, at most one `Decided`, one `Ended`; the board empty; the record as told.
    fn check(mut self, won: usize) -> Outcome {
        assert!(self.board.is_clean(), "leaked");
        let mut told = Vec::new();
        let events = &mut self.events;
        let Phase::Ended(ended) = self.board.find(&self.id).unwrap().phase else {
            panic!("not ended");
        };
        drop(self.board);
        block_on(async {
            while let Some(event) = events.next().await {
                told.push(event.unwrap());
            }
        });
        assert!(matches!(told.first(), Some(Event::Opened(_))));
        assert!(matches!(told.last(), Some(Event::Ended(_, last)) if *last == ended));
        match told.as_slice() {
            [_, _] => assert_eq!(won, 0),
            [_, Event::Decided(_, decision), _] => {
                assert_eq!(won, 1);
                assert_eq!(ended.decision.as_ref(), Some(decision));
            }
            other => panic!("told {other:?}"),
        }
        ended.outcome
    }
}

#[test]
fn of_two_decisions_one_wins_and_the_waiting_session_always_wakes() {
    shuttle::check_dfs(
        || {
            let run = Run::new();
            let mut ticket = run.board.open(request("qg-a", 1, "app")).unwrap();
            let deciders: Vec<_> = [approve("ann", 1), reject("bob", 1)]
                .into_iter()
                .map(|decision| {
                    let (board, id) = (run.board.clone(), run.id.clone());
                    thread::spawn(move || board.decide(&id, decision).is_ok())
                })
                .collect();
            // A lost wake would leave this waiting for ever, which shuttle reports as a deadlock.
            let decision = block_on(ticket.decision());
            let outcome = ticket.finish(at(2));
            let won = deciders.into_iter().map(|decider| usize::from(decider.join().unwrap())).sum();
            assert_eq!(won, 1);
            assert_eq!(outcome == Outcome::Released, decision.by() == "ann");
            assert_eq!(run.check(won), outcome);
        },
        None,
    );
}

#[test]
fn a_decision_against_a_vanishing_client_never_reads_as_released() {
    shuttle::check_dfs(
        || {
            let run = Run::new();
            let ticket = run.board.open(request("qg-a", 1, "app")).unwrap();
            let (board, id) = (run.board.clone(), run.id.clone());
            let decider = thread::spawn(move || board.decide(&id, approve("ann", 1)).is_ok());
            let seen = ticket.withdraw(Cause::ClientGone, at(2));
            let won = decider.join().unwrap();
            assert_eq!(seen.is_some(), won);
            let outcome = Outcome::Withdrawn { cause: Cause::ClientGone };
            assert_eq!(run.check(usize::from(won)), outcome);
        },
        None,
    );
}

#[test]
fn a_decision_against_the_timer_has_one_winner_and_both_agree_on_it() {
    shuttle::check_dfs(
        || {
            let run = Run::new();
            let mut ticket = run.board.open(request("qg-a", 1, "app")).unwrap();
            let (board, id) = (run.board.clone(), run.id.clone());
            let decider = thread::spawn(move || board.decide(&id, approve("ann", 99)).is_ok());
            let expired = ticket.expire(at(100)).is_ok();
            if expired {
                drop(ticket);
            } else {
                ticket.finish(at(100));
            }
            let won = decider.join().unwrap();
            assert_eq!(won, !expired);
            let expected = if won { Outcome::Released } else { Outcome::Expired };
            assert_eq!(run.check(usize::from(won)), expected);
        },
        None,
    );
}

#[test]
fn a_decision_against_a_dropped_ticket_leaks_nothing() {
    shuttle::check_dfs(
        || {
            let run = Run::new();
            let ticket = run.board.open(request("qg-a", 1, "app")).unwrap();
            let (board, id) = (run.board.clone(), run.id.clone());
            let decider = thread::spawn(move || board.decide(&id, approve("ann", 1)).is_ok());
            drop(ticket);
            let won = usize::from(decider.join().unwrap());
            assert!(matches!(run.check(won), Outcome::Withdrawn { .. }));
        },
        None,
    );
}

#[test]
fn a_request_seen_ending_is_never_lost_between_map_and_history() {
    shuttle::check_dfs(
        || {
            let run = Run::new();
            let ticket = run.board.open(request("qg-a", 1, "app")).unwrap();
            let (board, id) = (run.board.clone(), run.id.clone());
            let looker = thread::spawn(move || board.find(&id).is_some());
            ticket.withdraw(Cause::ClientGone, at(1));
            assert!(looker.join().unwrap());
            run.check(0);
        },
        None,
    );
}

#[test]
fn an_announced_request_can_be_decided_at_once() {
    shuttle::check_dfs(
        || {
            let run = Run::new();
            let board = run.board.clone();
            let mut listener = board.subscribe();
            let approver = thread::spawn(move || {
                let Some(Ok(Event::Opened(request))) = block_on(listener.next()) else {
                    panic!("nothing was announced");
                };
                board.decide(&request.id, approve("ann", 1)).unwrap();
            });
            let mut ticket = run.board.open(request("qg-a", 1, "app")).unwrap();
            block_on(ticket.decision());
            assert_eq!(ticket.finish(at(2)), Outcome::Released);
            approver.join().unwrap();
            run.check(1);
        },
        None,
    );
}

#[test]
fn many_sessions_and_approvers_leave_one_outcome_each_and_an_empty_board() {
    shuttle::check_random(
        || {
            let board: Board<Shuttle> = Board::with_locks(HoldSettings::default());
            let sessions: Vec<_> = (0..3_u64)
                .map(|n| {
                    let board = board.clone();
                    thread::spawn(move || {
                        let name = format!("qg-{n}");
                        let mut ticket = board.open(request(&name, n, "app")).unwrap();
                        match n {
                            0 => drop(ticket.finish(at(1))),
                            1 => drop(ticket.withdraw(Cause::CancelRequest, at(1))),
                            _ => {
                                let _decided_before = ticket.expire(at(1));
                            }
                        }
                    })
                })
                .collect();
            let approvers: Vec<_> = ["ann", "bob"]
                .map(|name| {
                    let board = board.clone();
                    thread::spawn(move || {
                        let holds = board.list();
                        let ids = holds.iter().map(|hold| hold.request.id.clone());
                        let won = ids.filter(|id| board.decide(id, approve(name, 0)).is_ok());
                        won.collect::<Vec<_>>()
                    })
                })
                .into();
            for session in sessions {
                session.join().unwrap();
            }
            let won: Vec<_> = approvers.into_iter().flat_map(|approver| approver.join().unwrap()).collect();
            assert!(board.is_clean());
            let records = board.recent(10);
            assert_eq!(records.len(), 3);
            for record in records {
                let Phase::Ended(ended) = record.phase else {
                    panic!("not ended");
                };
                let times = won.iter().filter(|id| **id == record.request.id).count();
                assert_eq!(times, usize::from(ended.decision.is_some()));
            }
        },
        2_000,
    );
}
