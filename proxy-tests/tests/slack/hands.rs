//! What people can do, and what the app is told of it.

use proxy_tests::slack::{Delivery, Ending, Impossible, Workspace};
use serde_json::{Value, json};

use crate::client::{Client, Ear, mock_up, ok};

#[tokio::test]
async fn a_click_tells_everything_slack_tells() {
    let workspace = Workspace::with_people().await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let told = workspace.click("C0APPR", &ts, "approve", "U0ELSE").unwrap().payload();
    assert_eq!(told["type"], json!("block_actions"));
    assert_eq!(told["user"], json!({ "id": "U0ELSE", "username": "elsa", "name": "elsa", "team_id": "T0ELSE" }));
    assert_eq!((&told["team"], &told["enterprise"]), (&json!({ "id": "T0HOLD", "domain": "holdout" }), &Value::Null));
    assert_eq!(
        told["container"],
        json!({ "type": "message", "message_ts": ts, "channel_id": "C0APPR", "is_ephemeral": false })
    );
    assert_eq!(told["channel"], json!({ "id": "C0APPR", "name": "approvals" }));
    assert_eq!(
        (&told["message"]["ts"], &told["message"]["blocks"][4]["block_id"]),
        (&json!(ts), &json!("decide:7K3F"))
    );
    let action = &told["actions"][0];
    assert_eq!((&action["action_id"], &action["block_id"]), (&json!("approve"), &json!("decide:7K3F")));
    assert_eq!((&action["value"], &action["type"]), (&json!("v1:7K3F:b8c08e78c676"), &json!("button")));
    assert_eq!(action["confirm"]["deny"]["text"], json!("Go back"));
    assert!(action["action_ts"].is_string() && told["trigger_id"].is_string());
    assert!(told["response_url"].as_str().unwrap().starts_with(workspace.api_url().trim_end_matches("/api")));
    workspace.install_for(Some("E0ORG"));
    let told = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap().payload();
    assert_eq!((&told["team"], &told["enterprise"]["id"]), (&Value::Null, &json!("E0ORG")));
    assert_eq!((&told["is_enterprise_install"], &told["user"]["team_id"]), (&json!(true), &json!("T0HOLD")));
}

#[tokio::test]
async fn a_button_that_is_gone_cannot_be_clicked_but_a_click_can_be_late() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let ts = client.say_pending("C0APPR");
    let mut approved = mock_up("approved.json");
    approved["channel"] = json!("C0APPR");
    approved["ts"] = json!(ts);
    ok(&client.call("chat.update", &approved));
    let none = Impossible::NoAction(Vec::new());
    assert_eq!(workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap_err(), none);
    let late = workspace.stale_click("C0APPR", &ts, "approve", "U0APP1").unwrap().payload();
    assert_eq!(late["actions"][0]["value"], json!("v1:7K3F:b8c08e78c676"));
    assert_eq!(late["message"]["blocks"][4]["block_id"], json!("decide:7K3F"));
    assert_eq!(workspace.stale_click("C0APPR", &ts, "never", "U0APP1").unwrap_err(), none);
}

#[tokio::test]
async fn only_who_sees_a_message_can_click_in_it() {
    let workspace = Workspace::with_people().await;
    let ts = Client::new(&workspace).say_pending("C0APPR");
    let click = |ts: &str, action: &str, user: &str| workspace.click("C0APPR", ts, action, user).map(drop).unwrap_err();
    workspace.change_channel("C0APPR", |channel| channel.members.retain(|id| id != "U0OUT"));
    assert_eq!(click(&ts, "approve", "U0OUT"), Impossible::NoMessage);
    assert_eq!(click("1.2", "approve", "U0APP1"), Impossible::NoMessage);
    assert_eq!(click(&ts, "approve", "U0NONE"), Impossible::NoUser("U0NONE".to_owned()));
    let known = ["approve", "reject", "details"].map(str::to_owned).to_vec();
    assert_eq!(click(&ts, "release", "U0APP1"), Impossible::NoAction(known));
    workspace.change_user("U0APP2", |user| user.deleted = true);
    assert_eq!(click(&ts, "approve", "U0APP2"), Impossible::NoUser("U0APP2".to_owned()));
    workspace.stale_click("C0APPR", &ts, "approve", "U0APP2").unwrap();
    workspace.stale_click("C0APPR", &ts, "approve", "U0OUT").unwrap();
}

