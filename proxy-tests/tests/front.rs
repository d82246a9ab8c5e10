//! What happens before and around a session: parameters, TLS on both legs and its reload, cancel, draining.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use proxy_tests::DEADLINE;
use proxy_tests::gate::Gate;
use proxy_tests::message as m;
use proxy_tests::postgres::{Cluster, Target, shared};
use proxy_tests::psql::{Psql, tool};
use proxy_tests::raw::{Frame, Raw};
use proxy_tests::tls::Certificates;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

fn connect(target: &Target) -> Raw {
    Raw::connect((target.host.as_str(), target.port))
}

/// Opens a session with `more` parameters; the server's or the gate's frames up to ReadyForQuery or the end.
fn start(target: &Target, more: &[(&str, &str)]) -> (Raw, Vec<Frame>) {
    let mut raw = connect(target);
    let parameters = [&[("user", target.user.as_str()), ("database", target.database.as_str())], more].concat();
    raw.send(m::startup(&parameters));
    let frames = raw.until(b'Z');
    (raw, frames)
}

// Startup parameters

#[test]
fn harmless_settings_take_effect_and_others_are_refused_by_name() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let (mut raw, _) = start(
        &gate.target(),
        &[("TimeZone", "Asia/Tokyo"), ("options", r"-c work_mem=7MB --search-path=a,\ b -c statement_timeout=9s")],
    );
    assert_eq!(raw.value("SHOW timezone"), "Asia/Tokyo");
    assert_eq!(raw.value("SHOW work_mem"), "7MB");
    assert_eq!(raw.value("SHOW search_path"), "a, b");
    for (parameter, named) in [
        (("session_replication_role", "replica"), "session_replication_role"),
        (("role", "postgres"), "role"),
        (("options", "-c session_preload_libraries=x"), "session_preload_libraries"),
        (("options", "--standard-conforming-strings=off"), "standard_conforming_strings"),
        (("options", "-O"), "-O"),
        (("standard_conforming_strings", "off"), "standard_conforming_strings"),
        (("client_encoding", "SJIS"), "client_encoding"),
        (("no_such_setting", "x"), "no_such_setting"),
    ] {
        let (_, frames) = start(&gate.target(), &[parameter]);
        assert_eq!(frames[0].field(b'S').as_deref(), Some("FATAL"), "{parameter:?}: {frames:?}");
        assert_eq!(frames[0].sqlstate(), "42501", "{parameter:?}");
        assert!(frames[0].text().contains(&format!("\"{named}\"")), "{parameter:?}: {frames:?}");
    }
}

#[test]
fn settings_an_operator_allows_pass() {
    let database = shared();
    let gate = Gate::builder()
        .allow_all()
        .limits("extra_startup_settings = [\"session_replication_role\"]")
        .start(database.target());
    let (mut raw, _) = start(&gate.target(), &[("Session_Replication_Role", "replica")]);
    assert_eq!(raw.value("SHOW session_replication_role"), "replica");
}

#[test]
fn an_overlong_user_name_is_the_name_postgres_cuts_it_to() {
    let database = shared();
    let name = format!("{:x<63}", database.unique("long"));
    database.run(&format!("CREATE ROLE {name} LOGIN"));
    let rule = format!(
        "[[rule]]\nname = \"long\"\nusers = [\"{name}\"]\naction = \"reject\"\n[[rule]]\nname = \"rest\"\naction = \"allow\"\n"
    );
    let gate = Gate::builder().toml(&rule).start(database.target());
    for user in [name.clone(), format!("{name}tail")] {
        let mut raw = connect(&gate.target());
        raw.start(&[("user", &user), ("database", &database.target().database)]);
        let frames = raw.query("SELECT current_user");
        assert_eq!(frames[0].tag, b'E', "{user}: {frames:?}");
    }
    assert_eq!(Raw::login(&gate.target()).value("SELECT 1"), "1");
}

// TLS towards clients

