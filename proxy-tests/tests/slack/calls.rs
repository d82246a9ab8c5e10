//! Tokens, scopes, encodings, and what messages may do.

use proxy_tests::slack::{Channel, Token, Workspace};
use serde_json::{Value, json};

use crate::client::{Client, mock_up, ok, refused};

#[tokio::test]
async fn auth_test_says_who_the_bot_is() {
    let workspace = Workspace::start().await;
    let answer = Client::new(&workspace).call("auth.test", &json!({}));
    assert_eq!(
        (&ok(&answer)["team_id"], &answer["user_id"], &answer["bot_id"]),
        (&json!("T0HOLD"), &json!("U0GATE"), &json!("B0GATE"))
    );
    let client = Client::new(&workspace);
    let answer = client.post(&client.url("auth.test"), "application/x-www-form-urlencoded", b"").unwrap();
    assert_eq!(
        answer.header("x-oauth-scopes"),
        Some("chat:write,commands,files:write,usergroups:read,users:read,users:read.email")
    );
}

#[tokio::test]
async fn wrong_tokens_are_told_apart() {
    let workspace = Workspace::with_people().await;
    let message = json!({ "channel": "C0APPR", "text": "hello" });
    refused(&Client::with_token(&workspace, None).call("chat.postMessage", &message), "not_authed");
    refused(&Client::with_token(&workspace, Some("xoxb-1-2-x")).call("chat.postMessage", &message), "invalid_auth");
    let app = Client::with_token(&workspace, Some(&workspace.app_token()));
    refused(&app.call("chat.postMessage", &message), "not_allowed_token_type");
    refused(&Client::new(&workspace).call("apps.connections.open", &json!({})), "not_allowed_token_type");
    ok(&app.call("apps.connections.open", &json!({})));
    workspace.lock_out(Some("token_revoked"));
    refused(&Client::new(&workspace).call("chat.postMessage", &message), "token_revoked");
    refused(&app.call("apps.connections.open", &json!({})), "token_revoked");
    workspace.lock_out(None);
    ok(&Client::new(&workspace).call("chat.postMessage", &message));
    let tokens = workspace.look(|state| state.calls("*").iter().map(|call| call.token).collect::<Vec<_>>());
    assert_eq!(tokens[..4], [Token::Missing, Token::Unknown, Token::App, Token::Bot]);
}

#[tokio::test]
async fn tokens_are_taken_from_forms_but_not_for_sockets_nor_from_json() {
    let workspace = Workspace::with_people().await;
    let nobody = Client::with_token(&workspace, None);
    ok(&nobody.form("users.info", &[("token", &workspace.bot_token()), ("user", "U0REQ")]));
    refused(&nobody.form("apps.connections.open", &[("token", &workspace.app_token())]), "not_authed");
    let message = json!({ "token": workspace.bot_token(), "channel": "C0APPR", "text": "hello" });
    refused(&nobody.call("chat.postMessage", &message), "not_authed");
}

#[tokio::test]
async fn every_method_that_needs_a_scope_says_which() {
    let workspace = Workspace::with_people().await;
    workspace.grant(&["commands"]);
    let client = Client::new(&workspace);
    for (method, scope) in [
        ("chat.postMessage", "chat:write"),
        ("chat.update", "chat:write"),
        ("chat.postEphemeral", "chat:write"),
        ("chat.delete", "chat:write"),
        ("conversations.info", "channels:read,groups:read,im:read"),
        ("conversations.open", "im:write"),
        ("users.info", "users:read"),
        ("users.lookupByEmail", "users:read.email"),
        ("usergroups.list", "usergroups:read"),
        ("usergroups.users.list", "usergroups:read"),
        ("files.getUploadURLExternal", "files:write"),
        ("files.completeUploadExternal", "files:write"),
    ] {
        let answer = client.form(method, &[("channel", "C0APPR")][..usize::from(method == "conversations.info")]);
        refused(&answer, "missing_scope");
        assert_eq!((&answer["needed"], &answer["provided"]), (&json!(scope), &json!("commands")), "{method}");
    }
    workspace.grant_app(&[]);
    let app = Client::with_token(&workspace, Some(&workspace.app_token()));
    refused(&app.call("apps.connections.open", &json!({})), "missing_scope");
    // The scope depends on the channel: public ones need `channels:read`.
    workspace.grant(&["groups:read"]);
    let answer = client.get("conversations.info", &[("channel", "C0APPR")]);
    refused(&answer, "missing_scope");
    assert_eq!(answer["needed"], json!("channels:read"));
    workspace.grant(&["channels:read"]);
    assert_eq!(ok(&client.get("conversations.info", &[("channel", "C0APPR")]))["channel"]["name"], json!("approvals"));
}

