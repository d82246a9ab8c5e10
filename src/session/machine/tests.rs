//! The machine against scripted peers: what each side is sent, byte for byte.

#![allow(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm, clippy::string_slice)]

use std::sync::Arc;

use super::*;
use crate::judge::{Calls, Effect, EffectKind, Judgement, Measure, Piece, Prepared, Redact, SessionAct, Verdict};
use crate::wire::frame::build;

/// Judges by the first word: `HOLD…`, `REJECT…`, `PREPARE name text`, `EXECUTE name`, `DEALLOCATE name`, anything else is
/// allowed; `OPAQUE…` is opaque. `HOLDG…` and `HOLDX…` are held with a guard of five rows and two seconds for locks, `HOLDA…` may not
/// run in a transaction and is held with the two seconds alone, as is `HOLDL…`, which may. `HOLDK…` and `HOLDU…` are held with an undo of
/// five rows, without which the latter runs all the same.
struct Fake;

fn effect(kind: EffectKind) -> Effect {
    Effect { kind, objects: Vec::new(), has_where: None, columns: Vec::new(), why: "test".to_owned() }
}

pub(super) fn analyse(text: &str) -> Analysis {
    let words: Vec<&str> = text.splitn(3, ' ').collect();
    let (kind, acts) = match words.as_slice() {
        ["PREPARE", name, body] => {
            let body = Arc::new(analyse(body));
            let kind = body.pieces[0].effects[0].kind;
            (kind, vec![SessionAct::Prepare { name: (*name).to_owned(), body }])
        }
        ["EXECUTE", name, ..] => (EffectKind::Execute, vec![SessionAct::Execute { name: (*name).to_owned() }]),
        ["COPY", ..] => (EffectKind::Insert, vec![SessionAct::CopyIn]),
        ["DEALLOCATE", name] => (EffectKind::Session, vec![SessionAct::Deallocate { name: Some((*name).to_owned()) }]),
        ["HOLDERR"] => (EffectKind::Unparsed, Vec::new()),
        [first, ..] if first.starts_with("TELL") => (EffectKind::Merge, Vec::new()),
        [first, ..] if first.starts_with("HOLDA") => (EffectKind::Alter, Vec::new()),
        [first, ..] if first.starts_with("HOLD") => (EffectKind::Delete, Vec::new()),
        [first, ..] if first.starts_with("REJECT") => (EffectKind::Drop, Vec::new()),
        _ => (EffectKind::Read, Vec::new()),
    };
    let mut effect = effect(kind);
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    effect.columns = vec![
        if begins(&["HOLDM"]) {
            "size"
        } else if begins(&["HOLDG", "HOLDX"]) {
            "rows"
        } else if begins(&["HOLDA", "HOLDL"]) {
            "locks"
        } else if begins(&["HOLDK", "HOLDU"]) {
            effect.objects = vec![crate::judge::ObjectName { schema: None, name: "t".to_owned() }];
            if text.starts_with("HOLDK") { "keep" } else { "keep or run" }
        } else {
            ""
        }
        .to_owned(),
    ];
    Analysis {
        pieces: vec![Piece {
            range: 0..text.len(),
            effects: vec![effect],
            acts,
            risks: Vec::new(),
            calls: Calls::default(),
        }],
        literal_independent: false,
        opaque: text.starts_with("OPAQUE"),
        reason: None,
        tags: crate::judge::Tags::default(),
        risks: Some(Vec::new()),
    }
}

fn verdict(analysis: &Analysis, prepared: &dyn Prepared, depth: usize) -> Verdict {
    if depth > 10 {
        return Verdict::Hold;
    }
    let kinds = analysis.pieces.iter().flat_map(|piece| {
        let of_effects = piece.effects.iter().map(|effect| match effect.kind {
            EffectKind::Delete | EffectKind::Alter | EffectKind::Unknown | EffectKind::Unparsed => Verdict::Hold,
            EffectKind::Drop => Verdict::Reject,
            _ => Verdict::Allow,
        });
        let of_acts = piece.acts.iter().map(|act| match act {
            SessionAct::Execute { name } => {
                prepared.prepared(name).map_or(Verdict::Hold, |body| verdict(&body, prepared, depth + 1))
            }
            _ => Verdict::Allow,
        });
        of_effects.chain(of_acts).collect::<Vec<_>>()
    });
    kinds.max().unwrap_or(Verdict::Allow)
}

/// Texts that begin with TELL.
fn is_told(analysis: &Analysis) -> bool {
    analysis.pieces.iter().any(|piece| piece.effects.iter().any(|effect| effect.kind == EffectKind::Merge))
}

fn guard(analysis: &Analysis) -> Option<crate::judge::Guard> {
    let written = match analysis.pieces[0].effects[0].columns.first()?.as_str() {
        "rows" => "max_rows = 5\nlock_timeout = \"2s\"",
        "locks" => "lock_timeout = \"2s\"",
        _ => return None,
    };
    Some(toml::from_str(written).unwrap())
}

