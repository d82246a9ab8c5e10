//! What held statements would touch, asked of a real Postgres: names, rows, cascades, definitions, locks, and what the prober
//! must never run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod alter;
mod cascades;
mod fingerprints;
mod hostile;
mod limits;
mod rows;
mod stage;
