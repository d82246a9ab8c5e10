//! Wire checklist, rows 1–11: everything before the session.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::Read;
use std::net::TcpListener;

use proxy_tests::gate::{Builder, Gate};
use proxy_tests::message as m;
use proxy_tests::postgres::{Cluster, Target, free_port, shared};
use proxy_tests::psql::Psql;
use proxy_tests::raw::{Frame, Raw};
use proxy_tests::tls::Certificates;
use proxy_tests::transcript::{run, same_but_wording, same_from};

/// A gate that speaks TLS to clients.
fn tls(mode: &str, certificates: &Certificates, directory: &tempfile::TempDir) -> Builder {
    let (certificate, key) = (directory.path().join("gate.crt"), directory.path().join("gate.key"));
    std::fs::write(&certificate, &certificates.certificate_pem).unwrap();
    std::fs::write(&key, &certificates.key_pem).unwrap();
    Gate::builder().allow_all().listen(&format!(
        "[listen.tls]\nmode = \"{mode}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        certificate.display(),
        key.display()
    ))
}

fn connect(target: &Target) -> Raw {
    Raw::connect((target.host.as_str(), target.port))
}

fn user(target: &Target) -> [(&str, &str); 2] {
    [("user", &target.user), ("database", &target.database)]
}

fn error(frames: &[Frame]) -> &Frame {
    frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("no error in {frames:?}"))
}

// Row 1

#[test]
fn tls_is_refused_or_accepted_as_configured() {
    let database = shared();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();

    let gate = Gate::transparent(database.target());
    let mut raw = connect(&gate.target());
    raw.send(m::ssl_request());
    assert_eq!(raw.byte(), b'N');
    raw.start(&user(database.target()));
    assert_eq!(raw.value("SELECT 1"), "1");

    for mode in ["prefer", "require"] {
        let gate = tls(mode, &certificates, &directory).start(database.target());
        let mut raw = connect(&gate.target()).ssl(certificates.client(&[]), "localhost");
        raw.start(&user(database.target()));
        assert_eq!(raw.value("SELECT 2"), "2");
        let mut plain = connect(&gate.target());
        plain.send(m::startup(&user(database.target())));
        let frames = if mode == "prefer" { plain.until(b'Z') } else { plain.until_eof() };
        if mode == "require" {
            assert_eq!(error(&frames).field(b'S').as_deref(), Some("FATAL"));
        } else {
            assert!(frames.iter().any(|frame| frame.tag == b'Z'));
        }
    }
}

#[test]
fn direct_tls_needs_the_protocols_name() {
    let database = shared();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let gate = tls("require", &certificates, &directory).start(database.target());
    let mut raw = connect(&gate.target()).tls(certificates.client(&["postgresql"]), "localhost");
    raw.start(&user(database.target()));
    assert_eq!(raw.value("SELECT 3"), "3");
    for alpn in [&[][..], &["h2"]] {
        let mut raw = connect(&gate.target()).tls(certificates.client(alpn), "localhost");
        raw.send(m::startup(&user(database.target())));
        assert_eq!(raw.until_eof(), [], "ALPN {alpn:?}");
    }
}

#[test]
fn direct_tls_to_a_gate_without_tls_is_closed() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = connect(&gate.target()).tls(Certificates::new().client(&["postgresql"]), "localhost");
    raw.send(m::startup(&user(database.target())));
    assert_eq!(raw.until_eof(), []);
}

#[test]
fn psql_connects_with_every_sslmode_that_can_work() {
    let database = shared();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let gate = tls("prefer", &certificates, &directory).start(database.target());
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, &certificates.ca_pem).unwrap();
    let target = Target { host: "localhost".to_owned(), ..gate.target() };
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        let conninfo = target.conninfo(&format!("sslmode={mode} sslrootcert={}", ca.display()));
        assert_eq!(Psql::conninfo(conninfo).command("SELECT 4").ok().trim(), "4", "{mode}");
    }
}