#[tokio::test]
async fn bodies_are_read_as_each_method_takes_them() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let blocks = mock_up("pending.json")["blocks"].to_string();
    ok(&client.form("chat.postMessage", &[("channel", "C0APPR"), ("text", "held"), ("blocks", &blocks)]));
    assert_eq!(workspace.messages("C0APPR")[0].buttons(), ["Approve", "Reject…", "Plan"]);
    refused(
        &client.form("chat.postMessage", &[("channel", "C0APPR"), ("text", "x"), ("blocks", "[{")]),
        "invalid_blocks_format",
    );
    refused(&client.call("users.info", &json!({ "user": "U0REQ" })), "invalid_arguments");
    ok(&client.get("users.info", &[("user", "U0REQ")]));
    let post =
        |kind: &str, body: &str| client.post(&client.url("chat.postMessage"), kind, body.as_bytes()).unwrap().json();
    refused(&post("application/json; charset=utf-8", "{"), "invalid_json");
    refused(&post("application/json; charset=utf-8", "[]"), "json_not_object");
    refused(&post("application/json; charset=latin1", "{}"), "invalid_charset");
    refused(&post("text/plain", "x"), "invalid_post_type");
    let answer = post("application/json", r#"{"channel":"C0APPR","text":"x"}"#);
    assert_eq!(ok(&answer)["warning"], json!("missing_charset"));
    refused(&client.call("chat.postMessages", &json!({})), "unknown_method");
    let answer = client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": "x", "block": [] }));
    refused(&answer, "invalid_arguments");
    assert_eq!(answer["errors"], json!(["unknown argument: block"]));
    refused(&client.call("chat.postMessage", &json!({ "text": "x" })), "invalid_arguments");
    refused(&client.call("chat.postMessage", &json!({ "channel": 7, "text": "x" })), "invalid_arguments");
    refused(&client.get("apps.connections.open", &[]), "insecure_request");
}

#[tokio::test]
async fn a_message_needs_a_text_that_is_not_too_long() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let say = |text: Value| client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": text }));
    refused(&client.call("chat.postMessage", &json!({ "channel": "C0APPR" })), "no_text");
    refused(&say(json!("  ")), "no_text");
    refused(&say(json!(["x"])), "invalid_arguments");
    refused(&say(json!("x".repeat(40_001))), "msg_too_long");
    let only_blocks = json!({ "channel": "C0APPR", "blocks": [{ "type": "divider" }] });
    refused(&client.call("chat.postMessage", &only_blocks), "no_text");
    let ts = client.say("C0APPR", "short");
    let update = json!({ "channel": "C0APPR", "ts": ts, "text": "x".repeat(4001) });
    refused(&client.call("chat.update", &update), "msg_too_long");
    assert_eq!(workspace.messages("C0APPR")[0].content.text, "short");
}

#[tokio::test]
async fn all_blocks_together_have_a_limit() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": "x".repeat(2900) } });
    let post = |count: usize| {
        let blocks = vec![section.clone(); count];
        client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": "x", "blocks": blocks }))
    };
    ok(&post(4));
    refused(&post(5), "msg_blocks_too_long");
    // The containers count as well: here are only 1,600 characters of text.
    let fields = vec![json!({ "type": "mrkdwn", "text": "1234", "verbatim": true }); 10];
    let blocks = vec![json!({ "type": "section", "fields": fields }); 40];
    refused(
        &client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": "x", "blocks": blocks })),
        "msg_blocks_too_long",
    );
}

