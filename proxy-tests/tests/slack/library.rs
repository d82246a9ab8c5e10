//! Slack's own Python library against the stand-in: what it understands, Slack's answers look like.

use proxy_tests::psql::python_script;
use proxy_tests::slack::Workspace;
use serde_json::{Value, json};

#[tokio::test]
async fn slacks_own_library_works_with_the_stand_in() {
    let workspace = Workspace::with_people().await;
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/slack");
    let arguments = [workspace.api_url(), workspace.bot_token(), workspace.app_token(), corpus.display().to_string()];
    let library = tokio::task::spawn_blocking(move || {
        python_script("slack_sdk_client.py", &arguments.each_ref().map(String::as_str)).ok()
    });
    workspace.wait_for_sockets(1).await;
    let ts = workspace.wait_for_message("C0APPR", 1).await.ts;
    let click = workspace.click("C0APPR", &ts, "reject", "U0APP1").unwrap();
    assert!(click.ended().await.acknowledged);
    workspace.wait_for("the modal", |state| state.modal("U0APP1").map(drop)).await;
    let command = workspace.slash("C0APPR", "/querygate", "pending", "U0APP1").unwrap();
    assert_eq!(command.ended().await.answer, Some(json!({ "text": "nothing waits" })));
    let submission = workspace.submit_view("U0APP1", &[("why", "not during the sale")]).unwrap();
    assert!(submission.ended().await.acknowledged);
    let said: Vec<Value> = library.await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mock_ups, calls): (Vec<Value>, Vec<Value>) = said.into_iter().partition(|line| line.get("mock_up").is_some());
    assert_eq!(mock_ups.len(), 14);
    assert!(mock_ups.iter().all(|line| line["same"] == json!(true)), "{mock_ups:?}");
    let colour = "[ERROR] invalid additional property: colour [json-pointer:/blocks/0]";
    assert_eq!(
        calls,
        [
            json!({ "auth": "U0GATE" }),
            json!({ "posted": "B0GATE" }),
            json!({ "user": "ann@example.com" }),
            json!({ "found": "U0REQ" }),
            json!({ "groups": ["dba", "leads"] }),
            json!({ "members": ["U0APP1", "U0APP2"] }),
            json!({ "file": "7K3F" }),
            json!({ "refused": "invalid_blocks", "where": [colour] }),
            json!({ "reason": "not during the sale" }),
        ]
    );
    workspace.assert_no_violations();
}
