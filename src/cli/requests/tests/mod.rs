//! The command line's side of approval: layout, live view, and the API over a real connection.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

mod client;
mod layout;
mod screen;

use jiff::Timestamp;

use crate::approval::http::view::{
    ChangeView, EffectView, ListView, OriginView, ParameterView, RequestView, State, StatementView,
};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A pending DELETE, held at second 0, due at second 300.
pub(super) fn view(id: &str) -> RequestView {
    RequestView {
        owners: Vec::new(),
        id: id.to_owned(),
        state: State::Pending,
        origin: OriginView {
            user: "app".to_owned(),
            database: "shop".to_owned(),
            application_name: "psql".to_owned(),
            certificate_name: None,
            client: "10.0.0.7:5000".to_owned(),
            session: 7,
            backend_pid: Some(4242),
            people: vec!["dev".to_owned()],
        },
        statement: StatementView {
            text: "DELETE FROM customers\nWHERE id = $1".to_owned(),
            complete: true,
            bytes: 35,
            lossy: false,
            sha256: "0f".repeat(32),
        },
        parameters: vec![ParameterView {
            position: 1,
            type_name: Some("integer".to_owned()),
            value: Some("42".to_owned()),
            raw: false,
            complete: true,
        }],
        effects: vec![EffectView {
            kind: "delete".to_owned(),
            objects: vec!["public.customers".to_owned()],
            has_where: Some(true),
            why: "DELETE removes rows".to_owned(),
        }],
        risks: Vec::new(),
        rule: "deletes".to_owned(),
        why: "deletes rows".to_owned(),
        policy_version: "v1".to_owned(),
        guard: None,
        undoes: None,
        message: None,
        advice: None,
        in_transaction: true,
        role: Some("app".to_owned()),
        search_path: Some("public".to_owned()),
        impact: None,
        reason: Some("ticket 12".to_owned()),
        opened_at: at(0),
        deadline: at(300),
        decision: None,
        note: None,
        ended_at: None,
        cause: None,
        progress: None,
        may_decide: true,
        may_not_decide_because: None,
        may_review: false,
    }
}

pub(super) fn list(requests: Vec<RequestView>) -> ListView {
    ListView { now: at(0), requests }
}

pub(super) fn change(request: RequestView) -> Box<ChangeView> {
    Box::new(ChangeView { now: at(0), request })
}
