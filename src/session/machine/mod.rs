//! The protocol of one session without I/O: frames and events in, actions out. Knows no sockets and no clock.

/// Bytes that may be written to the backend. Only the machine makes one.
#[derive(Debug)]
pub struct Cleared(());
