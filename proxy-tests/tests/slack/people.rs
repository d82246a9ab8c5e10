//! Users, user groups and files.

use proxy_tests::slack::{Group, User, Workspace};
use serde_json::{Value, json};

use crate::client::{Client, ok, refused};

#[tokio::test]
async fn users_are_described_as_slack_does() {
    let workspace = Workspace::with_people().await;
    workspace.add_user(User::new("U0GONE", "gone").email("gone@example.com").deactivated());
    workspace.add_user(User::new("U0SIS", "sister").of_team("T0SIS"));
    let client = Client::new(&workspace);
    let user = |id: &str| ok(&client.get("users.info", &[("user", id)]))["user"].clone();
    let ann = user("U0APP1");
    assert_eq!((&ann["team_id"], &ann["profile"]["email"]), (&json!("T0HOLD"), &json!("ann@example.com")));
    assert_eq!(
        (&ann["is_restricted"], &ann["is_ultra_restricted"], &ann["is_bot"]),
        (&json!(false), &json!(false), &json!(false))
    );
    assert_eq!(ann.get("is_stranger"), None);
    assert_eq!(
        (&user("U0GUEST")["is_restricted"], &user("U0GUEST")["is_ultra_restricted"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&user("U0SOLO")["is_restricted"], &user("U0SOLO")["is_ultra_restricted"]),
        (&json!(true), &json!(true))
    );
    let elsa = user("U0ELSE");
    assert_eq!(
        (&elsa["is_stranger"], &elsa["team_id"], elsa["profile"].get("email")),
        (&json!(true), &json!("T0ELSE"), None)
    );
    assert_eq!((&user("U0SIS")["team_id"], user("U0SIS").get("is_stranger")), (&json!("T0SIS"), None));
    // A deactivated user's flags are absent, not false.
    let gone = user("U0GONE");
    assert_eq!((&gone["deleted"], gone.get("is_restricted")), (&json!(true), None));
    assert_eq!(user("U0GATE")["is_bot"], json!(true));
    refused(&client.get("users.info", &[("user", "U0NONE")]), "user_not_found");
    workspace.grant(&["users:read"]);
    assert_eq!(user("U0APP1")["profile"].get("email"), None);
}

#[tokio::test]
async fn only_active_members_are_found_by_address() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let find = |email: &str| client.get("users.lookupByEmail", &[("email", email)]);
    assert_eq!(ok(&find("Rita@Example.com"))["user"]["id"], json!("U0REQ"));
    refused(&find("elsa@example.net"), "users_not_found");
    refused(&find("nobody@example.com"), "users_not_found");
    workspace.change_user("U0REQ", |user| user.deleted = true);
    refused(&find("rita@example.com"), "users_not_found");
}

