//! Finds whatever was done to a record after it was written: lines edited, removed, inserted, put in another order, cut off.
//! Knows lines and hashes, not where they come from. Start at [`verify`].
//!
//! A chain of hashes tells everything but two things by itself: that its end was cut off at a line's end, and that it was
//! written anew from some line on, by somebody who computes hashes. Both need a hash that was kept elsewhere: an [`Anchor`].

use super::StoreError;
use super::chain::{Head, Links, NotALine};
use super::lines::RawLine;

/// Findings told one by one; further ones are counted.
pub const MAX_FINDINGS: usize = 20;

/// A head that was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// What must be in the record.
    pub head: Head,
    /// Where it comes from, in words: `the checkpoint in line 3`.
    pub from: String,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line, from 1; `None` if it is the end that is missing.
    pub line: Option<u64>,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// The last event that could be followed.
    pub head: Head,
    /// The first things that are wrong; none if all is well.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: usize,
    /// Anchors whose event is in the record, as it was.
    pub anchored: usize,
    /// The last line has no line feed: perhaps it is being written.
    pub unfinished: bool,
}

/// Follows the chain through all lines, and compares it with what was kept elsewhere.
///
/// # Errors
/// The lines cannot be read.
pub fn verify(
    lines: impl Iterator<Item = Result<RawLine, StoreError>>,
    anchors: &[Anchor],
) -> Result<Verified, StoreError> {
    let mut anchors: Vec<&Anchor> = anchors.iter().filter(|anchor| anchor.head.seq > 0).collect();
    anchors.sort_by_key(|anchor| anchor.head.seq);
    let mut walk = Walk { out: Verified::default(), lost: false, anchors, next_anchor: 0 };
    for line in lines {
        walk.line(&line?);
    }
    Ok(walk.finish())
}

struct Walk<'a> {
    out: Verified,
    /// The last line could not be read, so what the next one follows is not known.
    lost: bool,
    /// By number.
    anchors: Vec<&'a Anchor>,
    /// The first one not met yet.
    next_anchor: usize,
}

impl Walk<'_> {
    fn line(&mut self, line: &RawLine) {
        if !line.complete {
            self.out.unfinished = true;
            self.find(line.number, "it is cut off: its line feed is missing".to_owned());
        }
        match Links::read(&line.bytes) {
            Ok(links) => self.links(line.number, links),
            Err(error @ NotALine::Unreadable(_)) => {
                self.find(line.number, error.to_string());
                self.lost = true;
            }
            Err(NotALine::Changed { links, given }) => {
                let said = &links.hash;
                self.find(line.number, format!("it was edited: its hash says {said}, its content gives {given}"));
                // What follows was written after this line as it was: in its place, with the hash it still says.
                let seq = self.out.head.seq.saturating_add(1);
                self.advance(line.number, Links { seq, ..links });
                self.lost = true;
            }
        }
    }

    fn links(&mut self, number: u64, links: Links) {
        let head = &self.out.head;
        let expected = head.seq.saturating_add(1);
        let follows = links.prev == head.hash;
        if links.seq == expected && follows {
            self.advance(number, links);
            return;
        }
        if links.seq < expected {
            let what =
                format!("event {} stands behind event {}: it was repeated, inserted or moved", links.seq, head.seq);
            self.find(number, what);
            return;
        }
        // Behind a line that was told of already, one event more is no news.
        let told = self.lost && links.seq <= expected.saturating_add(1);
        if links.seq > expected && !told {
            let last = links.seq.saturating_sub(1);
            let missing =
                if last == expected { format!("event {last} is") } else { format!("events {expected} to {last} are") };
            self.find(number, format!("{missing} missing before it: removed or moved"));
        } else if !told {
            let what =
                format!("it was not written after the line that stands before it: event {} was replaced", head.seq);
            self.find(number, what);
        }
        self.advance(number, links);
    }

    fn advance(&mut self, number: u64, links: Links) {
        self.lost = false;
        if links.seq <= self.out.head.seq {
            return;
        }
        self.out.head = links.head();
        while let Some(anchor) =
            self.anchors.get(self.next_anchor).filter(|anchor| anchor.head.seq <= self.out.head.seq)
        {
            self.next_anchor = self.next_anchor.saturating_add(1);
            // One that was passed over was told of as missing.
            if anchor.head.seq < self.out.head.seq {
                continue;
            }
            if anchor.head.hash == self.out.head.hash {
                self.out.anchored = self.out.anchored.saturating_add(1);
            } else {
                let (seq, from) = (anchor.head.seq, anchor.from.clone());
                let what = format!("event {seq} is not the one that {from} vouches for: the record was written anew");
                self.find(number, what);
            }
        }
    }

    fn find(&mut self, line: u64, what: String) {
        self.add(Some(line), what);
    }

    fn add(&mut self, line: Option<u64>, what: String) {
        if self.out.findings.len() < MAX_FINDINGS {
            self.out.findings.push(Finding { line, what });
        } else {
            self.out.more = self.out.more.saturating_add(1);
        }
    }

    fn finish(mut self) -> Verified {
        // The last one reaches farthest.
        if let Some(anchor) = self.anchors.get(self.next_anchor..).and_then(<[_]>::last) {
            let (end, vouched) = (self.out.head.seq, anchor.head.seq);
            let missing = vouched.saturating_sub(end);
            let what = format!(
                "it ends with event {end}, and {} vouches for event {vouched}: {missing} {} cut off the end",
                anchor.from,
                if missing == 1 { "event was" } else { "events were" },
            );
            self.add(None, what);
        }
        self.out
    }
}