#[test]
fn a_new_certificate_is_used_after_sighup_and_a_broken_one_is_not() {
    let database = shared();
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (Certificates::new(), Certificates::new());
    let write = |certificates: &Certificates| {
        fs::write(directory.path().join("gate.crt"), &certificates.certificate_pem).unwrap();
        fs::write(directory.path().join("gate.key"), &certificates.key_pem).unwrap();
    };
    write(&first);
    let toml = format!(
        "[listen.tls]\nmode = \"require\"\ncertificate = \"{0}/gate.crt\"\nkey = \"{0}/gate.key\"",
        directory.path().display()
    );
    let gate = Gate::builder().allow_all().listen(&toml).start(database.target());
    let works = |certificates: &Certificates| {
        let mut raw = connect(&gate.target()).ssl(certificates.client(&[]), "localhost");
        raw.send(m::startup(&[("user", "postgres"), ("database", &database.target().database)]));
        !raw.until(b'Z').is_empty()
    };
    let reloads = |times: usize, what: &str| {
        gate.process.signal(Signal::SIGHUP);
        let mut seen = 0;
        let line = gate.process.wait_line(DEADLINE, |line| {
            seen += usize::from(line.contains(what));
            (seen == times).then_some(())
        });
        assert!(line.is_some(), "{}", gate.process.log());
    };
    let mut before = connect(&gate.target()).ssl(first.client(&[]), "localhost");
    before.start(&[("user", "postgres"), ("database", &database.target().database)]);
    assert!(works(&first) && !works(&second));

    write(&second);
    reloads(1, " reloaded certificates");
    assert!(works(&second) && !works(&first));
    // The key does not belong to the certificate: the old pair stays.
    fs::write(directory.path().join("gate.key"), &first.key_pem).unwrap();
    reloads(1, "not reloaded");
    assert!(works(&second));
    fs::write(directory.path().join("gate.crt"), "no certificate").unwrap();
    reloads(2, "not reloaded");
    assert!(works(&second));
    // A session lives on through all of it.
    assert_eq!(before.value("SELECT 1"), "1");
}

#[test]
fn a_broken_configuration_on_sighup_changes_nothing() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let mut raw = Raw::login(&gate.target());
    fs::write(&gate.config, "[listen]\nadress = 1\n").unwrap();
    gate.process.signal(Signal::SIGHUP);
    let line = gate.process.wait_line(DEADLINE, |line| line.contains("not reloaded").then(|| line.to_owned()));
    assert!(line.is_some(), "{}", gate.process.log());
    assert_eq!(raw.value("SELECT 1"), "1");
    assert_eq!(Raw::login(&gate.target()).value("SELECT 2"), "2");
}

#[test]
fn an_encryption_request_inside_of_tls_is_refused_as_the_server_refuses_it() {
    let certificates = Certificates::new();
    let cluster = Cluster::builder().tls(&certificates).start();
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::builder()
        .allow_all()
        .listen(&listen_tls("prefer", &certificates, directory.path()))
        .start(&cluster.target());
    for request in [m::ssl_request(), m::gss_request()] {
        let refusal = |target: &Target| {
            let mut raw = connect(target).ssl(certificates.client(&[]), "localhost");
            raw.send(&request);
            let frames = raw.until_eof();
            (frames[0].sqlstate(), frames[0].text().split(": ").next().unwrap().to_owned())
        };
        assert_eq!(refusal(&cluster.target()), refusal(&gate.target()));
    }
}