#[tokio::test]
async fn an_option_is_chosen_by_its_value() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let option = |value: &str| json!({ "text": { "type": "plain_text", "text": value }, "value": value });
    let blocks = json!([{ "type": "actions", "elements": [
        { "type": "static_select", "action_id": "for", "options": [option("5"), option("15")] }] }]);
    let answer = client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": "x", "blocks": blocks }));
    let ts = ok(&answer)["ts"].as_str().unwrap();
    let told = workspace.choose("C0APPR", ts, "for", Some("15"), "U0APP1").unwrap().payload();
    assert_eq!(told["actions"][0]["selected_option"]["value"], json!("15"));
    assert_eq!(workspace.choose("C0APPR", ts, "for", Some("60"), "U0APP1").unwrap_err(), Impossible::NoOption);
}

/// Opens the modal of `file` for ann over a socket that is then free.
fn open(workspace: &Workspace, file: &str) -> Delivery {
    let command = workspace.slash("C0APPR", "/querygate", "", "U0APP1").unwrap();
    let call = json!({ "trigger_id": command.trigger_id(), "view": mock_up(file) });
    ok(&Client::new(workspace).call("views.open", &call));
    command
}

/// Sends the reject modal off and answers it.
async fn submit(workspace: &Workspace, ear: &mut Ear, answer: Option<Value>) -> (Value, Ending) {
    let delivery = workspace.submit_view("U0APP1", &[("why", "not during the sale")]).unwrap();
    let envelope = ear.envelope().await;
    assert_eq!(envelope["accepts_response_payload"], json!(true));
    ear.acknowledge(&envelope, answer).await;
    (envelope["payload"].clone(), delivery.ended().await)
}

#[tokio::test]
async fn a_submission_tells_what_was_filled_in_and_closes_the_view() {
    let workspace = Workspace::with_people().await;
    let mut ear = Ear::open(&workspace).await;
    open(&workspace, "reject_modal.json");
    let command = ear.envelope().await;
    ear.acknowledge(&command, None).await;
    let (told, ending) = submit(&workspace, &mut ear, None).await;
    assert_eq!(told["type"], json!("view_submission"));
    assert_eq!(
        told["view"]["state"]["values"],
        json!({ "why": { "text": { "type": "plain_text_input", "value": "not during the sale" } } })
    );
    assert_eq!(told["view"]["private_metadata"], mock_up("reject_modal.json")["private_metadata"]);
    assert_eq!((&told["view"]["callback_id"], &told["user"]["id"]), (&json!("reject"), &json!("U0APP1")));
    assert!(ending.acknowledged);
    assert!(workspace.look(|state| state.modal("U0APP1").is_none()));
    workspace.assert_no_violations();
}

#[tokio::test]
async fn a_submission_can_be_answered_with_faults_or_another_view() {
    let workspace = Workspace::with_people().await;
    let mut ear = Ear::open(&workspace).await;
    open(&workspace, "reject_modal.json");
    let command = ear.envelope().await;
    ear.acknowledge(&command, None).await;
    let faults = json!({ "response_action": "errors", "errors": { "why": "say more" } });
    submit(&workspace, &mut ear, Some(faults)).await;
    let shown = workspace.look(|state| state.modal("U0APP1").unwrap().errors.clone());
    assert_eq!(shown["why"], json!("say more"));
    let mut other = mock_up("reject_modal.json");
    other["title"]["text"] = json!("Really?");
    submit(&workspace, &mut ear, Some(json!({ "response_action": "update", "view": other }))).await;
    assert!(workspace.look(|state| state.modal("U0APP1").unwrap().rendered().starts_with("== Really? ==")));
    submit(&workspace, &mut ear, Some(json!({ "response_action": "push", "view": mock_up("reject_modal.json") })))
        .await;
    assert!(workspace.look(|state| state.modal("U0APP1").unwrap().previous.is_some()));
    workspace.assert_no_violations();
    submit(&workspace, &mut ear, Some(json!({ "response_action": "clear" }))).await;
    assert!(workspace.look(|state| state.modal("U0APP1").is_none()));
}

