//! One client connection and its backend connection: sockets, TLS, authentication, cancel; drives the machine.
//! Knows nothing of people, HTTP or configuration files.

pub mod machine;
mod settings;

pub use settings::SessionSettings;