fn undo(analysis: &Analysis) -> Option<crate::judge::Undo> {
    let written = match analysis.pieces[0].effects[0].columns.first()?.as_str() {
        "keep" => "max_rows = 5",
        "keep or run" => "max_rows = 5\notherwise = \"run\"",
        _ => return None,
    };
    Some(toml::from_str(written).unwrap())
}

impl Judging for Fake {
    fn decide(&mut self, analysis: &Analysis, _: bool, prepared: &dyn Prepared) -> Ruling {
        let verdict = verdict(analysis, prepared, 0);
        let judgement = Box::new(Judgement {
            owners: Vec::new(),
            verdict,
            rule: "r".into(),
            why: "w".to_owned(),
            message: None,
            advice: None,
            redact: Redact::None,
            also: Vec::new(),
            remarks: Vec::new(),
            guard: guard(analysis),
            examine: analysis.pieces[0].effects[0].columns.first().is_some_and(|column| column == "size"),
            undo: undo(analysis),
            raised: Vec::new(),
            redefines: false,
        });
        match verdict {
            Verdict::Allow if is_told(analysis) => Ruling::Notice(judgement),
            Verdict::Allow => Ruling::Allow,
            Verdict::Hold => Ruling::Hold(judgement),
            Verdict::Reject => Ruling::Reject(judgement),
        }
    }

    /// Small ones pass, huge ones are rejected, and what is not known is held.
    fn measured(&mut self, analysis: &Analysis, _: bool, prepared: &dyn Prepared, measure: &Measure) -> Judgement {
        let (Ruling::Hold(judgement) | Ruling::Reject(judgement)) = self.decide(analysis, false, prepared) else {
            panic!("it was not held before");
        };
        let verdict = match measure.rows {
            Some(0..=5) => Verdict::Allow,
            Some(1_000..) => Verdict::Reject,
            Some(_) | None => Verdict::Hold,
        };
        let guard = Some(toml::from_str("max_rows = 5").unwrap());
        Judgement { verdict, guard, examine: false, ..*judgement }
    }

    fn judge(&mut self, text: &[u8], in_transaction: bool, prepared: &dyn Prepared) -> Reading {
        if text.starts_with(b"LARGE") {
            return Reading::Elsewhere;
        }
        let analysis = Arc::new(analyse(&String::from_utf8_lossy(text)));
        let ruling = self.decide(&analysis, in_transaction, prepared);
        Reading::Judged(analysis, ruling)
    }

    fn counts_rows(&mut self, _: &[u8]) -> Result<(), &'static str> {
        Ok(())
    }
}

/// A machine with both its peers' views.
pub(super) struct Bench {
    pub(super) machine: Machine,
    pub(super) inbox: Vec<u8>,
    backend: Vec<u8>,
    client: Vec<u8>,
}

impl Bench {
    fn authenticating(settings: impl FnOnce(&mut MachineSettings)) -> Self {
        let mut all = MachineSettings {
            max_statement_bytes: 1 << 20,
            reject_holds_in_transaction: false,
            parse_first: false,
            ask_session: false,
            allow_function_call: false,
            replication: false,
            client_tls: false,
            plain_start: true,
            refusal_key: "k".to_owned(),
        };
        settings(&mut all);
        Self { machine: Machine::new(Arc::new(all)), inbox: Vec::new(), backend: Vec::new(), client: Vec::new() }
    }

    pub(super) fn with(settings: impl FnOnce(&mut MachineSettings)) -> Self {
        let mut bench = Self::authenticating(settings);
        bench.server(&[ok(), ready(b'I')]);
        bench.client.clear();
        while bench.machine.poll_action().is_some() {}
        bench
    }

    pub(super) fn ready() -> Self {
        Self::with(|_| {})
    }

    fn pump(&mut self) {
        let mut out = Outbox::default();
        let input = std::mem::take(&mut self.inbox);
        let used = self.machine.handle_frontend(&input, &mut Fake, &mut out);
        self.collect(&out, &input, &[]);
        self.inbox = input[used..].to_vec();
    }

    fn collect(&mut self, out: &Outbox, from_client: &[u8], from_backend: &[u8]) {
        for cleared in out.to_backend(from_client) {
            self.backend.extend_from_slice(cleared.bytes());
        }
        for bytes in out.to_client(from_backend) {
            self.client.extend_from_slice(bytes);
        }
    }

    pub(super) fn say(&mut self, frames: &[Vec<u8>]) -> &mut Self {
        self.inbox.extend(frames.concat());
        if !self.machine.is_waiting() {
            self.pump();
        }
        self
    }

    pub(super) fn server(&mut self, frames: &[Vec<u8>]) -> &mut Self {
        let bytes = frames.concat();
        let mut out = Outbox::default();
        let used = self.machine.handle_backend(&bytes, &mut out);
        assert_eq!(used, bytes.len(), "whole frames are consumed");
        self.collect(&out, &[], &bytes);
        if !self.machine.is_waiting() {
            self.pump();
        }
        self
    }

