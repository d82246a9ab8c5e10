//! The machine between a random client and a small model of the server, in random order of events.
//!
//! Checked for every run: nothing dangerous runs more often than it was approved; nothing past a guard's ceiling is committed; the
//! session's own time limit is what it was; nothing gets stuck; and if everything is approved, the client sees exactly what it would
//! have seen without the gate.

#![allow(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm, clippy::string_slice)]

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::tests::{
    Bench, analyse, bind, close, complete, describe, error, execute, flush, parse, query, ready, refusal, row, sync,
    tag,
};
use super::{Action, Ending, Outbox, Report};
use crate::wire::frame::{self, Peek, build};
use crate::wire::frontend::{self, Target};

/// As much of the server as matters here: names, portals, skipping, transaction status, and that answers are kept back until
/// a flush.
struct Server {
    input: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    kept: Vec<u8>,
    output: Vec<u8>,
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
    /// Portals bound since which nothing else has come.
    fresh: Option<String>,
    /// The gate has closed one, so that its name is free again.
    closed: bool,
    /// Held texts that a portal ran for the first time after something else.
    late: Vec<String>,
    skip: bool,
    status: Option<u8>,
    /// Reading COPY data, started by a message of the extended protocol or by a Query.
    copy: Option<bool>,
    /// The server ended the session.
    dead: bool,
    /// Dangerous texts that ran, in order.
    ran: Vec<String>,
    /// Statements past a ceiling that the open transaction has run, and those that were committed.
    beyond: usize,
    committed: usize,
    /// `lock_timeout` of the session as it was before the open transaction, as it is, and as SET LOCAL has it.
    before: u32,
    lock: u32,
    local: Option<u32>,
}

/// The session's own `lock_timeout`, in milliseconds.
const LOCK: u32 = 7_000;

impl Default for Server {
    fn default() -> Self {
        Self {
            input: VecDeque::new(),
            partial: Vec::new(),
            kept: Vec::new(),
            output: Vec::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            fresh: None,
            closed: false,
            late: Vec::new(),
            skip: false,
            status: None,
            copy: None,
            dead: false,
            ran: Vec::new(),
            beyond: 0,
            committed: 0,
            before: LOCK,
            lock: LOCK,
            local: None,
        }
    }
}

impl Server {
    /// The row of a SHOW.
    fn shown(&self, text: &str) -> Vec<u8> {
        match text {
            "SHOW lock_timeout" => row(&format!("{}ms", self.local.unwrap_or(self.lock))),
            _ if text.starts_with("SHOW") => row("x"),
            _ => Vec::new(),
        }
    }

    fn commit(&mut self) {
        self.committed += std::mem::take(&mut self.beyond);
        self.before = self.lock;
        self.local = None;
    }

    fn roll_back(&mut self) {
        self.beyond = 0;
        self.lock = self.before;
        self.local = None;
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Peek::Frame { total, .. } = frame::peek_frontend(&self.partial) {
            if self.partial.len() < total {
                break;
            }
            self.input.push_back(self.partial.drain(..total).collect());
        }
    }

    fn status(&self) -> u8 {
        self.status.unwrap_or(b'I')
    }

    fn flush(&mut self) {
        self.output.append(&mut self.kept);
    }

    fn fail(&mut self, message: &str, extended: bool) {
        self.kept.extend(error(message));
        self.flush();
        self.skip = extended;
        self.roll_back();
        if self.status() == b'T' {
            self.status = Some(b'E');
        }
        self.portals.clear();
    }

    fn run(&mut self, text: &str) -> Result<(), String> {
        self.run_nested(text, 0)
    }

