//! Verdicts remembered per worker thread, so that a text seen before costs a look-up and no parse. Knows no SQL: what may
//! share an entry is decided by [`super::shape`] and by [`Analysis::literal_independent`]. Start at [`JudgeCache`].

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::shape::shape;
use super::{Analysis, Effect, EffectKind, Judged, Judgement, Piece, REGO_FAILED, Risk, SessionAct, SessionClass};

/// Longer texts are not remembered: copying and comparing them costs more than a hit is likely to save.
const MAX_TEXT: usize = 64 << 10;
/// Verdicts remembered beside an analysis; one for each session class, in a transaction and outside.
const MAX_VERDICTS: usize = 16;
/// What an entry weighs besides its texts: slots of the map, reference counts, vectors. An estimate.
const ENTRY_BYTES: usize = 256;

/// What one worker thread remembers. Bounded in bytes; whole keys are compared, so a collision of hashes mixes nothing up.
#[derive(Debug)]
pub struct JudgeCache {
    /// By shape; only analyses that do not depend on literals.
    shapes: Map,
    /// By exact text.
    texts: Map,
    /// Where a shape is written before it is looked up.
    scratch: Vec<u8>,
}

type Map = Cache<Box<[u8]>, Entry, ByBytes>;

#[derive(Debug)]
struct Entry {
    analysis: Arc<Analysis>,
    /// The verdict depends on the session's prepared statements, so it is not remembered.
    executes: bool,
    verdicts: Vec<Known>,
    /// Which of the verdicts is forgotten next when there are too many.
    oldest: usize,
}

#[derive(Debug)]
struct Known {
    class: SessionClass,
    in_transaction: bool,
    judgement: Arc<Judgement>,
}

/// What the cache found.
pub(super) enum Found {
    /// The text's analysis and its verdict.
    Judged(Judged),
    /// The text's analysis; its verdict for this class is not remembered.
    Analysed(Arc<Analysis>),
    /// The analysis of a text of the same shape: to be used only if it allows.
    Alike(Arc<Analysis>),
    /// Nothing that can be used.
    Nothing,
}

impl JudgeCache {
    /// A cache of at most about `bytes`.
    pub fn new(bytes: u64) -> Self {
        // Entries of short statements weigh about this much; only a hint for the first allocation, so keep it low.
        let estimated = usize::try_from(bytes / 4096).unwrap_or(1024).clamp(16, 1024);
        let half = (bytes / 2).max(1);
        Self {
            shapes: Cache::with_weighter(estimated, half, ByBytes),
            texts: Cache::with_weighter(estimated, half, ByBytes),
            scratch: Vec::new(),
        }
    }