    /// What the backend was sent since the last look.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.backend)
    }

    pub(super) fn told(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.client)
    }

    /// The text that was sent away has been analysed.
    pub(super) fn analysed(&mut self, analysis: Analysis) {
        self.machine.handle_analysis(Arc::new(analysis));
        self.pump();
    }

    /// It was looked into what the statement at the front would touch.
    pub(super) fn measured(&mut self, rows: Option<u64>) {
        self.machine.handle_measured(Measure { rows, ..Measure::default() });
        self.pump();
    }

    pub(super) fn draft(&mut self) -> Box<Draft> {
        match self.machine.poll_action() {
            Some(Action::OpenHold(draft)) => draft,
            other => panic!("no hold was asked for, but {other:?}"),
        }
    }

    /// Opens the hold that is asked for.
    pub(super) fn opened(&mut self) -> Box<Draft> {
        let draft = self.draft();
        let mut out = Outbox::default();
        self.machine.handle_opened(&crate::hold::HoldId("qg-0000000000".to_owned()));
        self.machine.handle_asked(&Report::notice("held"), &mut out);
        self.collect(&out, &[], &[]);
        let notice = Report::notice("held").to_bytes();
        assert!(self.told().ends_with(&notice), "the client is told at once");
        draft
    }

    pub(super) fn end(&mut self, ending: Ending) {
        let mut out = Outbox::default();
        self.machine.end_hold(ending, &mut out);
        self.collect(&out, &[], &[]);
        self.pump();
    }
}

pub(super) fn ok() -> Vec<u8> {
    build(b'R', &[&[0; 4]])
}
pub(super) fn ready(status: u8) -> Vec<u8> {
    build(b'Z', &[&[status]])
}
pub(super) fn query(text: &str) -> Vec<u8> {
    build(b'Q', &[text.as_bytes(), b"\0"])
}
pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    build(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"])
}
pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    build(b'B', &[portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"])
}
pub(super) fn bind_value(statement: &str, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    build(b'B', &[b"\0", statement.as_bytes(), b"\0\0\x01\0\x01\0\x01", &length, value, b"\0\0"])
}
pub(super) fn execute(portal: &str) -> Vec<u8> {
    build(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"])
}
pub(super) fn describe(name: &str) -> Vec<u8> {
    build(b'D', &[b"S", name.as_bytes(), b"\0"])
}
pub(super) fn close(name: &str) -> Vec<u8> {
    build(b'C', &[b"S", name.as_bytes(), b"\0"])
}
pub(super) fn sync() -> Vec<u8> {
    build(b'S', &[])
}
pub(super) fn flush() -> Vec<u8> {
    build(b'H', &[])
}
pub(super) fn tag(tag: u8) -> Vec<u8> {
    build(tag, &[])
}
/// A DataRow with one column.
pub(super) fn row(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    build(b'D', &[&1u16.to_be_bytes(), &length, value.as_bytes()])
}

pub(super) fn complete() -> Vec<u8> {
    build(b'C', &[b"OK\0"])
}
pub(super) fn error(message: &str) -> Vec<u8> {
    build(b'E', &[b"SERROR\0C22012\0M", message.as_bytes(), b"\0\0"])
}
pub(super) fn refusal() -> Report {
    Report::error("42501", "no")
}
/// The gate's failing Execute, number `n`, and the server's error for it.
pub(super) fn bogus(n: u32) -> (Vec<u8>, Vec<u8>) {
    let token = held::own_name("refused", "k", n);
    let said = error(&format!("portal \"{token}\" does not exist"));
    (build(b'E', &[token.as_bytes(), b"\0\0\0\0\0"]), said)
}
pub(super) fn bogus_query(n: u32) -> (Vec<u8>, Vec<u8>) {
    let token = held::own_name("refused", "k", n);
    let said = error(&format!("syntax error at or near \"\"{token}\"\""));
    (build(b'Q', &[b"\"", token.as_bytes(), b"\"\0"]), said)
}

#[test]
fn harmless_queries_pass_untouched_however_they_are_cut() {
    let frames = [query("SELECT 1"), parse("", "SELECT 2"), bind("", ""), execute(""), sync()].concat();
    for size in [1, 2, 3, 7, frames.len()] {
        let mut bench = Bench::ready();
        for piece in frames.chunks(size) {
            bench.say(&[piece.to_vec()]);
        }
        assert_eq!(bench.sent(), frames, "pieces of {size}");
    }
}

#[test]
fn backend_bytes_pass_untouched_however_they_are_cut() {
    let row = build(b'D', &[&[7; 300]]);
    let bytes = [build(b'T', &[b"\0\0"]), row.clone(), row, complete(), ready(b'I')].concat();
    for size in [1, 4, 5, 6, 299, bytes.len()] {
        let mut bench = Bench::ready();
        bench.say(&[query("SELECT 1")]);
        let mut kept = Vec::new();
        for piece in bytes.chunks(size) {
            kept.extend_from_slice(piece);
            let mut out = Outbox::default();
            let used = bench.machine.handle_backend(&kept, &mut out);
            bench.collect(&out, &[], &kept);
            kept.drain(..used);
        }
        assert_eq!(bench.told(), bytes, "pieces of {size}");
        assert!(bench.machine.is_idle());
    }
}

#[test]
fn a_held_query_is_not_sent_until_released_and_then_is_the_same_bytes_once() {
    let mut bench = Bench::ready();
    bench.say(&[query("HOLD me"), query("SELECT 2")]);
    assert_eq!(bench.sent(), b"");
    let draft = bench.opened();
    assert_eq!(&*draft.text, b"HOLD me");
    assert!(!draft.in_transaction);
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [query("HOLD me"), query("SELECT 2")].concat());
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), b"");
}