    fn run_nested(&mut self, text: &str, depth: usize) -> Result<(), String> {
        if depth > 10 {
            return Err("stack depth limit exceeded".to_owned());
        }
        let words: Vec<&str> = text.splitn(3, ' ').collect();
        if self.status() == b'E' && !matches!(words[0], "COMMIT" | "ROLLBACK") {
            return Err("current transaction is aborted".to_owned());
        }
        match words.as_slice() {
            ["PREPARE", name, body] => {
                if self.statements.contains_key(*name) {
                    return Err(format!("{name} already exists"));
                }
                self.statements.insert((*name).to_owned(), (*body).to_owned());
            }
            ["EXECUTE", name] => {
                let body = self.statements.get(*name).cloned().ok_or_else(|| format!("{name} does not exist"))?;
                return self.run_nested(&body, depth + 1);
            }
            ["FETCH", portal] => return self.fetch(portal),
            ["COPY"] => return Err(COPY.to_owned()),
            ["DEALLOCATE", name] => {
                self.statements.remove(*name).ok_or_else(|| format!("{name} does not exist"))?;
            }
            ["BEGIN"] => self.status = Some(b'T'),
            ["COMMIT" | "ROLLBACK"] => {
                if *text == *"COMMIT" {
                    self.commit();
                } else {
                    self.roll_back();
                }
                self.status = Some(b'I');
                self.portals.clear();
            }
            ["SET", "LOCAL", "lock_timeout TO DEFAULT"] => self.local = Some(0),
            ["SET", "LOCAL", value] => self.local = Some(number(value)),
            ["SET", _, value] => self.lock = number(value),
            ["RESET", _] => self.lock = 0,
            [first, ..] if first.starts_with("HOLD") => {
                self.ran.push(text.to_owned());
                // By way of another statement it has no guard here.
                self.beyond += usize::from(matches!(*first, "HOLDX" | "HOLDMX") && depth == 0);
            }
            [first, ..] if first.starts_with('"') || *first == "FAIL" => return Err(format!("failed: {text}")),
            _ => {}
        }
        Ok(())
    }

    /// FETCH runs a portal bound to an EXECUTE of something that returns rows, if it has not run yet.
    fn fetch(&mut self, portal: &str) -> Result<(), String> {
        let Some(mut text) = self.portals.get(portal).cloned() else { return Err("no such cursor".to_owned()) };
        if text.starts_with("EXECUTE") {
            self.portals.insert(portal.to_owned(), "FAIL done".to_owned());
        }
        for _ in 0..10 {
            let Some(name) = text.strip_prefix("EXECUTE ") else { break };
            text = self.statements.get(name).cloned().ok_or("gone")?;
        }
        match text.as_str() {
            "HOLD" => self.ran.push(text),
            "SELECT" | "LARGE" => {}
            _ => return Err("cannot be fetched".to_owned()),
        }
        Ok(())
    }

    /// Handles one message. `false`: there was none.
    fn step(&mut self) -> bool {
        if self.dead {
            return false;
        }
        let Some(frame) = self.input.pop_front() else { return false };
        let body = &frame[5..];
        if matches!(frame[0], b'Q' | b'P' | b'B') {
            self.fresh = None;
        }
        if let Some(extended) = self.copy {
            self.copying(extended, frame[0], body);
            return true;
        }
        match frame[0] {
            b'd' | b'c' | b'f' => {}
            b'S' => {
                self.skip = false;
                if !body.is_empty() {
                    self.fail("invalid message format", false);
                }
                self.end_query();
            }
            _ if self.skip => {}
            b'H' if body.is_empty() => self.flush(),
            b'H' => self.fail("invalid message format", true),
            b'Q' => {
                let text = String::from_utf8(frontend::query(body).unwrap().to_vec()).unwrap();
                self.statements.remove("");
                let parsed = if is_syntax_error(&text) { Err("syntax error".to_owned()) } else { Ok(()) };
                match parsed.and_then(|()| self.run(&text)) {
                    Ok(()) => self.kept.extend(completion(&text)),
                    Err(message) if message == COPY => return self.start_copy(false),
                    Err(message) => self.fail(&message, false),
                }
                self.end_query();
            }
            other => {
                let result = self.extended(other, body);
                match result {
                    Ok(()) => {}
                    Err(message) if message == COPY => return self.start_copy(true),
                    Err(message) => self.fail(&message, true),
                }
            }
        }
        true
    }

    fn end_query(&mut self) {
        if self.status() == b'I' {
            self.commit();
            self.portals.clear();
        }
        let status = self.status();
        self.kept.extend(ready(status));
        self.flush();
    }

