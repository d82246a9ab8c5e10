//! Modals, home tabs, triggers and response URLs.

use proxy_tests::slack::{Impossible, Message, Timing, Workspace};
use serde_json::{Value, json};
use std::time::Duration;

use crate::client::{Answer, Client, mock_up, ok, refused};

fn trigger(workspace: &Workspace) -> String {
    workspace.slash("C0APPR", "/querygate", "", "U0APP1").unwrap().trigger_id()
}

fn open(client: &Client, trigger: &str, view: &Value) -> Value {
    client.call("views.open", &json!({ "trigger_id": trigger, "view": view }))
}

#[tokio::test]
async fn a_trigger_opens_one_view() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let view = mock_up("reject_modal.json");
    let trigger = trigger(&workspace);
    // What is refused for another reason leaves the trigger good.
    refused(&open(&client, &trigger, &json!({ "type": "modal" })), "invalid_arguments");
    let answer = open(&client, &trigger, &view);
    assert_eq!(ok(&answer)["view"]["private_metadata"], view["private_metadata"]);
    refused(&open(&client, &trigger, &view), "exchanged_trigger_id");
    refused(&open(&client, "1.2.abc", &view), "invalid_trigger_id");
    assert_eq!(
        workspace.look(|state| state.modal("U0APP1").unwrap().id.clone()),
        answer["view"]["id"].as_str().unwrap()
    );
    assert!(workspace.look(|state| state.modal("U0REQ").is_none()));
}

#[tokio::test]
async fn a_trigger_does_not_live_long() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let trigger = trigger(&workspace);
    workspace.expire_triggers();
    refused(&open(&client, &trigger, &mock_up("reject_modal.json")), "expired_trigger_id");
    let timing = Timing { trigger: Duration::ZERO, ..Timing::default() };
    let workspace = Workspace::builder().timing(timing).start().await;
    workspace.add_people();
    let late = self::trigger(&workspace);
    refused(&open(&Client::new(&workspace), &late, &mock_up("reject_modal.json")), "expired_trigger_id");
    let slacks = Timing::default();
    assert_eq!([slacks.acknowledge, slacks.trigger, slacks.response_url].map(|time| time.as_secs()), [3, 3, 30 * 60]);
}

#[tokio::test]
async fn views_are_updated_by_id_and_hash() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let mut view = mock_up("details_modal.json");
    view["external_id"] = json!("7K3F");
    let opened = open(&client, &trigger(&workspace), &view);
    let (id, hash) = (&ok(&opened)["view"]["id"], &opened["view"]["hash"]);
    refused(&open(&client, &trigger(&workspace), &view), "duplicate_external_id");
    let update = |more: Value| {
        let mut call = json!({ "view": view });
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.call("views.update", &call)
    };
    let updated = update(json!({ "view_id": id, "hash": hash }));
    assert_ne!(ok(&updated)["view"]["hash"], *hash);
    refused(&update(json!({ "view_id": id, "hash": hash })), "hash_conflict");
    ok(&update(json!({ "external_id": "7K3F" })));
    refused(&update(json!({ "view_id": "V0NONE" })), "not_found");
    refused(&update(json!({})), "invalid_arguments");
    workspace.close_view("U0APP1").unwrap();
    refused(&update(json!({ "view_id": id })), "not_found");
}

#[tokio::test]
async fn a_home_tab_is_published_for_one_person() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let publish = |user: &str, view: &Value| client.call("views.publish", &json!({ "user_id": user, "view": view }));
    let first = publish("U0APP1", &mock_up("app_home.json"));
    ok(&first);
    let second = publish("U0APP1", &json!({ "type": "home", "blocks": [] }));
    assert_eq!(ok(&second)["view"]["id"], first["view"]["id"]);
    refused(&publish("U0NONE", &mock_up("app_home.json")), "user_not_found");
    refused(&publish("U0APP1", &mock_up("reject_modal.json")), "invalid_arguments");
    assert!(workspace.look(|state| state.home("U0APP2").is_none()));
    assert_eq!(workspace.click_view("open:7K3F", "U0APP1").unwrap_err(), Impossible::NoAction(Vec::new()));
}

#[tokio::test]
async fn views_are_pushed_only_from_within_a_view_and_only_three_high() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let push = |trigger: &str, view: &Value| client.call("views.push", &json!({ "trigger_id": trigger, "view": view }));
    let view = json!({ "type": "modal", "title": { "type": "plain_text", "text": "one" }, "blocks": [
        { "type": "actions", "elements": [{ "type": "button", "action_id": "more", "text": { "type": "plain_text", "text": "More" } }] }] });
    refused(&push(&trigger(&workspace), &view), "not_found");
    ok(&open(&client, &trigger(&workspace), &view));
    for _ in 0..2 {
        let trigger = workspace.click_view("more", "U0APP1").unwrap().trigger_id();
        ok(&push(&trigger, &view));
    }
    let trigger = workspace.click_view("more", "U0APP1").unwrap().trigger_id();
    refused(&push(&trigger, &view), "push_limit_reached");
}

fn respond(client: &Client, url: &str, body: &Value) -> Answer {
    client.post(url, "application/json; charset=utf-8", body.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_response_url_is_good_five_times() {
    let workspace = Workspace::with_people().await;
    let client = Client::with_token(&workspace, None);
    let url = workspace.slash("C0APPR", "/querygate", "", "U0APP1").unwrap().response_url();
    for _ in 0..5 {
        assert_eq!(respond(&client, &url, &json!({ "text": "nothing waits" })).text, "ok");
    }
    let sixth = respond(&client, &url, &json!({ "text": "nothing waits" }));
    assert_eq!(sixth.status, 404);
    refused(&sixth.json(), "used_url");
    assert_eq!(workspace.look(|state| state.ephemerals("U0APP1").len()), 5);
    let url = workspace.slash("C0APPR", "/querygate", "", "U0APP1").unwrap().response_url();
    workspace.expire_response_urls();
    refused(&respond(&client, &url, &json!({ "text": "x" })).json(), "expired_url");
}

#[tokio::test]
async fn a_response_url_answers_replaces_and_deletes() {
    let workspace = Workspace::with_people().await;
    let bot = Client::new(&workspace);
    let ts = bot.say_pending("C0APPR");
    let client = Client::with_token(&workspace, None);
    let url = workspace.click("C0APPR", &ts, "details", "U0APP1").unwrap().response_url();
    let bad = respond(&client, &url, &json!({ "text": "x", "blocks": [{ "type": "divider", "x": 1 }] }));
    assert_eq!((bad.status, &bad.json()["error"]), (400, &json!("invalid_blocks")));
    assert_eq!(respond(&client, &url, &json!({ "text": "x", "colour": "red" })).status, 400);
    assert_eq!(respond(&client, &url, &json!({ "text": "all see", "response_type": "in_channel" })).status, 200);
    assert_eq!(respond(&client, &url, &json!({ "text": "done", "replace_original": true })).status, 200);
    let texts: Vec<String> = workspace.messages("C0APPR").iter().map(Message::rendered).collect();
    assert_eq!(texts, ["done", "all see"]);
    assert_eq!(respond(&client, &url, &json!({ "delete_original": true })).status, 200);
    assert_eq!(workspace.messages("C0APPR").len(), 1);
}