#[test]
fn a_refused_query_makes_the_backend_raise_the_error_which_is_reworded() {
    let mut bench = Bench::ready();
    bench.say(&[query("HOLD me")]);
    bench.opened();
    bench.end(Ending::Refuse(refusal()));
    let (sent, said) = bogus_query(1);
    assert_eq!(bench.sent(), sent);
    bench.server(&[said, ready(b'E')]);
    assert_eq!(bench.told(), [refusal().to_bytes(), ready(b'E')].concat());
    assert!(bench.machine.in_transaction());
}

#[test]
fn an_error_of_the_servers_own_in_place_of_the_refusal_is_passed_on() {
    let mut bench = Bench::ready();
    bench.say(&[query("REJECT me")]);
    bench.sent();
    let own = error("terminating connection due to administrator command");
    bench.server(std::slice::from_ref(&own));
    assert_eq!(bench.told(), own);
}

#[test]
fn a_hold_waits_for_the_answers_before_it() {
    let mut bench = Bench::ready();
    bench.say(&[query("SELECT 1"), query("HOLD me")]);
    assert_eq!(bench.sent(), query("SELECT 1"));
    assert!(bench.machine.poll_action().is_none());
    bench.server(&[complete(), ready(b'T')]);
    assert!(bench.opened().in_transaction);
}

#[test]
fn a_batch_is_held_at_bind_with_the_parse_already_answered_and_no_transaction_left_open() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "HOLD $1"), bind_value("", b"\0\0\0\x2a"), execute(""), sync()]);
    assert_eq!(bench.sent(), [parse("", "HOLD $1"), describe(""), sync()].concat());
    bench.server(&[tag(b'1'), build(b't', &[b"\0\x01\0\0\0\x17"]), tag(b'n'), ready(b'I')]);
    assert_eq!(bench.told(), tag(b'1'), "only the client's own answer is seen");
    let draft = bench.opened();
    assert!(!draft.in_transaction);
    assert_eq!(draft.parameters[0].value.as_deref(), Some("42"));
    assert_eq!(draft.parameters[0].type_name.as_deref(), Some("int4"));
    bench.end(Ending::Release);
    assert_eq!(bench.sent(), [bind_value("", b"\0\0\0\x2a"), execute(""), sync()].concat());
    bench.server(&[tag(b'2'), complete(), ready(b'I')]);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_refused_bind_skips_to_sync_as_the_server_does() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "HOLD"), bind("", ""), execute(""), parse("x", "SELECT 1"), sync(), query("SELECT 3")]);
    bench.sent();
    bench.server(&[tag(b'1'), ready(b'I')]);
    bench.told();
    bench.opened();
    bench.end(Ending::Refuse(refusal()));
    let (sent, said) = bogus(1);
    assert_eq!(bench.sent(), [sent, sync(), query("SELECT 3")].concat());
    bench.server(&[said, ready(b'I'), complete(), ready(b'I')]);
    assert_eq!(bench.told(), [refusal().to_bytes(), ready(b'I'), complete(), ready(b'I')].concat());
    // The skipped Parse defined nothing.
    bench.say(&[bind("", "x"), sync()]);
    assert_eq!(bench.sent(), [describe("x"), sync()].concat());
}

#[test]
fn a_hold_in_the_middle_of_a_pipeline_keeps_what_ran_before_in_its_transaction() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "INSERT"), bind("", ""), execute(""), parse("", "HOLD"), bind("", ""), execute(""), sync()]);
    let before = [parse("", "INSERT"), bind("", ""), execute(""), parse("", "HOLD"), flush()].concat();
    assert_eq!(bench.sent(), before, "a Flush, not a Sync: something ran");
    bench.server(&[tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
    assert!(bench.opened().in_transaction);
}

#[test]
fn an_error_before_the_held_message_ends_the_matter_without_asking_anyone() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "INSERT"), bind("", ""), execute(""), parse("", "HOLD"), bind("", ""), execute(""), sync()]);
    bench.sent();
    bench.server(&[tag(b'1'), tag(b'2'), error("unique violation")]);
    assert!(bench.machine.poll_action().is_none());
    assert_eq!(bench.sent(), sync(), "the held Bind is dropped like everything up to Sync");
    bench.server(&[ready(b'I')]);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_failed_parse_leaves_the_name_with_its_dangerous_meaning() {
    let mut bench = Bench::ready();
    bench.say(&[parse("s", "HOLD"), sync()]).server(&[tag(b'1'), ready(b'I')]);
    // The server refuses to define the name again; a gate that believed the second Parse would let the Bind pass.
    bench.say(&[parse("s", "SELECT 1"), sync(), bind("", "s"), execute(""), sync()]);
    bench.sent();
    bench.server(&[error("prepared statement \"s\" already exists"), ready(b'I')]);
    assert_eq!(&*bench.opened().text, b"HOLD");
}