#[test]
fn the_upstream_leg_speaks_tls_as_its_sslmode_says() {
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().tls(&certificates).start();
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, &certificates.ca_pem).unwrap();
    let other_ca = directory.path().join("other.crt");
    std::fs::write(&other_ca, Certificates::new().ca_pem).unwrap();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (mode, ca, expected) in [
        ("disable", None, Some("f")),
        ("prefer", None, Some("t")),
        ("require", None, Some("t")),
        ("verify-ca", Some(&ca), Some("t")),
        ("verify-full", Some(&ca), Some("t")),
        ("verify-ca", Some(&other_ca), None),
        ("verify-full", Some(&other_ca), None),
    ] {
        let ca = ca.map(|ca| format!("\nca = \"{}\"", ca.display())).unwrap_or_default();
        let lines = format!("sslmode = \"{mode}\"{ca}");
        let gate = Gate::builder().allow_all().upstream(&lines).start(&cluster.target());
        let mut raw = connect(&gate.target());
        raw.send(m::startup(&user(&cluster.target())));
        if let Some(expected) = expected {
            raw.until(b'Z');
            assert_eq!(raw.value(encrypted), expected, "{mode}");
        } else {
            assert_eq!(error(&raw.until_eof()).sqlstate().get(..2), Some("08"), "{mode}");
        }
    }
    // A server without TLS, of which it is required.
    let database = shared();
    let gate = Gate::builder().allow_all().upstream("sslmode = \"require\"").start(database.target());
    let mut raw = connect(&gate.target());
    raw.send(m::startup(&user(database.target())));
    assert_eq!(error(&raw.until_eof()).sqlstate().get(..2), Some("08"));
}

#[test]
fn the_upstream_leg_works_over_a_unix_socket() {
    let database = shared();
    let gate =
        Gate::builder().allow_all().upstream_host(database.socket_dir().to_str().unwrap()).start(database.target());
    assert_eq!(Raw::login(&gate.target()).value("SELECT inet_server_addr()::text"), "");
}

// Row 2

#[test]
fn gss_encryption_is_refused_and_the_connection_goes_on() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    for requests in
        [vec![m::gss_request()], vec![m::gss_request(), m::ssl_request()], vec![m::ssl_request(), m::gss_request()]]
    {
        // Not compared with direct: a server built with GSSAPI answers G.
        let mut raw = connect(&gate.target());
        for request in &requests {
            raw.send(request);
            assert_eq!(raw.byte(), b'N');
        }
        raw.start(&user(database.target()));
        assert_eq!(raw.value("SELECT 1"), "1");
    }
}

#[test]
fn repeated_encryption_requests_are_cut_off() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    for request in [m::ssl_request(), m::gss_request()] {
        let mut raw = connect(&gate.target());
        let mut answers = Vec::new();
        for _ in 0..100 {
            raw.send(&request);
            match raw.byte_or_eof() {
                Some(b'N') => answers.push(b'N'),
                // An error message, or the end.
                _ => break,
            }
        }
        assert!((1..20).contains(&answers.len()), "{} requests were answered", answers.len());
    }
}

// Row 3

#[test]
fn a_startup_packet_sent_byte_by_byte_works() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    same_from(database.target(), &gate.target(), |raw, target| {
        raw.send_bytewise(m::startup(&user(target)));
        raw.until(b'Z');
        raw.query("SELECT 1");
    });
}

#[test]
fn a_query_in_the_startup_packets_segment_is_answered() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    same_from(database.target(), &gate.target(), |raw, target| {
        raw.send([m::startup(&user(target)), m::query("SELECT 'early'"), m::extended("SELECT 1", &[])].concat());
        raw.until_ready(3);
    });
}

// Row 4

#[test]
fn startup_packets_of_impossible_length_are_closed_as_the_server_does() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    for length in [0_u32, 3, 4, 7, 10_001, 1 << 20, u32::MAX] {
        same_from(database.target(), &gate.target(), |raw, _| {
            raw.send([&length.to_be_bytes()[..], &m::VERSION_3_0.to_be_bytes(), b"user\0x\0\0"].concat());
            raw.half_close();
            raw.until_eof();
        });
    }
}

