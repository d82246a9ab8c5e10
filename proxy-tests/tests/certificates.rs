//! Whose request it is, by what the client's connection proves and by what it merely says.

use std::fs;
use std::path::Path;

use proxy_tests::gate::{ANN, BOB, Gate};
use proxy_tests::postgres::{Database, shared};
use proxy_tests::psql::{Psql, finish};
use proxy_tests::tls::Certificates;
use tempfile::TempDir;

/// A table of three rows behind a gate that trusts `authority` for clients.
struct Stage {
    database: Database,
    gate: Gate,
    directory: TempDir,
}

impl Stage {
    fn new(listen: &str, authority: &Certificates, people: &str) -> Stage {
        let database = shared();
        database.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Certificates::new();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("gate.crt"), &server.certificate_pem).expect("a file");
        fs::write(at("gate.key"), &server.key_pem).expect("a file");
        fs::write(at("clients.crt"), &authority.ca_pem).expect("a file");
        let tls = format!(
            "[listen.tls]\ncertificate = \"{0}/gate.crt\"\nkey = \"{0}/gate.key\"\nclient_ca = \"{0}/clients.crt\"\n{listen}",
            directory.path().display()
        );
        let gate = Gate::builder().listen(&tls).toml(people).start(database.target());
        Stage { database, gate, directory }
    }

    fn rows(&self) -> String {
        Psql::new(self.database.target()).command("SELECT count(*) FROM t").ok().trim().to_owned()
    }

    fn psql(&self, client: Option<&Certificates>, application: &str) -> Psql {
        let target = self.gate.target();
        let conninfo = format!(
            "host=127.0.0.1 port={} user={} dbname={} sslmode=require application_name={application}",
            target.port, target.user, target.database
        );
        let directory = self.directory.path();
        let [certificate, key] = ["client.crt", "client.key"].map(|name| match client {
            Some(_) => directory.join(name),
            None => directory.join("none"),
        });
        if let Some(client) = client {
            private(&certificate, &client.certificate_pem);
            private(&key, &client.key_pem);
        }
        let conninfo = format!("{conninfo} sslcert={} sslkey={}", certificate.display(), key.display());
        Psql::conninfo(conninfo)
    }
}

/// libpq refuses keys that others may read.
fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("our own file");
}

/// `dora`, an approver whom this key makes known by `name`; an unknown requester needs two approvals.
fn known_as(key: &str, name: &str) -> String {
    format!(
        "[[people]]\nname = \"dora\"\ngroups = [\"approvers\"]\ntoken = \"{DORA}\"\n{key} = [\"{name}\"]\n\
         [[approval.profile]]\nname = \"strict\"\napprover_groups = [\"approvers\"]\nunknown_requester = \"two-approvals\"\n\
         [[rule]]\nname = \"deletes\"\neffects = [\"delete\"]\naction = \"hold\"\napproval = \"strict\"\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"\n"
    )
}

const DORA: &str = "token-of-dora-for-tests-0123456789";

#[test]
fn a_client_certificate_tells_whose_request_it_is() {
    let dora = Certificates::for_client("dora@laptop");
    let stage = Stage::new("mode = \"require\"", &dora, &known_as("certificate_names", "dora@laptop"));
    let child = stage.psql(Some(&dora), "psql").start("DELETE FROM t");
    let id = stage.gate.api().wait_held("DELETE FROM t");
    let request = stage.gate.api().get(&format!("/v1/requests/{id}"));
    assert_eq!(request["origin"]["certificate_name"], "dora@laptop", "{request}");
    assert_eq!(request["origin"]["people"][0], "dora", "{request}");
    let own = stage.gate.api().with_token(DORA).decide(&id, "approve", "mine");
    assert_eq!(own.status, 403, "{}", own.text);
    // She is known, so one other approval is enough.
    stage.gate.api().with_token(BOB).approve(&id);
    finish(child).ok();
    assert_eq!(stage.rows(), "0");
}

#[test]
fn without_a_certificate_the_requester_stays_unknown() {
    let dora = Certificates::for_client("dora@laptop");
    let stage = Stage::new("mode = \"require\"", &dora, &known_as("certificate_names", "dora@laptop"));
    let child = stage.psql(None, "psql").start("DELETE FROM t");
    let id = stage.gate.api().wait_held("DELETE FROM t");
    assert!(stage.gate.api().get(&format!("/v1/requests/{id}"))["origin"]["certificate_name"].is_null());
    stage.gate.api().with_token(BOB).approve(&id);
    assert_eq!(stage.gate.api().pending().len(), 1, "two approvals are needed");
    assert_eq!(stage.rows(), "3");
    stage.gate.api().with_token(ANN).approve(&id);
    finish(child).ok();
    assert_eq!(stage.rows(), "0");
}

#[test]
fn a_certificate_of_another_authority_is_refused_and_a_required_one_is_required() {
    let (dora, stranger) = (Certificates::for_client("dora@laptop"), Certificates::for_client("dora@laptop"));
    for (required, without) in [("optional", true), ("required", false)] {
        let listen = format!("mode = \"require\"\nclient_certificate = \"{required}\"");
        let stage = Stage::new(&listen, &dora, &known_as("certificate_names", "dora@laptop"));
        assert_eq!(stage.psql(Some(&dora), "psql").command("SELECT 1").ok().trim(), "1");
        let said = stage.psql(Some(&stranger), "psql").command("SELECT 1");
        assert!(said.status == Some(2) && !said.stdout.contains('1'), "{said:?}");
        assert_eq!(stage.psql(None, "psql").command("SELECT 1").status == Some(0), without, "{required}");
    }
}

#[test]
fn an_application_name_takes_a_vote_away_and_proves_nothing() {
    let dora = Certificates::for_client("dora@laptop");
    let stage = Stage::new("mode = \"prefer\"", &dora, &known_as("application_names", "doras-notebook"));
    let child = stage.psql(None, "doras-notebook").start("DELETE FROM t");
    let id = stage.gate.api().wait_held("DELETE FROM t");
    let own = stage.gate.api().with_token(DORA).decide(&id, "approve", "mine");
    assert_eq!(own.status, 403, "{}", own.text);
    stage.gate.api().with_token(BOB).approve(&id);
    assert_eq!(stage.gate.api().pending().len(), 1, "the name did not make her known");
    assert_eq!(stage.rows(), "3");
    stage.gate.api().with_token(ANN).approve(&id);
    finish(child).ok();
    assert_eq!(stage.rows(), "0");
}
