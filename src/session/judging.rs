//! The judge as one session sees it: policy, its class of rules, and its thread's cache. Knows no sockets.

use std::sync::Arc;

use super::functions::Trust;
use super::machine::{Judging, Reading, Ruling};
use super::passing::{Passer, Tally};
use crate::judge::{
    Analysis, EffectKind, Judge, JudgeCache, Judged, Judgement, Measure, Piece, Prepared, SessionClass, Verdict,
    counts_rows,
};

/// Borrowed for one step of the machine.
#[derive(Debug)]
pub(super) struct SessionJudge<'a> {
    pub(super) judge: &'a Judge,
    pub(super) cache: &'a mut JudgeCache,
    pub(super) class: &'a SessionClass,
    /// Longer texts are analysed elsewhere, in bytes.
    pub(super) inline_bytes: usize,
    /// What is known of functions, and whether that can be trusted; `None`: nobody looks.
    pub(super) trust: Option<&'a mut Trust>,
    /// Where what passes is counted, and as whose; `None`: nowhere.
    pub(super) passing: Option<(&'a mut Tally, &'a Arc<Passer>)>,
}

impl Judging for SessionJudge<'_> {
    fn decide(&mut self, analysis: &Analysis, in_transaction: bool, prepared: &dyn Prepared) -> Ruling {
        let judgement = match self.own_class() {
            Some(class) => class.decide(analysis, in_transaction, prepared),
            None => self.class.decide(analysis, in_transaction, prepared),
        };
        self.note(&judgement);
        ruling(&judgement)
    }

    fn decide_or_wait(&mut self, analysis: &Analysis, in_transaction: bool, prepared: &dyn Prepared) -> Option<Ruling> {
        let own = self.own_class();
        let judgement = own.as_ref().unwrap_or(self.class).decide(analysis, in_transaction, prepared);
        if self.waits(&judgement, analysis) {
            return None;
        }
        self.note(&judgement);
        Some(ruling(&judgement))
    }

    fn measured(
        &mut self,
        analysis: &Analysis,
        in_transaction: bool,
        prepared: &dyn Prepared,
        measure: &Measure,
    ) -> Judgement {
        let own = self.own_class();
        own.as_ref().unwrap_or(self.class).decide_measured(analysis, in_transaction, prepared, measure)
    }

    fn judge(&mut self, text: &[u8], in_transaction: bool, prepared: &dyn Prepared) -> Reading {
        let (judge, own) = (self.judge, self.own_class());
        let class = own.as_ref().unwrap_or(self.class);
        if class.takes_time() {
            // Nobody else on this thread should wait for it.
            return match judge.remembered(self.cache, text, class, in_transaction) {
                Some(judged) => self.read(judged),
                None => Reading::Ahead,
            };
        }
        let judged = match judge.known(self.cache, text, class, in_transaction, prepared) {
            Some(judged) => judged,
            None if text.len() > self.inline_bytes => return Reading::Elsewhere,
            None => {
                let analysis = Arc::new(judge.analyse(text));
                judge.conclude(self.cache, text, analysis, class, in_transaction, prepared)
            }
        };
        self.read(judged)
    }

    fn conclude(
        &mut self,
        text: &[u8],
        analysis: Arc<Analysis>,
        in_transaction: bool,
        prepared: &dyn Prepared,
    ) -> Reading {
        let (judge, own) = (self.judge, self.own_class());
        let class = own.as_ref().unwrap_or(self.class);
        let judged = judge.conclude(self.cache, text, analysis, class, in_transaction, prepared);
        self.read(judged)
    }

    fn runs_when_parsed(&self, analysis: &Analysis) -> bool {
        self.class.runs_when_parsed(analysis)
    }

    fn is_in_doubt(&self) -> bool {
        self.trust.as_ref().is_some_and(|trust| trust.is_in_doubt())
    }

    fn counts_rows(&mut self, text: &[u8]) -> Result<(), &'static str> {
        std::str::from_utf8(text).map_err(|_| "it is not UTF-8").and_then(counts_rows)
    }

    fn passed(&mut self, text: &[u8], analysis: &Arc<Analysis>, in_transaction: bool) {
        if let Some((tally, passer)) = &mut self.passing {
            tally.count(passer, text, analysis, in_transaction);
        }
    }
}

