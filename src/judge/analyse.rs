//! The pipeline from bytes to [`Analysis`]: limits → our lexer, in both string modes → the first parser, piece by piece →
//! tokens of both agree → Postgres's grammar → tripwire. The more dangerous opinion wins, and whatever is strange on the way
//! is the effect `unknown`. Knows no policy. Start at [`analyse`].

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::lexer::{LexError, Token, TokenKind, Tokens, Trouble, lex_bounded};
use super::limits::Limits;
use super::second::{self, Opinion, Statement};
use super::{Analysis, Calls, Effect, EffectKind, Piece, Risk, RiskKind, SessionAct, Tags, first, risks, tripwire};

/// Stack given to the parsers where the caller's is too small.
const STACK: usize = 256 << 20;
/// Most stack a text within the default limits needs.
const ENOUGH_STACK: usize = 200 << 20;
/// Stack any text needs: sqlparser takes tens of KiB per nested query, and is allowed twenty-five.
const BASE_STACK: usize = 4 << 20;
/// Stack a token needs at most: the grammar's trees are as deep as a text is long in the worst case (`1+1+1+…`), and each
/// level takes several frames of the decoder.
const TOKEN_STACK: usize = 8 << 10;
/// Longest reason taken from a comment, in bytes.
const REASON_BYTES: usize = 1_000;

/// What a text can do. Never panics, never fails: what cannot be read is `unknown`.
pub fn analyse(text: &[u8], limits: &Limits) -> Analysis {
    match checked(text, limits) {
        Ok((text, tokens)) => {
            let deepest = BASE_STACK.saturating_add(tokens.tokens.len().saturating_mul(TOKEN_STACK));
            // Fail closed: a panic in a parser is a text that cannot be read.
            let read = || catch_unwind(AssertUnwindSafe(|| opinions(text, &tokens, limits))).ok();
            with_stack(deepest.min(ENOUGH_STACK), read)
                .unwrap_or_else(|| unreadable(text.len(), EffectKind::Unknown, "a parser failed on it"))
        }
        Err((kind, why)) => {
            let mut analysis = unreadable(text.len(), kind, &why);
            // What can be said of a text that is no SQL is said of its characters.
            if let Some(text) =
                Some(text).filter(|text| text.len() <= limits.bytes).and_then(|text| std::str::from_utf8(text).ok())
            {
                add_risks(&mut analysis, risks::of_characters(text, None));
            }
            analysis
        }
    }
}

fn add_risks(analysis: &mut Analysis, more: Vec<Risk>) {
    let known = analysis.risks.take().unwrap_or_default();
    analysis.risks = Some(risks::tidy(known.into_iter().chain(more).collect()));
}

/// Runs `read` with enough stack for the tree of any text that is within the default limits. `None` if it says so, or panics.
pub(crate) fn on_deep_stack<T: Send>(read: impl FnOnce() -> Option<T> + Send) -> Option<T> {
    with_stack(ENOUGH_STACK, || catch_unwind(AssertUnwindSafe(read)).ok().flatten())
}

/// Runs `read` on a thread with that much stack: this one, or one of its own. libpg_query measures what is left of the
/// *thread's* stack (`set_max_stack_depth` in `pg_query.c`), so another stack under the same thread would make the verdict
/// depend on where the system put it.
fn with_stack<T: Send>(stack: usize, read: impl FnOnce() -> Option<T> + Send) -> Option<T> {
    if stacker::remaining_stack().is_some_and(|left| left >= stack) {
        return read();
    }
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("analysis".to_owned()).stack_size(STACK).spawn_scoped(scope, read);
        thread.ok()?.join().ok()?
    })
}