// Row 5

#[test]
fn protocol_versions_and_options_are_negotiated_by_the_server() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    for version in [m::VERSION_3_0, m::VERSION_3_2, (3 << 16) | 0x270f] {
        same_from(database.target(), &gate.target(), |raw, target| {
            raw.send(m::startup_version(version, &user(target)));
            raw.until(b'Z');
            raw.query("SELECT 1");
        });
        same_from(database.target(), &gate.target(), |raw, target| {
            raw.send(m::startup_version(
                version,
                &[("user", &target.user), ("_pq_.new_thing", "on"), ("database", &target.database)],
            ));
            raw.until(b'Z');
        });
    }
    for version in [2 << 16, 4 << 16, 0, 1, 80_877_101] {
        // Answered by the gate itself, which names the versions that it can frame.
        same_but_wording(database.target(), &gate.target(), |raw, target| {
            raw.send(m::startup_version(version, &user(target)));
            raw.until_eof();
        });
    }
}

// Row 6

#[test]
fn odd_startup_parameters_are_answered_as_the_server_answers() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let name = database.target().database.clone();
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![("database", &name)],
        vec![("user", "")],
        vec![("user", "postgres")],
        vec![("user", "postgres"), ("database", "")],
        vec![("user", "nobody_here"), ("database", &name)],
        vec![("user", "postgres"), ("database", "nowhere")],
        vec![("user", "nobody_here"), ("user", "postgres"), ("database", &name)],
        vec![("user", "postgres"), ("database", "nowhere"), ("database", &name)],
        vec![("user", "postgres"), ("database", &name), ("application_name", "a"), ("application_name", "b")],
        vec![("user", "postgres"), ("database", &name), ("DateStyle", "German"), ("client_encoding", "LATIN1")],
    ];
    for case in cases {
        same_from(database.target(), &gate.target(), |raw, _| {
            raw.send(m::startup(&case));
            if raw.until(b'Z').iter().any(|frame| frame.tag == b'Z') {
                raw.query("SELECT current_user, current_setting('application_name')");
            }
        });
    }
    // Settings that could change how later text is read are not for clients to choose while connecting.
    let unknown = |gate: &Gate| {
        run(&gate.target(), |raw, target| {
            raw.send(m::startup(&[("user", &target.user), ("database", &target.database), ("no_such_setting", "x")]));
            raw.until_eof();
        })
    };
    assert_eq!(error(&unknown(&gate)).sqlstate(), "42501");
    let allowing =
        Gate::builder().allow_all().limits("extra_startup_settings = [\"no_such_setting\"]").start(database.target());
    assert_eq!(error(&unknown(&allowing)).sqlstate(), "42704");
    // Without the last terminator, and with more behind it.
    for body in [&b"user\0postgres\0"[..], b"user\0postgres", b"user\0postgres\0\0more", b""] {
        same_but_wording(database.target(), &gate.target(), |raw, _| {
            raw.send(m::untyped(&[&m::VERSION_3_0.to_be_bytes()[..], body].concat()));
            raw.half_close();
            raw.until_eof();
        });
    }
}

// Row 7

