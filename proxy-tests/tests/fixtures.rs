//! The fixtures themselves: what every other test rests on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::message;
use proxy_tests::postgres::{Cluster, shared};
use proxy_tests::psql::Psql;
use proxy_tests::raw::Raw;
use proxy_tests::tls::Certificates;
use proxy_tests::transcript;

#[test]
fn shared_databases_are_separate() {
    let (a, b) = (shared(), shared());
    a.run("CREATE TABLE only_here (x int)");
    assert_eq!(a.raw().value("SELECT count(*) FROM pg_class WHERE relname = 'only_here'"), "1");
    assert_eq!(b.raw().value("SELECT count(*) FROM pg_class WHERE relname = 'only_here'"), "0");
}

#[test]
fn psql_sees_a_shared_database() {
    let database = shared();
    assert_eq!(Psql::new(database.target()).command("SELECT 6 * 7").ok().trim(), "42");
}

#[test]
fn a_clusters_own_authentication_and_tls_are_used() {
    let certificates = Certificates::new();
    let cluster = Cluster::builder().tls(&certificates).hba("host all carol 127.0.0.1/32 scram-sha-256").start();
    cluster.admin().rows("CREATE ROLE carol LOGIN PASSWORD 'secret'");
    let target = cluster.target().with_user("carol");
    assert_eq!(Psql::new(&target).password("secret").command("SELECT current_user").ok().trim(), "carol");
    assert_ne!(Psql::new(&target).password("wrong").command("SELECT 1").status, Some(0));
    let mut raw = Raw::connect((target.host.as_str(), target.port)).ssl(certificates.client(&[]), "localhost");
    raw.start(&[("user", "postgres"), ("database", "postgres")]);
    assert_eq!(raw.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
}

#[test]
fn a_dropped_cluster_is_gone() {
    let cluster = Cluster::builder().start();
    let target = cluster.target();
    drop(cluster);
    assert!(std::net::TcpStream::connect((target.host.as_str(), target.port)).is_err());
}

#[test]
fn a_transcript_equals_itself_and_shows_a_difference() {
    let database = shared();
    let target = database.target();
    transcript::same(target, target, |raw| {
        raw.query("CREATE TEMP TABLE t AS SELECT g FROM generate_series(1, 3) g; SELECT * FROM t");
        raw.send(
            [message::extended("SELECT $1::int + 1", &[Some(b"41")]), message::extended("SELECT 1/0", &[])].concat(),
        );
        raw.until_ready(2);
    });
    let one = transcript::run(target, |raw, target| raw.start(&[("user", &target.user)]));
    let mut other = one.clone();
    other.pop();
    assert!(std::panic::catch_unwind(|| transcript::assert_same(&one, &other)).is_err());
}
