//! The pending map: board, tickets, decisions, outcomes. Knows no sockets and no people's rights: a session opens a
//! ticket here and waits; whoever is entitled decides here; the first to act wins.
//!
//! Start at [`Board`].

mod request;
mod board;
mod cell;
pub mod era;
mod quota;
mod history;
mod notice;
mod passed;
mod settings;

pub use board::{Board, Event, Hold, Lagged, Subscription, Ticket};
pub use cell::{Ended, Phase, Refused};
pub use notice::{Dropped, Notice, Notices};
pub use passed::{PassedBatch, PassedOrigin, PassedRow};
pub use quota::OverLimit;
pub use request::{
    Beforehand, Cause, Decision, Done, Execution, HoldId, HoldRequest, Origin, Outcome, Parameter, Same, SessionId,
    Setting, Standing, StatementText, Undone,
};
pub use settings::HoldSettings;

#[cfg(test)]
mod tests;