#[test]
fn a_skipped_parse_of_the_unnamed_statement_is_not_believed() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "HOLD"), sync()]).server(&[tag(b'1'), ready(b'I')]);
    bench.say(&[parse("bad", "syntax error"), parse("", "SELECT 1"), sync(), bind("", ""), execute(""), sync()]);
    bench.server(&[error("syntax error"), ready(b'I')]);
    assert_eq!(&*bench.opened().text, b"HOLD");
}

#[test]
fn redefinition_in_one_pipeline_is_followed_without_waiting() {
    let mut bench = Bench::ready();
    bench.say(&[parse("s", "HOLD"), sync()]).server(&[tag(b'1'), ready(b'I')]);
    bench.sent();
    let frames = [close("s"), parse("s", "SELECT 1"), bind("", "s"), execute(""), sync()];
    bench.say(&frames);
    assert_eq!(bench.sent(), frames.concat());
    assert!(bench.machine.poll_action().is_none());
}

#[test]
fn sql_prepare_and_protocol_names_are_one_namespace() {
    let mut bench = Bench::ready();
    // Protocol-defined, executed by SQL.
    bench.say(&[parse("s", "HOLD"), sync()]).server(&[tag(b'1'), ready(b'I')]);
    bench.say(&[query("EXECUTE s")]);
    let draft = bench.opened();
    let effects = draft.analysis.pieces.iter().flat_map(|piece| &piece.effects);
    let shown: Vec<_> = effects.map(|effect| (effect.kind, effect.why.as_str())).collect();
    assert_eq!(shown, [(EffectKind::Execute, "test"), (EffectKind::Delete, "by EXECUTE s: test")]);
    bench.end(Ending::Refuse(refusal()));
    bench.server(&[bogus_query(1).1, ready(b'I')]);
    // SQL-defined, bound by the protocol.
    bench.say(&[query("PREPARE q SELECT 1")]).server(&[complete(), ready(b'I')]);
    bench.sent();
    bench.say(&[bind("", "q"), execute(""), sync()]);
    assert_eq!(bench.sent(), [bind("", "q"), execute(""), sync()].concat());
}

#[test]
fn a_prepare_that_failed_half_way_leaves_both_meanings_and_the_stricter_counts() {
    let mut bench = Bench::ready();
    bench.say(&[parse("q", "HOLD"), sync()]).server(&[tag(b'1'), ready(b'I')]);
    bench.say(&[query("PREPARE q SELECT 1")]).server(&[error("exists"), ready(b'I')]);
    bench.say(&[query("EXECUTE q")]);
    bench.opened();
}

/// A portal `p` bound to `EXECUTE y`, where `y` is `EXECUTE s` and `s` is harmless.
fn portal_that_executes() -> Bench {
    let mut bench = Bench::ready();
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.say(&[parse("s", "SELECT 1"), parse("y", "EXECUTE s"), sync()]);
    bench.server(&[tag(b'1'), tag(b'1'), ready(b'T')]);
    bench.say(&[parse("", "EXECUTE y"), bind("p", ""), flush()]).server(&[tag(b'1'), tag(b'2')]);
    bench.sent();
    bench
}

#[test]
fn names_that_an_open_portal_executes_cannot_be_changed() {
    for (change, refused) in [
        (close("s"), bogus(1).0),
        (close("y"), bogus(1).0),
        (parse("s", "SELECT 2"), bogus(1).0),
        (query("DEALLOCATE s"), bogus_query(1).0),
        (query("PREPARE y SELECT 2"), bogus_query(1).0),
    ] {
        let mut bench = portal_that_executes();
        bench.say(std::slice::from_ref(&change));
        assert_eq!(bench.sent(), refused, "{}", change.escape_ascii());
    }
}

#[test]
fn the_answer_to_a_refused_query_does_not_forget_a_portal_bound_behind_it() {
    let mut bench = Bench::ready();
    bench.say(&[parse("s", "SELECT 1"), parse("e", "EXECUTE s"), sync()]);
    bench.server(&[tag(b'1'), tag(b'1'), ready(b'I')]);
    bench.say(&[query("REJECT me"), bind("p", "e"), flush()]);
    bench.server(&[bogus_query(1).1, ready(b'I'), tag(b'2')]);
    bench.sent();
    bench.say(&[close("s")]);
    assert_eq!(bench.sent(), bogus(2).0);
}

#[test]
fn a_portal_that_has_run_leaves_the_names_it_executes_free() {
    let mut bench = portal_that_executes();
    let change = [close("s"), parse("s", "HOLD"), sync()].concat();
    bench.say(&[execute("p"), change.clone()]);
    assert_eq!(bench.sent(), [execute("p"), flush()].concat(), "not known yet");
    bench.server(&[complete()]);
    assert_eq!(bench.sent(), change);
}