    fn start_copy(&mut self, extended: bool) -> bool {
        self.copy = Some(extended);
        self.kept.extend(build(b'G', &[b"\0\0\0"]));
        self.flush();
        true
    }

    /// `CopyGetData`: Sync and Flush are ignored, anything that is not of a COPY ends the session.
    fn copying(&mut self, extended: bool, kind: u8, body: &[u8]) {
        let result = match kind {
            b'd' if body == b"bad" => Err("bad data"),
            b'f' => Err("COPY failed"),
            b'd' | b'S' | b'H' => return,
            b'c' => Ok(()),
            _ => {
                self.kept.extend(error("unexpected message type"));
                self.flush();
                self.dead = true;
                return;
            }
        };
        self.copy = None;
        match result {
            Ok(()) => self.kept.extend(complete()),
            Err(message) => self.fail(message, extended),
        }
        if !extended {
            self.end_query();
        }
    }

    fn extended(&mut self, kind: u8, body: &[u8]) -> Result<(), String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match kind {
            b'P' => {
                let parse = frontend::Parse::read(body).unwrap();
                let (name, sql) = (text(parse.name), text(parse.text));
                if name.is_empty() {
                    self.statements.remove("");
                }
                if is_syntax_error(&sql) {
                    return Err("syntax error".to_owned());
                }
                if self.statements.contains_key(&name) {
                    return Err(format!("{name} already exists"));
                }
                self.statements.insert(name, sql);
                self.kept.extend(tag(b'1'));
            }
            b'B' => {
                let bind = frontend::Bind::read(body).unwrap();
                let (portal, name) = (text(bind.portal), text(bind.statement));
                let sql = self.statements.get(&name).cloned().ok_or_else(|| format!("{name} does not exist"))?;
                if !portal.is_empty() && self.portals.contains_key(&portal) {
                    return Err(format!("portal {portal} already exists"));
                }
                self.fresh = Some(portal.clone());
                self.portals.insert(portal, sql);
                self.kept.extend(tag(b'2'));
            }
            b'D' => {
                let Ok(Target::Statement(name)) = frontend::target(body) else { panic!("only statements") };
                let name = text(name);
                if !self.statements.contains_key(&name) {
                    return Err(format!("{name} does not exist"));
                }
                self.kept.extend([build(b't', &[b"\0\0"]), tag(b'n')].concat());
            }
            b'C' => {
                match frontend::target(body) {
                    Ok(Target::Statement(name)) => self.statements.remove(&text(name)),
                    Ok(Target::Portal(name)) => {
                        // What the gate's own commands are named is closed as well.
                        let name = text(name);
                        self.closed |= !name.starts_with("querygate ");
                        self.portals.remove(&name)
                    }
                    Err(how) => panic!("{how:?}"),
                };
                self.kept.extend(tag(b'3'));
            }
            b'E' => {
                let portal = text(frontend::execute(body).unwrap());
                let sql =
                    self.portals.get(&portal).cloned().ok_or_else(|| format!("portal \"{portal}\" does not exist"))?;
                let is_fresh = self.fresh.as_ref() == Some(&portal);
                if !is_fresh {
                    self.fresh = None;
                }
                // A portal that is done runs nothing more (`PortalRun`, "portal cannot be run").
                if let Some(done) = self.portals.get_mut(&portal) {
                    "FAIL done".clone_into(done);
                }
                self.run(&sql)?;
                // In an aborted transaction it is not held, and does not run either.
                if sql.starts_with("HOLD") && !is_fresh {
                    self.late.push(sql.clone());
                }
                self.kept.extend(self.shown(&sql));
                self.kept.extend(completion(&sql));
            }
            other => panic!("unexpected message {other}"),
        }
        Ok(())
    }
}

/// How [`Server::run`] says that a COPY begins.
const COPY: &str = "(copy)";

/// The command tag; see [`super::tests`] for what the guards say.
fn completion(text: &str) -> Vec<u8> {
    match text {
        "HOLDG" | "HOLDM" => build(b'C', &[b"DELETE 5\0"]),
        "HOLDX" | "HOLDMX" => build(b'C', &[b"DELETE 6\0"]),
        _ => complete(),
    }
}

