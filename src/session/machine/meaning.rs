//! Whether a statement still means what it meant: what a standing approval is bound to besides the text. Knows no people.
//!
//! What a text means in a session depends on its role, its `search_path`, its settings, its temporary objects and on what was
//! defined before. Only newer servers report some of it, and none reports all. So nothing of it is followed; instead every
//! message that *might* change any of it begins another **moment**, and a standing approval is for one moment. The rules:
//!
//! * Whatever runs begins another moment. Not only SET, SET ROLE, RESET, DISCARD, `set_config()` and definitions: a plain
//!   SELECT may read a view that calls a function that calls `set_config()`, an UPDATE may fire a trigger that does, an operator
//!   or a cast may be a function of somebody's. None of that can be seen from outside.
//! * A few texts surely run nothing of anybody's: transaction control, `SHOW`, `SELECT 1`, and settings that touch output and
//!   time limits only. They leave the moment alone.
//! * The approved statement itself may fire triggers, too. Approving "again" approves exactly that: the statement after the
//!   statement. So running it again and again is one moment, in which nothing else runs.
//! * The end of a transaction takes back what was set in it (`SET LOCAL`, or any SET if it is rolled back), and so does going
//!   back to a savepoint; deferred triggers run. If anything but the approved statement ran in the transaction, its end begins
//!   another moment, in which the statement is a new one.
//! * A Bind plans and an Execute runs; both count. So do Parse and the Describe of a statement (which may be parsed anew): a literal
//!   of a domain is read then, and the domain's CHECK may call any function. The parsing of a text belongs to its run: only
//!   what is parsed besides the approved statement begins another moment.
//! * A text that holds transaction control besides other statements is never the same again.
//! * A setting that the server reports as changed begins another moment, whatever changed it.
//!
//! What cannot be seen: changes that others make in the database (they can be made between an approval and a first run, too),
//! and a configuration that the server reads anew.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::held::{Digest, digest};
use super::names::Definition;
use crate::hold::{Done, Same, Standing, era};
use crate::judge::{Analysis, EffectKind, Piece, SessionAct, is_plain_control, lex};

/// Texts a session may have run for a pre-approval to apply in it; also keeps hashing off the path of long sessions.
const MAX_RAN: usize = 512;

/// Bytes of them.
const MAX_RAN_BYTES: usize = 16 << 20;

/// Longest text looked at for [`is_inert`].
const INERT_BYTES: usize = 120;

/// The session's moments.
#[derive(Debug)]
pub(super) struct Meaning {
    /// Counts moments.
    moment: u64,
    /// The held statement that alone has run since, and the moment before it.
    run: Option<(Digest, u64)>,
    /// Its text.
    run_text: Option<Digest>,
    /// What has run in the transaction (block or implicit) that is open.
    inside: Inside,
    /// The portal bound last, and what it runs.
    bound: Option<(Box<[u8]>, Ran)>,
    /// What has run since the session began; `None`: too much, or something that cannot be named.
    ran: Option<HashSet<Digest>>,
    ran_bytes: usize,
    /// What of it has surely taken effect, in order: sent as a Query, and nothing has failed or was taken back since.
    done: Vec<Done>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// Nothing ran, but this text was parsed.
    Parsed(Digest),
    Only(Digest),
    Others,
}

/// What a message runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// A statement that was held, by its [`identity`].
    Held(Digest),
    /// Nothing that matters to what others mean.
    Inert,
    /// Transaction control.
    Boundary,
    /// Anything else.
    Other,
}

impl Meaning {
    /// A session at its beginning; `plain`: its startup packet set nothing that bears on what a text means.
    pub(super) fn new(plain: bool) -> Self {
        Self {
            moment: 0,
            run: None,
            run_text: None,
            inside: Inside::Nothing,
            bound: None,
            ran: plain.then(HashSet::new),
            ran_bytes: 0,
            done: Vec::new(),
        }
    }

    /// Something runs.
    pub(super) fn runs(&mut self, ran: Ran) {
        match ran {
            Ran::Inert => {}
            Ran::Boundary => self.boundary(),
            Ran::Held(identity) => {
                // For every other statement it is another moment each time; for itself it is the one before its first run.
                let before = self.run.filter(|(run, _)| *run == identity).map_or(self.moment, |(_, before)| before);
                self.run = Some((identity, before));
                self.moment = self.moment.wrapping_add(1);
                self.inside = match self.inside {
                    Inside::Nothing => Inside::Only(identity),
                    Inside::Only(other) if other == identity => Inside::Only(identity),
                    Inside::Parsed(_) | Inside::Only(_) | Inside::Others => Inside::Others,
                };
            }
            Ran::Other => {
                self.anew();
                self.inside = Inside::Others;
            }
        }
    }

