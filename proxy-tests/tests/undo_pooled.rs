//! A pooler between gate and server tells the gate of another process than the one that runs the statement: nothing is kept, and everybody is told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use proxy_tests::postgres::Target;
use proxy_tests::undo::{SHOP, SHOP_SUM, SHOP_TABLES, error, has_ended_well, kept, stage_behind};

/// Relays to the server, and names another process in BackendKeyData. Ends with the test's process.
fn pooler(server: &Target) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, server_at) = (listener.local_addr().unwrap().port(), (server.host.clone(), server.port));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&server_at).unwrap();
            // Whichever side ends first ends both.
            std::thread::spawn(move || relay(client, server));
        }
    });
    Target { host: "127.0.0.1".to_owned(), port, ..server.clone() }
}

fn relay(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    // SSLRequest, which this one refuses.
    let mut first = [0; 8];
    client.read_exact(&mut first)?;
    while first[4..] == 80_877_103_i32.to_be_bytes() {
        client.write_all(b"N")?;
        client.read_exact(&mut first)?;
    }
    server.write_all(&first)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ended = io::copy(&mut from, &mut to);
        to.shutdown(std::net::Shutdown::Both)
    });
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head)?;
        let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).unwrap().saturating_sub(4)];
        server.read_exact(&mut body)?;
        if head[0] == b'K' {
            body[..4].copy_from_slice(&4_242_i32.to_be_bytes());
        }
        client.write_all(&head)?;
        client.write_all(&body)?;
    }
}

#[test]
fn behind_a_pooler_a_statement_whose_rows_must_be_kept_is_not_done() {
    let stage = stage_behind("max_rows = 10", "", SHOP, SHOP_TABLES, pooler);
    let before = stage.value(SHOP_SUM);
    let mut raw = stage.login();
    for block in [false, true] {
        if block {
            raw.query("BEGIN");
        }
        let told = error(&raw.query("DELETE FROM visits"));
        assert!(told.starts_with("42501") && told.contains("no warrant"), "{told}");
        raw.query("ROLLBACK");
        assert_eq!(stage.value(SHOP_SUM), before);
    }
}

#[test]
fn behind_a_pooler_it_runs_without_where_the_rule_says_so() {
    let stage = stage_behind("max_rows = 10, otherwise = \"run\"", "", SHOP, SHOP_TABLES, pooler);
    let mut raw = stage.login();
    for (sql, block) in [("DELETE FROM visits WHERE id = 1", false), ("DELETE FROM visits", true)] {
        if block {
            raw.query("BEGIN");
        }
        let done = raw.query(sql);
        assert!(
            has_ended_well(&done) && kept(&done).contains("it cannot be undone: the session takes no warrant"),
            "{done:?}"
        );
        let record = stage.record(&done);
        assert!(
            record["progress"]["execution"]["kept"].as_str().unwrap().contains("a pooler may stand before"),
            "{record}"
        );
        raw.query("COMMIT");
    }
    assert_eq!(stage.value("SELECT count(*) FROM visits"), "0");
    assert_eq!(stage.value("SELECT count(*) FROM querygate_undo.request"), "0");
}
