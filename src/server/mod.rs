//! Settings, listeners, reload and draining. May use everything.

pub mod settings;
