//! Asks people and takes their answers. Knows nothing of sockets of sessions; meets them at [`crate::hold`].
