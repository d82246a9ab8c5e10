//! Logs what happens on the board, for operators: who asked, who decided, what became of it. Statements appear as digests
//! only; the text may hold what a log must not.

use tokio::sync::watch;

use crate::hold::{Board, Event, Execution, HoldRequest, Lagged, Outcome};

/// Logs every change until `stop` says `true` (or its sender is gone).
pub async fn keep(board: Board, mut stop: watch::Receiver<bool>) {
    let mut events = board.subscribe();
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            // An error means that the sender is gone, which is a stop too.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match event {
            Some(Ok(event)) => log(&event),
            Some(Err(Lagged { missed })) => tracing::warn!(missed, "the journal fell behind"),
            None => return,
        }
    }
}

fn log(event: &Event) {
    let request: &HoldRequest = event.request();
    let id = &request.id;
    match event {
        Event::Opened(_) => {
            let origin = &request.origin;
            tracing::info!(
                request = %id,
                user = %origin.user,
                database = %origin.database,
                client = %origin.client,
                session = %origin.session,
                rule = %request.rule,
                statement_sha256 = %request.statement.sha256,
                deadline = %request.deadline,
                "held"
            );
        }
        Event::Decided(_, decision) => {
            let approve = matches!(decision, crate::hold::Decision::Approve { .. });
            tracing::info!(request = %id, by = decision.by(), approve, reason = decision.reason(), "decided");
        }
        Event::Executed(_, execution) => match execution {
            Execution::Completed { tag, duration_ms, .. } => {
                tracing::info!(request = %id, %tag, duration_ms, "executed");
            }
            Execution::Failed { sqlstate, duration_ms, .. } => {
                tracing::info!(request = %id, %sqlstate, duration_ms, "failed in the database");
            }
            Execution::Unknown => tracing::warn!(request = %id, "released, but its result is not known"),
        },
        Event::Ended(_, ended) => {
            let by = ended.decision.as_ref().map(crate::hold::Decision::by);
            let outcome = match &ended.outcome {
                Outcome::Released => "released".to_owned(),
                Outcome::Rejected => "rejected".to_owned(),
                Outcome::Expired => "expired".to_owned(),
                Outcome::Withdrawn { cause } => format!("withdrawn: {cause}"),
            };
            tracing::info!(request = %id, by, %outcome, "ended");
        }
    }
}
