//! Names that look like others, or are not the names the server will use.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use unicode_security::{RestrictionLevel, RestrictionLevelDetection as _, skeleton};

use super::characters::is_invisible;
use super::{Risk, RiskKind};
use crate::judge::lexer::{Token, TokenKind};

/// `NAMEDATALEN - 1`: what the server keeps of a name (`truncate_identifier` in `scansup.c`).
const KEPT_BYTES: usize = 63;
/// Different names looked at.
const MAX_NAMES: usize = 2_000;
/// Shorter names are not compared: `rn` and `m` look alike, and both are what everybody calls row numbers and maxima.
const COMPARED_CHARS: usize = 3;

/// Looks at every name of a text.
#[expect(clippy::wildcard_enum_match_arm, reason = "only words and quoted names are names")]
pub(super) fn look(text: &str, tokens: &[Token], risks: &mut Vec<Risk>) {
    let mut names: HashSet<Cow<'_, str>> = HashSet::new();
    let mut in_order: Vec<Cow<'_, str>> = Vec::new();
    for token in tokens {
        let Some(written) = text.get(token.range()) else { continue };
        let name = match token.kind {
            // The server folds ASCII alone, in UTF-8.
            TokenKind::Word if written.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(written.to_ascii_lowercase())
            }
            TokenKind::Word => Cow::Borrowed(written),
            TokenKind::QuotedName => {
                let inside = written.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(written);
                if inside.contains("\"\"") { Cow::Owned(inside.replace("\"\"", "\"")) } else { Cow::Borrowed(inside) }
            }
            _ => continue,
        };
        if names.len() >= MAX_NAMES {
            // Fail closed: the names behind these were not compared.
            risks.push(Risk::new(RiskKind::Unread, "it has too many names to compare them all"));
            break;
        }
        if names.insert(name.clone()) {
            in_order.push(name);
        }
    }
    let mut seen: HashMap<String, &str> = HashMap::new();
    for name in &in_order {
        look_at(name, risks);
        if name.chars().nth(COMPARED_CHARS.saturating_sub(1)).is_none() {
            continue;
        }
        if let Some(other) = seen.insert(skeleton(name).collect(), name) {
            risks.push(Risk::new(
                RiskKind::LookAlike,
                &format!("`{other}` and `{name}` look alike and are different names{}", unusual(&[other, name])),
            ));
        }
    }
}

fn look_at(name: &str, risks: &mut Vec<Risk>) {
    if name.len() > KEPT_BYTES {
        let end = (0..=KEPT_BYTES).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
        let kept = name.get(..end).unwrap_or_default();
        let length = name.len();
        risks.push(Risk::new(
            RiskKind::TruncatedName,
            &format!("a name of {length} bytes: the server keeps 63 of them, `{kept}`"),
        ));
    }
    if name.is_ascii() {
        return;
    }
    let prototype: String = skeleton(name).collect();
    if prototype.is_ascii() {
        risks.push(Risk::new(
            RiskKind::LookAlike,
            &format!("`{name}` is not `{prototype}`, though it looks so{}", unusual(&[name])),
        ));
        return;
    }
    // Digits, `_`, `$` and spaces belong to every script.
    let letters: String = name.chars().filter(|c| c.is_alphabetic()).collect();
    let level = letters.detect_restriction_level();
    let is_mixed = match level {
        RestrictionLevel::ASCIIOnly | RestrictionLevel::SingleScript | RestrictionLevel::HighlyRestrictive => false,
        RestrictionLevel::ModeratelyRestrictive
        | RestrictionLevel::MinimallyRestrictive
        | RestrictionLevel::Unrestricted => true,
    };
    if is_mixed {
        risks.push(Risk::new(
            RiskKind::MixedScript,
            &format!("`{name}` has letters of several scripts, or unusual ones{}", unusual(&[name])),
        ));
    }
}

/// `: е is U+0435`, for what is not ASCII in the names.
fn unusual(names: &[&str]) -> String {
    let mut found: Vec<char> = Vec::new();
    for c in names.iter().flat_map(|name| name.chars()).filter(|c| !c.is_ascii() && !is_invisible(*c)) {
        if !found.contains(&c) {
            found.push(c);
        }
    }
    let list: Vec<String> = found.iter().take(4).map(|c| format!("{c} is U+{:04X}", u32::from(*c))).collect();
    if list.is_empty() { String::new() } else { format!(": {}", list.join(", ")) }
}