/// Limits that need no parser, and the tokens.
fn checked<'t>(text: &'t [u8], limits: &Limits) -> Result<(&'t str, Tokens), (EffectKind, String)> {
    let unknown = |why: String| Err((EffectKind::Unknown, why));
    if text.len() > limits.bytes {
        return unknown(format!("it is longer than {} bytes", limits.bytes));
    }
    if text.contains(&0) {
        return unknown("it holds a NUL byte".to_owned());
    }
    let decoded = std::str::from_utf8(text).map_err(|_| (EffectKind::Unknown, "it is not valid UTF-8".to_owned()))?;
    let tokens = lex_bounded(text, true, limits.tokens).map_err(|error| match error.what {
        Trouble::TooManyTokens => (EffectKind::Unknown, format!("it has more than {} tokens", limits.tokens)),
        Trouble::Tangled | Trouble::TooLong => (EffectKind::Unknown, error.to_string()),
        Trouble::UnterminatedString
        | Trouble::UnterminatedName
        | Trouble::UnterminatedComment
        | Trouble::EmptyName
        | Trouble::JunkAfterNumber => (EffectKind::Unparsed, error.to_string()),
    })?;
    if tokens.comment_depth > limits.comment_depth {
        return unknown(format!("its comments nest deeper than {}", limits.comment_depth));
    }
    if tokens.paren_depth > limits.paren_depth {
        return unknown(format!("its parentheses nest deeper than {}", limits.paren_depth));
    }
    if tokens.pieces.len() > limits.statements {
        return unknown(format!("it has more than {} statements", limits.statements));
    }
    Ok((decoded, tokens))
}

fn unreadable(length: usize, kind: EffectKind, why: &str) -> Analysis {
    Analysis {
        pieces: vec![Piece {
            range: 0..length,
            effects: vec![doubt(kind, why)],
            acts: Vec::new(),
            risks: Vec::new(),
            calls: Calls::unreadable(),
        }],
        literal_independent: false,
        opaque: true,
        reason: None,
        tags: Tags::default(),
        // Fail closed: what was not read may hold anything.
        risks: Some(vec![Risk::unread()]),
    }
}

fn doubt(kind: EffectKind, why: impl Into<String>) -> Effect {
    Effect { kind, objects: Vec::new(), has_where: None, columns: Vec::new(), why: why.into() }
}

fn opinions(text: &str, tokens: &Tokens, limits: &Limits) -> Analysis {
    let other_mode = other_string_mode(text, tokens, limits);
    let mut analysis = statements(text, tokens, limits, other_mode.as_deref());
    look(text, tokens, other_mode.as_deref(), &mut analysis);
    analysis
}

fn statements(text: &str, tokens: &Tokens, limits: &Limits, other_mode: Option<&str>) -> Analysis {
    let (reason, tags) = (reason(text, tokens), Tags::of(text, tokens));
    let literal_independent = plain(tokens);
    let risks = Some(Vec::new());
    let mut analysis = Analysis { pieces: Vec::new(), literal_independent, opaque: false, reason, tags, risks };
    if tokens.pieces.is_empty() {
        return analysis;
    }
    // Fail closed: neither the server nor we know what this is.
    let parsed = match second::parse(text) {
        Ok(parsed) => parsed,
        Err(why) => {
            let why = format!("Postgres's grammar does not accept it: {why}");
            let Analysis { reason, tags, .. } = analysis;
            return Analysis { reason, tags, ..unreadable(text.len(), EffectKind::Unparsed, &why) };
        }
    };
    let statements = parsed.statements(text.len());
    let agree = statements.len() == tokens.pieces.len()
        && statements.iter().zip(&tokens.pieces).all(|(statement, piece)| statement.covers(&piece.range));
    if !agree {
        // Fail closed: two ways to cut the text into statements.
        let Analysis { reason, tags, .. } = analysis;
        return Analysis {
            reason,
            tags,
            ..unreadable(text.len(), EffectKind::Disagreement, "its statements cannot be told apart with certainty")
        };
    }
    let ask_first = tokens.tokens.len() <= limits.first_parser_tokens;
    for (statement, piece) in statements.into_iter().zip(&tokens.pieces) {
        let mine = tokens.of(piece);
        let mut opinion = judge_piece(text, statement, &piece.range, mine, ask_first);
        if let Some(why) = other_mode {
            opinion.effects.push(doubt(EffectKind::Disagreement, why));
        }
        analysis.literal_independent &= opinion.literal_independent;
        analysis.opaque |= opinion.opaque;
        let Opinion { effects, acts, risks, calls, .. } = opinion;
        analysis.pieces.push(Piece { range: piece.range.clone(), effects, acts, risks: risks::tidy(risks), calls });
    }
    analysis
}

