//! SQL text → pieces → effects → verdict. Pure: this room knows no sockets, no clock and no settings file.
//!
//! Start at [`Judge`]: [`Judge::analyse`] says what a text can do, [`Policy::decide`] says what to do about it.

mod analysis;
mod policy;

pub use analysis::{Analysis, Effect, EffectKind, ObjectName, Piece, SessionAct};
pub use policy::{Facts, Judgement, Prepared, Verdict};