#[test]
fn cancel_requests_in_the_clear_reach_a_gate_that_requires_tls() {
    let database = shared();
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::builder()
        .allow_all()
        .listen(&listen_tls("require", &certificates, directory.path()))
        .start(database.target());
    let mut raw = connect(&gate.target()).ssl(certificates.client(&[]), "localhost");
    raw.start(&[("user", "postgres"), ("database", &database.target().database)]);
    let (pid, key) = raw.key.clone().unwrap();
    raw.send(m::query("SELECT pg_sleep(600)"));
    let mut watch = database.raw();
    proxy_tests::raw::eventually("it sleeps", || {
        let event = watch.value(&format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"));
        (event == "PgSleep").then_some(())
    });
    // libpq before 17 sends them so.
    let mut cancel = connect(&gate.target());
    cancel.send(m::cancel_request(pid, &key));
    assert!(cancel.until_eof().is_empty());
    let frames = raw.until(b'Z');
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"), "{frames:?}");
}

fn listen_tls(mode: &str, certificates: &Certificates, directory: &Path) -> String {
    fs::write(directory.join("gate.crt"), &certificates.certificate_pem).unwrap();
    fs::write(directory.join("gate.key"), &certificates.key_pem).unwrap();
    format!(
        "[listen.tls]\nmode = \"{mode}\"\ncertificate = \"{0}/gate.crt\"\nkey = \"{0}/gate.key\"",
        directory.display()
    )
}

// TLS towards the server

/// A CA, and a server certificate of it for `names`.
fn issued(names: &[&str]) -> (String, Certificates) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut certificates = Certificates::new();
    certificates.certificate_pem = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap().pem();
    certificates.key_pem = key.serialize_pem();
    (ca_pem, certificates)
}

#[test]
fn the_servers_certificate_is_checked_as_libpq_checks_it() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, certificates) = issued(&["db.example"]);
    let (other_ca, _) = issued(&["db.example"]);
    let self_signed = Certificates::for_names(&["127.0.0.1"]);
    let path = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (path("right.crt", &ca), path("wrong.crt", &other_ca));
    let own = path("own.crt", &self_signed.certificate_pem);
    let with_ca = Cluster::builder().tls(&certificates).start();
    let with_own = Cluster::builder().tls(&self_signed).start();
    for (cluster, sslmode, ca, fine) in [
        (&with_ca, "disable", None, true),
        (&with_ca, "prefer", Some(&wrong), true),
        (&with_ca, "require", None, true),
        // libpq: a CA file makes `require` mean `verify-ca`.
        (&with_ca, "require", Some(&wrong), false),
        (&with_ca, "verify-ca", Some(&right), true),
        (&with_ca, "verify-ca", Some(&wrong), false),
        // The certificate is for another name than 127.0.0.1.
        (&with_ca, "verify-full", Some(&right), false),
        (&with_ca, "verify-full", None, false),
        // A self-signed certificate that is named as its own CA.
        (&with_own, "verify-ca", Some(&own), true),
        (&with_own, "verify-full", Some(&own), true),
        (&with_own, "verify-full", Some(&right), false),
    ] {
        let ca = ca.map(|ca| format!("ca = \"{ca}\"")).unwrap_or_default();
        let gate =
            Gate::builder().allow_all().upstream(&format!("sslmode = \"{sslmode}\"\n{ca}")).start(&cluster.target());
        let psql = Psql::new(&gate.target()).command("SELECT 'in'");
        assert_eq!(psql.status == Some(0), fine, "{sslmode} {ca}: {psql:?}");
        if !fine {
            assert!(psql.stderr.contains("certificate is not one the gate trusts"), "{psql:?}");
        }
    }
}

#[test]
fn a_server_that_answers_the_encryption_request_with_more_than_one_byte_is_not_talked_to() {
    for (answer, sslmode, sqlstate) in [
        (&b"S\x16"[..], "require", "08P01"),
        (b"NE", "prefer", "08P01"),
        (b"X", "prefer", "08P01"),
        (b"E\0\0\0\x10", "prefer", "08P01"),
        (b"N", "require", "08001"),
        (b"", "prefer", "57P03"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            database: "d".to_owned(),
            user: "u".to_owned(),
        };
        let gate = Gate::builder().allow_all().upstream(&format!("sslmode = \"{sslmode}\"")).start(&target);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 8];
            std::io::Read::read_exact(&mut stream, &mut request).unwrap();
            assert_eq!(request, m::ssl_request()[..]);
            std::io::Write::write_all(&mut stream, answer).unwrap();
            // Fails when the gate has closed already.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut more = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stream, &mut more);
            more
        });
        let (_, frames) = start(&gate.target(), &[]);
        assert_eq!(frames[0].sqlstate(), sqlstate, "{answer:?}: {frames:?}");
        let more = server.join().unwrap();
        assert!(more.is_empty(), "the startup packet went to a server that cannot be trusted: {more:?}");
    }
}

