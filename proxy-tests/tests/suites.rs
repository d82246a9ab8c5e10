//! Other projects' own test suites through a gate that allows everything: the same results as directly, test by test.
//! `.ci/setup test` fetches them; `proxy-tests/python/suites.py` runs and compares them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use proxy_tests::gate::Gate;
use proxy_tests::postgres::Cluster;
use proxy_tests::psql::python_script;

/// Runs a suite against two clusters, because it makes roles and prepared transactions too: one directly, one behind a gate.
fn gives_the_same_results(suite: &str) {
    let cluster = || {
        Cluster::builder()
            .setting("max_prepared_transactions", "10")
            .setting("wal_level", "logical")
            .setting("jit", "off")
            .start()
    };
    let (direct, behind) = (cluster(), cluster());
    let gate = Gate::transparent(&behind.target());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/suites");
    let (direct, gated) = (direct.target().port.to_string(), gate.target().port.to_string());
    let said = python_script(
        "suites.py",
        &[suite, "--sources", sources.to_str().unwrap(), "--direct", &direct, "--gate", &gated],
    );
    println!("{}", said.ok());
}

#[test]
fn asyncpgs_own_suite_gives_the_same_results() {
    gives_the_same_results("asyncpg");
}

#[test]
fn psycopg2s_own_suite_gives_the_same_results() {
    gives_the_same_results("psycopg2");
}

#[test]
fn sqlalchemys_suite_of_postgres_gives_the_same_results_over_psycopg() {
    gives_the_same_results("sqlalchemy-psycopg-core");
}
