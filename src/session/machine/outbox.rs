//! What the machine wants written, as ranges of its input or bytes of its own, in order.
//!
//! Both sides cut the stream by declared lengths, so a byte of the gate's own in the middle of a frame would shift every
//! boundary behind it: what the gate judged as data the receiver would read as a message. That cannot be written here:
//! nothing reaches a [`Segments`] but through the [`Passage`] of its direction, which knows whether a frame is half-way
//! through and keeps the gate's own bytes back until it has passed.

use std::ops::Range;

/// One stretch of output.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    /// Bytes of the input that was just handled, untouched.
    Input(Range<usize>),
    /// Bytes the gate made.
    Own(Vec<u8>),
}

/// Output for one side. Filled by a [`Passage`] alone.
#[derive(Debug, Default)]
pub(super) struct Segments(Vec<Segment>);

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

/// A frame whose rest has not arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// There is none.
    #[default]
    Nothing,
    /// So many bytes pass.
    Pass(usize),
    /// So many bytes are dropped.
    Discard(usize),
}

/// The frames of one direction on their way through, and the gate's own bytes between them.
#[derive(Debug, Default)]
pub(super) struct Passage {
    rest: Rest,
    /// The gate's own bytes that came up while a frame was half-way through.
    owed: Vec<u8>,
}

impl Passage {
    /// The next `total` bytes of the input are one frame, which passes.
    pub(super) fn pass(&mut self, total: usize) {
        self.rest = Rest::Pass(total);
    }

    /// The next `total` bytes of the input are one frame, which is dropped.
    pub(super) fn discard(&mut self, total: usize) {
        self.rest = Rest::Discard(total);
    }

    /// Moves `at` over what is there of the frame, at most to `end`. Behind its last byte comes what was owed.
    ///
    /// Returns whether the gate's own bytes were written that had been waiting for the end of the frame.
    pub(super) fn advance(&mut self, at: &mut usize, end: usize, to: &mut Segments) -> bool {
        let (Rest::Pass(left) | Rest::Discard(left)) = self.rest else {
            return false;
        };
        let here = *at..at.saturating_add(left).min(end);
        *at = here.end;
        let left = left.saturating_sub(here.len());
        let passes = matches!(self.rest, Rest::Pass(_));
        if passes {
            to.input(here);
        }
        self.rest = match left {
            0 => Rest::Nothing,
            left if passes => Rest::Pass(left),
            left => Rest::Discard(left),
        };
        if self.is_mid_frame() || self.owed.is_empty() {
            return false;
        }
        to.own(std::mem::take(&mut self.owed));
        true
    }

    /// Bytes of the gate's own: at once, or behind the frame that is half-way through.
    pub(super) fn insert(&mut self, bytes: Vec<u8>, to: &mut Segments) {
        if self.is_mid_frame() {
            self.owed.extend_from_slice(&bytes);
        } else {
            to.own(bytes);
        }
    }

    /// Nothing is half-way, neither through nor into the void.
    pub(super) fn is_between_frames(&self) -> bool {
        self.rest == Rest::Nothing
    }

    /// The receiver has a part of a frame. (Of a dropped one it has nothing.)
    pub(super) fn is_mid_frame(&self) -> bool {
        matches!(self.rest, Rest::Pass(_))
    }
}

/// Output for both sides of one step.
#[derive(Debug, Default)]
pub struct Outbox {
    pub(super) backend: Segments,
    pub(super) client: Segments,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(out: &Outbox, input: &[u8]) -> Vec<u8> {
        out.to_backend(input).map(Cleared::bytes).collect::<Vec<_>>().concat()
    }

    #[test]
    fn neighbouring_frames_become_one_range() {
        let (mut out, mut passage, mut at) = (Outbox::default(), Passage::default(), 0);
        for _ in 0..2 {
            passage.pass(2);
            passage.advance(&mut at, 6, &mut out.backend);
        }
        passage.insert(b"!".to_vec(), &mut out.backend);
        passage.discard(1);
        passage.advance(&mut at, 6, &mut out.backend);
        passage.pass(1);
        passage.advance(&mut at, 6, &mut out.backend);
        let segments: Vec<_> = out.to_backend(b"abcdef").map(Cleared::bytes).collect();
        assert_eq!(segments, [&b"abcd"[..], b"!", b"f"]);
        out.clear();
        assert_eq!(out.to_backend(b"abcdef").count(), 0);
    }

    #[test]
    fn own_bytes_wait_for_the_end_of_a_frame_that_passes() {
        let (mut out, mut passage) = (Outbox::default(), Passage::default());
        passage.pass(5);
        assert!(!passage.advance(&mut 0, 3, &mut out.backend));
        passage.insert(b"!".to_vec(), &mut out.backend);
        assert_eq!(sent(&out, b"abc"), b"abc");
        out.clear();
        assert!(passage.advance(&mut 0, 4, &mut out.backend));
        assert_eq!(sent(&out, b"defg"), b"de!");
    }

    #[test]
    fn own_bytes_take_the_place_of_a_frame_that_is_dropped() {
        let (mut out, mut passage) = (Outbox::default(), Passage::default());
        passage.discard(5);
        passage.advance(&mut 0, 3, &mut out.backend);
        passage.insert(b"!".to_vec(), &mut out.backend);
        assert_eq!(sent(&out, b"abc"), b"!");
    }
}
