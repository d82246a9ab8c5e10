//! What the machine wants written, as ranges of its input or bytes of its own, in order.

use std::ops::Range;

/// One stretch of output.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    /// Bytes of the input that was just handled, untouched.
    Input(Range<usize>),
    /// Bytes the gate made.
    Own(Vec<u8>),
}

/// Output for one side.
#[derive(Debug, Default)]
struct Segments(Vec<Segment>);

impl Segments {
    fn input(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if let Some(Segment::Input(last)) = self.0.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.0.push(Segment::Input(range));
    }

    fn own(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.0.push(Segment::Own(bytes));
        }
    }

    fn each<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().map(move |segment| match segment {
            // A range is always made from the input it is read back from; a mismatch would write nothing.
            Segment::Input(range) => input.get(range.clone()).unwrap_or_default(),
            Segment::Own(bytes) => bytes,
        })
    }
}

/// Bytes that may be written to the backend. Only this module's parents can make one: a session has no other way to
/// send anything to Postgres.
#[derive(Debug, Clone, Copy)]
pub struct Cleared<'a>(&'a [u8]);

impl<'a> Cleared<'a> {
    /// The startup packet, after its settings were checked.
    #[must_use]
    pub fn startup(packet: &'a [u8]) -> Self {
        Self(packet)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Output for both sides of one step.
#[derive(Debug, Default)]
pub struct Outbox {
    backend: Segments,
    client: Segments,
}

impl Outbox {
    /// Forgets everything, keeping the allocation.
    pub fn clear(&mut self) {
        self.backend.0.clear();
        self.client.0.clear();
    }

    /// What goes to the backend, in order. `input` is what the step was given from the client (empty if it was
    /// given none).
    pub fn to_backend<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = Cleared<'a>> {
        self.backend.each(input).map(Cleared)
    }

    /// What goes to the client, in order. `input` is what the step was given from the backend.
    pub fn to_client<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.client.each(input)
    }

    pub(super) fn forward(&mut self, range: Range<usize>) {
        self.backend.input(range);
    }

    pub(super) fn send_backend(&mut self, bytes: Vec<u8>) {
        self.backend.own(bytes);
    }

    pub(super) fn relay(&mut self, range: Range<usize>) {
        self.client.input(range);
    }

    pub(super) fn send_client(&mut self, bytes: Vec<u8>) {
        self.client.own(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_become_one() {
        let mut out = Outbox::default();
        out.forward(0..2);
        out.forward(2..4);
        out.send_backend(b"!".to_vec());
        out.forward(5..6);
        let sent: Vec<_> = out.to_backend(b"abcdef").map(Cleared::bytes).collect();
        assert_eq!(sent, [&b"abcd"[..], b"!", b"f"]);
        out.clear();
        assert_eq!(out.to_backend(b"abcdef").count(), 0);
    }
}
