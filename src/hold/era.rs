//! Tells what a session sent before an approval began from what it sent after: a number that grows whenever one begins. No clock
//! would do: two readings of it may be the same. Of this process alone.

use std::sync::atomic::{AtomicU64, Ordering};

static ERA: AtomicU64 = AtomicU64::new(0);

/// The present one.
#[must_use]
pub fn now() -> u64 {
    ERA.load(Ordering::SeqCst)
}

/// Begins another and returns it: whatever is stamped with it, or a later one, happens after this call began.
#[must_use]
pub fn begin() -> u64 {
    ERA.fetch_add(1, Ordering::SeqCst).wrapping_add(1)
}
