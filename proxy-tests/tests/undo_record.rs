//! An undo names what it undoes, and what it undid says so: on record, in the API, on the command line and in Slack, across restarts of the gate.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proxy_tests::raw::{Raw, eventually};
use proxy_tests::slack::Workspace;
use proxy_tests::undo::{SHOP, SHOP_TABLES, Stage, has_ended_well, request, said, stage, stage_with};
use serde_json::Value;

/// What the API says of a request's undos, once there are so many.
fn undone(stage: &Stage, id: &str, times: usize) -> Vec<Value> {
    eventually("it is said to be undone", || {
        let undone = stage.gate.api().get(&format!("/v1/requests/{id}"))["progress"]["undone"].clone();
        undone.as_array().cloned().filter(|undone| undone.len() == times)
    })
}

#[test]
fn both_requests_name_each_other_with_rows_and_conflicts() {
    let stage = stage("max_rows = 100", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM visits"));
    stage.database.run("INSERT INTO visits VALUES (1, NULL)");
    let told = said(&stage.restore(&id, &["--dry-run"]));
    assert!(told.contains("would be restored"), "{told}");
    let told = said(&stage.restore(&id, &[]));
    assert!(told.contains("1 row restored") && told.contains("conflict"), "{told}");
    let first = undone(&stage, &id, 1)[0].clone();
    let by = first["by"].as_str().unwrap().to_owned();
    assert!(told.contains(&by), "{by}: {told}");
    assert_eq!(
        (&first["role"], &first["restored"], &first["conflicts"]),
        (&stage.undoer.as_str().into(), &1.into(), &1.into()),
        "a rehearsal is none"
    );
    let undo = stage.gate.api().get(&format!("/v1/requests/{by}"));
    assert_eq!(undo["undoes"], id.as_str());
    assert_eq!(stage.audited("held", &by)[0]["event"]["request"]["undoes"], id.as_str());
    assert_eq!(stage.audited("undone", &id)[0]["event"]["undone"]["by"], by.as_str());
    // The rest, and then it is all undone.
    stage.database.run("DELETE FROM visits WHERE id = 1");
    assert!(stage.restore(&id, &[]).status.success());
    let both = undone(&stage, &id, 2);
    assert_eq!((&both[1]["restored"], &both[1]["conflicts"]), (&1.into(), &0.into()));
    assert_ne!(both[1]["by"], by.as_str());
    let words = format!("undone by {by}, role {}: 1 row restored, 1 row in conflict left alone", stage.undoer);
    let shown = std::process::Command::new(proxy_tests::gate::binary())
        .args(["requests", "show", &id, "--api", &format!("http://{}", stage.gate.admin)])
        .env("QUERYGATE_TOKEN", proxy_tests::gate::ANN)
        .output()
        .unwrap();
    assert!(said(&shown).contains(&words), "{}", said(&shown));
    assert_eq!(stage.value("SELECT count(*) FROM querygate_undo.undoing"), "0", "the gate has heard");
}

#[test]
fn an_undo_counts_when_it_is_committed() {
    let stage = stage_with("max_rows = 100", "clear_interval = \"100ms\"", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM visits"));
    let mut undoer = Raw::login(&stage.gate.target().with_user(&stage.undoer));
    let undo = format!("SELECT * FROM querygate_undo.restore('{id}');");
    for end in ["ROLLBACK", "COMMIT"] {
        undoer.query("BEGIN");
        undoer.query(&undo);
        assert_eq!(stage.audited("undone", &id), [0; 0], "{end}");
        undoer.query(end);
    }
    let done = undone(&stage, &id, 1);
    assert_eq!(done[0]["restored"], 2);
    assert!(done[0]["by"].as_str().is_some(), "written by hand it is the same statement");
    assert_eq!(stage.audited("undone", &id).len(), 1);
}

#[test]
fn an_undo_while_no_gate_runs_is_on_record_once_one_does_and_once_only() {
    let stage = stage_with("max_rows = 100", "clear_interval = \"100ms\"", SHOP, SHOP_TABLES);
    let id = request(&stage.login().query("DELETE FROM visits"));
    stage.record_of(&id);
    // The gate hears of nothing for a while, and is started anew meanwhile.
    stage.database.run(&format!("ALTER ROLE {} NOLOGIN", stage.keeper));
    let mut direct = Raw::login(&stage.database.target().with_user(&stage.undoer));
    assert!(has_ended_well(&direct.query(format!("SELECT * FROM querygate_undo.restore('{id}')"))));
    let stage = stage.restarted();
    assert_eq!(stage.audited("undone", &id), [0; 0]);
    stage
        .database
        .run(&format!("CREATE TABLE again AS SELECT * FROM querygate_undo.undoing; ALTER ROLE {} LOGIN", stage.keeper));
    eventually("it is on record", || (stage.audited("undone", &id).len() == 1).then_some(()));
    eventually("the gate has heard", || {
        (stage.value("SELECT count(*) FROM querygate_undo.undoing") == "0").then_some(())
    });
    // Told twice, as after a crash between the record and the database.
    stage.database.run("INSERT INTO querygate_undo.undoing OVERRIDING SYSTEM VALUE SELECT * FROM again");
    eventually("it has heard again", || {
        (stage.value("SELECT count(*) FROM querygate_undo.undoing") == "0").then_some(())
    });
    let events = stage.audited("undone", &id);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0]["event"]["undone"];
    assert_eq!((&event["role"], &event["restored"]), (&stage.undoer.as_str().into(), &2.into()));
    assert!(event["by"].is_null(), "it went past the gate");
}

#[tokio::test]
async fn the_card_of_what_was_undone_says_so_also_after_a_restart() {
    let workspace = Workspace::with_people().await;
    let slack = format!(
        "[slack]\nchannel = \"C0APPR\"\nbot_token = \"{}\"\napp_token = \"{}\"\napi_url = \"{}\"\nteam_id = \"{}\"\npost_interval = \"0s\"",
        workspace.bot_token(),
        workspace.app_token(),
        workspace.api_url(),
        workspace.team_id(),
    );
    let stage = stage_with("max_rows = 100", &slack, SHOP, SHOP_TABLES);
    workspace.wait_for_sockets(2).await;
    let first = request(&stage.login().query("DELETE FROM visits"));
    let card = workspace.wait_for_message("C0APPR", 1).await;
    let second = request(&stage.login().query("DELETE FROM items WHERE id = 1"));
    let later = workspace.wait_for_message("C0APPR", 2).await;
    assert!(stage.restore(&first, &[]).status.success());
    let says = async |ts: String| {
        let probe = |state: &proxy_tests::slack::State| {
            let text = state.message("C0APPR", &ts)?.rendered();
            (text.contains("undone by qg-") && text.contains("restored")).then_some(text)
        };
        workspace.wait_for("the card says that it was undone", probe).await
    };
    let text = says(card.ts.clone()).await;
    assert!(text.contains("2 rows restored"), "{text}");
    stage.record_of(&second);
    let stage = stage.restarted();
    assert!(stage.restore(&second, &[]).status.success());
    let text = says(later.ts.clone()).await;
    assert!(text.contains(&stage.undoer) && text.contains("1 row restored"), "{text}");
}
