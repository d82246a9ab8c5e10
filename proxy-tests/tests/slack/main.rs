//! The Slack stand-in judged with raw clients: what it refuses, what it tells, and how it fails on request.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod client;

mod blocks;
mod calls;
mod people;
mod views;

mod callbacks;
mod console;
mod faults;
mod hands;
mod library;
mod sockets;