#[tokio::test]
async fn channels_are_refused_for_the_right_reason() {
    let workspace = Workspace::with_people().await;
    workspace.add_channel(Channel::new("C0ARCH", "old", &[]).archived());
    workspace.add_channel(Channel::new("C0AWAY", "elsewhere", &[]).without_bot());
    workspace.add_channel(Channel::new("G0HIDE", "hidden", &[]).private().without_bot());
    workspace.add_channel(Channel::new("G0MINE", "mine", &[]).private());
    let client = Client::new(&workspace);
    let say = |channel: &str| client.call("chat.postMessage", &json!({ "channel": channel, "text": "x" }));
    refused(&say("C0NONE"), "channel_not_found");
    refused(&say("#none"), "channel_not_found");
    refused(&say("U0NONE"), "channel_not_found");
    refused(&say("C0ARCH"), "is_archived");
    refused(&say("C0AWAY"), "not_in_channel");
    refused(&say("G0HIDE"), "channel_not_found");
    ok(&say("G0MINE"));
    assert_eq!(ok(&say("#approvals"))["channel"], json!("C0APPR"));
    workspace.grant(&["chat:write", "chat:write.public"]);
    ok(&say("C0AWAY"));
    refused(&say("G0HIDE"), "channel_not_found");
}

#[tokio::test]
async fn a_message_to_a_person_goes_to_their_direct_conversation() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let answer = client.call("chat.postMessage", &json!({ "channel": "U0REQ", "text": "rejected" }));
    let channel = ok(&answer)["channel"].as_str().unwrap();
    assert!(channel.starts_with('D'), "{answer}");
    let again = client.call("chat.postMessage", &json!({ "channel": "U0REQ", "text": "again" }));
    assert_eq!(again["channel"], answer["channel"]);
    let texts =
        workspace.look(|state| state.direct("U0REQ").iter().map(|message| message.rendered()).collect::<Vec<_>>());
    assert_eq!(texts, ["rejected", "again"]);
    // Updates know the conversation by its own id only.
    let update =
        |channel: &str| client.call("chat.update", &json!({ "channel": channel, "ts": answer["ts"], "text": "y" }));
    refused(&update("U0REQ"), "channel_not_found");
    ok(&update(channel));
    workspace.change_user("U0REQ", |user| user.deleted = true);
    refused(&client.call("chat.postMessage", &json!({ "channel": "U0REQ", "text": "x" })), "user_disabled");
}

#[tokio::test]
async fn an_update_replaces_text_and_blocks() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let ts = client.say_pending("C0APPR");
    let mut approved = mock_up("approved.json");
    approved["channel"] = json!("C0APPR");
    approved["ts"] = json!(ts);
    let answer = client.call("chat.update", &approved);
    assert_eq!(ok(&answer)["ts"], json!(ts));
    let message = workspace.messages("C0APPR").remove(0);
    assert_eq!((message.updates(), message.buttons().len(), message.earlier[0].buttons().len()), (1, 0, 3));
    // A text without blocks takes the blocks away.
    ok(&client.call("chat.update", &json!({ "channel": "C0APPR", "ts": ts, "text": "gone" })));
    assert_eq!(workspace.messages("C0APPR")[0].rendered(), "gone");
    refused(
        &client.call("chat.update", &json!({ "channel": "C0APPR", "ts": "1.2", "text": "x" })),
        "message_not_found",
    );
    ok(&client.call("chat.delete", &json!({ "channel": "C0APPR", "ts": ts })));
    assert!(workspace.messages("C0APPR").is_empty());
    refused(&client.call("chat.update", &json!({ "channel": "C0APPR", "ts": ts, "text": "x" })), "message_not_found");
    refused(&client.call("chat.delete", &json!({ "channel": "C0APPR", "ts": ts })), "message_not_found");
}

