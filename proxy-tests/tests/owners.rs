//! An owners file, end to end: the real gate before a real Postgres asks each owner in Slack, and needs all of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use proxy_tests::gate::{BOB, Gate, binary};
use proxy_tests::message as m;
use proxy_tests::postgres::{Database, shared};
use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::{Channel, Message, State, Workspace};
use serde_json::json;
use tempfile::TempDir;

/// The usual conversation, and those of the owners.
const USUAL: &str = "C0APPR";
const SHOP: &str = "C0SHOP";
const CRM: &str = "C0CRM";

const OWNERS: &str = "\
shop.*      shop-team        slack=C0SHOP
shop.free
crm.*       slack:S0LEAD     slack=C0CRM
<unnamed>   anna
";

struct Stage {
    workspace: Workspace,
    database: Database,
    gate: Gate,
    dir: TempDir,
}

impl Stage {
    async fn start() -> Self {
        let workspace = Workspace::with_people().await;
        for id in [SHOP, CRM] {
            workspace.add_channel(Channel::new(id, &id.to_lowercase(), &["U0REQ", "U0APP1", "U0APP2", "U0LEAD"]));
        }
        let database = shared();
        database.run(
            "CREATE SCHEMA shop; CREATE SCHEMA crm; CREATE TABLE shop.orders (x int); CREATE TABLE shop.free (x int); \
             CREATE TABLE crm.people (x int); INSERT INTO shop.orders VALUES (1), (2); INSERT INTO crm.people VALUES (1)",
        );
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("OWNERS"), OWNERS).unwrap();
        let gate = Gate::builder().toml(&toml(&workspace, &database, dir.path())).start(database.target());
        workspace.wait_for_sockets(2).await;
        Self { workspace, database, gate, dir }
    }

    /// The newest message of a conversation, once it says `text`.
    async fn saying(&self, conversation: &str, text: &str) -> Message {
        let probe = |state: &State| {
            let messages = state.messages(conversation);
            messages.into_iter().rev().find(|message| message.rendered().contains(text)).cloned()
        };
        self.workspace.wait_for(&format!("{conversation}: {text}"), probe).await
    }

    fn rows(&self, table: &str) -> String {
        self.database.raw().value(&format!("SELECT count(*) FROM {table}"))
    }
}