/// The number a SET ends with.
fn number(text: &str) -> u32 {
    text.rsplit(' ').next().unwrap().parse().unwrap()
}

fn is_syntax_error(text: &str) -> bool {
    matches!(text, "ERR" | "HOLDERR")
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("a"), Just("b")]
}

fn sql_name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b")]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("SELECT".to_owned()),
        3 => Just("HOLD".to_owned()),
        1 => Just("HOLDERR".to_owned()),
        2 => Just("HOLDG".to_owned()),
        1 => Just("HOLDX".to_owned()),
        1 => Just("HOLDA".to_owned()),
        2 => Just("HOLDM".to_owned()),
        1 => Just("HOLDMX".to_owned()),
        1 => Just("FAIL".to_owned()),
        1 => Just("LARGE".to_owned()),
        1 => Just("ERR".to_owned()),
        1 => Just("BEGIN".to_owned()),
        2 => Just("COPY".to_owned()),
        1 => Just("COMMIT".to_owned()),
        2 => sql_name().prop_map(|name| format!("EXECUTE {name}")),
        1 => sql_name().prop_map(|name| format!("DEALLOCATE {name}")),
        1 => sql_name().prop_map(|name| format!("FETCH {name}")),
        1 => sql_name().prop_map(|name| format!("PREPARE {name} SELECT")),
        1 => sql_name().prop_map(|name| format!("PREPARE {name} HOLD")),
    ]
}

/// One write of the client's.
#[derive(Clone)]
struct Said(Vec<u8>);

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

fn message() -> impl Strategy<Value = Said> {
    frames().prop_map(Said)
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (name(), text()).prop_map(|(name, text)| parse(name, &text)),
        3 => (name(), name()).prop_map(|(portal, name)| bind(portal, name)),
        4 => name().prop_map(execute),
        1 => name().prop_map(close),
        1 => name().prop_map(describe),
        3 => Just(sync()),
        1 => Just(flush()),
        2 => text().prop_map(|text| query(&text)),
        2 => Just(tag(b'c')),
        1 => prop_oneof![Just(build(b'd', &[b"good"])), Just(build(b'd', &[b"bad"])), Just(build(b'f', &[b"\0"]))],
        1 => Just([query("COPY"), build(b'd', &[b"good"]), tag(b'c')].concat()),
        1 => Just([sync(), build(b'd', &[b"bad"]), build(b'd', &[&query("HOLD")])].concat()),
        1 => Just(build(b'S', &[b"x"])),
        1 => Just(malformed_flush()),
        1 => (name(), text()).prop_map(|(name, text)| [parse(name, &text), bind("", name), execute(""), sync()].concat()),
    ]
}

fn malformed_flush() -> Vec<u8> {
    build(b'H', &[b"x"])
}

/// The gate, the server behind it, and what was approved.
struct World {
    bench: Bench,
    server: Server,
    seen: Vec<u8>,
    approved: usize,
    opened: bool,
}

impl World {
    fn carry(&mut self) {
        let sent = self.bench.sent();
        self.server.receive(&sent);
        self.seen.extend(self.bench.told());
    }

    /// Lets the server handle one message and the gate relay what comes of it.
    fn serve(&mut self) -> bool {
        let worked = self.server.step();
        let output = std::mem::take(&mut self.server.output);
        if !output.is_empty() {
            self.bench.server(&[output]);
        }
        self.carry();
        worked
    }

