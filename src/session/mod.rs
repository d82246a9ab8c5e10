//! One client connection and its backend connection: sockets, TLS, authentication, cancel; drives the machine.
//! Knows nothing of people, HTTP or configuration files.
//!
//! A connection's life: [`lobby::receive`] (TLS, startup packet, limits, connection to the backend), then
//! [`driver::run`] until one side ends it.

pub mod cancel;
pub mod driver;
pub mod functions;
mod holding;
mod judging;
mod noticing;
pub mod lobby;
pub mod machine;
mod measuring;
pub mod offload;
mod parameters;
pub mod passing;
mod running;
mod settings;
pub mod shared;
pub mod signal;
mod startup;
pub mod stream;
pub mod tls;
pub mod upstream;

pub use noticing::Told;
pub use settings::{ClientCertificate, ListenTlsMode, ListenTlsSettings, SessionSettings, SslMode, UpstreamSettings};
