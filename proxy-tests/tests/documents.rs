//! What the documents say is so: events look as described, and the relay in them works between a real gate and a service.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use proxy_tests::DEADLINE;
use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::shared;
use proxy_tests::process::{Watched, program};
use proxy_tests::raw::Raw;
use querygate::store::Event;
use serde_json::Value;

const WEBHOOKS: &str = include_str!("../docs/webhooks.md");

/// The code blocks that begin with this line.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = WEBHOOKS.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}

#[test]
fn every_event_looks_as_the_document_says() {
    let mut kinds = BTreeSet::new();
    for block in blocks("json event") {
        let written: Value = serde_json::from_str(&block).unwrap_or_else(|error| panic!("{block}: {error}"));
        let event: Event = serde_json::from_value(written.clone()).unwrap_or_else(|error| panic!("{block}: {error}"));
        kinds.insert(event.kind());
        assert_eq!(serde_json::to_value(&event).unwrap(), written);
    }
    let all: BTreeSet<_> = querygate::approval::webhook::EVENTS.into_iter().collect();
    assert_eq!(kinds, all);
}

/// A service that says 202 to everything and tells what it was sent.
fn service() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v2/enqueue", listener.local_addr().unwrap());
    let (sender, sent) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(&stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, sent)
}

#[test]
fn the_relay_of_the_document_pages_hands_a_decision_in_and_resolves() {
    let place = tempfile::tempdir().unwrap();
    let script: PathBuf = place.path().join("relay.py");
    fs::write(&script, &blocks("python relay")[0]).unwrap();
    let (pagerduty, sent) = service();
    let mut command = Command::new(program("python3"));
    command.arg(&script).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("WEBHOOK_SECRET", "secret-of-the-webhook-0123456789");
    command.env("PAGERDUTY_KEY", "routing-key").env("PAGERDUTY_URL", &pagerduty).env("TEAMS_URL", &pagerduty);
    let relay = Watched::spawn(command);
    let port = relay.wait_line(DEADLINE, |line| line.strip_prefix("listening on ")?.parse::<u16>().ok());
    let port = port.unwrap_or_else(|| panic!("{}", relay.log()));

    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let toml = format!(
        "[[webhook]]\nname = \"pager\"\nurl = \"http://127.0.0.1:{port}/\"\nsecret = \"secret-of-the-webhook-0123456789\"\n\
         [[integration]]\nname = \"pager\"\ntoken = \"token-of-the-pager-0123456789\"\nsecret = \"secret-of-the-pager-0123456789\"\n\
         people = [\"ann\"]\n"
    );
    let gate = Gate::builder().toml(&toml).start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("DELETE FROM t WHERE x > 1"));
    let id = gate.api().wait_held("DELETE");
    let next = || sent.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("nothing was sent; {}", relay.log()));
    let page = next();
    assert_eq!(
        (&page["event_action"], &page["dedup_key"], &page["routing_key"], &page["payload"]["severity"]),
        (&"trigger".into(), &id.as_str().into(), &"routing-key".into(), &"warning".into()),
        "{page}"
    );
    assert!(page["payload"]["summary"].is_string() && page["payload"]["source"].is_string(), "{page}");
    assert_eq!(page["payload"]["custom_details"]["statement"], "DELETE FROM t WHERE x > 1");
    let card = next();
    assert_eq!(card["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    assert!(card["attachments"][0]["content"].to_string().contains("DELETE FROM t WHERE x > 1"), "{card}");

    let sha256 = gate.api().get(&format!("/v1/requests/{id}"))["statement"]["sha256"].as_str().unwrap().to_owned();
    let decide = |sha256: &str| {
        let mut command = Command::new(program("python3"));
        command.arg(&script).args(["decide", &id, sha256, "ann", "approve"]);
        command.env("QUERYGATE_API", format!("http://{}", gate.admin));
        command.env("INTEGRATION_TOKEN", "token-of-the-pager-0123456789");
        command.env("INTEGRATION_SECRET", "secret-of-the-pager-0123456789").output().unwrap()
    };
    assert!(!decide(&"0".repeat(64)).status.success());
    let decided = decide(&sha256);
    assert!(decided.status.success(), "{}", String::from_utf8_lossy(&decided.stderr));
    raw.until(b'Z');
    assert_eq!(database.raw().value("SELECT count(*) FROM t"), "1");
    let resolved = next();
    assert_eq!((&resolved["event_action"], &resolved["dedup_key"]), (&"resolve".into(), &id.as_str().into()));

    // What the gate did not sign is not passed on.
    let forged = proxy_tests::api::Api::new(([127, 0, 0, 1], port).into(), "");
    let answer = forged.call("POST", "/", Some(&serde_json::json!({"event": {"event": "ended", "id": id}})));
    assert_eq!(answer.status, 401);
    assert!(sent.try_recv().is_err());
}