    /// The held statement with this text runs.
    pub(super) fn runs_held(&mut self, identity: Option<Digest>, text: &[u8], types: Option<&[u32]>) -> Ran {
        let text = parsed(text, types);
        self.run_text = Some(text);
        if self.inside == Inside::Parsed(text) {
            self.inside = Inside::Nothing;
        }
        identity.map_or(Ran::Other, Ran::Held)
    }

    /// The server parses a statement, for the first time or anew.
    pub(super) fn parses_definition(&mut self, definition: &Definition) {
        if definition.is_unseen() {
            self.unknown();
        } else {
            self.parses(&definition.text, Some(&definition.declared), &definition.analysis);
        }
    }

    /// The server parses a text, which may run functions.
    pub(super) fn parses(&mut self, text: &[u8], types: Option<&[u32]>, analysis: &Analysis) {
        if matches!(of(text, analysis), Ran::Inert | Ran::Boundary) {
            return;
        }
        self.note(text, analysis, || false);
        if self.run.is_none() && self.inside == Inside::Others {
            self.moment = self.moment.wrapping_add(1);
            return;
        }
        let text = parsed(text, types);
        if self.run.is_some() && self.run_text == Some(text) {
            return;
        }
        self.anew();
        self.inside = match self.inside {
            Inside::Nothing => Inside::Parsed(text),
            Inside::Parsed(other) if other == text => Inside::Parsed(text),
            Inside::Parsed(_) | Inside::Only(_) | Inside::Others => Inside::Others,
        };
    }

    /// A portal is bound, which plans its statement.
    pub(super) fn binds(&mut self, portal: &[u8], ran: Ran) {
        self.runs(ran);
        self.bound = Some((portal.into(), ran));
    }

    /// A portal runs. Fail closed: of those bound before the last one nobody remembers what they run.
    pub(super) fn executes(&mut self, portal: &[u8]) {
        let ran = self.bound.as_ref().filter(|(bound, _)| **bound == *portal).map(|(_, ran)| *ran);
        self.runs(ran.unwrap_or(Ran::Other));
    }

    /// Something happened that nobody can name.
    pub(super) fn unknown(&mut self) {
        self.runs(Ran::Other);
        self.ran = None;
    }

    /// The server said that no transaction is open. More may have been sent by then, which is not told from what ran before.
    pub(super) fn ends_transaction(&mut self) {
        self.boundary();
    }

    /// The server is idle and has answered everything: no transaction is open.
    pub(super) fn idle(&mut self) {
        self.boundary();
        self.inside = Inside::Nothing;
        self.bound = None;
    }

    /// What was set in the transaction may be taken back, and what was deferred may run.
    fn boundary(&mut self) {
        match self.inside {
            Inside::Nothing => {}
            // For every other statement it is another moment; for this one it goes on.
            Inside::Only(_) => self.moment = self.moment.wrapping_add(1),
            Inside::Parsed(_) | Inside::Others => self.anew(),
        }
    }

    fn anew(&mut self) {
        self.moment = self.moment.wrapping_add(1);
        self.run = None;
        self.run_text = None;
    }

    /// Notes the pieces of a text that runs, for pre-approvals, and returns those it will be known by.
    pub(super) fn note(&mut self, text: &[u8], analysis: &Analysis, has_values: impl FnOnce() -> bool) -> Vec<Digest> {
        let Some(ran) = &mut self.ran else { return Vec::new() };
        self.ran_bytes = self.ran_bytes.saturating_add(text.len());
        let pieces = if has_values() || self.ran_bytes > MAX_RAN_BYTES { None } else { pieces(text, analysis) };
        ran.extend(pieces.iter().flatten());
        // Fail closed: what has run cannot be compared with what was approved.
        if pieces.is_none() || ran.len() > MAX_RAN {
            self.ran = None;
            self.done.clear();
            return Vec::new();
        }
        pieces.unwrap_or_default()
    }

    /// Notes the pieces of a Query.
    pub(super) fn sends(&mut self, text: &[u8], analysis: &Analysis) {
        self.bound = None;
        let era = era::now();
        let noted = self.note(text, analysis, || false);
        self.done.extend(noted.into_iter().map(|statement| Done { statement, era }));
        if self.done.len() > MAX_RAN {
            self.failed();
        }
    }

    /// Something failed or is taken back, and what ran before with it, perhaps: what has taken effect is not known any more.
    pub(super) fn failed(&mut self) {
        self.ran = None;
        self.done.clear();
        self.bound = None;
    }

    /// The batch is over: what a portal runs is known only within it.
    pub(super) fn ends_batch(&mut self) {
        self.bound = None;
    }

