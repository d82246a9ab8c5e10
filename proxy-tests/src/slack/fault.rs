//! What can be made to go wrong, and how often.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// This HTTP status and an HTML page; nothing is done.
    Status(u16),
    /// Done, but answered with this HTTP status and an HTML page.
    StatusAfter(u16),
    /// 429 with this `Retry-After`, seconds; nothing is done.
    RateLimited(u64),
    /// The connection is reset; nothing is done.
    ResetBefore,
    /// Done, and then the connection is reset: the lost answer.
    ResetAfter,
    /// No answer until [`release`](super::Workspace::release), then as usual. Nothing is done before.
    Hang,
    /// Done at once, but no answer until [`release`](super::Workspace::release).
    HangAfter,
    /// Done and answered after this time.
    Slow(Duration),
    /// 200 and an HTML page; nothing is done.
    Html,
    /// Done, but answered with half of the JSON.
    Truncated,
    /// `ok: false` with this error; nothing is done.
    Error(String),
    /// 200 and this JSON; nothing is done.
    Json(Value),
}

impl Fault {
    /// `ok: false` with this error: `internal_error`, `fatal_error`, `service_unavailable`, `ratelimited` …
    pub fn error(error: &str) -> Fault {
        Fault::Error(error.to_owned())
    }
}

/// What becomes of the next socket that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFault {
    /// The handshake is never answered.
    NeverAnswer,
    /// The handshake is answered with this HTTP status.
    Refuse(u16),
    /// The handshake succeeds, but there is no hello.
    NoHello,
    /// Dead right after hello: nothing is read, no ping answered, nothing sent.
    Frozen,
    /// Told `too_many_websockets` and closed, whatever their number.
    TooMany,
}

/// What becomes of the next delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryFault {
    /// The same envelope (or HTTP request) twice at once.
    Twice,
    /// The same envelope on two sockets.
    OnTwoSockets,
    /// The first acknowledgement is lost: delivered again although it was acknowledged.
    AckLost,
    /// As `AckLost`, but delivered again in an envelope with another id.
    AckLostOtherEnvelope,
    /// Never sent.
    Lost,
    /// HTTP: the signature is that of another secret.
    WrongSignature,
    /// HTTP: no signature.
    NoSignature,
    /// HTTP: signed rightly, this many seconds ago.
    SignedBefore(u32),
    /// The payload is cut in half; over HTTP it is still signed rightly.
    Truncated,
}

/// What is still to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    calls: Vec<(String, Fault, usize)>,
    releases: HashMap<String, usize>,
    pub(crate) sockets: VecDeque<SocketFault>,
    pub(crate) deliveries: VecDeque<DeliveryFault>,
}

impl Faults {
    pub(crate) fn add(&mut self, method: &str, fault: Fault, times: usize) {
        self.calls.push((method.to_owned(), fault, times));
    }

    /// The fault this call meets, if any, in the order they were set. `*` stands for every method.
    pub(crate) fn next(&mut self, method: &str) -> Option<Fault> {
        let due = self.calls.iter().position(|(name, _, times)| (name == method || name == "*") && *times > 0)?;
        let (_, fault, times) = self.calls.get_mut(due)?;
        *times = times.saturating_sub(1);
        let fault = fault.clone();
        self.calls.retain(|(_, _, times)| *times > 0);
        Some(fault)
    }

    /// Lets go what hangs in `method`; `*` stands for every method.
    pub(crate) fn release(&mut self, method: &str) {
        let count = self.releases.entry(method.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// How often `method` was released.
    pub(crate) fn releases(&self, method: &str) -> usize {
        let count = |name| self.releases.get(name).copied().unwrap_or_default();
        count(method).saturating_add(count("*"))
    }

    /// Nothing goes wrong any more; what hangs goes on hanging.
    pub(crate) fn clear(&mut self) {
        *self = Faults { releases: std::mem::take(&mut self.releases), ..Faults::default() };
    }
}