/// A server that is asked for a session: gives the accepted connection and the startup packet to `act`.
fn fake_server(
    act: impl FnOnce(std::net::TcpStream, std::net::TcpListener) + Send + 'static,
) -> (Target, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        database: "d".to_owned(),
        user: "u".to_owned(),
    };
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        act(stream, listener);
    });
    (target, server)
}

fn packet(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    std::io::Read::read_exact(stream, &mut length).unwrap();
    let size = usize::try_from(u32::from_be_bytes(length)).unwrap();
    let mut body = vec![0; size.checked_sub(4).unwrap()];
    std::io::Read::read_exact(stream, &mut body).unwrap();
    [&length[..], &body].concat()
}

#[test]
fn a_silent_server_is_given_up_at_the_connect_timeout() {
    let (told, wait) = std::sync::mpsc::channel::<()>();
    // Accepts, reads SSLRequest and says nothing until the test is over.
    let (target, server) = fake_server(move |_stream, _listener| {
        let _ = wait.recv();
    });
    let gate = Gate::builder().allow_all().upstream("connect_timeout = \"200ms\"").start(&target);
    let (_, frames) = start(&gate.target(), &[]);
    assert_eq!(frames[0].sqlstate(), "57P03", "{frames:?}");
    drop(told);
    server.join().unwrap();
}

#[test]
fn every_address_of_the_servers_name_is_tried() {
    let database = shared();
    // Means ::1 first on many machines, where the cluster does not listen.
    let named = Target { host: "localhost".to_owned(), ..database.target().clone() };
    let gate = Gate::transparent(&named);
    assert_eq!(Raw::login(&gate.target()).value("SELECT 1"), "1");
}

#[test]
fn clients_treat_a_gate_whose_server_is_down_like_a_server_that_is_down() {
    let database = shared();
    // No socket is in it.
    let empty = tempfile::tempdir().unwrap();
    let gate = Gate::builder().allow_all().upstream_host(empty.path().to_str().unwrap()).start(database.target());
    let (up, down) = (database.target(), gate.target());
    let conninfo = format!(
        "host={},{} port={},{} dbname={} user={} sslmode=disable",
        down.host, up.host, down.port, up.port, up.database, up.user
    );
    assert_eq!(Psql::conninfo(conninfo).command("SELECT 'next host'").ok(), "next host\n");
    // 1: rejecting connections. It says 0, accepting, for every SQLSTATE but this one.
    assert_eq!(tool("pg_isready", &down, &[]).status, Some(1));
    assert_eq!(tool("pg_isready", up, &[]).status, Some(0));
}

#[test]
fn long_cancel_keys_of_protocol_3_2_are_passed_on_whole() {
    let key: Vec<u8> = (0..=255).collect();
    let told = key.clone();
    let (target, server) = fake_server(move |mut session, listener| {
        let startup = packet(&mut session);
        assert_eq!(startup[4..8], m::VERSION_3_2.to_be_bytes());
        let key_data = m::frame(b'K', &[&7_u32.to_be_bytes()[..], &told].concat());
        let hello = [m::frame(b'R', &[0; 4]), key_data, m::frame(b'Z', b"I")].concat();
        std::io::Write::write_all(&mut session, &hello).unwrap();
        let (mut cancel, _) = listener.accept().unwrap();
        assert_eq!(packet(&mut cancel), m::cancel_request(7, &told));
    });
    let gate = Gate::builder().allow_all().upstream("sslmode = \"disable\"").start(&target);
    let mut raw = connect(&gate.target());
    raw.send(m::startup_version(m::VERSION_3_2, &[("user", "u"), ("database", "d")]));
    raw.until(b'Z');
    assert_eq!(raw.key, Some((7, key.clone())));
    let mut cancel = connect(&gate.target());
    cancel.send(m::cancel_request(7, &key));
    assert!(cancel.until_eof().is_empty());
    server.join().unwrap();
}

// Start and end

