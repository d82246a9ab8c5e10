//! Characters that cannot be seen, or that change how others are seen. Which those are is Unicode's to say (UTS 39, UAX 9).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use unicode_security::GeneralSecurityProfile as _;
use unicode_security::general_security_profile::IdentifierType;

use super::{Risk, RiskKind};
use crate::judge::lexer::Token;

/// Different characters named in one remark.
const NAMED: usize = 5;

/// Looks for them in a whole text: literals and comments are read by approvers like the rest.
pub(super) fn look(text: &str, tokens: Option<&[Token]>, risks: &mut Vec<Risk>) {
    // Most texts end here.
    if text.bytes().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        return;
    }
    let mut bidi: BTreeMap<char, usize> = BTreeMap::new();
    let mut invisible: BTreeMap<char, usize> = BTreeMap::new();
    let mut before = ' ';
    let literals: Vec<_> = tokens
        .unwrap_or_default()
        .iter()
        .filter(|token| token.kind.is_string() || token.kind.is_comment())
        .map(Token::range)
        .collect();
    for (at, c) in text.char_indices() {
        let found = if is_bidi(c) {
            Some(&mut bidi)
        } else if is_invisible(c) {
            let ordinary = !before.is_ascii() && is_joiner(c) || matches!(c, '\u{a0}' | '\u{3000}');
            (!(ordinary && is_within(&literals, at))).then_some(&mut invisible)
        } else {
            None
        };
        if let Some(found) = found {
            let count = found.entry(c).or_default();
            *count = count.saturating_add(1);
        }
        before = c;
    }
    if !bidi.is_empty() {
        let named = named(&bidi);
        risks.push(Risk::new(
            RiskKind::Bidi,
            &format!("what is shown may stand in another order than what runs: {named}"),
        ));
    }
    if !invisible.is_empty() {
        risks.push(Risk::new(RiskKind::Invisible, &format!("invisible characters: {}", named(&invisible))));
    }
}

/// Whether a byte is in one of the ranges, which stand in order.
fn is_within(ranges: &[std::ops::Range<usize>], at: usize) -> bool {
    let index = ranges.partition_point(|range| range.end <= at);
    ranges.get(index).is_some_and(|range| range.contains(&at))
}

/// Controls of the bidirectional algorithm.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// Parts of emoji and of words in several scripts, which literals hold by right.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// It leaves no ink, or ink that looks like a space. Line feed, carriage return and tab do not count.
pub(super) fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    }
    c.is_control()
        || c.is_whitespace()
        || matches!(
            c,
            '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{115f}' | '\u{1160}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
        )
        || c.identifier_type() == Some(IdentifierType::Default_Ignorable)
}

/// `U+200B (2 times), U+FEFF`.
fn named(found: &BTreeMap<char, usize>) -> String {
    let mut text = String::new();
    for (index, (c, count)) in found.iter().take(NAMED).enumerate() {
        let _ = write!(text, "{}U+{:04X}", if index == 0 { "" } else { ", " }, u32::from(*c));
        if *count > 1 {
            let _ = write!(text, " ({count} times)");
        }
    }
    if found.len() > NAMED {
        text.push_str(" and others");
    }
    text
}

/// The text with what may deceive spelled as `⟨U+202E⟩`.
pub(super) fn spelled(text: &str) -> Cow<'_, str> {
    let deceives = |c: char| is_bidi(c) || is_invisible(c) || matches!(c, '\n' | '\r' | '\t');
    if !text.chars().any(deceives) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) {
            let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}
