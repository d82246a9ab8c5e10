//! Settings, listeners, reload and draining. May use everything.
//!
//! Start at [`Server::start`].

pub mod settings;
pub mod evaluator;
mod process;
mod channels;
mod functions;
mod listen;
mod notices;
pub mod passing;
pub mod undo;
mod undone;
pub mod watch;
mod workers;

pub use process::{Server, StartError, upstream_dial};
