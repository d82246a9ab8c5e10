//! The one module that reads the clock. Pure code takes the time as an argument.

use std::time::Instant;

use jiff::Timestamp;

/// The monotonic clock, for deadlines and durations.
#[must_use]
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    Instant::now()
}

/// Civil time (UTC), for what people and records are told.
#[must_use]
pub fn wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    Timestamp::now()
}
