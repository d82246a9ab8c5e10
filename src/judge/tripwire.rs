//! A last look at the bare tokens, for the day both parsers are fooled: a word that removes or changes things, standing
//! where no parser saw anything dangerous, is an alarm. Knows tokens only.

use std::collections::HashMap;

use super::lexer::{Token, TokenKind};
use super::{EffectKind, functions, settings};

/// Words that start, or stand in, a statement that removes or changes things.
const WORDS: &[&str] = &["drop", "delete", "truncate", "alter", "grant", "revoke"];

/// Whether a name is spelled like one of the words.
pub(super) fn is_danger_word(name: &str) -> bool {
    WORDS.contains(&name)
}

/// What the tokens of a piece say that its effects do not. `excused`: the words the parse tree holds as mere names; `quiet`:
/// it is an EXPLAIN that runs nothing, so only names in disguise are alarming.
#[expect(clippy::wildcard_enum_match_arm, reason = "only words and names can be alarming")]
pub(super) fn alarm(text: &[u8], tokens: &[Token], excused: &[String], quiet: bool) -> Option<String> {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in excused {
        let count = left.entry(word).or_default();
        *count = count.saturating_add(1);
    }
    let significant: Vec<&Token> = tokens.iter().filter(|token| !token.kind.is_comment()).collect();
    let mut before: Option<&Token> = None;
    for (position, token) in significant.iter().enumerate() {
        match token.kind {
            TokenKind::UnicodeName => return Some("it holds a name in Unicode escapes".to_owned()),
            _ if quiet => {}
            TokenKind::Word => {
                let word = token.bytes(text).to_ascii_lowercase();
                if let Some(why) = turkish(&word) {
                    return Some(why);
                }
                let danger = WORDS.iter().find(|danger| danger.as_bytes() == word);
                if let Some(danger) = danger.filter(|_| !follows_harmless(text, before)) {
                    let Some(count) = left.get_mut(danger).filter(|count| **count > 0) else {
                        return Some(format!("it holds the word {danger} where no parser explains it"));
                    };
                    *count = count.saturating_sub(1);
                }
                let next = position.checked_add(1).and_then(|next| significant.get(next));
                if let Some(why) = named_function(&word, before, next, &left) {
                    return Some(why);
                }
            }
            TokenKind::QuotedName => {
                let name = token.bytes(text);
                let name = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
                let next = position.checked_add(1).and_then(|next| significant.get(next));
                if let Some(why) = named_function(name, before, next, &left) {
                    return Some(why);
                }
            }
            _ => {}
        }
        before = Some(token);
    }
    None
}

/// A server with a Turkish single-byte encoding folds `İ` to `i` (`downcase_identifier` in `scansup.c`), and only there a
/// name with that letter is one of the server's own.
fn turkish(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok().filter(|word| word.contains('İ'))?.replace('İ', "i");
    let own = word.starts_with("pg_")
        || word == "set_config"
        || functions::danger(None, &word).is_some()
        || settings::judge(&word, settings::Change::To(None)) == EffectKind::ReadingSetting;
    own.then(|| "a name becomes one of the server's own when its letters are folded".to_owned())
}

/// `ON DELETE CASCADE`, `ON COMMIT DROP`, `x AS delete`, `t.delete`.
fn follows_harmless(text: &[u8], before: Option<&Token>) -> bool {
    before.is_some_and(|token| {
        let word = token.bytes(text);
        let harmless = ["on", "commit", "as"].iter().any(|harmless| word.eq_ignore_ascii_case(harmless.as_bytes()));
        token.kind == TokenKind::Dot || token.kind == TokenKind::Word && harmless
    })
}

/// A dangerous function's name before a parenthesis or behind a dot, unless the tree holds it as the name of a relation.
/// `set_config` has been judged by its argument.
fn named_function(
    name: &[u8],
    before: Option<&Token>,
    next: Option<&&Token>,
    excused: &HashMap<&str, usize>,
) -> Option<String> {
    let called = next.is_some_and(|token| token.kind == TokenKind::OpenParen);
    let attribute = before.is_some_and(|token| token.kind == TokenKind::Dot);
    let name = std::str::from_utf8(name).ok()?;
    let kind: Option<EffectKind> = match (called, attribute) {
        (true, _) if name != "ts_rewrite" && !excused.contains_key(name) => functions::danger(None, name),
        (false, true) => functions::attribute_danger(name),
        _ => None,
    };
    kind.map(|_| format!("it names {name}, which no parser saw called"))
}
