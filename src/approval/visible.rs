//! Text made safe to read: what a terminal or a browser would hide, reorder or obey is spelled out. Knows no requests.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Whether a character may deceive: it is invisible, changes the direction of its neighbours, or commands a terminal.
/// Line feed and tab do not count.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    if c.is_control() {
        return !matches!(c, '\n' | '\t');
    }
    DECEPTIVE.iter().any(|range| range.contains(&c))
}

/// Invisible or reordering characters besides the controls, in order.
const DECEPTIVE: [RangeInclusive<char>; 27] = [
    // No-break space, soft hyphen, combining grapheme joiner, Arabic letter mark.
    '\u{a0}'..='\u{a0}',
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    // Hangul fillers, the space of Ogham, Khmer inherent vowels, Mongolian selectors.
    '\u{115f}'..='\u{1160}',
    '\u{1680}'..='\u{1680}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    // Typographic spaces (SQL does not separate words at them, eyes do), zero-width characters, direction marks.
    '\u{2000}'..='\u{200f}',
    // Line and paragraph separators, embeddings and overrides of direction, narrow no-break space.
    '\u{2028}'..='\u{202f}',
    // Mathematical space, word joiner, invisible operators, isolates.
    '\u{205f}'..='\u{206f}',
    // Braille blank, ideographic space, Hangul filler.
    '\u{2800}'..='\u{2800}',
    '\u{3000}'..='\u{3000}',
    '\u{3164}'..='\u{3164}',
    // Private use: whatever the font says.
    '\u{e000}'..='\u{f8ff}',
    // Variation selectors, byte-order mark, half-width Hangul filler, annotations and object replacement. The replacement
    // character U+FFFD stays: it is visible, and says that something was not readable.
    '\u{fe00}'..='\u{fe0f}',
    '\u{fdd0}'..='\u{fdef}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffc}',
    '\u{fffe}'..='\u{ffff}',
    // Egyptian, shorthand and musical format controls.
    '\u{13430}'..='\u{1345f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    // Noncharacters before the last planes, tags, more variation selectors, private planes.
    '\u{1fffe}'..='\u{1ffff}',
    '\u{e0000}'..='\u{effff}',
    '\u{f0000}'..='\u{10ffff}',
];

/// The text with every deceptive character spelled `⟨U+202E⟩`. Carriage returns before line feeds go unmentioned.
#[must_use]
pub fn spell_out(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\r' && characters.peek() == Some(&'\n') {
            continue;
        }
        if is_deceptive(c) {
            // Writing into a string cannot fail.
            let _infallible = write!(out, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The same on one line: line feeds and tabs become spaces.
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split(['\n', '\t', '\r', ' ']).filter(|word| !word.is_empty()).collect();
    spell_out(&words.join(" ")).into_owned()
}

/// A statement on one line: as [`one_line`], but where a line ends there is `⏎`, because it ends a comment, too.
#[must_use]
pub fn statement_line(text: &str) -> String {
    let lines: Vec<_> = text.split(['\n', '\r']).map(one_line).filter(|line| !line.is_empty()).collect();
    lines.join(" ⏎ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_spelled_out() {
        for (text, expected) in [
            ("DROP \u{1b}[8mTABLE", "DROP ⟨U+001B⟩[8mTABLE"),
            ("a\u{202e}b", "a⟨U+202E⟩b"),
            ("a\u{200b}b", "a⟨U+200B⟩b"),
            ("a\rb\r\nc", "a⟨U+000D⟩b\nc"),
            ("a\u{9b}b\u{7f}", "a⟨U+009B⟩b⟨U+007F⟩"),
            ("a\u{a0}b", "a⟨U+00A0⟩b"),
            ("\u{e0041}", "⟨U+E0041⟩"),
            ("a\u{8}b\0", "a⟨U+0008⟩b⟨U+0000⟩"),
        ] {
            assert_eq!(spell_out(text), expected);
        }
    }

    #[test]
    fn ordinary_text_of_any_script_stays() {
        for text in ["SELECT 'Grüße, 世界, мир, שלום, 🙂'\n\tFROM t", "", "é"] {
            assert!(matches!(spell_out(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn nothing_deceptive_is_left_and_nothing_is_lost() {
        let every: String = (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| *c != '\r').collect();
        let spelled = spell_out(&every);
        assert!(!spelled.chars().any(is_deceptive));
        let kept = every.chars().filter(|c| !is_deceptive(*c)).count();
        let spelled_out = spelled.matches("⟨U+").count();
        assert_eq!(kept + spelled_out, every.chars().count());
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("DELETE\r\n\tFROM  t\u{1b}"), "DELETE FROM t⟨U+001B⟩");
        let hidden = "DELETE FROM t WHERE id = 1 --\n  OR true\u{1b}\n";
        assert_eq!(statement_line(hidden), "DELETE FROM t WHERE id = 1 -- ⏎ OR true⟨U+001B⟩");
    }
}
