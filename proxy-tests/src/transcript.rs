//! The transparency check: one script, run directly and through the gate, must receive the same messages.
//!
//! What differs between any two sessions is evened out first: process ids and keys, the salt of MD5 authentication, the
//! OIDs that a table gets. Nothing else is.

use crate::postgres::Target;
use crate::raw::{Frame, Raw};

/// Runs `script` on a fresh, logged-in connection to each target and compares everything received from login on.
pub fn same(direct: &Target, gate: &Target, script: impl Fn(&mut Raw)) {
    same_from(direct, gate, |raw, target| {
        raw.start(&[("user", &target.user), ("database", &target.database)]);
        script(raw);
    });
}

/// Runs `script` on a fresh connection on which nothing was sent yet, and compares everything received.
pub fn same_from(direct: &Target, gate: &Target, script: impl Fn(&mut Raw, &Target)) {
    let expected = run(direct, &script);
    let actual = run(gate, &script);
    assert_same(&expected, &actual);
}

/// Like [`same_from`], where the gate speaks for the server: of errors only severity and SQLSTATE must agree.
pub fn same_but_wording(direct: &Target, gate: &Target, script: impl Fn(&mut Raw, &Target)) {
    let worded = |mut frame: Frame| {
        if frame.tag == b'E' {
            frame.body = format!("{:?} {}", frame.field(b'V'), frame.sqlstate()).into_bytes();
        }
        frame
    };
    let expected: Vec<Frame> = run(direct, &script).into_iter().map(worded).collect();
    let actual: Vec<Frame> = run(gate, &script).into_iter().map(worded).collect();
    assert_same(&expected, &actual);
}

/// Runs a script and returns what it received, evened out.
pub fn run(target: &Target, script: impl Fn(&mut Raw, &Target)) -> Vec<Frame> {
    let mut raw = Raw::connect((target.host.as_str(), target.port));
    script(&mut raw, target);
    raw.transcript.into_iter().map(even).collect()
}

/// Fails with the first difference and what led to it.
pub fn assert_same(direct: &[Frame], gate: &[Frame]) {
    let at = direct.iter().zip(gate).position(|(a, b)| a != b).unwrap_or(direct.len().min(gate.len()));
    if at == direct.len() && at == gate.len() {
        return;
    }
    let before = &direct[at.saturating_sub(5)..at];
    panic!(
        "message {at} differs\n  after  {before:?}\n  direct {:?}\n  gate   {:?}\n  ({} messages direct, {} through the gate)",
        direct.get(at),
        gate.get(at),
        direct.len(),
        gate.len()
    );
}

/// Removes what two sessions can't have in common.
fn even(mut frame: Frame) -> Frame {
    match frame.tag {
        b'K' => frame.body.fill(0),
        // AuthenticationMD5Password's salt.
        b'R' if frame.body.starts_with(&[0, 0, 0, 5]) => frame.body[4..].fill(0),
        // NotificationResponse: the notifying session's process id.
        b'A' => frame.body[..4].fill(0),
        b'T' => zero_table_oids(&mut frame.body),
        _ => (),
    }
    frame
}

/// `RowDescription`: per field a name, the table's OID (4 bytes) and 14 more bytes.
fn zero_table_oids(body: &mut [u8]) {
    let mut at = 2;
    while let Some(name) = body.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0)) {
        let oid = at + name + 1;
        body[oid..oid + 4].fill(0);
        at = oid + 18;
    }
}
