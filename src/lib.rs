//! querygate: a PostgreSQL proxy that holds dangerous statements until a person has approved them.
//!
//! # The path of a statement
//!
//! [`server`] accepts a connection and hands it to [`session`], which negotiates TLS, relays authentication and
//! then moves bytes. [`wire`] cuts them into frames by their declared length. The session's
//! machine passes statement text to [`judge`], which yields an [`judge::Analysis`] (what
//! the text can do) and, under a [`judge::Policy`], a [`judge::Verdict`]. `Allow`: the frame goes on.
//! `Hold`: the driver opens a ticket on the [`hold::Board`]; people are asked by [`approval`]; their
//! decision wakes the session, which releases the same bytes or makes the backend raise an error in their place.
//!
//! # Lexicon
//!
//! *Statement*: one SQL statement. *Effect*: what a statement can do, with the objects it names. *Rule*, *policy*: an
//! ordered list of rules that turns facts into a verdict. *Verdict*: `Allow`, `Hold`, `Reject`. *Held statement*: waiting
//! on its client connection. *Approval request*: what approvers are asked; one per hold. *Decision*: `Approve` or
//! `Reject`, by a person. *Outcome*: `Released`, `Rejected`, `Expired`, `Withdrawn`.
//!
//! # Invariants
//!
//! 1. Nothing unjudged reaches Postgres: the backend writer takes only [`session::machine::Cleared`] bytes.
//! 2. What was judged is what runs: released bytes are the bytes that were judged and shown.
//! 3. Fail closed: what cannot be parsed, decoded or asked is held or rejected, never allowed.
//! 4. A rejection is an ordinary error, raised by the backend itself.
//! 5. Every hold ends with exactly one outcome.
//!
//! # Rooms, each using only those before it
//!
//! `clock` (the one place that reads time) · `wire` (bytes ⇄ frames) · `judge` (SQL → verdict; pure) · `hold` (the pending
//! map) · `undo` (rows that are kept) · `session::machine` (one session without I/O) · `session` (sockets) · `impact` (what a held statement would touch) · `store` (the record) · `approval` (people) · `server`, `cli`.
//! `session` and `approval` never import each other: they meet at `hold`.

pub mod clock;
pub(crate) mod size;
pub mod wire;
pub mod judge;
pub mod hold;
pub mod undo;
pub mod session;
pub mod impact;
pub mod store;
pub mod approval;
pub mod server;
pub mod cli;
