//! Every mock-up is accepted, and every mutant of one is refused with Slack's word and the place.

use proxy_tests::slack::Workspace;
use serde_json::{Value, json};

use crate::client::{Client, corpus, mock_up, ok};

/// Sends a mock-up the way its kind is sent.
fn send(workspace: &Workspace, content: &Value) -> Value {
    send_as(workspace, content["type"].as_str(), content)
}

fn send_as(workspace: &Workspace, kind: Option<&str>, content: &Value) -> Value {
    let client = Client::new(workspace);
    match kind {
        Some("modal") => {
            let trigger = workspace.slash("C0APPR", "/querygate", "", "U0APP1").unwrap().trigger_id();
            client.call("views.open", &json!({ "trigger_id": trigger, "view": content }))
        }
        Some("home") => client.call("views.publish", &json!({ "user_id": "U0APP1", "view": content })),
        _ => {
            let mut message = content.clone();
            message["channel"] = json!("C0APPR");
            client.call("chat.postMessage", &message)
        }
    }
}

#[tokio::test]
async fn every_mock_up_is_accepted_and_shown() {
    let workspace = Workspace::with_people().await;
    let names = [
        "pending",
        "escalated",
        "approved",
        "rejected",
        "expired",
        "withdrawn",
        "executed",
        "failed",
        "thread_timeline",
        "dm_requester",
        "ephemeral_denied",
        "details_modal",
        "reject_modal",
        "app_home",
    ];
    for name in names.map(|name| format!("{name}.json")) {
        let answer = send(&workspace, &mock_up(&name));
        assert_eq!(answer["ok"], json!(true), "{name}: {answer}");
    }
    let (messages, modal, home) = workspace.look(|state| {
        let modal = state.modal("U0APP1").unwrap().rendered();
        (state.messages("C0APPR").len(), modal, state.home("U0APP1").unwrap().rendered())
    });
    assert_eq!(messages, 11);
    assert!(modal.contains("Reason (sent to the requester): ____"), "{modal}");
    assert!(home.starts_with("# 2 requests wait for you"), "{home}");
}

#[tokio::test]
async fn a_pending_request_reads_as_text_and_pings_only_whom_it_should() {
    let workspace = Workspace::with_people().await;
    ok(&send(&workspace, &mock_up("pending.json")));
    let message = workspace.messages("C0APPR").remove(0);
    assert_eq!(
        message.rendered(),
        "# :hourglass_flowing_sand: Approval needed: DELETE on prod/orders\n\
         *Requested by* <@U0REQ>\n*Database* `prod/orders` as `app_rw`\n*Held because* DELETE without WHERE\n\
         *Rows (estimate)* about 18,204 of 1.2 M\n*Client* psql 16.3 from 10.2.3.4\n*Reason* clean-up for OPS-311\n\
         ```\nDELETE FROM orders\nWHERE note LIKE '%``` <!channel> & <@U0OUT>%';\n```\n\
         ~ shown in full: 65 characters, sha256 `b8c08e78c676`\n[Approve] [Reject…] [Plan]\n\
         ~ Needs *1* of <!subteam^S0DBA> · not the requester · expires <!date^1795180900^{time_secs}|1795180900 UTC> · `7K3F`"
    );
    // The statement's own <!channel> and <@U0OUT> stand in preformatted text, where Slack leaves them alone.
    assert_eq!(message.content.mentions(), ["<!subteam^S0DBA>", "<@U0REQ>"]);
    assert_eq!(message.buttons(), ["Approve", "Reject…", "Plan"]);
}

#[tokio::test]
async fn a_statement_in_markup_is_seen_to_ping() {
    let workspace = Workspace::with_people().await;
    let text = "```DELETE FROM t WHERE a = '``` <!channel> <@U0OUT>'";
    let block = json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
    ok(&send(&workspace, &json!({ "text": "held", "blocks": [block] })));
    assert_eq!(workspace.messages("C0APPR")[0].content.mentions(), ["<!channel>", "<@U0OUT>"]);
}

/// Puts `to` at a place, which need not exist yet (`-` is the end of a list), or takes away what is there.
fn mutate(content: &mut Value, pointer: &str, to: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = content.pointer_mut(parent).unwrap_or_else(|| panic!("no {pointer}"));
    match (parent, to) {
        (Value::Object(object), Some(value)) => drop(object.insert(key.to_owned(), value)),
        (Value::Object(object), None) => assert!(object.remove(key).is_some(), "no {pointer}"),
        (Value::Array(items), Some(value)) if key == "-" => items.push(value),
        (Value::Array(items), Some(value)) => items[key.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer} leads nowhere"),
    }
}