#[test]
fn a_change_made_by_way_of_execute_is_noted() {
    let mut bench = Bench::ready();
    bench.say(&[parse("s", "SELECT 1"), parse("y", "PREPARE s HOLD"), sync()]);
    bench.server(&[tag(b'1'), tag(b'1'), ready(b'I')]);
    bench.say(&[query("EXECUTE y")]);
    bench.opened();
    bench.end(Ending::Release);
    bench.server(&[complete(), ready(b'I')]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::Executed(_))));
    bench.say(&[query("EXECUTE s")]);
    bench.opened();
}

#[test]
fn an_unseen_statement_is_described_first_so_that_a_missing_one_is_the_servers_error() {
    let mut bench = Bench::ready();
    bench.say(&[bind("", "ghost"), execute(""), sync()]);
    assert_eq!(bench.sent(), [describe("ghost"), sync()].concat());
    bench.server(&[error("prepared statement \"ghost\" does not exist"), ready(b'I')]);
    assert_eq!(bench.sent(), sync());
    bench.server(&[ready(b'I')]);
    assert_eq!(bench.told(), [error("prepared statement \"ghost\" does not exist"), ready(b'I')].concat());
    // One that exists, made behind the gate's back, is held.
    bench.say(&[bind("", "made"), execute(""), sync()]);
    bench.server(&[build(b't', &[b"\0\0"]), tag(b'n'), ready(b'I')]);
    assert_eq!(bench.opened().analysis.pieces[0].effects[0].kind, EffectKind::Unknown);
}

#[test]
fn text_in_an_uncertain_encoding_is_held() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "OPAQUE"), bind("", ""), execute(""), parse("", "SELECT 'ä'"), bind("", ""), sync()]);
    bench.server(&[tag(b'1'), tag(b'2'), complete(), tag(b'1')]);
    bench.opened();
    let mut sure = Bench::ready();
    sure.say(&[query("OPAQUE")]).server(&[complete(), ready(b'I')]);
    sure.say(&[query("SELECT 'ä'")]);
    assert!(sure.machine.poll_action().is_none());
}

#[test]
fn names_beyond_ascii_of_a_client_that_does_not_write_utf8_are_held_and_values_pass() {
    let mut bench = Bench::ready();
    bench.server(&[build(b'S', &[b"client_encoding\0LATIN1\0"])]);
    bench.say(&[query("SELECT 'ä'")]).server(&[complete(), ready(b'I')]);
    assert!(bench.machine.poll_action().is_none());
    bench.say(&[query("SELECT * FROM \"zé\"")]);
    assert_eq!(bench.opened().analysis.pieces.last().unwrap().effects[0].kind, EffectKind::Unknown);
    // In UTF8 it is the name that is read here.
    let mut sure = Bench::ready();
    sure.server(&[build(b'S', &[b"client_encoding\0UTF8\0"])]);
    sure.say(&[query("SELECT * FROM \"zé\"")]);
    assert!(sure.machine.poll_action().is_none());
}

#[test]
fn copy_data_passes_and_statements_inside_copy_end_the_session() {
    let mut bench = Bench::ready();
    bench.say(&[query("COPY t FROM STDIN")]).server(&[build(b'G', &[b"\0\0\0"])]);
    bench.sent();
    let data = build(b'd', &[b"1\n"]);
    bench.say(&[data.clone(), sync(), query("HOLD me"), query("SELECT 1")]);
    let sent = bench.sent();
    let probe = [sync(), bogus(1).0, sync()].concat();
    assert_eq!(sent, [data, sync(), probe].concat(), "a message on which the server ends the session");
    assert!(bench.machine.poll_action().is_none());
}

#[test]
fn a_statement_sent_ahead_into_copy_does_not_wait_for_ever() {
    let mut bench = Bench::ready();
    bench.say(&[query("COPY t FROM STDIN"), query("HOLD me")]);
    assert_eq!(bench.sent(), query("COPY t FROM STDIN"));
    bench.server(&[build(b'G', &[b"\0\0\0"])]);
    assert_eq!(bench.sent(), [sync(), bogus(1).0, sync()].concat(), "the server ends the session on it");
    assert!(bench.machine.poll_action().is_none());
}

#[test]
fn the_gates_question_about_a_failed_copy_waits_for_the_end_of_the_frame_that_is_half_sent() {
    let mut bench = Bench::ready();
    bench.say(&[query("COPY t FROM STDIN")]).server(&[build(b'G', &[b"\0\0\0"])]);
    let data = build(b'd', &[b"0123456789"]);
    bench.say(&[sync(), build(b'd', &[b"bad"]), data[..10].to_vec()]);
    bench.sent();
    bench.told();
    bench.server(&[error("bad data"), ready(b'I')]);
    assert_eq!(bench.sent(), b"", "nothing within the frame");
    assert_eq!(bench.told(), [error("bad data"), ready(b'I')].concat(), "the client is told at once");
    bench.say(&[data[10..12].to_vec()]);
    assert_eq!(bench.sent(), data[10..12], "the rest of the frame is still taken");
    bench.say(&[data[12..].to_vec(), query("SELECT 1")]);
    assert_eq!(bench.sent(), [&data[12..], &sync(), &bogus(1).0, &sync()].concat());
    bench.server(&[ready(b'I'), ready(b'I'), bogus(1).1, ready(b'I')]);
    assert_eq!(bench.told(), ready(b'I'), "of the client's Sync");
    assert_eq!(bench.sent(), query("SELECT 1"));
}