    /// What a standing approval needs to know of a statement about to be held.
    pub(super) fn standing(&self, text: &[u8], analysis: &Analysis, identity: Option<Digest>) -> Standing {
        let same = identity.map(|statement| {
            let moment = match self.run {
                Some((run, before)) if run == statement => before,
                Some(_) | None => self.moment,
            };
            Same { statement, moment }
        });
        Standing {
            same,
            pieces: self.ran.is_some().then(|| pieces(text, analysis)).flatten(),
            ran: self.ran.as_ref().map(|ran| ran.iter().copied().collect()),
            done: self.done.clone(),
        }
    }
}

/// What makes a held statement the same as another: the protocol, its exact text, and in the extended protocol its declared types
/// and everything of the Bind but the names. `None`: it cannot be the same again, because what it does depends on names of the
/// session (EXECUTE), or it changes them, or on where a transaction of the session began.
pub(super) fn identity(text: &[u8], analysis: &Analysis, bind: Option<(&[u32], &[u8])>) -> Option<Digest> {
    let depends = |piece: &Piece| !piece.acts.is_empty() || depends_on_session(piece);
    if analysis.pieces.iter().any(depends) {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update([u8::from(bind.is_some())]);
    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(text);
    if let Some((types, values)) = bind {
        hash.update(u64::try_from(types.len()).unwrap_or(u64::MAX).to_be_bytes());
        for one in types {
            hash.update(one.to_be_bytes());
        }
        hash.update(values);
    }
    Some(hash.finalize().into())
}

fn depends_on_session(piece: &Piece) -> bool {
    piece.effects.iter().any(|effect| matches!(effect.kind, EffectKind::Execute | EffectKind::Transaction))
}

fn is_control(piece: &Piece) -> bool {
    piece.effects.iter().all(|effect| effect.kind == EffectKind::Transaction)
}

/// Names what is parsed: the text, the protocol (`None`: a Query's) and the declared types, by which its literals are read.
fn parsed(text: &[u8], types: Option<&[u32]>) -> Digest {
    let mut hash = Sha256::new();
    hash.update([u8::from(types.is_some())]);
    for one in types.unwrap_or_default() {
        hash.update(one.to_be_bytes());
    }
    hash.update(Sha256::digest(text));
    hash.finalize().into()
}

/// What a text runs, if it is not held.
pub(super) fn of(text: &[u8], analysis: &Analysis) -> Ran {
    if analysis.pieces.is_empty() {
        return Ran::Inert;
    }
    let controls = analysis.pieces.iter().all(|piece| {
        piece.effects.iter().all(|effect| effect.kind == EffectKind::Transaction)
            && piece.acts.iter().all(|act| matches!(act, SessionAct::EndTransaction))
    });
    if controls && !analysis.opaque {
        return Ran::Boundary;
    }
    let single = analysis.pieces.len() == 1 && text.len() <= INERT_BYTES;
    if single && is_inert(text) { Ran::Inert } else { Ran::Other }
}

/// Settings that bear on output, names in lists of sessions and time limits, and on nothing else.
const INERT_SETTINGS: [&str; 6] = [
    "application_name",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
];

/// Texts that surely run nothing of anybody's and change nothing that bears on what others mean. Read word by word, so that
/// nothing hides in them; whatever else there is (comments, quotes, casts) is not of these.
fn is_inert(text: &[u8]) -> bool {
    // Most statements are told from these by their first letters.
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if !begins(b"set ") && !begins(b"show ") && !begins(b"select 1") {
        return false;
    }
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = text.trim_ascii().trim_end_matches(';').to_ascii_lowercase().replace('=', " = ");
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let plain = |word: &str| {
        let word = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')).unwrap_or(word);
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    match words.as_slice() {
        ["select", "1"] | ["show", "transaction", "isolation", "level"] => true,
        ["show", name] => plain(name),
        ["set", name, "=" | "to", value] | ["set", "session", name, "=" | "to", value] => {
            INERT_SETTINGS.contains(name) && plain(value)
        }
        _ => false,
    }
}

/// Digests of the statements of a text, one by one, plain BEGIN and COMMIT left out; `None` where they cannot be told apart, or where
/// there is other transaction control: what became of the others before it, and what those behind it see, is not known then.
/// The analysis may be one of another text of the same shape, so the text is cut anew.
fn pieces(text: &[u8], analysis: &Analysis) -> Option<Vec<Digest>> {
    if of(text, analysis) == Ran::Inert {
        return Some(Vec::new());
    }
    let tokens = lex(text, true).ok()?;
    if tokens.pieces.len() != analysis.pieces.len() {
        return None;
    }
    let mut digests = Vec::new();
    for (piece, found) in analysis.pieces.iter().zip(&tokens.pieces) {
        let own = text.get(found.range.clone())?;
        if !is_control(piece) {
            digests.push(digest(own));
        } else if !is_plain_control(own) {
            return None;
        }
    }
    Some(digests)
}

#[cfg(test)]
mod tests;