impl SessionJudge<'_> {
    /// What is to be done by a verdict, unless somebody is about to look.
    fn read(&mut self, judged: Judged) -> Reading {
        let Judged { judgement, analysis } = judged;
        if self.waits(&judgement, &analysis) {
            return Reading::Elsewhere;
        }
        self.note(&judgement);
        Reading::Judged(analysis, ruling(&judgement))
    }

    /// The class to judge by if what came before in the same breath may have changed what functions do.
    fn own_class(&self) -> Option<SessionClass> {
        self.trust.as_ref().filter(|trust| trust.is_in_doubt()).map(|trust| trust.bind(self.class))
    }

    /// Somebody is about to look: it would be held for what is not known, or what it names or calls unseen may have changed.
    fn waits(&self, judgement: &Judgement, analysis: &Analysis) -> bool {
        let raised = || !judgement.raised.is_empty() && judgement.verdict != Verdict::Allow;
        self.trust.as_deref().is_some_and(|trust| {
            trust.can_wait() && raised()
                || trust.waits_for_the_first()
                || trust.waits_for_a_look() && analysis.pieces.iter().any(may_call)
        })
    }

    fn note(&mut self, judgement: &Judgement) {
        if judgement.redefines
            && let Some(trust) = &mut self.trust
        {
            trust.doubt();
        }
    }
}

/// Types, operators, casts and overloads of the server's own names can be new as well as functions and relations, and not all of them
/// are written (CASE, JOIN … USING): only what certainly runs nothing calls none.
fn may_call(piece: &Piece) -> bool {
    let calls_none = |kind| matches!(kind, EffectKind::Session | EffectKind::Transaction);
    piece.calls.analyzes
        || !piece.calls.parameters.is_empty()
        || piece.effects.iter().any(|effect| !effect.objects.is_empty() || !calls_none(effect.kind))
}

fn ruling(judgement: &Judgement) -> Ruling {
    match judgement.verdict {
        Verdict::Allow if judgement.remarks.is_empty() => Ruling::Allow,
        Verdict::Allow => Ruling::Notice(Box::new(judgement.clone())),
        Verdict::Hold => Ruling::Hold(Box::new(judgement.clone())),
        Verdict::Reject => Ruling::Reject(Box::new(judgement.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::functions::Books;
    use super::*;
    use crate::judge::{Book, BookParts, Facts, NothingPrepared, Policy};

    const LONG: Duration = Duration::from_secs(3600);

    /// Whether this is judged only after a look, when nobody has used the database for a while.
    fn waits_after_a_pause(sql: &str) -> bool {
        let books = Arc::new(Books::default());
        let mut trust = Trust::new(&books, "shop");
        trust.logged_in();
        let (_, shelf) = books.shelves().pop().unwrap();
        shelf.put(Some(Book::known(BookParts::default())), shelf.begin().unwrap(), LONG);
        trust.turn();
        shelf.put(None, shelf.begin().unwrap(), LONG);
        shelf.rests();
        trust.turn();
        let policy = Arc::new(Policy::shipped());
        let class = policy.class(&Facts::default());
        let judge = Judge::new(policy);
        let mut judging = SessionJudge {
            judge: &judge,
            cache: &mut JudgeCache::new(1 << 20),
            class: &class,
            inline_bytes: 1 << 20,
            trust: Some(&mut trust),
            passing: None,
        };
        matches!(judging.judge(sql.as_bytes(), false, &NothingPrepared), Reading::Elsewhere)
    }

    #[test]
    fn after_a_pause_whatever_may_call_something_is_judged_only_after_a_look() {
        for sql in [
            "SELECT * FROM t",
            "SELECT 1::new_domain",
            "SELECT CAST('1' AS app.new_domain)",
            "SELECT === 1",
            "SELECT 1 OPERATOR(app.+) 2",
            "SELECT lower('X')",
            "SELECT (1).new_domain",
            "SELECT CASE 1 WHEN 2 THEN 3 END",
            "SELECT * FROM (VALUES (1)) a(x) JOIN (VALUES (2)) b(x) USING (x)",
            "ANALYZE",
        ] {
            assert!(waits_after_a_pause(sql), "{sql}");
        }
        for sql in ["BEGIN", "COMMIT", "", "SET TRANSACTION READ ONLY"] {
            assert!(!waits_after_a_pause(sql), "{sql}");
        }
    }
}
