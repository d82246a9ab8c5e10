//! The API client against the real API on port 0.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::super::api::{Api, ApiError, Change, Which};
use crate::approval::http::view::{AnswerBody, LIST_TEXT_BYTES, State};
use crate::approval::testing::{at, held, opened, request, settled_desk, taken_in, token};
use crate::approval::{AdminSettings, ApprovalDesk};
use crate::hold::{Board, HoldSettings, Outcome, Ticket};

struct Gate {
    runtime: Runtime,
    board: Board,
    desk: Arc<ApprovalDesk>,
    base: String,
    stop: watch::Sender<bool>,
}

impl Gate {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let board = Board::new(HoldSettings::default());
        let (desk, base, stop) = serve(&runtime, &board, "127.0.0.1:0");
        Self { runtime, board, desk, base, stop }
    }

    fn held(&self, user: &str) -> Ticket {
        self.runtime.block_on(held(&self.desk, &self.board, user))
    }

    fn api(&self, who: &str) -> Api {
        Api::new(&self.base, &token(who)).unwrap()
    }
}

fn serve(runtime: &Runtime, board: &Board, address: &str) -> (Arc<ApprovalDesk>, String, watch::Sender<bool>) {
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let desk = runtime.block_on(settled_desk(board));
    let (stop, stopped) = watch::channel(false);
    let limits = AdminSettings::default();
    runtime.spawn(crate::approval::http::serve(
        listener,
        Arc::clone(&desk),
        limits,
        crate::approval::http::Vitals::default(),
        stopped,
    ));
    (desk, base, stop)
}

#[test]
fn list_show_and_decide_speak_with_the_gate() {
    let gate = Gate::start();
    let api = gate.api("ann");
    assert!(api.me().unwrap().approver);
    let mut ticket = gate.held("app");
    let list = api.list(Which::Pending, 10).unwrap();
    assert_eq!(list.requests[0].id, ticket.id().0);
    let shown = api.show(&ticket.id().0.to_uppercase()).unwrap();
    assert_eq!(shown, list.requests[0]);
    let body = AnswerBody {
        reason: Some("fine".to_owned()),
        statement_sha256: Some(shown.statement.sha256),
        ..AnswerBody::default()
    };
    let decided = api.decide(&shown.id, true, &body).unwrap();
    assert_eq!(decided.state, State::Approved);
    let decision = gate.runtime.block_on(ticket.decision());
    assert_eq!((decision.by(), decision.reason()), ("ann", Some("fine")));
    assert_eq!(ticket.finish(at(1)), Outcome::Released);
    assert!(api.list(Which::Pending, 10).unwrap().requests.is_empty());
    assert_eq!(api.list(Which::All, 10).unwrap().requests[0].state, State::Released);
}

#[test]
fn a_long_statement_arrives_whole_from_show() {
    let gate = Gate::start();
    let text = "é".repeat(LIST_TEXT_BYTES);
    let ticket = gate.board.open(request("app", &text)).unwrap();
    gate.runtime.block_on(taken_in(&gate.desk, &ticket));
    let api = gate.api("ann");
    assert!(!api.list(Which::Pending, 10).unwrap().requests[0].statement.complete);
    assert_eq!(api.show(&ticket.id().0).unwrap().statement.text, text);
}

#[test]
fn every_refusal_has_its_exit_status_and_the_gates_words() {
    let gate = Gate::start();
    let ticket = gate.held("ann_db");
    let id = &ticket.id().0;
    let body = AnswerBody::default();
    let stranger = Api::new(&gate.base, "not-a-token-of-anybody").unwrap();
    let not_there = Api::new("http://127.0.0.1:1", &token("ann")).unwrap();
    gate.api("bob").decide(id, false, &body).unwrap();
    for (result, status, words) in [
        (stranger.show(id), 3, "token"),
        (gate.api("ann").decide(id, true, &body), 3, "nobody decides their own request"),
        (gate.api("ann").show("qg-0000000000"), 4, "no such request"),
        (gate.api("carol").decide(id, true, &body), 5, "already decided by bob"),
        (gate.api("ann").show("../health"), 2, "looks like"),
        (not_there.show(id), 1, "cannot reach the gate"),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.exit_status(), status, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for wrong in ["127.0.0.1:7432", "ftp://gate", "http://", "nonsense"] {
        assert!(matches!(Api::new(wrong, &token("ann")), Err(ApiError::Usage(_))), "{wrong}");
    }
}

/// Enough was heard.
struct Enough;

impl From<ApiError> for Enough {
    fn from(error: ApiError) -> Self {
        panic!("{error}");
    }
}

#[test]
fn following_survives_a_restart_of_the_gate_and_starts_over_with_a_snapshot() {
    let gate = Gate::start();
    let address = gate.base.trim_start_matches("http://").to_owned();
    let mut tickets = vec![gate.held("app")];
    let mut heard: Vec<String> = Vec::new();
    let mut stop = Some(gate.stop);
    let mut later = None;
    let (runtime, board) = (&gate.runtime, &gate.board);
    let api = Api::new(&gate.base, &token("ann")).unwrap();
    let result = api.follow(|change| {
        match change {
            Change::Alive => return Ok(()),
            Change::Snapshot(list) => heard.push(format!("snapshot {}", list.requests.len())),
            Change::One(kind, _) => heard.push(kind),
            Change::Trouble(_) if heard.last().is_some_and(|last| last == "lost") => {}
            Change::Trouble(_) => heard.push("lost".to_owned()),
        }
        match heard.last().map(String::as_str) {
            Some("snapshot 1") => tickets.push(opened(board, "app")),
            Some("opened") => stop.take().unwrap().send(true).unwrap(),
            Some("lost") if later.is_none() => {
                // The old listener may need a moment to be gone; `follow` tries again until there is one.
                let bound = runtime.block_on(TcpListener::bind(&address));
                if bound.map(drop).is_ok() {
                    later = Some(serve(runtime, board, &address));
                }
            }
            Some("snapshot 2") => return Err(Enough),
            _ => {}
        }
        Ok(())
    });
    assert!(matches!(result, Err(Enough)));
    assert_eq!(heard, ["snapshot 1", "opened", "lost", "snapshot 2"]);
}

#[test]
fn following_with_a_wrong_token_gives_up() {
    let gate = Gate::start();
    let stranger = Api::new(&gate.base, "not-a-token-of-anybody").unwrap();
    let result: Result<(), ApiError> = stranger.follow(|_| Ok(()));
    assert_eq!(result.unwrap_err().exit_status(), 3);
}