#[test]
fn bytes_ahead_of_the_tls_handshake_are_refused_and_go_nowhere() {
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let upstream = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = upstream.local_addr().unwrap().port();
    let reached = std::thread::spawn(move || {
        // Ends when the test connects to say that it is over.
        let mut all = Vec::new();
        for stream in upstream.incoming() {
            let mut bytes = Vec::new();
            let _ = stream.unwrap().read_to_end(&mut bytes);
            let over = bytes == b"over";
            all.push(bytes);
            if over {
                return all;
            }
        }
        all
    });
    let target = Target { host: "127.0.0.1".to_owned(), port, database: "d".to_owned(), user: "u".to_owned() };
    let gate = tls("prefer", &certificates, &directory).start(&target);
    let injected = [m::startup(&user(&target)), m::query("DROP TABLE injected")].concat();
    let mut raw = connect(&gate.target());
    raw.send([m::ssl_request(), injected.clone()].concat());
    let mut answers = Vec::new();
    raw.read_raw_to_eof(&mut answers);
    assert!(
        !answers.windows(3).any(|window| window == b"R\0\0"),
        "no authentication went on: {}",
        answers.escape_ascii()
    );
    drop(gate);
    std::io::Write::write_all(&mut std::net::TcpStream::connect(("127.0.0.1", port)).unwrap(), b"over").unwrap();
    let all = reached.join().unwrap();
    assert_eq!(all, [b"over"], "nothing reached the server");
}

// Row 8

#[test]
fn silent_clients_are_closed_at_the_deadline_and_free_their_slots() {
    let database = shared();
    let gate =
        Gate::builder().allow_all().limits("startup_deadline = \"300ms\"\nconnections = 2").start(database.target());
    let mut silent = connect(&gate.target());
    let mut half = connect(&gate.target());
    half.send(&m::startup(&user(database.target()))[..9]);
    silent.until_eof();
    half.until_eof();
    assert_eq!(Raw::login(&gate.target()).value("SELECT 1"), "1");
}

#[test]
fn half_open_connections_do_not_keep_others_out() {
    let database = shared();
    let gate = Gate::builder().allow_all().limits("connections = 5000").start(database.target());
    let _half_open: Vec<Raw> = (0..1000)
        .map(|n| {
            let mut raw = connect(&gate.target());
            if n % 2 == 0 {
                raw.send([0, 0, 0]);
            }
            raw
        })
        .collect();
    assert_eq!(Raw::login(&gate.target()).value("SELECT 1"), "1");
}

// Row 9

#[test]
fn every_authentication_method_is_relayed() {
    let mut builder = Cluster::builder();
    for method in ["password", "md5", "scram-sha-256", "reject"] {
        builder = builder.hba(&format!("host all \"user_{method}\" 127.0.0.1/32 {method}"));
    }
    let cluster = builder.start();
    let mut admin = cluster.admin();
    for method in ["password", "md5", "scram-sha-256", "reject"] {
        let encryption = if method == "md5" { "md5" } else { "scram-sha-256" };
        admin.rows(&format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE \"user_{method}\" LOGIN PASSWORD 'pä ss'"
        ));
    }
    let gate = Gate::transparent(&cluster.target());
    for method in ["password", "md5", "scram-sha-256"] {
        let target = gate.target().with_user(&format!("user_{method}"));
        let said = Psql::new(&target).password("pä ss").command("SELECT current_user").ok();
        assert_eq!(said.trim(), target.user);
        let said = Psql::new(&target).password("wrong").command("SELECT 1");
        assert_eq!(said.status, Some(2));
        assert!(said.stderr.contains("password authentication failed"), "{}", said.stderr);
    }
    let direct = cluster.target().with_user("user_reject");
    same_from(&direct, &gate.target().with_user("user_reject"), |raw, target| {
        raw.send(m::startup(&user(target)));
        raw.until_eof();
    });
}

#[test]
fn wrong_answers_to_authentication_are_judged_by_the_server() {
    let cluster = Cluster::builder()
        .hba("host all plain 127.0.0.1/32 password")
        .hba("host all scram 127.0.0.1/32 scram-sha-256")
        .start();
    cluster.admin().rows("CREATE ROLE plain LOGIN PASSWORD 'secret'; CREATE ROLE scram LOGIN PASSWORD 'secret'");
    let gate = Gate::transparent(&cluster.target());
    let long = "x".repeat(70_000);
    let answers = [
        m::password("secret"),
        m::password("wrong"),
        m::password(""),
        m::password(&long),
        m::frame(b'p', b"no terminator"),
        m::query("SELECT 1"),
        m::sync(),
        m::terminate(),
        m::frame(b'!', b""),
        vec![b'p', 0, 0, 0, 3],
        vec![b'p', 0xff, 0xff, 0xff, 0xff],
    ];
    for name in ["plain", "scram"] {
        for answer in &answers {
            same_from(&cluster.target().with_user(name), &gate.target().with_user(name), |raw, target| {
                raw.send(m::startup(&user(target)));
                raw.expect(b'R');
                raw.send(answer);
                raw.half_close();
                raw.until_eof();
            });
        }
    }
}