#[test]
fn the_notice_of_a_hold_waits_for_the_end_of_the_backends_frame() {
    let mut bench = Bench::ready();
    let notification = build(b'A', &[&[0; 4], b"channel\0payload\0"]);
    let mut out = Outbox::default();
    assert_eq!(bench.machine.handle_backend(&notification[..12], &mut out), 12);
    bench.say(&[query("HOLD me")]);
    bench.draft();
    let mut out = Outbox::default();
    bench.machine.handle_opened(&crate::hold::HoldId(String::new()));
    bench.machine.handle_asked(&Report::notice("held"), &mut out);
    assert_eq!(out.to_client(&[]).count(), 0);
    bench.server(&[notification[12..].to_vec()]);
    assert_eq!(bench.told(), [&notification[12..], &Report::notice("held").to_bytes()].concat());
}

#[test]
fn a_malformed_flush_within_copy_is_not_waited_for() {
    let mut bench = Bench::ready();
    bench.say(&[query("COPY t FROM STDIN")]).server(&[build(b'G', &[b"\0\0\0"])]);
    bench.sent();
    bench.say(&[build(b'H', &[b"x"])]);
    assert_eq!(bench.sent(), b"");
    bench.server(&[error("bad data"), ready(b'I')]);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_sync_swallowed_by_copy_is_not_waited_for() {
    let mut bench = Bench::ready();
    bench.say(&[parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()]);
    bench.server(&[tag(b'1'), tag(b'2'), build(b'G', &[b"\0\0\0"])]);
    bench.say(&[build(b'd', &[b"1\n"]), tag(b'c'), sync()]).server(&[complete()]).server(&[ready(b'I')]);
    assert!(bench.machine.is_idle());
    assert!(bench.machine.poll_action().is_none());
}

#[test]
fn malformed_bodies_reach_the_server_only_as_equally_malformed_ones() {
    for (frame, twin) in [
        (build(b'Q', &[b"SELECT 1\0DROP\0"]), build(b'Q', &[b"\0x"])),
        (build(b'Q', &[b"DROP"]), build(b'Q', &[b"x"])),
        (build(b'P', &[b"s\0HOLD\0\0\0zz"]), build(b'P', &[b"\0\0\0\0x"])),
        (build(b'E', &[b""]), build(b'E', &[b"x"])),
        (build(b'S', &[b"x"]), build(b'S', &[b"x"])),
    ] {
        let mut bench = Bench::ready();
        bench.say(std::slice::from_ref(&frame));
        assert_eq!(bench.sent(), twin, "{frame:?}");
    }
}

#[test]
fn impossible_lengths_and_types_end_the_session_with_nothing_more_sent() {
    for (bytes, sent) in
        [(b"Q\0\0\0\x02".to_vec(), b"Q\0\0\0\x02".to_vec()), (b"!\0\0\0\x04".to_vec(), b"!\0\0\0\x04".to_vec())]
    {
        let mut bench = Bench::ready();
        bench.say(&[bytes, query("DROP")]);
        assert_eq!(bench.sent(), sent);
        bench.say(&[query("SELECT 1")]);
        assert_eq!(bench.sent(), b"");
    }
}

#[test]
fn function_calls_are_refused_unless_allowed() {
    let call = build(b'F', &[b"\0\0\0\x01\0\0\0\0\0\0"]);
    let mut bench = Bench::ready();
    bench.say(std::slice::from_ref(&call));
    assert_eq!(bench.sent(), bogus_query(1).0);
    bench.server(&[bogus_query(1).1, ready(b'I')]);
    let told = String::from_utf8_lossy(&bench.told()).into_owned();
    assert!(told.contains("0A000"), "{told}");
    let mut open = Bench::with(|settings| settings.allow_function_call = true);
    open.say(std::slice::from_ref(&call));
    assert_eq!(open.sent(), call);
}

#[test]
fn holds_in_transactions_are_refused_when_so_configured() {
    let mut bench = Bench::with(|settings| settings.reject_holds_in_transaction = true);
    bench.say(&[query("BEGIN")]).server(&[complete(), ready(b'T')]);
    bench.sent();
    bench.say(&[query("HOLD me")]);
    assert_eq!(bench.sent(), bogus_query(1).0);
    bench.server(&[bogus_query(1).1, ready(b'E')]);
    bench.say(&[query("ROLLBACK")]).server(&[complete(), ready(b'I')]);
    bench.say(&[query("HOLD me")]);
    bench.opened();
}

#[test]
fn overlong_statements_fail_without_being_kept() {
    let mut bench = Bench::with(|settings| settings.max_statement_bytes = 64);
    let long = query(&"x".repeat(100));
    bench.say(&[long[..20].to_vec()]);
    assert_eq!(bench.sent(), bogus_query(1).0);
    assert!(bench.inbox.is_empty(), "its bytes are dropped as they come");
    bench.say(&[long[20..].to_vec(), query("SELECT 1")]);
    assert_eq!(bench.sent(), query("SELECT 1"));
}

#[test]
fn a_large_text_is_analysed_elsewhere_and_judged_when_it_comes_back() {
    let mut bench = Bench::ready();
    bench.say(&[query("LARGE"), query("SELECT 1")]);
    let Some(Action::Analyse(text)) = bench.machine.poll_action() else { panic!("not sent away") };
    assert_eq!(text, b"LARGE");
    assert_eq!(bench.sent(), b"");
    bench.analysed(analyse("HOLD"));
    bench.opened();
}

#[test]
fn an_analysis_whose_text_was_skipped_meanwhile_judges_no_other_text() {
    for skipped in [parse("l", "LARGE"), query("LARGE")] {
        let mut bench = Bench::ready();
        bench.say(&[parse("", "FAIL"), bind("", ""), execute(""), skipped, sync(), query("HOLD me")]);
        assert!(matches!(bench.machine.poll_action(), Some(Action::Analyse(_))));
        bench.server(&[tag(b'1'), tag(b'2'), error("division by zero")]);
        bench.sent();
        bench.analysed(analyse("SELECT"));
        assert_eq!(bench.sent(), sync());
        bench.server(&[ready(b'I')]);
        assert_eq!(&*bench.opened().text, b"HOLD me");
    }
}

#[test]
fn authentication_waits_its_turn_and_early_queries_wait_for_the_end() {
    let mut bench = Bench::authenticating(|_| {});
    let password = build(b'p', &[b"secret\0"]);
    bench.say(&[password.clone(), query("SELECT 1")]);
    assert_eq!(bench.sent(), b"");
    bench.server(&[build(b'R', &[&[0, 0, 0, 3]])]);
    assert_eq!(bench.sent(), password);
    bench.server(&[ok()]);
    assert_eq!(bench.sent(), b"");
    bench.server(&[ready(b'I')]);
    assert_eq!(bench.sent(), query("SELECT 1"));
}

#[test]
fn a_query_in_place_of_a_password_is_left_to_the_server_to_refuse() {
    let mut bench = Bench::authenticating(|_| {});
    bench.server(&[build(b'R', &[&[0, 0, 0, 3]])]);
    bench.say(&[query("DROP TABLE t")]);
    assert_eq!(bench.sent(), query("DROP TABLE t")[..5]);
}

#[test]
fn channel_binding_over_two_tls_legs_is_named() {
    let offer = build(b'R', &[&[0, 0, 0, 10], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"]);
    let answer = |mechanism: &[u8], first: &[u8]| {
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        build(b'p', &[mechanism, b"\0", &length, first])
    };
    for (tls, frame, closes) in [
        (true, answer(b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=x"), true),
        (true, answer(b"SCRAM-SHA-256", b"y,,n=,r=x"), true),
        (true, answer(b"SCRAM-SHA-256", b"n,,n=,r=x"), false),
        (false, answer(b"SCRAM-SHA-256", b"n,,n=,r=x"), false),
    ] {
        let mut bench = Bench::authenticating(|settings| settings.client_tls = tls);
        bench.server(std::slice::from_ref(&offer));
        bench.say(std::slice::from_ref(&frame));
        let closed = matches!(bench.machine.poll_action(), Some(Action::Close(_)));
        assert_eq!(closed, closes);
        assert_eq!(bench.sent() == frame, !closes);
    }
}

#[test]
fn an_unsafe_client_encoding_closes_the_session() {
    let mut bench = Bench::ready();
    bench.server(&[build(b'S', &[b"client_encoding\0SJIS\0"])]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::Close(_))));
    bench.say(&[query("SELECT 1")]);
    assert_eq!(bench.sent(), b"");
}

#[test]
fn what_is_told_of_passes_as_it_stands_and_a_prepared_one_is_told_of_each_time_it_is_bound() {
    let mut bench = Bench::ready();
    let texts = |bench: &mut Bench| {
        let mut texts = Vec::new();
        while let Some(action) = bench.machine.poll_action() {
            if let Action::Notice(draft) = action {
                texts.push(String::from_utf8_lossy(&draft.text).into_owned());
            }
        }
        texts
    };
    bench.say(&[query("TELL 1")]).server(&[complete(), ready(b'I')]);
    assert_eq!(texts(&mut bench), ["TELL 1"]);
    assert_eq!(bench.sent(), query("TELL 1"));
    bench.say(&[query("SELECT 1")]).server(&[complete(), ready(b'I')]);
    assert_eq!(texts(&mut bench), [""; 0]);
    bench.say(&[parse("s", "TELL 2"), tag(b'S')]).server(&[tag(b'1'), ready(b'I')]);
    assert_eq!(texts(&mut bench), [""; 0], "parsing runs nothing");
    for _ in 0..2 {
        bench.sent();
        bench.say(&[bind("", "s"), tag(b'S')]).server(&[tag(b'2'), ready(b'I')]);
        assert_eq!(texts(&mut bench), ["TELL 2"]);
        assert_eq!(bench.sent(), [bind("", "s"), tag(b'S')].concat());
    }
}
