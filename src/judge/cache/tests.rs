//! Claims about the verdict cache.

#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm
)]

use super::*;
use crate::judge::Verdict;
use crate::judge::{Calls, Facts, NothingPrepared, ObjectName, Policy, Prepared};

const FACTS: Facts<'_> = Facts {
    user: "app",
    database: "shop",
    application_name: "",
    client_addr: None,
    people: &[],
    now: jiff::Timestamp::UNIX_EPOCH,
};

fn analysis(kind: EffectKind, literal_independent: bool) -> Arc<Analysis> {
    let objects = vec![ObjectName { schema: None, name: "t".to_owned() }];
    let effect = Effect { kind, objects, has_where: None, columns: Vec::new(), why: String::new() };
    let pieces = vec![Piece {
        range: 0..1,
        effects: vec![effect],
        acts: Vec::new(),
        risks: Vec::new(),
        calls: Calls::default(),
    }];
    Arc::new(Analysis {
        pieces,
        literal_independent,
        opaque: false,
        reason: None,
        tags: crate::judge::Tags::default(),
        risks: Some(Vec::new()),
    })
}

struct Bench {
    judge: crate::judge::Judge,
    cache: JudgeCache,
    class: SessionClass,
}

impl Bench {
    fn new(rules: &str) -> Self {
        let judge = crate::judge::Judge::new(Arc::new(Policy::from_toml(rules).unwrap()));
        let class = judge.class(&FACTS);
        Self { judge, cache: JudgeCache::new(1 << 20), class }
    }

    fn conclude(&mut self, text: &str, analysis: &Arc<Analysis>) -> Verdict {
        let judged = self.judge.conclude(
            &mut self.cache,
            text.as_bytes(),
            analysis.clone(),
            &self.class,
            false,
            &NothingPrepared,
        );
        judged.judgement.verdict
    }

    fn known(&mut self, text: &str) -> Option<Verdict> {
        self.known_with(text, false, &NothingPrepared)
    }

    fn known_with(&mut self, text: &str, in_transaction: bool, prepared: &dyn Prepared) -> Option<Verdict> {
        self.judge
            .known(&mut self.cache, text.as_bytes(), &self.class, in_transaction, prepared)
            .map(|judged| judged.judgement.verdict)
    }
}

const READS: &str = "[[rule]]\nname = \"r\"\naction = \"allow\"\neffects = [\"read\"]\nin_transaction = false\n\
                     [[rule]]\nname = \"e\"\naction = \"allow\"\neffects = [\"execute\", \"insert\"]";

#[test]
fn texts_of_one_shape_share_a_verdict_only_if_literals_do_not_matter() {
    let mut bench = Bench::new(READS);
    bench.conclude("SELECT 1", &analysis(EffectKind::Read, true));
    assert_eq!(bench.known("SELECT 2"), Some(Verdict::Allow));
    assert_eq!(bench.known("SELECT a"), None);
    bench.conclude("SELECT f('x')", &analysis(EffectKind::Read, false));
    assert_eq!(bench.known("SELECT f('x')"), Some(Verdict::Allow));
    assert_eq!(bench.known("SELECT f('y')"), None);
}

#[test]
fn a_held_text_is_read_again_for_people_must_see_its_own_words() {
    let mut bench = Bench::new(READS);
    assert_eq!(bench.conclude("DELETE FROM t WHERE a = 1", &analysis(EffectKind::Delete, true)), Verdict::Hold);
    assert_eq!(bench.known("DELETE FROM t WHERE a = 2"), None);
    // Literals matter: exactly this text, so its own analysis.
    assert_eq!(bench.conclude("DELETE FROM t WHERE a = $$x$$", &analysis(EffectKind::Delete, false)), Verdict::Hold);
    assert_eq!(bench.known("DELETE FROM t WHERE a = $$x$$"), Some(Verdict::Hold));
}

#[test]
fn verdicts_are_kept_apart_by_class_and_transaction() {
    let mut bench = Bench::new(READS);
    bench.conclude("SELECT $$x$$", &analysis(EffectKind::Read, false));
    assert_eq!(bench.known("SELECT $$x$$"), Some(Verdict::Allow));
    assert_eq!(bench.known_with("SELECT $$x$$", true, &NothingPrepared), Some(Verdict::Hold));
    assert_eq!(bench.known("SELECT $$x$$"), Some(Verdict::Allow));

    // Another policy: the analysis is reused, the verdict is not.
    let strict = Arc::new(Policy::from_toml("[[rule]]\nname = \"no\"\naction = \"reject\"").unwrap());
    bench.judge = crate::judge::Judge::new(strict);
    bench.class = bench.judge.class(&FACTS);
    assert_eq!(bench.known("SELECT $$x$$"), Some(Verdict::Reject));
}