#[tokio::test]
async fn what_is_posted_comes_back_with_slacks_additions() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let blocks = json!([
        { "type": "section", "text": { "type": "mrkdwn", "text": "x" } },
        { "type": "actions", "elements": [{ "type": "button", "text": { "type": "plain_text", "text": "Go" } }] },
    ]);
    let answer = client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": "x", "blocks": blocks }));
    let message = &ok(&answer)["message"];
    assert_eq!(message["bot_id"], json!("B0GATE"));
    assert_eq!(message["blocks"][0]["text"]["verbatim"], json!(false));
    assert_eq!(message["blocks"][1]["elements"][0]["text"]["emoji"], json!(true));
    let ids = [
        &message["blocks"][0]["block_id"],
        &message["blocks"][1]["block_id"],
        &message["blocks"][1]["elements"][0]["action_id"],
    ];
    assert!(ids.iter().all(|id| id.as_str().is_some_and(|id| id.len() == 5)), "{ids:?}");
}

#[tokio::test]
async fn replies_need_a_message_to_reply_to() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let ts = client.say("C0APPR", "parent");
    let reply =
        |ts: &str| client.call("chat.postMessage", &json!({ "channel": "C0APPR", "text": "reply", "thread_ts": ts }));
    let answer = reply(&ts);
    assert_eq!(ok(&answer)["message"]["thread_ts"], json!(ts));
    refused(&reply("1.2"), "thread_not_found");
    refused(&reply(answer["ts"].as_str().unwrap()), "thread_not_found");
    assert_eq!(workspace.look(|state| state.thread("C0APPR", &ts).len()), 1);
    let broadcast = json!({ "channel": "C0APPR", "text": "x", "reply_broadcast": true });
    refused(&client.call("chat.postMessage", &broadcast), "invalid_arguments");
}

#[tokio::test]
async fn ephemeral_messages_reach_members_of_the_channel_only() {
    let workspace = Workspace::with_people().await;
    workspace.add_channel(Channel::new("C0ELSE", "other", &["U0REQ"]));
    let client = Client::new(&workspace);
    let mut denied = mock_up("ephemeral_denied.json");
    denied["channel"] = json!("C0APPR");
    denied["user"] = json!("U0OUT");
    assert!(ok(&client.call("chat.postEphemeral", &denied))["message_ts"].is_string());
    denied["channel"] = json!("C0ELSE");
    refused(&client.call("chat.postEphemeral", &denied), "user_not_in_channel");
    denied["user"] = json!("U0NONE");
    refused(&client.call("chat.postEphemeral", &denied), "user_not_found");
    let seen =
        workspace.look(|state| state.ephemerals("U0OUT").iter().map(|one| one.content.rendered()).collect::<Vec<_>>());
    assert_eq!(seen.len(), 1);
    assert!(seen[0].contains("Nothing was changed."), "{seen:?}");
    assert!(workspace.messages("C0APPR").is_empty());
}

#[tokio::test]
async fn a_paced_workspace_refuses_the_fourth_post_at_once() {
    let workspace = Workspace::builder().paced().start().await;
    workspace.add_people();
    workspace.add_channel(Channel::new("C0ELSE", "other", &[]));
    let client = Client::new(&workspace);
    for _ in 0..3 {
        client.say("C0APPR", "x");
    }
    let body = br#"{"channel":"C0APPR","text":"x"}"#;
    let answer = client.post(&client.url("chat.postMessage"), "application/json; charset=utf-8", body).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    refused(&answer.json(), "ratelimited");
    client.say("C0ELSE", "another channel has a bucket of its own");
    assert_eq!(workspace.messages("C0APPR").len(), 3);
}

#[tokio::test]
async fn every_call_is_on_record() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    client.say("C0APPR", "x");
    client.call("chat.postMessage", &json!({ "channel": "C0NONE", "text": "y" }));
    workspace.look(|state| {
        let calls = state.calls("chat.postMessage");
        assert!(calls[0].succeeded() && calls[0].processed && calls[0].fault.is_none());
        assert_eq!((calls[0].argument("channel"), calls[0].argument("text")), (Some("C0APPR"), Some("x")));
        assert_eq!((calls[1].error(), calls[1].succeeded()), (Some("channel_not_found"), false));
        assert_eq!((calls.len(), state.calls("*").len()), (2, 2));
    });
}
