//! The pending map: board, tickets, decisions, outcomes. Knows no sockets and no people's rights: a session opens a
//! ticket here and waits; whoever is entitled decides here; the first to act wins.
//!
//! Start at `Board`.

mod request;

pub use request::{
    Cause, Decision, HoldId, HoldRequest, Origin, Outcome, Parameter, SessionId, StatementText,
};