struct Name(Arc<Analysis>);

impl Prepared for Name {
    fn prepared(&self, _name: &str) -> Option<Arc<Analysis>> {
        Some(self.0.clone())
    }
}

#[test]
fn what_execute_runs_is_looked_up_every_time() {
    let mut bench = Bench::new(READS);
    let mut execute = Arc::unwrap_or_clone(analysis(EffectKind::Execute, true));
    execute.pieces[0].acts.push(SessionAct::Execute { name: "q".to_owned() });
    let execute = Arc::new(execute);
    let read = Name(analysis(EffectKind::Read, true));
    let text = b"EXECUTE q";
    bench.judge.conclude(&mut bench.cache, text, execute, &bench.class, false, &read);
    assert_eq!(bench.known_with("EXECUTE q", false, &read), Some(Verdict::Allow));
    let delete = Name(analysis(EffectKind::Delete, true));
    assert_ne!(bench.known_with("EXECUTE q", false, &delete), Some(Verdict::Allow));
    assert_ne!(bench.known_with("EXECUTE q", false, &NothingPrepared), Some(Verdict::Allow));
}

#[test]
fn long_texts_are_not_remembered() {
    let mut bench = Bench::new(READS);
    let text = format!("SELECT '{}'", "x".repeat(MAX_TEXT));
    bench.conclude(&text, &analysis(EffectKind::Read, true));
    assert_eq!(bench.known(&text), None);
    assert!(bench.cache.is_empty());
}

#[test]
fn a_flood_of_texts_stays_within_its_bytes() {
    let mut bench = Bench::new(READS);
    for index in 0..20_000 {
        bench.conclude(&format!("SELECT $${index}$$"), &analysis(EffectKind::Read, false));
        bench.conclude(&format!("SELECT a{index}"), &analysis(EffectKind::Read, true));
    }
    assert!(!bench.cache.is_empty());
    let weight = bench.cache.shapes.weight() + bench.cache.texts.weight();
    assert!(weight <= 1 << 20, "{weight}");
}

#[test]
fn many_classes_share_an_entry_without_growing_it_for_ever() {
    let mut bench = Bench::new(READS);
    for index in 0..100 {
        let rules = format!("[[rule]]\nname = \"r{index}\"\naction = \"allow\"");
        bench.judge = crate::judge::Judge::new(Arc::new(Policy::from_toml(&rules).unwrap()));
        bench.class = bench.judge.class(&FACTS);
        assert_eq!(bench.conclude("SELECT 1", &analysis(EffectKind::Read, true)), Verdict::Allow);
        assert_eq!(bench.known("SELECT 5"), Some(Verdict::Allow));
    }
    assert_eq!(bench.cache.len(), 1);
    assert!(bench.cache.shapes.iter().all(|(_, entry)| entry.verdicts.len() <= MAX_VERDICTS));
}

/// Every statement of the corpus, with other literals in the places of its plain ones.
fn variations(sql: &str) -> Vec<String> {
    const STRINGS: [&str; 9] =
        ["''", "'x'", "'off'", "'role'", "'SJIS'", "'; DROP TABLE t; --'", "'1'", "'2020-01-01'", "'it''s'"];
    const NUMBERS: [&str; 3] = ["0", "1", "123456789"];
    let Ok(tokens) = crate::judge::lex(sql.as_bytes(), true) else { return Vec::new() };
    let replaced = |choice: usize| {
        let (mut text, mut end) = (String::new(), 0);
        for (index, token) in tokens.tokens.iter().enumerate() {
            let range = token.range();
            text.push_str(&sql[end..range.start]);
            let old = &sql[range.clone()];
            text.push_str(match token.kind {
                crate::judge::TokenKind::String => STRINGS[(choice + index) % STRINGS.len()],
                crate::judge::TokenKind::Integer if old.len() < 10 => NUMBERS[(choice + index) % NUMBERS.len()],
                _ => old,
            });
            end = range.end;
        }
        text + &sql[end..]
    };
    (0..STRINGS.len()).map(replaced).collect()
}

/// All of an analysis but where its pieces lie: verdicts depend on it, and people may be shown it.
fn essence(analysis: &Analysis) -> String {
    let pieces: Vec<_> = analysis.pieces.iter().map(|piece| (&piece.effects, acts(piece))).collect();
    format!("{pieces:?} {}", analysis.opaque)
}

fn acts(piece: &Piece) -> Vec<String> {
    let name = |act: &SessionAct| match act {
        SessionAct::Prepare { name, body } => format!("prepare {name} {}", essence(body)),
        other => format!("{other:?}"),
    };
    piece.acts.iter().map(name).collect()
}

