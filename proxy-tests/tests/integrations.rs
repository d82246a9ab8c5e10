//! Programs outside: told of events by webhooks, and handing in people's decisions. The real gate, a real Postgres, and a
//! program made here from what the documentation says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use hmac::{Hmac, KeyInit as _, Mac as _};
use proxy_tests::DEADLINE;
use proxy_tests::api::{Answer, Api};
use proxy_tests::gate::{ANN, Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::Raw;
use querygate::clock;
use serde_json::{Value, json};
use sha2::Sha256;

const TOKEN: &str = "token-of-the-pager-0123456789";
const SECRET: &str = "secret-of-the-pager-0123456789";
const OUTGOING: &str = "secret-of-the-webhook-0123456789";

fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v1:{timestamp}:{body}").as_bytes());
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// The Unix time so many seconds from now.
fn seconds(from_now: i64) -> String {
    (clock::wall().as_second() + from_now).to_string()
}

/// A program that is told of events and says 200 to all of them.
fn receiver() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (events, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let events = events.clone();
            // A connection may be kept for the next event.
            std::thread::spawn(move || {
                while let Some(event) = take(stream.as_ref().unwrap()) {
                    if events.send(event).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, told)
}

/// Reads one delivery, checks its signature and answers it.
fn take(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let mut body = vec![0; header("content-length")?.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let expected = sign(OUTGOING, &header("x-querygate-timestamp")?, &body);
    assert_eq!(header("x-querygate-signature"), Some(expected));
    (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(header("x-querygate-event").as_deref(), event["event"]["event"].as_str());
    Some(event)
}

/// Three rows behind a gate that tells a program of events and takes decisions of two people from it: ann, and rita whose own the
/// requests are.
fn setup(toml: &str) -> (Database, Gate, Receiver<Value>) {
    let (address, told) = receiver();
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let toml = format!(
        "[[people]]\nname = \"rita\"\nemail = \"rita@example.com\"\ngroups = [\"approvers\"]\ndatabase_users = [\"postgres\"]\n\
         [[webhook]]\nname = \"pager\"\nurl = \"http://{address}/events\"\nsecret = \"{OUTGOING}\"\nevents = [\"held\", \"decided\"]\n\
         [[integration]]\nname = \"pager\"\ntoken = \"{TOKEN}\"\nsecret = \"{SECRET}\"\npeople = [\"ann\", \"rita\"]\n{toml}"
    );
    let gate = Gate::builder().toml(&toml).start(database.target());
    (database, gate, told)
}

/// Hands something in with these headers.
fn hand_in(gate: &Gate, token: &str, timestamp: &str, signature: &str, body: &str) -> Answer {
    Api::new(gate.admin, token).send(&format!(
        "POST /v1/decisions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\nX-Querygate-Timestamp: {timestamp}\r\n\
         X-Querygate-Signature: {signature}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

fn hand_in_well(gate: &Gate, body: &Value) -> Answer {
    let (timestamp, body) = (seconds(0), body.to_string());
    hand_in(gate, TOKEN, &timestamp, &sign(SECRET, &timestamp, &body), &body)
}

/// The next event of a kind.
fn next(told: &Receiver<Value>, kind: &str) -> Value {
    loop {
        let event = told.recv_timeout(DEADLINE).expect("an event")["event"].take();
        if event["event"] == kind {
            return event;
        }
    }
}

/// A decision about the request that an event told of.
fn decision(held: &Value, person: &str, decision: &str) -> Value {
    let request = &held["request"];
    json!({
        "request": request["id"], "statement_sha256": request["statement"]["sha256"], "person": person, "decision": decision,
    })
}

#[test]
fn a_decision_comes_back_from_the_program_that_was_told_and_the_record_says_through_which() {
    let (database, gate, told) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let held = next(&told, "held");
    assert_eq!(held["request"]["statement"]["text"], "DELETE FROM t");
    let answer = hand_in_well(&gate, &decision(&held, "ann", "approve"));
    assert_eq!((answer.status, &answer.json["decided"]), (200, &true.into()), "{}", answer.text);
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
    assert_eq!(next(&told, "decided")["decision"]["by"], "ann through integration pager");
    let search = |by: &str| {
        let mut command = std::process::Command::new(binary());
        let output = command.args(["audit", "search", "--by", by, "--config"]).arg(&gate.config).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let found = search("ann");
    assert!(found.contains("ann approves in integration pager"), "{found}");
    assert!(found.contains("approved by ann through integration pager"), "{found}");

    raw.send(m::query("DELETE FROM t"));
    let mut no = decision(&next(&told, "held"), "ann", "reject");
    no["reason"] = "the pager says no".into();
    assert_eq!(hand_in_well(&gate, &no).status, 200);
    let refused = raw.until(b'Z').into_iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(refused.sqlstate(), "42501");
    assert!(format!("{refused:?}").contains("the pager says no"), "{refused:?}");
}

#[test]
fn what_is_forged_stale_replayed_or_about_something_else_changes_nothing() {
    let (database, gate, told) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t WHERE x = 1"));
    let first = next(&told, "held");
    let mut other = Raw::login(&gate.target());
    other.send(m::query("DELETE FROM t WHERE x = 2"));
    let second = next(&told, "held");
    let yes = decision(&first, "ann", "approve");
    let body = yes.to_string();
    let now = seconds(0);
    let good = sign(SECRET, &now, &body);
    let is = |answer: &Answer, status: u16, error: &str| {
        assert_eq!((answer.status, &answer.json["error"]), (status, &error.into()), "{}", answer.text);
        assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
    };
    // Another secret (that of outgoing events), another time, another body, no signature, another token.
    for (token, timestamp, signature, body, error) in [
        (TOKEN, &now, sign(OUTGOING, &now, &body), &body, "bad-signature"),
        (TOKEN, &seconds(-1), good.clone(), &body, "bad-signature"),
        (TOKEN, &now, good.clone(), &body.replace("ann", "rita"), "bad-signature"),
        (TOKEN, &now, String::new(), &body, "bad-signature"),
        (ANN, &now, good.clone(), &body, "unauthenticated"),
        ("token-nobody-knows-0123456789", &now, good.clone(), &body, "unauthenticated"),
    ] {
        is(&hand_in(&gate, token, timestamp, &signature, body), 401, error);
    }
    for from_now in [-400, 400] {
        let then = seconds(from_now);
        is(&hand_in(&gate, TOKEN, &then, &sign(SECRET, &then, &body), &body), 401, "stale");
    }
    // An integration is not a person: its token opens nothing else.
    let api = Api::new(gate.admin, TOKEN);
    let id = first["request"]["id"].as_str().unwrap();
    is(&api.call("POST", &format!("/v1/requests/{id}/approve"), None), 401, "unauthenticated");
    is(&api.call("GET", "/v1/requests", None), 401, "unauthenticated");
    // Well signed, and wrong.
    let with = |key: &str, value: Value| {
        let mut wrong = yes.clone();
        wrong[key] = value;
        wrong
    };
    for (wrong, status, error) in [
        (with("statement_sha256", second["request"]["statement"]["sha256"].clone()), 409, "other-statement"),
        (with("request", second["request"]["id"].clone()), 409, "other-statement"),
        (with("request", "qg-0000000000".into()), 404, "no-such-request"),
        (with("person", "rita".into()), 403, "own-request"),
        (with("person", "RITA@example.com".into()), 403, "own-request"),
        (with("person", "bob".into()), 403, "not-its-person"),
        (with("person", "nobody".into()), 403, "not-its-person"),
        (with("break_glass", true.into()), 400, "bad-request"),
        (with("decision", "maybe".into()), 400, "bad-request"),
    ] {
        is(&hand_in_well(&gate, &wrong), status, error);
    }
    // It counts once.
    let taken = hand_in(&gate, TOKEN, &now, &good, &body);
    assert_eq!(taken.status, 200, "{}", taken.text);
    raw.until(b'Z');
    let replayed = hand_in(&gate, TOKEN, &now, &good, &body);
    assert_eq!((replayed.status, &replayed.json["error"]), (409, &"replayed".into()));
    let later = seconds(-2);
    let again = hand_in(&gate, TOKEN, &later, &sign(SECRET, &later, &body), &body);
    assert_eq!((again.status, &again.json["error"]), (409, &"already-decided".into()));
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "2", "the other request still waits");
}

#[test]
fn a_decision_signed_before_a_crash_releases_nothing_after_it() {
    let (database, gate, told) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let yes = decision(&next(&told, "held"), "ann", "approve");
    let gate = gate.kill_and_restart();
    let late = hand_in_well(&gate, &yes);
    assert_eq!((late.status, &late.json["error"]), (409, &"withdrawn".into()), "{}", late.text);
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
}

#[test]
fn a_rule_that_names_a_webhook_as_its_channel_is_refused_when_the_program_is_not_there() {
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = format!(
        "[[webhook]]\nname = \"gone\"\nurl = \"http://{gone}/\"\nsecret = \"{OUTGOING}\"\nevents = [\"held\"]\n\
         [[approval.profile]]\nname = \"strict\"\napprover_groups = [\"approvers\"]\nchannels = [\"gone\"]\nunreachable = \"reject\"\n\
         [[approval.profile]]\nname = \"two-ways\"\napprover_groups = [\"approvers\"]\nchannels = [\"gone\", \"pager\"]\nunreachable = \"reject\"\n\
         [[rule]]\nname = \"truncates\"\neffects = [\"truncate\"]\naction = \"hold\"\napproval = \"strict\"\n\
         [[rule]]\nname = \"deletes\"\neffects = [\"delete\"]\naction = \"hold\"\napproval = \"two-ways\"\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
    );
    let (database, gate, told) = setup(&toml);
    let mut raw = Raw::login(&gate.target());
    let refused = raw.query("TRUNCATE t").into_iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(refused.sqlstate(), "58000", "{refused:?}");
    // One of two ways is enough.
    raw.send(m::query("DELETE FROM t"));
    while next(&told, "held")["request"]["rule"] != "deletes" {}
    let id = gate.api().wait_held("DELETE");
    gate.api().approve(&id);
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "0");
}

#[test]
fn whom_an_integration_may_speak_for_can_change_while_the_gate_runs() {
    let (database, gate, told) = setup("");
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t"));
    let yes = decision(&next(&told, "held"), "ann", "approve");
    let config = std::fs::read_to_string(&gate.config).unwrap();
    std::fs::write(&gate.config, config.replace("people = [\"ann\", \"rita\"]", "people = [\"rita\"]")).unwrap();
    gate.process.signal(nix::sys::signal::Signal::SIGHUP);
    gate.process.wait_line(DEADLINE, |line| line.contains("reloaded").then_some(())).expect("it reloads");
    let refused = hand_in_well(&gate, &yes);
    assert_eq!((refused.status, &refused.json["error"]), (403, &"not-its-person".into()), "{}", refused.text);
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "3");
}
