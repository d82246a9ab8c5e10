//! SQL text → pieces → effects → verdict. Pure: this room knows no sockets, no clock and no settings file.
//!
//! Start at [`Judge`]: [`Judge::analyse`] says what a text can do, [`SessionClass::decide`] says what to do about it, and
//! [`Judge::judge`] does both, remembering the answer.

mod analyse;
mod analysis;
mod book;
mod calls;
mod first;
mod functions;
mod lexer;
mod limits;
mod risks;
mod second;
mod settings;
mod tags;
mod tree;
mod tripwire;
mod cache;
mod control;
mod decide;
mod encoding;
mod explain;
mod owners;
mod policy;
mod reach;
mod rego;
mod rule;
mod shape;

use std::sync::Arc;

pub use analyse::analyse;
pub(crate) use analyse::on_deep_stack;
pub use analysis::{Analysis, Effect, EffectKind, ObjectName, Piece, SessionAct};
pub use book::{Book, BookParts, Callable, Hazard, RelationHazard, Touch, TypeHazard};
pub(crate) use book::{MAKERS as VALUE_MAKERS, recoded as recoded_name};
pub use cache::JudgeCache;
pub use calls::Calls;
pub use control::is_plain_control;
pub use decide::{Finding, PieceJudgement};
pub use encoding::{has_doubtful_names, has_foreign_names, reads_names_alike};
pub use explain::Step;
pub(crate) use functions::{
    attribute_danger as function_attribute_danger, danger as function_danger, is_builtin as function_is_builtin,
};
pub use lexer::{LexError, MAX_TOKENS, PieceTokens, Token, TokenKind, Tokens, Trouble, lex, lex_bounded};
pub use limits::Limits;
pub use owners::{NameKind, OWNERS_NAMED, Owner, Owners, OwnersError, OwnersLine, Ownership, UNNAMED};
pub use policy::{
    Action, DEFAULT_RULE, EMPTY_RULE, Facts, Judgement, NothingPrepared, Parts, Policy, PolicyError, Prepared, Remark,
    RemarkKind, SessionClass, Somebody, Verdict,
};
pub use reach::{Idle, IdleRule};
pub use rego::{Evaluate, Interpreter, REGO_FAILED, Rego, RegoParts};
pub use risks::{Risk, RiskKind};
pub use rule::{
    AddressRange, Bytes, Critical, Freeze, Frozen, Glob, Guard, ImpactCondition, Match, Measure, Measured, Moment,
    ObjectPattern, OneOf, Otherwise, Reached, Redact, Rule, Scene, TagPatterns, TimeWindow, Timeout, Undo,
    WeakConditions, WrittenFreeze, Zone,
};
pub(crate) use second::counts_rows;
pub use settings::READING;
pub use tags::Tags;

use cache::Found;

/// Reads texts and judges them under one policy. Shared by all threads; a reload replaces it.
#[derive(Debug)]
pub struct Judge {
    policy: Arc<Policy>,
    limits: Limits,
}

/// A text's analysis and the answer to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The answer for the whole message.
    pub judgement: Arc<Judgement>,
    /// What the text can do. If the verdict is `Allow` this may come from a text of the same shape, so byte ranges and the
    /// words of literals are to be trusted only with the other verdicts.
    pub analysis: Arc<Analysis>,
}

impl Judge {
    /// A judge for this policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, limits: Limits::default() }
    }

    /// Its policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The class of a session. Ask once per session, and again when the server reports another `application_name`, the
    /// judge is replaced, or [`Policy::class_ends`].
    pub fn class(&self, facts: &Facts<'_>) -> SessionClass {
        self.policy.class(facts)
    }

    /// Judges a message's text on this thread, parsing it if it was not seen before. Long texts take long: see [`Self::known`].
    pub fn judge(
        &self,
        cache: &mut JudgeCache,
        text: &[u8],
        class: &SessionClass,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Judged {
        self.known(cache, text, class, in_transaction, prepared).unwrap_or_else(|| {
            let analysis = Arc::new(self.analyse(text));
            self.conclude(cache, text, analysis, class, in_transaction, prepared)
        })
    }

    /// The answer to a text that was seen before; never parses. `None`: [`Self::analyse`] it, on a thread where that
    /// may take its time, then [`Self::conclude`].
    pub fn known(
        &self,
        cache: &mut JudgeCache,
        text: &[u8],
        class: &SessionClass,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Option<Judged> {
        match cache.find(text, class, in_transaction) {
            Found::Judged(judged) => Some(judged),
            Found::Analysed(analysis) => Some(self.conclude(cache, text, analysis, class, in_transaction, prepared)),
            Found::Alike(analysis) => {
                let judged = self.conclude(cache, text, analysis, class, in_transaction, prepared);
                judged.judgement.passes_unnoticed().then_some(judged)
            }
            Found::Nothing => None,
        }
    }

    /// The verdict of a text that was seen before, if it is remembered; decides nothing.
    pub fn remembered(
        &self,
        cache: &mut JudgeCache,
        text: &[u8],
        class: &SessionClass,
        in_transaction: bool,
    ) -> Option<Judged> {
        match cache.find(text, class, in_transaction) {
            Found::Judged(judged) => Some(judged),
            Found::Analysed(_) | Found::Alike(_) | Found::Nothing => None,
        }
    }

    /// Judges what [`Self::analyse`] said about `text`, and remembers the answer.
    pub fn conclude(
        &self,
        cache: &mut JudgeCache,
        text: &[u8],
        analysis: Arc<Analysis>,
        class: &SessionClass,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Judged {
        let judgement = Arc::new(class.decide(&analysis, in_transaction, prepared));
        let judged = Judged { judgement, analysis };
        cache.remember(text, class, in_transaction, &judged);
        judged
    }

    /// What a text can do. Independent of policy and session; safe on any stack.
    pub fn analyse(&self, text: &[u8]) -> Analysis {
        analyse(text, &self.limits)
    }
}

/// What setting `name` (in any case) to `value` does, wherever it is set: the startup packet is judged like SET.
#[must_use]
pub fn setting_effect(name: &str, value: &str) -> EffectKind {
    settings::judge(name, settings::Change::To(Some(value)))
}