/// rita asks; anna decides by the profile; ben and rita are the shop team.
fn toml(workspace: &Workspace, database: &Database, dir: &Path) -> String {
    format!(
        "{}\
         call_deadline = \"3s\"\nlongest_pause = \"1s\"\n\
         [[people]]\nname = \"anna\"\nslack_user = \"U0APP1\"\n\
         [[people]]\nname = \"ben\"\nslack_user = \"U0APP2\"\ngroups = [\"shop-team\"]\n\
         [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"{}\"]\ngroups = [\"shop-team\"]\n\
         [[approval.profile]]\nname = \"several\"\napprover_groups = [\"approvers\"]\napprovers = [\"anna\"]\n\
         [policy]\nowners = \"{}\"\n\
         [[rule]]\nname = \"deletes\"\neffects = [\"delete\", \"code\"]\naction = \"hold\"\napproval = \"several\"\n\
         [[rule]]\nname = \"rest\"\naction = \"allow\"\n",
        workspace.section(USUAL),
        database.target().user,
        dir.join("OWNERS").display(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_two_owners_runs_once_the_approver_and_both_owners_agreed_and_not_before() {
    let stage = Stage::start().await;
    let mut raw = Raw::login(&stage.gate.target());
    raw.send(m::query("DELETE FROM shop.orders; DELETE FROM crm.people"));
    let notice = raw.until(b'N').pop().and_then(|notice| notice.field(b'D')).unwrap();
    assert!(
        notice.contains("group shop-team, owners of shop.orders; and besides group slack:S0LEAD, owners of crm.people"),
        "{notice}"
    );
    for conversation in [USUAL, SHOP, CRM] {
        let message = stage.saying(conversation, "Approval needed").await;
        let text = message.rendered();
        assert!(text.contains("owners of shop.orders") && text.contains("<!subteam^S0LEAD>"), "{text}");
    }
    // anna may approve by the profile; no owner has agreed yet.
    let usual = stage.saying(USUAL, "Approval needed").await;
    stage.workspace.click(USUAL, &usual.ts, "approve", "U0APP1").unwrap().ended().await;
    stage.saying(USUAL, "still to agree: group shop-team, owners of shop.orders; group <!subteam^S0LEAD>").await;
    // rita is of the shop team, and asked for it herself.
    let shop = stage.saying(SHOP, "Approval needed").await;
    stage.workspace.click(SHOP, &shop.ts, "approve", "U0REQ").unwrap().ended().await;
    stage.workspace.click(SHOP, &shop.ts, "approve", "U0APP2").unwrap().ended().await;
    stage.saying(SHOP, "still to agree: group <!subteam^S0LEAD>").await;
    assert_eq!((stage.rows("shop.orders"), stage.rows("crm.people")), ("2".to_owned(), "1".to_owned()));
    let waiting = &stage.gate.api().with_token(BOB).pending()[0];
    let lead = json!({"owner": "group slack:S0LEAD", "objects": ["crm.people"], "more": false, "lines": [3]});
    assert_eq!(waiting["owners"][1], lead);
    assert_eq!(waiting["progress"]["owners_missing"], json!(["group slack:S0LEAD, owners of crm.people"]));
    let crm = stage.saying(CRM, "Approval needed").await;
    stage.workspace.click(CRM, &crm.ts, "approve", "U0LEAD").unwrap().ended().await;
    raw.until(b'Z');
    assert_eq!((stage.rows("shop.orders"), stage.rows("crm.people")), ("0".to_owned(), "0".to_owned()));
    for conversation in [USUAL, SHOP, CRM] {
        stage.saying(conversation, "Done:").await;
    }
    let audit = fs::read_to_string(stage.gate.dir().join("querygate-audit.jsonl")).unwrap();
    assert!(audit.contains(
        "\"owners\":[{\"of\":[\"shop.orders\"],\"groups\":[\"shop-team\"],\"slack\":[\"C0SHOP\"],\"lines\":[1]}"
    ));
    stage.workspace.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_statement_keeps_the_owners_it_was_judged_by_and_the_next_has_those_of_the_changed_file() {
    let stage = Stage::start().await;
    let (mut before, mut after) = (Raw::login(&stage.gate.target()), Raw::login(&stage.gate.target()));
    before.send(m::query("DELETE FROM shop.orders WHERE x = 1"));
    let first = stage.saying(SHOP, "Approval needed").await;
    // Changed on disk, and noticed without a signal: nobody owns orders any more.
    fs::write(stage.dir.path().join("OWNERS"), "shop.* shop-team slack=C0SHOP\nshop.orders\n").unwrap();
    eventually("the new owners", || {
        let audit = fs::read_to_string(stage.gate.dir().join("querygate-audit.jsonl")).ok()?;
        audit.contains("policy-changed").then_some(())
    });
    after.send(m::query("DELETE FROM shop.orders WHERE x = 2"));
    let second = stage.saying(USUAL, "x = 2").await;
    stage.workspace.click(USUAL, &second.ts, "approve", "U0APP1").unwrap().ended().await;
    after.until(b'Z');
    assert_eq!(stage.rows("shop.orders"), "1");
    // The first still needs its owner.
    stage.workspace.click(SHOP, &first.ts, "approve", "U0APP1").unwrap().ended().await;
    stage.saying(SHOP, "still to agree: group shop-team").await;
    assert_eq!(stage.rows("shop.orders"), "1");
    stage.workspace.click(SHOP, &first.ts, "approve", "U0APP2").unwrap().ended().await;
    before.until(b'Z');
    assert_eq!(stage.rows("shop.orders"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_owned_where_a_line_takes_it_away_and_what_names_nothing_is_its_own_lines() {
    let stage = Stage::start().await;
    let mut raw = Raw::login(&stage.gate.target());
    for (sql, asked) in [
        ("DELETE FROM shop.free", "Asked: group approvers, anna.\n"),
        ("DO $$ BEGIN END $$", "Asked: group approvers, anna; and besides anna, owners of what it may touch.\n"),
    ] {
        raw.send(m::query(sql));
        let notice = raw.until(b'N').pop().and_then(|notice| notice.field(b'D')).unwrap();
        assert!(notice.contains(asked), "{sql}: {notice}");
        // anna is approver and owner in one: one vote is enough.
        let message = stage.saying(USUAL, "Approval needed").await;
        stage.workspace.click(USUAL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
        raw.until(b'Z');
    }
}

#[test]
fn check_names_owners_with_their_line_and_lint_finds_what_is_odd_about_them() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("querygate.toml");
    fs::write(&config, "[policy]\nowners = \"OWNERS\"\n[[people]]\nname = \"ann\"\ngroups = [\"dba\"]\n").unwrap();
    let run = |owners: &str, args: &[&str]| {
        fs::write(dir.path().join("OWNERS"), owners).unwrap();
        let output = Command::new(binary()).args(args).arg("--config").arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let explain = ["check", "--explain", "DELETE FROM shop.orders"];
    let (_, text) = run("# who\nshop.* dba\nshop.orders ann|dba\n", &explain);
    assert!(text.contains("owners  group dba or ann, owners of shop.orders (line 3)"), "{text}");
    let (code, text) = run("shop.orders dbaa\nshop.* dba\n", &["policy", "lint"]);
    assert!(code == Some(1) && text.contains("OWNERS:1:1: warning: unknown owner `dbaa`"), "{text}");
    assert!(text.contains("OWNERS:1:1: warning: owners: `shop.orders` is not asked"), "{text}");
}