    /// Decides the hold, if there is one.
    fn decide(&mut self, approve: bool) -> bool {
        let mut analysed = false;
        while let Some(action) = self.bench.machine.poll_action() {
            match action {
                Action::OpenHold(_) => {
                    let mut out = Outbox::default();
                    self.bench.machine.handle_opened(&crate::hold::HoldId("qg-0000000000".to_owned()));
                    self.bench.machine.handle_asked(&Report::notice("held"), &mut out);
                    self.opened = true;
                }
                Action::Examine(_) => {
                    // What is small passes.
                    self.approved += usize::from(approve);
                    self.bench.measured(approve.then_some(1));
                    self.carry();
                    analysed = true;
                }
                Action::Analyse(text) => {
                    self.bench.analysed(analyse(&String::from_utf8_lossy(&text)));
                    self.carry();
                    analysed = true;
                }
                _ => {}
            }
        }
        if !std::mem::take(&mut self.opened) {
            return analysed;
        }
        self.approved += usize::from(approve);
        self.bench.end(if approve { Ending::Release } else { Ending::Refuse(refusal()) });
        self.carry();
        true
    }
}

/// The client's next bytes: what is left of a write, or all but the last few.
fn piece(waiting: &mut VecDeque<Vec<u8>>, choice: u8) -> Option<Vec<u8>> {
    let mut piece = waiting.pop_front()?;
    let missing = usize::from(choice >> 5) + 1;
    if choice & 16 != 0 && missing < piece.len() {
        waiting.push_front(piece.split_off(piece.len() - missing));
    }
    Some(piece)
}

/// Whether the server is asked to parse a text first, and the session for its role.
type Asks = (bool, bool);

fn play(messages: &[Said], schedule: &[u8], approve_all: bool, asks: Asks) -> (World, usize) {
    let bench = Bench::with(|settings| (settings.parse_first, settings.ask_session) = asks);
    let mut world = World { bench, server: Server::default(), seen: Vec::new(), approved: 0, opened: false };
    let mut waiting: VecDeque<Vec<u8>> = messages.iter().map(|said| said.0.clone()).collect();
    let mut refused = 0;
    for (turn, choice) in schedule.iter().cycle().enumerate() {
        assert!(turn < 5_000, "it goes round for ever");
        let approve = approve_all || choice & 8 == 0;
        let moved = match choice % 3 {
            0 if !waiting.is_empty() => {
                let piece = piece(&mut waiting, *choice).unwrap();
                world.bench.say(&[piece]);
                world.carry();
                true
            }
            1 => world.serve(),
            2 => {
                let decided = world.decide(approve);
                refused += usize::from(decided && !approve);
                decided
            }
            _ => false,
        };
        // Once the schedule has been played, whatever can move moves until nothing can.
        if turn >= schedule.len() && !moved {
            if let Some(piece) = piece(&mut waiting, *choice) {
                world.bench.say(&[piece]);
                world.carry();
            } else if !world.serve() {
                if !world.decide(approve) {
                    break;
                }
                refused += usize::from(!approve);
            }
        }
    }
    (world, refused)
}

fn refused_redefinition(seen: &[u8]) -> bool {
    has(seen, b"redefined") || has(seen, b"may stand for several") || has(seen, b"something else was sent first")
}

/// A released portal that something else came before: refused by the gate, also where the server had skipped its Bind and so the Close.
fn refused_portal(seen: &[u8]) -> bool {
    has(seen, b"approved to run at once")
}