#[test]
fn an_analysis_that_is_shared_is_right_for_every_text_that_shares_it() {
    let judge = crate::judge::Judge::new(Arc::new(Policy::shipped()));
    let corpus = include_str!("../../../proxy-tests/corpus/statements.jsonl");
    let (mut shared, mut key, mut other_key) = (0, Vec::new(), Vec::new());
    for line in corpus.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let sql = line["sql"].as_str().unwrap();
        let all: Vec<String> = std::iter::once(sql.to_owned()).chain(variations(sql)).collect();
        for text in &all {
            let analysis = judge.analyse(text.as_bytes());
            if !analysis.literal_independent || !shape(text.as_bytes(), &mut key) {
                continue;
            }
            for other in all.iter().filter(|other| *other != text) {
                if shape(other.as_bytes(), &mut other_key) && key == other_key {
                    shared += 1;
                    let theirs = judge.analyse(other.as_bytes());
                    assert_eq!(essence(&analysis), essence(&theirs), "{text}\n{other}");
                }
            }
        }
    }
    assert!(shared > 100, "{shared}");
}

#[test]
fn the_shipped_policy_judges_the_corpus_as_labelled_cached_or_not() {
    let judge = crate::judge::Judge::new(Arc::new(Policy::shipped()));
    let class = judge.class(&FACTS);
    let mut cache = JudgeCache::new(1 << 20);
    let corpus = include_str!("../../../proxy-tests/corpus/statements.jsonl");
    // Twice through one cache, so that the second round meets what the first one left.
    for line in corpus.lines().chain(corpus.lines()) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let sql = line["sql"].as_str().unwrap();
        let judged = judge.judge(&mut cache, sql.as_bytes(), &class, false, &NothingPrepared);
        let expected = if line["verdict"] == "pass" { Verdict::Allow } else { Verdict::Hold };
        assert_eq!(judged.judgement.verdict, expected, "{sql}\n{}", judged.judgement.why);
    }
}

#[test]
fn a_verdict_remembered_in_a_window_is_not_served_when_the_window_is_over() {
    let mut bench = Bench::new(
        "[[rule]]\nname = \"night\"\naction = \"allow\"\ntimes = [{ from = \"22:00\", until = \"06:00\" }]\n\
         [[rule]]\nname = \"day\"\naction = \"reject\"",
    );
    let sql = "DELETE FROM t WHERE id = 1";
    let analysis = Arc::new(bench.judge.analyse(sql.as_bytes()));
    for (now, verdict) in [
        ("2026-03-02T05:59:59Z", Verdict::Allow),
        ("2026-03-02T06:00:00Z", Verdict::Reject),
        ("2026-03-02T22:00:00Z", Verdict::Allow),
        ("2026-03-03T06:00:00Z", Verdict::Reject),
    ] {
        bench.class = bench.judge.class(&Facts { now: now.parse().unwrap(), ..FACTS });
        assert!(bench.known(sql).is_none_or(|known| known == verdict), "{now}");
        assert_eq!(bench.conclude(sql, &analysis), verdict, "{now}");
        assert!(bench.known(sql).is_none_or(|known| known == verdict), "{now}");
    }
    bench.class = bench.judge.class(&Facts { now: "2026-03-03T23:00:00Z".parse().unwrap(), ..FACTS });
    assert_eq!(bench.known(sql), Some(Verdict::Allow), "the class of the night is the same every night");
}

#[test]
fn texts_of_one_shape_are_told_apart_where_a_rule_asks_for_risks() {
    let rules = "[[rule]]\nname = \"all-rows\"\naction = \"reject\"\nrisks = [\"always-true\"]\n\
                 [[rule]]\nname = \"rest\"\naction = \"allow\"\n";
    let mut bench = Bench::new(rules);
    for (text, expected) in [
        ("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 2", Verdict::Allow),
        ("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 1", Verdict::Reject),
        ("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 2", Verdict::Allow),
        ("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 1", Verdict::Reject),
    ] {
        let judged = bench.judge.judge(&mut bench.cache, text.as_bytes(), &bench.class, false, &NothingPrepared);
        assert_eq!(judged.judgement.verdict, expected, "{text}");
    }
}

#[test]
fn the_risks_of_another_text_of_the_same_shape_are_not_taken_for_its_own() {
    let mut bench = Bench::new("[[rule]]\nname = \"rest\"\naction = \"allow\"\n");
    let mut risks = |text: &str| {
        let judged = bench.judge.judge(&mut bench.cache, text.as_bytes(), &bench.class, false, &NothingPrepared);
        judged.analysis.all_risks().map(|risks| risks.len())
    };
    assert_eq!(risks("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 1"), Some(1));
    assert_eq!(risks("UPDATE t SET a = 1 WHERE x = 1 OR 1 = 2"), None);
}