#[tokio::test]
async fn wrong_answers_to_a_submission_are_noted() {
    let workspace = Workspace::with_people().await;
    let mut ear = Ear::open(&workspace).await;
    let command = open(&workspace, "reject_modal.json");
    let envelope = ear.envelope().await;
    ear.acknowledge(&envelope, Some(json!({ "text": "x", "colour": "red" }))).await;
    command.ended().await;
    for (number, wrong) in [
        json!({ "response_action": "errors", "errors": { "reason": "no such block" } }),
        json!({ "response_action": "errors" }),
        json!({ "response_action": "update", "view": { "type": "modal" } }),
        json!({ "response_action": "close" }),
    ]
    .into_iter()
    .enumerate()
    {
        submit(&workspace, &mut ear, Some(wrong)).await;
        assert_eq!(workspace.look(|state| state.violations().len()), number + 2);
    }
}

#[tokio::test]
async fn the_client_sends_off_only_what_the_view_allows() {
    let workspace = Workspace::with_people().await;
    open(&workspace, "reject_modal.json");
    let invalid = |values: &[(&str, &str)]| {
        assert!(matches!(workspace.submit_view("U0APP1", values).unwrap_err(), Impossible::Invalid(_)), "{values:?}");
    };
    invalid(&[]);
    invalid(&[("why", "")]);
    invalid(&[("why", "no")]);
    invalid(&[("why", &"x".repeat(501))]);
    invalid(&[("why", "because"), ("when", "later")]);
    assert_eq!(workspace.submit_view("U0APP2", &[("why", "because")]).unwrap_err(), Impossible::NoView);
    assert!(workspace.close_view("U0APP1").unwrap().is_none(), "nobody asked to be told");
    assert_eq!(workspace.close_view("U0APP1").unwrap_err(), Impossible::NoView);
}

#[tokio::test]
async fn a_command_is_told_and_its_answer_is_for_one() {
    let workspace = Workspace::with_people().await;
    let mut ear = Ear::open(&workspace).await;
    let delivery = workspace.slash("C0APPR", "/querygate", "show 7K3F", "U0APP1").unwrap();
    let envelope = ear.envelope().await;
    assert_eq!((&envelope["type"], &envelope["accepts_response_payload"]), (&json!("slash_commands"), &json!(true)));
    let told = &envelope["payload"];
    assert_eq!(
        (&told["command"], &told["text"], &told["user_id"]),
        (&json!("/querygate"), &json!("show 7K3F"), &json!("U0APP1"))
    );
    assert_eq!((&told["team_id"], &told["channel_id"]), (&json!("T0HOLD"), &json!("C0APPR")));
    ear.acknowledge(&envelope, Some(json!({ "text": "one waits" }))).await;
    assert_eq!(delivery.ended().await.answer, Some(json!({ "text": "one waits" })));
    let seen = workspace.look(|state| state.ephemerals("U0APP1")[0].content.rendered());
    assert_eq!(seen, "one waits");
    assert!(workspace.messages("C0APPR").is_empty());
    workspace.assert_no_violations();
}

#[tokio::test]
async fn opening_the_home_tab_is_an_event_with_what_is_shown() {
    let workspace = Workspace::with_people().await;
    let first = workspace.open_home("U0APP1").unwrap().payload();
    assert_eq!((&first["type"], &first["event"]["type"]), (&json!("event_callback"), &json!("app_home_opened")));
    assert_eq!((&first["event"]["tab"], first["event"].get("view")), (&json!("home"), None));
    let call = json!({ "user_id": "U0APP1", "view": mock_up("app_home.json") });
    let id = ok(&Client::new(&workspace).call("views.publish", &call))["view"]["id"].clone();
    let second = workspace.open_home("U0APP1").unwrap().payload();
    assert_eq!(second["event"]["view"]["id"], id);
    assert_ne!(first["event_id"], second["event_id"]);
    let click = workspace.click_view("open:7K3F", "U0APP1").unwrap().payload();
    assert_eq!(click["container"], json!({ "type": "view", "view_id": id }));
    assert_eq!((click.get("channel"), click.get("response_url"), click.get("message")), (None, None, None));
    assert_eq!(click["actions"][0]["value"], json!("v1:7K3F"));
}