/// A guard could not be applied, or its portal was not executed at once.
fn refused_by_guard(seen: &[u8]) -> bool {
    has(seen, b"guard")
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What is set for a statement is gone with it.
fn keeps_its_limit(server: &Server) -> bool {
    server.status() == b'E' || server.local.unwrap_or(server.lock) == LOCK && server.before == LOCK
}

fn direct(messages: &[Said]) -> Server {
    let mut server = Server::default();
    for message in messages {
        server.receive(&message.0);
    }
    while server.step() {}
    server
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, max_shrink_iters: 20_000, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_dangerous_runs_unapproved_and_nothing_gets_stuck(
        mut messages in prop::collection::vec(message(), 1..16),
        schedule in prop::collection::vec(any::<u8>(), 8..64),
        asks in any::<Asks>(),
    ) {
        messages.push(Said([tag(b'c'), sync()].concat()));
        let (world, _) = play(&messages, &schedule, false, asks);
        // The session's end takes what was set for it along.
        if world.server.dead || world.bench.machine.phase == super::Phase::Refusing {
            prop_assert!(world.server.ran.len() <= world.approved);
            prop_assert_eq!(world.server.committed, 0);
            return Ok(());
        }
        prop_assert_eq!(world.server.committed, 0, "past the ceiling");
        prop_assert!(keeps_its_limit(&world.server), "{} {:?}", world.server.lock, world.server.local);
        prop_assert!(world.server.ran.len() <= world.approved, "ran {:?}, approved {}", world.server.ran, world.approved);
        prop_assert!(world.server.late.is_empty(), "ran after something else: {:?}", world.server.late);
        prop_assert!(!world.bench.machine.is_waiting(), "stuck");
        prop_assert!(world.bench.inbox.is_empty());
        // The last Sync was answered, so the client is not left waiting either.
        prop_assert_eq!(&world.seen[world.seen.len() - 6..], &ready(world.server.status())[..]);
    }

    #[test]
    fn with_every_hold_approved_the_client_sees_what_it_would_see_without_the_gate(
        mut messages in prop::collection::vec(message(), 1..16),
        schedule in prop::collection::vec(any::<u8>(), 8..64),
        asks in any::<Asks>(),
    ) {
        // A malformed Flush sent into a COPY that has failed by then is dropped, where the server would refuse it.
        let beyond = |said: &Said| has(&said.0, b"HOLDX") || has(&said.0, b"HOLDMX");
        messages.retain(|said| said.0 != malformed_flush() && !beyond(said));
        messages.push(Said([tag(b'c'), sync()].concat()));
        let (world, refused) = play(&messages, &schedule, true, asks);
        // A malformed message while a guard has something set for the session ends that.
        let has_session_guard = messages.iter().any(|said| has(&said.0, b"HOLDA"));
        prop_assume!(!(has_session_guard && world.bench.machine.phase == super::Phase::Refusing));
        prop_assert_eq!(refused, 0);
        // A portal that executes a name which is gone by then is refused by the gate before the server does it; and one that was released
        // and not executed right away is closed.
        prop_assume!(!refused_redefinition(&world.seen) && !refused_by_guard(&world.seen));
        prop_assume!(!refused_portal(&world.seen) && !world.server.closed);
        let direct = direct(&messages);
        prop_assert_eq!(&world.server.ran, &direct.ran);
        prop_assert_eq!(world.seen, direct.output);
    }
}

#[test]
fn what_a_guard_sets_for_the_session_does_not_outlive_a_malformed_sync() {
    let messages = [
        parse("a", "HOLDA"),
        tag(b'c'),
        tag(b'c'),
        tag(b'H'),
        bind("", "a"),
        query("SELECT"),
        build(b'S', &[b"x"]),
        [tag(b'c'), sync()].concat(),
    ];
    let messages = messages.map(Said);
    let schedule = [0, 0, 93, 3, 174, 192, 64, 16, 13, 1, 62];
    let (world, _) = play(&messages, &schedule, false, (false, false));
    let is_over = world.server.dead || world.bench.machine.phase == super::Phase::Refusing;
    assert!(is_over || keeps_its_limit(&world.server), "{} {:?}", world.server.lock, world.server.local);
}

#[test]
fn what_a_guard_sets_for_the_session_is_set_back_where_a_query_comes_instead_of_execute() {
    let messages = [
        [parse("a", "HOLDA"), bind("", "a"), execute(""), sync()].concat(),
        bind("", "a"),
        query("SELECT"),
        parse("", "SELECT"),
        parse("", "SELECT"),
        parse("", "SELECT"),
        query("HOLD"),
        tag(b'c'),
        tag(b'c'),
        execute(""),
        parse("", "SELECT"),
        [tag(b'c'), sync()].concat(),
    ];
    let messages = messages.map(Said);
    let schedule = [0, 80, 25, 80, 1, 8, 0, 1, 1, 57, 199, 18, 64, 0, 9, 130, 112, 16, 34, 115, 1, 134, 89, 140, 53];
    let (world, _) = play(&messages, &schedule, false, (false, false));
    let is_over = world.server.dead || world.bench.machine.phase == super::Phase::Refusing;
    assert!(is_over || keeps_its_limit(&world.server), "{} {:?}", world.server.lock, world.server.local);
}
