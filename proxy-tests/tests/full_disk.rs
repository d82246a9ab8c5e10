//! The gate when its record cannot be written any more: what would be held is refused, everything else goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use proxy_tests::gate::{Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::shared;
use proxy_tests::raw::{Frame, Raw, Read1, eventually};

/// Largest file at first, in blocks of 512 bytes: some hundred events.
const BLOCKS: u32 = 1_000;

/// What came of a statement that would be held.
enum Came {
    Held(String),
    Refused(Frame),
}

/// Sends a DELETE with much to record and waits for what comes of it.
fn ask(gate: &Gate, raw: &mut Raw) -> Came {
    raw.send(m::query(format!("DELETE FROM t /* {} */", "x".repeat(20_000))));
    eventually("a held or refused statement", || {
        match raw.read_within(Duration::from_millis(5)) {
            Read1::Frame(frame) if frame.tag == b'E' => {
                raw.until(b'Z');
                return Some(Came::Refused(frame));
            }
            // The notice that it waits, or nothing yet.
            Read1::Frame(_) | Read1::Timeout => {}
            other @ (Read1::Eof | Read1::Torn(_)) => panic!("{other:?}"),
        }
        let held = gate.api().pending().first().map(|request| request["id"].as_str().unwrap().to_owned());
        held.map(Came::Held)
    })
}

/// A file that may not grow stands in for a disk that is full: the same path, and no privilege needed to make it.
#[test]
fn when_the_record_cannot_be_written_new_holds_get_58000_other_statements_pass_and_it_ends_by_itself() {
    let database = shared();
    database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let place = tempfile::tempdir().unwrap();
    let wrapper = place.path().join("gate");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nulimit -S -f {BLOCKS}\nexec '{}' \"$@\"\n", binary().display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let gate = Gate::builder().start_binary(database.target(), &wrapper);
    let mut raw = Raw::login(&gate.target());

    let mut rounds = 0;
    let refused = loop {
        rounds += 1;
        assert!(rounds < 200, "the limit is felt");
        match ask(&gate, &mut raw) {
            Came::Refused(frame) => break frame,
            Came::Held(id) => {
                let answer = gate.api().decide(&id, "reject", "not now");
                if answer.status == 200 {
                    raw.until(b'Z');
                } else {
                    // The answer itself found the disk full: nothing was decided, and the client still waits.
                    assert_eq!(
                        (answer.status, &answer.json["error"]),
                        (503, &"not-recorded".into()),
                        "{}",
                        answer.text
                    );
                    raw = Raw::login(&gate.target());
                }
            }
        }
    };
    assert!(rounds > 1, "at first there was room");
    assert_eq!(refused.sqlstate(), "58000", "{refused:?}");
    let said = gate.process.log();
    assert!(said.contains("the store cannot be written"), "the operator is told:\n{said}");

    // Other statements go on, in this session and in new ones.
    assert_eq!(raw.value("SELECT count(*) FROM t"), "3");
    assert_eq!(Raw::login(&gate.target()).value("INSERT INTO t VALUES (4) RETURNING x"), "4");
    let Came::Refused(again) = ask(&gate, &mut raw) else { panic!("held without a record") };
    assert_eq!(again.sqlstate(), "58000");
    assert_eq!(raw.value("SELECT count(*) FROM t"), "4");

    // There is room again.
    let pid = gate.process.pid().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status().unwrap();
    assert!(raised.success());
    let id = eventually("a held statement", || match ask(&gate, &mut raw) {
        Came::Held(id) => Some(id),
        Came::Refused(_) => None,
    });
    gate.api().approve(&id);
    raw.until(b'Z');
    assert_eq!(raw.value("SELECT count(*) FROM t"), "0");
    let verified = Command::new(binary()).args(["audit", "verify", "--config"]).arg(&gate.config).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}