/// The corpus's short ways of writing what is long: `$chars`, `$plain`, `$mrkdwn`, `$options` and `$repeat`.
fn spelt_out(value: &Value) -> Value {
    let Some(object) = value.as_object() else {
        return value.as_array().map_or_else(|| value.clone(), |items| items.iter().map(spelt_out).collect());
    };
    let (key, inside) = object.iter().next().map_or(("", &Value::Null), |(key, inside)| (key.as_str(), inside));
    let number = || usize::try_from(inside.as_u64().unwrap()).unwrap();
    match key {
        "$chars" => long(number()),
        "$plain" => plain(number()),
        "$mrkdwn" => mrkdwn(number()),
        "$options" => (0..number()).map(|index| option(&index.to_string())).collect(),
        "$repeat" => repeated(&spelt_out(&inside[0]), usize::try_from(inside[1].as_u64().unwrap()).unwrap()),
        _ => object.iter().map(|(key, inside)| (key.clone(), spelt_out(inside))).collect(),
    }
}

fn option(value: &str) -> Value {
    json!({ "text": { "type": "plain_text", "text": value }, "value": value })
}

fn long(length: usize) -> Value {
    json!("x".repeat(length))
}

fn plain(length: usize) -> Value {
    json!({ "type": "plain_text", "text": "x".repeat(length) })
}

fn mrkdwn(length: usize) -> Value {
    json!({ "type": "mrkdwn", "text": "x".repeat(length) })
}

fn repeated(value: &Value, times: usize) -> Value {
    json!(vec![value.clone(); times])
}

#[tokio::test]
async fn every_mutant_is_refused_with_slacks_word_and_the_place() {
    let workspace = Workspace::with_people().await;
    let mutants = String::from_utf8(corpus("mutants.jsonl")).unwrap();
    assert!(mutants.lines().count() > 100);
    for line in mutants.lines() {
        let mutant: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| mutant[key].as_str();
        let original = mock_up(text("of").unwrap());
        let mut content = original.clone();
        let to = text("set").map(|_| spelt_out(&mutant["to"]));
        mutate(&mut content, text("set").or(text("remove")).unwrap(), to);
        let answer = send_as(&workspace, original["type"].as_str(), &content);
        assert_eq!(answer["error"], mutant["error"], "{line}\n{answer}");
        let told = answer["response_metadata"]["messages"].as_array().cloned().unwrap_or_default();
        match text("message") {
            Some(message) => assert!(told.contains(&json!(format!("[ERROR] {message}"))), "{line}\n{answer}"),
            None => assert!(told.is_empty(), "{line}\n{answer}"),
        }
    }
    assert!(workspace.messages("C0APPR").is_empty());
    assert!(workspace.look(|state| state.modal("U0APP1").is_none() && state.home("U0APP1").is_none()));
}

#[tokio::test]
async fn the_longest_of_everything_is_accepted() {
    let workspace = Workspace::with_people().await;
    let button = json!({ "type": "button", "text": plain(75), "value": long(2000), "action_id": long(255),
        "confirm": { "title": plain(100), "text": plain(300), "confirm": plain(30), "deny": plain(30), "style": "danger" } });
    for blocks in [
        json!([{ "type": "header", "text": plain(150), "block_id": long(255) }]),
        json!([{ "type": "section", "text": mrkdwn(3000) }]),
        json!([{ "type": "section", "fields": repeated(&mrkdwn(1000), 10) }]),
        json!([{ "type": "section", "fields": [mrkdwn(2000)] }]),
        json!([{ "type": "actions", "elements": [button] }]),
        json!([{ "type": "actions", "elements": [{ "type": "static_select", "placeholder": plain(150), "action_id": "for",
            "options": (0..100).map(|index| option(&index.to_string())).collect::<Vec<_>>() }] }]),
        repeated(&json!({ "type": "divider" }), 50),
        json!([{ "type": "rich_text", "elements": [{ "type": "rich_text_preformatted",
            "elements": [{ "type": "text", "text": long(13_000) }] }] }]),
        json!([{ "type": "rich_text", "elements": [{ "type": "rich_text_list", "style": "ordered", "indent": 1,
            "elements": [{ "type": "rich_text_section", "elements": [
                { "type": "user", "user_id": "U0REQ" }, { "type": "date", "timestamp": 1_795_180_900, "format": "{time_secs}" },
                { "type": "text", "text": "x", "style": { "bold": true } } ] }] }, { "type": "rich_text_quote",
            "elements": [{ "type": "link", "url": "https://example.com" }] }] }]),
    ] {
        ok(&send(&workspace, &json!({ "text": "x", "blocks": blocks })));
    }
}