    /// Texts remembered.
    pub fn len(&self) -> usize {
        self.shapes.len().saturating_add(self.texts.len())
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known about `text` for sessions of `class`.
    ///
    /// An entry found by shape came from another text: its byte ranges, and perhaps its words, are not this text's. That is
    /// good enough to forward a statement and not to show it to people, so such an entry is used only if it allows and nobody is told.
    pub(super) fn find(&mut self, text: &[u8], class: &SessionClass, in_transaction: bool) -> Found {
        if text.len() > MAX_TEXT {
            return Found::Nothing;
        }
        if !class.0.by_risk
            && shape(text, &mut self.scratch)
            && let Some(entry) = self.shapes.get(self.scratch.as_slice())
        {
            return match entry.find(class, in_transaction) {
                Found::Judged(judged) if judged.judgement.passes_unnoticed() => Found::Judged(judged),
                Found::Analysed(analysis) => Found::Alike(analysis),
                // It is read again, for what people are shown must be this text.
                Found::Judged(_) | Found::Alike(_) | Found::Nothing => Found::Nothing,
            };
        }
        self.texts.get(text).map_or(Found::Nothing, |entry| entry.find(class, in_transaction))
    }

    /// Remembers a verdict, with its analysis.
    pub(super) fn remember(&mut self, text: &[u8], class: &SessionClass, in_transaction: bool, judged: &Judged) {
        let failed = |rule: &Arc<str>| **rule == *REGO_FAILED;
        let judgement = &judged.judgement;
        // A policy that could not be asked may answer the next time.
        if text.len() > MAX_TEXT || failed(&judgement.rule) || judgement.also.iter().any(failed) {
            return;
        }
        let known = || Known { class: class.clone(), in_transaction, judgement: judged.judgement.clone() };
        if judged.analysis.literal_independent && !class.0.by_risk && shape(text, &mut self.scratch) {
            // What an approver should not overlook is a matter of this text's literals too: of the others nobody knows.
            let mut analysis = Analysis::clone(&judged.analysis);
            analysis.risks = None;
            add(&mut self.shapes, &self.scratch, &Arc::new(analysis), known());
        } else {
            add(&mut self.texts, text, &judged.analysis, known());
        }
    }
}

fn add(map: &mut Map, key: &[u8], analysis: &Arc<Analysis>, known: Known) {
    if let Some(mut entry) = map.get_mut(key) {
        entry.add(known);
        return;
    }
    let executes = analysis.pieces.iter().any(executes);
    let mut entry = Entry { analysis: analysis.clone(), executes, verdicts: Vec::with_capacity(1), oldest: 0 };
    entry.add(known);
    map.insert(key.into(), entry);
}

fn executes(piece: &Piece) -> bool {
    let by_act = piece.acts.iter().any(|act| matches!(act, SessionAct::Execute { .. }));
    by_act || piece.effects.iter().any(|effect| effect.kind == EffectKind::Execute)
}

impl Entry {
    fn find(&self, class: &SessionClass, in_transaction: bool) -> Found {
        self.verdicts.iter().find(|known| known.in_transaction == in_transaction && known.class.is(class)).map_or_else(
            || Found::Analysed(self.analysis.clone()),
            |known| Found::Judged(Judged { judgement: known.judgement.clone(), analysis: self.analysis.clone() }),
        )
    }

    fn add(&mut self, known: Known) {
        if self.executes || matches!(self.find(&known.class, known.in_transaction), Found::Judged(_)) {
            return;
        }
        if self.verdicts.len() < MAX_VERDICTS {
            self.verdicts.push(known);
        } else if let Some(slot) = self.verdicts.get_mut(self.oldest) {
            *slot = known;
            self.oldest = self.oldest.wrapping_add(1).checked_rem(MAX_VERDICTS).unwrap_or(0);
        }
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Entry> for ByBytes {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        let bytes = ENTRY_BYTES
            .saturating_add(key.len())
            .saturating_add(analysis_bytes(&entry.analysis))
            .saturating_add(entry.verdicts.len().saturating_mul(128));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

fn analysis_bytes(analysis: &Analysis) -> usize {
    let pieces = analysis.pieces.iter().map(|piece| {
        let effects = piece.effects.iter().map(effect_bytes).chain(piece.risks.iter().map(Risk::bytes));
        let acts = piece.acts.iter().map(|act| match act {
            SessionAct::Prepare { name, body } => {
                size_of::<SessionAct>().saturating_add(name.len()).saturating_add(analysis_bytes(body))
            }
            SessionAct::Execute { name: text } | SessionAct::SetReason { reason: text } => {
                size_of::<SessionAct>().saturating_add(text.len())
            }
            SessionAct::Deallocate { .. } | SessionAct::CopyIn | SessionAct::EndTransaction => size_of::<SessionAct>(),
        });
        effects.chain(acts).fold(size_of::<Piece>().saturating_add(piece.calls.bytes()), usize::saturating_add)
    });
    let risks = analysis.risks.iter().flatten().map(Risk::bytes);
    let own = size_of::<Analysis>().saturating_add(analysis.tags.bytes());
    pieces.chain(risks).fold(own, usize::saturating_add)
}

fn effect_bytes(effect: &Effect) -> usize {
    let objects = effect.objects.iter().map(|object| {
        let schema = object.schema.as_ref().map_or(0, String::len);
        size_of_val(object).saturating_add(object.name.len()).saturating_add(schema)
    });
    let columns = effect.columns.iter().map(|column| size_of_val(column).saturating_add(column.len()));
    objects.chain(columns).fold(size_of::<Effect>().saturating_add(effect.why.len()), usize::saturating_add)
}

#[cfg(test)]
mod tests;