#[test]
fn channel_binding_through_two_tls_hops_is_explained() {
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().tls(&certificates).hba("host all scram 127.0.0.1/32 scram-sha-256").start();
    cluster.admin().rows("CREATE ROLE scram LOGIN PASSWORD 'secret'");
    let gate = tls("prefer", &certificates, &directory).upstream("sslmode = \"require\"").start(&cluster.target());
    let target = gate.target().with_user("scram");
    // libpq takes part in channel binding, which cannot survive two TLS sessions; the gate says so instead of Postgres's riddle.
    let said = Psql::conninfo(target.conninfo("sslmode=require")).password("secret").command("SELECT 1");
    if said.status != Some(0) {
        assert!(said.stderr.contains("channel binding") || said.stderr.contains("channel_binding"), "{}", said.stderr);
        assert!(said.stderr.contains("HINT") || said.stderr.contains("channel_binding=disable"), "{}", said.stderr);
    }
    let said = Psql::conninfo(target.conninfo("sslmode=require channel_binding=disable"))
        .password("secret")
        .command("SELECT 5");
    assert_eq!(said.ok().trim(), "5");
}

// Row 10

#[test]
fn an_unreachable_server_is_an_error_message_not_a_closed_socket() {
    let database = shared();
    let target = Target { port: free_port(), ..database.target().clone() };
    let gate = Gate::builder().allow_all().start(&target);
    let mut raw = connect(&gate.target());
    raw.send(m::startup(&user(&target)));
    let frames = raw.until_eof();
    let error = error(&frames);
    assert_eq!(error.field(b'S').as_deref(), Some("FATAL"));
    assert_eq!(error.sqlstate().get(..2), Some("57"), "{error:?}");
    let said = Psql::new(&gate.target()).command("SELECT 1");
    assert_eq!(said.status, Some(2));
    assert!(said.stderr.contains("FATAL"), "{}", said.stderr);
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let database = shared();
    let role = database.unique("full");
    database.run(&format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0"));
    let gate = Gate::transparent(database.target());
    same_from(&database.target().with_user(&role), &gate.target().with_user(&role), |raw, target| {
        raw.send(m::startup(&user(target)));
        raw.until_eof();
    });
    database.run(&format!("DROP ROLE {role}"));
}

// Row 11

#[test]
fn connections_over_the_limit_are_told_so() {
    let database = shared();
    let gate = Gate::builder().allow_all().limits("connections = 1").start(database.target());
    let first = Raw::login(&gate.target());
    let mut second = connect(&gate.target());
    second.send(m::startup(&user(database.target())));
    let frames = second.until_eof();
    assert_eq!(error(&frames).sqlstate(), "53300");
    assert_eq!(error(&frames).field(b'S').as_deref(), Some("FATAL"));
    drop(first);
    proxy_tests::raw::eventually("the slot is free again", || {
        let mut third = connect(&gate.target());
        third.send(m::startup(&user(database.target())));
        third.until(b'Z').iter().any(|frame| frame.tag == b'Z').then_some(())
    });
}

#[test]
fn the_transcript_of_a_login_is_the_same() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    same_from(database.target(), &gate.target(), |raw, target| raw.start(&user(target)));
    let frames = run(&gate.target(), |raw, target| raw.start(&user(target)));
    assert!(frames.iter().any(|frame| frame.tag == b'K'));
}