#[tokio::test]
async fn groups_are_listed_with_their_members() {
    let workspace = Workspace::with_people().await;
    workspace.add_group(Group::new("S0OLD", "old-dba", &["U0APP1"]));
    workspace.change_group("S0OLD", |group| group.disabled = true);
    let client = Client::new(&workspace);
    let handles = |answer: &Value| {
        let groups = ok(answer)["usergroups"].as_array().unwrap().clone();
        groups.iter().map(|group| group["handle"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(handles(&client.get("usergroups.list", &[])), ["dba", "leads"]);
    assert_eq!(handles(&client.get("usergroups.list", &[("include_disabled", "true")])), ["dba", "leads", "old-dba"]);
    let listed = client.get("usergroups.list", &[("include_users", "1"), ("include_count", "1")]);
    assert_eq!(
        (&listed["usergroups"][0]["users"], &listed["usergroups"][0]["user_count"]),
        (&json!(["U0APP1", "U0APP2"]), &json!(2))
    );
    let members = |group: &str| client.get("usergroups.users.list", &[("usergroup", group)]);
    assert_eq!(ok(&members("S0DBA"))["users"], json!(["U0APP1", "U0APP2"]));
    workspace.change_group("S0DBA", |group| group.members.retain(|id| id != "U0APP1"));
    assert_eq!(ok(&members("S0DBA"))["users"], json!(["U0APP2"]));
    refused(&members("S0OLD"), "no_such_subteam");
    refused(&members("S0NONE"), "no_such_subteam");
}

#[tokio::test]
async fn direct_conversations_need_their_own_scope() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    refused(&client.call("conversations.open", &json!({ "users": "U0REQ" })), "missing_scope");
    workspace.grant(&["im:write", "im:read", "chat:write"]);
    let answer = client.call("conversations.open", &json!({ "users": "U0REQ" }));
    let id = ok(&answer)["channel"]["id"].as_str().unwrap().to_owned();
    client.say(&id, "hello");
    assert_eq!(workspace.look(|state| state.direct("U0REQ").len()), 1);
    let info = client.get("conversations.info", &[("channel", &id)]);
    assert_eq!(ok(&info)["channel"]["user"], json!("U0REQ"));
    refused(&client.call("conversations.open", &json!({ "users": "U0NONE" })), "user_not_found");
}

fn begin(client: &Client, length: usize) -> (String, String) {
    let length = length.to_string();
    let answer = client.get("files.getUploadURLExternal", &[("filename", "statement.sql"), ("length", &length)]);
    let text = |key: &str| ok(&answer)[key].as_str().unwrap().to_owned();
    (text("upload_url"), text("file_id"))
}

#[tokio::test]
async fn a_file_is_announced_uploaded_and_shared() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let ts = client.say("C0APPR", "parent");
    let (url, id) = begin(&client, 9);
    assert_eq!(client.post(&url, "text/plain", b"SELECT 1;").unwrap().text, "OK - 9");
    let complete = json!({ "files": [{ "id": id, "title": "7K3F" }], "channel_id": "C0APPR", "thread_ts": ts,
        "initial_comment": "in full" });
    assert_eq!(
        ok(&client.call("files.completeUploadExternal", &complete))["files"],
        json!([{ "id": id, "title": "7K3F" }])
    );
    workspace.look(|state| {
        let reply = state.thread("C0APPR", &ts)[0];
        assert_eq!((reply.files.as_slice(), reply.content.text.as_str()), (std::slice::from_ref(&id), "in full"));
        let file = &state.files()[0];
        assert_eq!((file.content.as_deref(), file.channels[0].as_str()), (Some(&b"SELECT 1;"[..]), "C0APPR"));
    });
    refused(&client.call("files.completeUploadExternal", &complete), "file_not_found");
}

#[tokio::test]
async fn a_file_may_come_as_a_form() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let (url, id) = begin(&client, 11);
    let body = "--b1\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--b1\r\nContent-Disposition: form-data; \
        name=\"file\"; filename=\"a.sql\"\r\n\r\nSELECT\r\n1;;\r\n--b1--\r\n";
    let answer = client.post(&url, "multipart/form-data; boundary=b1", body.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (200, "OK - 11"));
    ok(&client.form("files.completeUploadExternal", &[("files", &json!([{ "id": id }]).to_string())]));
    workspace.look(|state| assert_eq!(state.files()[0].content.as_deref(), Some(&b"SELECT\r\n1;;"[..])));
}

#[tokio::test]
async fn files_that_are_not_what_was_announced_are_refused() {
    let workspace = Workspace::with_people().await;
    let client = Client::new(&workspace);
    let (url, id) = begin(&client, 9);
    let complete = |channel: &str| {
        client.call("files.completeUploadExternal", &json!({ "files": [{ "id": id }], "channel_id": channel }))
    };
    refused(&complete("C0APPR"), "file_not_found");
    assert_eq!(client.post(&url, "text/plain", b"SELECT 12;").unwrap().status, 400);
    assert_eq!(client.fetch(&url).unwrap().status, 405);
    assert_eq!(client.post(&format!("{url}x"), "text/plain", b"SELECT 1;").unwrap().status, 404);
    client.post(&url, "application/octet-stream", b"SELECT 1;").unwrap();
    refused(&complete("U0REQ"), "channel_not_found");
    refused(&complete("#approvals"), "channel_not_found");
    let several = json!({ "files": [{ "id": id }], "channels": "C0APPR,C0NONE" });
    refused(&client.call("files.completeUploadExternal", &several), "channel_not_found");
    let blocks = json!({ "files": [{ "id": id }], "channels": "C0APPR", "blocks": [{ "type": "mark" }] });
    refused(&client.call("files.completeUploadExternal", &blocks), "invalid_blocks");
    refused(&client.call("files.completeUploadExternal", &json!({ "files": [] })), "invalid_arguments");
    refused(&client.get("files.getUploadURLExternal", &[("filename", "a"), ("length", "0")]), "missing_argument");
    refused(&client.get("files.getUploadURLExternal", &[("filename", "a"), ("length", "many")]), "invalid_arguments");
    ok(&complete("C0APPR"));
}