#[test]
fn a_gate_that_cannot_start_says_why_and_what_to_change() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (toml, said) in [
        (format!("[listen]\naddress = \"{}\"\n", taken.local_addr().unwrap()), "[listen] address"),
        (
            "[listen.tls]\nmode = \"require\"\ncertificate = \"nowhere.crt\"\nkey = \"nowhere.key\"\n".to_owned(),
            "nowhere.crt",
        ),
        ("[upstream]\nsslmode = \"verify-ca\"\n".to_owned(), "CA file"),
        ("[upstream]\nsslmode = \"verify-full\"\nca = \"nowhere.crt\"\n".to_owned(), "nowhere.crt"),
    ] {
        let config = directory.path().join("querygate.toml");
        let text =
            if toml.contains("[listen]") { toml } else { format!("[listen]\naddress = \"127.0.0.1:0\"\n{toml}") };
        fs::write(&config, text + "[admin]\naddress = \"none\"\n").unwrap();
        let output = std::process::Command::new(proxy_tests::gate::binary())
            .args(["serve", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{said}: {stderr}");
    }
}

#[test]
fn the_ready_file_names_the_addresses() {
    let database = shared();
    let gate = Gate::transparent(database.target());
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    // A directory of its own: two gates cannot share one record.
    let config = directory.path().join("querygate.toml");
    fs::copy(&gate.config, &config).unwrap();
    let mut command = std::process::Command::new(proxy_tests::gate::binary());
    command.args(["serve", "--config"]).arg(&config).arg("--ready-file").arg(&ready);
    let mut second = proxy_tests::process::Watched::spawn(command);
    let text = proxy_tests::raw::eventually("the ready file", || fs::read_to_string(&ready).ok());
    let (clients, admin) = text.trim().split_once('\n').unwrap();
    assert_ne!(clients, admin);
    let address: std::net::SocketAddr = clients.parse().unwrap();
    let target = Target { port: address.port(), ..gate.target() };
    assert_eq!(Raw::login(&target).value("SELECT 1"), "1");
    second.signal(Signal::SIGINT);
    assert!(second.wait(DEADLINE).success());
}

#[test]
fn sessions_on_several_threads_all_work_and_all_end() {
    let database = shared();
    let mut gate = Gate::builder().allow_all().limits("workers = 3").start(database.target());
    let mut sessions: Vec<Raw> = (0..9).map(|_| Raw::login(&gate.target())).collect();
    let names: Vec<String> = fs::read_dir(format!("/proc/{}/task", gate.process.pid()))
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .filter(|name| name.starts_with("sessions-"))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for session in &mut sessions {
        assert_eq!(session.value("SELECT 1"), "1");
    }
    // A cancel request comes on whichever thread; the session is found on another.
    let busy = &mut sessions[0];
    let (pid, key) = busy.key.clone().unwrap();
    busy.send(m::query("SELECT pg_sleep(600)"));
    let mut watch = database.raw();
    proxy_tests::raw::eventually("it sleeps", || {
        let event = watch.value(&format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"));
        (event == "PgSleep").then_some(())
    });
    let mut cancel = connect(&gate.target());
    cancel.send(m::cancel_request(pid, &key));
    assert!(cancel.until_eof().is_empty());
    assert!(busy.until(b'Z').iter().any(|frame| frame.sqlstate() == "57014"));
    gate.process.signal(Signal::SIGTERM);
    for session in &mut sessions {
        assert_eq!(session.until_eof().last().unwrap().sqlstate(), "57P01");
    }
    assert!(gate.process.wait(DEADLINE).success());
}

#[test]
fn a_second_signal_ends_a_gate_that_waits() {
    let database = shared();
    let mut gate = Gate::builder().allow_all().limits("drain_deadline = \"10m\"").start(database.target());
    let mut raw = Raw::login(&gate.target());
    raw.send(m::query("SELECT pg_sleep(600)"));
    gate.process.signal(Signal::SIGTERM);
    let ending = gate.process.wait_line(DEADLINE, |line| line.contains("ending: no new").then_some(()));
    assert!(ending.is_some(), "{}", gate.process.log());
    gate.process.signal(Signal::SIGTERM);
    raw.until_eof();
    assert!(gate.process.wait(DEADLINE).success());
}