/// Adds what an approver should not overlook in the text as a whole.
fn look(text: &str, tokens: &Tokens, other_mode: Option<&str>, analysis: &mut Analysis) {
    let begins: Vec<(usize, bool)> =
        analysis.pieces.iter().map(|piece| (piece.range.start, piece.effects.iter().any(is_danger))).collect();
    let parses = |part: &str| second::parse(part).is_ok_and(|parsed| !parsed.statements(part.len()).is_empty());
    let mut found = risks::of_text(text, tokens, &begins, &parses);
    found.extend(other_mode.map(|why| Risk::new(RiskKind::Escapes, why)));
    add_risks(analysis, found);
    let Analysis { pieces, risks, .. } = analysis;
    for piece in pieces {
        for act in &mut piece.acts {
            if let SessionAct::Prepare { body, .. } = act {
                let body = Arc::make_mut(body);
                body.risks.clone_from(risks);
                for inner in &mut body.pieces {
                    inner.risks.clone_from(&piece.risks);
                }
            }
        }
    }
}

/// Both opinions on one piece, merged.
fn judge_piece(
    text: &str,
    statement: Statement<'_>,
    range: &Range<usize>,
    tokens: &[Token],
    ask_first: bool,
) -> Opinion {
    let mut opinion = second::read(statement, range);
    if ask_first && let Some(piece) = text.get(range.clone()) {
        first::compare(piece, range.start, tokens, &mut opinion);
    }
    let danger = opinion.effects.iter().any(is_danger);
    if !danger && let Some(why) = tripwire::alarm(text.as_bytes(), tokens, &opinion.excused, opinion.quiet) {
        opinion.effects.push(doubt(EffectKind::Disagreement, why));
    }
    opinion
}

/// Effects that a default policy does not simply let through.
pub(super) fn is_danger(effect: &Effect) -> bool {
    let is_limited = effect.kind == EffectKind::Update && effect.has_where == Some(true);
    effect.kind.is_dangerous() && !is_limited
}

/// Should `standard_conforming_strings` be off after all, the text may mean something else. If its literals then end
/// elsewhere, nobody can say what it does; that this grammar refuses it so says nothing about older servers, to which a newer
/// keyword is a plain name. Only a literal, name or comment without its end is refused by every server.
fn other_string_mode(text: &str, tokens: &Tokens, limits: &Limits) -> Option<String> {
    if !tokens.plain_backslash {
        return None;
    }
    let other = match lex_bounded(text.as_bytes(), false, limits.tokens) {
        Err(LexError { what: Trouble::TooManyTokens | Trouble::Tangled | Trouble::TooLong, .. }) => {
            return Some("read with standard_conforming_strings off it has too many tokens".to_owned());
        }
        Err(LexError {
            what:
                Trouble::UnterminatedString
                | Trouble::UnterminatedName
                | Trouble::UnterminatedComment
                | Trouble::EmptyName
                | Trouble::JunkAfterNumber,
            ..
        }) => return None,
        Ok(other) => other,
    };
    (tokens.tokens != other.tokens)
        .then(|| "it means something else when standard_conforming_strings is off".to_owned())
}

/// No token of the text hides how it is read, so another text of the same shape is read alike.
fn plain(tokens: &Tokens) -> bool {
    use TokenKind as Kind;
    let subtle = [
        Kind::UnicodeName,
        Kind::EscapeString,
        Kind::UnicodeString,
        Kind::National,
        Kind::BitString,
        Kind::HexString,
        Kind::DollarString,
        Kind::LineComment,
        Kind::BlockComment,
        Kind::Other,
    ];
    !tokens.plain_backslash && !tokens.continued && !subtle.into_iter().any(|kind| tokens.saw(kind))
}

/// The requester's reason: a block comment before anything else that says `reason: …`.
fn reason(text: &str, tokens: &Tokens) -> Option<String> {
    let first = tokens.tokens.first().filter(|token| token.kind == TokenKind::BlockComment)?;
    let inside = text.get(first.range())?.strip_prefix("/*")?.strip_suffix("*/")?.trim();
    let (label, words) = inside.split_once(':')?;
    if !label.trim().eq_ignore_ascii_case("reason") {
        return None;
    }
    let words = words.trim();
    let mut end = words.len().min(REASON_BYTES);
    while !words.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    words.get(..end).filter(|words| !words.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests;
