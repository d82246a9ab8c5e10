//! What a held statement would touch, asked of Postgres: tables and rows, cascades, triggers, dependents, locks, and a
//! fingerprint of the definitions it rests on.
//!
//! Start at [`Prober::probe`]. It never runs the statement or any part of it that could write or reach anybody's code: rows are
//! counted by a query of the prober's own making, over Postgres's own parse tree, from which everything is refused that is not
//! known to be harmless (`harmless`, `lookup`). It asks in a read-only transaction on a connection of its own, under a role of
//! its own, within a time budget; what cannot be had in time, or safely, is [`Known::Unknown`] with the reason, each part by
//! itself.
//!
//! This room knows no session, no people and no rules: whoever holds a statement fills in an [`Ask`].

mod alter;
mod body;
mod cascade;
mod catalogue;
mod changes;
mod check;
mod connection;
mod count;
mod fingerprint;
mod dependents;
mod examine;
mod harmless;
mod locks;
mod lookup;
mod measure;
mod own;
mod pool;
mod prober;
mod report;
mod retype;
mod settings;
mod statement;
mod steady;
mod survey;
mod text;
mod through;
mod undo;
mod uses;
mod weigh;
mod words;

pub use changes::{changes, changes_beside};
pub use connection::{Dial, Dialling, Stream};
pub use harmless::Value;
pub use measure::measure;
pub use own::Own;
pub use prober::{Ask, Prober};
pub use report::{
    Action, AlterStep, AlterWork, Bound, Cascade, CascadeAction, Conflicting, Definition, Dependents, Impact, Kin,
    Known, ObjectImpact, Resolved, Rows, SessionLocks, StatementImpact, TableFacts, Trigger, UndoAction, Undoing,
    UndoneRows, Waiting,
};
pub use settings::{ImpactSettings, Password};
pub use survey::Mark;
pub use text::{digest, headlines, summary};
