//! Text made safe to read: what a terminal or a browser would hide, reorder or obey is spelled out. Knows no requests.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character may deceive: it is invisible, changes the direction of its neighbours, or commands a terminal.
/// Line feed and tab do not count.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Every other control character, C0, DEL and C1.
        c if c.is_control() => true,
        // Soft hyphen, combining grapheme joiner, Arabic letter mark, Hangul fillers, Khmer inherent vowels,
        // Mongolian selectors and vowel separator.
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{3164}'
        | '\u{ffa0}' => true,
        // Spaces that are not the space: SQL does not separate words at them, eyes do.
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => true,
        // Zero-width characters, marks and overrides of direction, line and paragraph separators, invisible operators.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        // Braille blank, variation selectors, byte-order mark, interlinear annotations, object replacement, shorthand and
        // musical format controls, tags, noncharacters and private use at the far end.
        '\u{2800}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffc}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}' => true,
        _ => false,
    }
}

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
    }
}
