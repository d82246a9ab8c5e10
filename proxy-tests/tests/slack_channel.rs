//! Slack as a channel: the gate's own desk and Slack adapter against the stand-in. Statements are played by tickets on the board.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod slack_stage;

use std::time::Duration;

use proxy_tests::api::Api;
use proxy_tests::slack::{ALWAYS, Callbacks, Content, DeliveryFault, Fault, Message, SocketFault, State, View};
use querygate::hold::{Cause, Decision, Execution, Outcome};
use slack_stage::{CHANNEL, Stage, long_statement, now};

#[tokio::test]
async fn a_click_of_a_group_member_releases_and_the_message_follows_to_the_result() {
    let stage = Stage::start().await;
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    assert!(message.rendered().contains("Approval needed: DELETE on shop/orders"), "{}", message.rendered());
    assert_eq!(message.buttons(), ["Approve", "Reject…", "Details"]);
    let ending = stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(ending.acknowledged);
    let Decision::Approve { by, .. } = ticket.decision().await else { panic!("approved") };
    assert_eq!(by, "ann");
    let request = ticket.request().clone();
    assert_eq!(ticket.finish(now()), Outcome::Released);
    stage.board.executed(
        request,
        Execution::Completed {
            tag: "DELETE 7".to_owned(),
            rows: Some(7),
            duration_ms: 12,
            committed: true,
            kept: None,
        },
    );
    let done = stage.message_saying(&message.ts, "Done: DELETE on shop/orders").await;
    assert!(done.buttons().is_empty() && done.rendered().contains("7 rows"), "{}", done.rendered());
    let told =
        stage.workspace.wait_for("the requester is told", |state| state.direct("U0REQ").first().map(|m| m.rendered()));
    assert!(told.await.contains("has run"));
    let thread = stage.workspace.wait_for("the timeline", |state| {
        state.thread(CHANNEL, &message.ts).into_iter().map(Message::rendered).find(|text| text.contains("executed"))
    });
    assert!(thread.await.contains("approved by ann"));
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn a_rejection_asks_why_and_the_requester_hears_it() {
    let stage = Stage::start().await;
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    stage.workspace.click(CHANNEL, &message.ts, "reject", "U0APP2").unwrap().ended().await;
    stage.workspace.wait_for("the window", |state| state.modal("U0APP2").map(|_| ())).await;
    stage.workspace.submit_view("U0APP2", &[("why", "Not during the <!channel> sale")]).unwrap().ended().await;
    let Decision::Reject { by, reason, .. } = ticket.decision().await else { panic!("rejected") };
    assert_eq!((by.as_str(), reason.as_deref()), ("bob", Some("Not during the <!channel> sale")));
    assert_eq!(ticket.finish(now()), Outcome::Rejected);
    let message = stage.message_saying(&message.ts, "Rejected: DELETE").await;
    assert!(
        message.buttons().is_empty() && message.content.mentions().is_empty()
            || !message.content.mentions().contains(&"channel".to_owned())
    );
    stage.workspace.wait_for("the requester is told", |state| state.direct("U0REQ").first().map(|_| ())).await;
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn who_may_not_decide_is_told_so_alone_and_nothing_changes() {
    let stage = Stage::start().await;
    let ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    // The requester is made a member of the group: still not their own request.
    stage.workspace.change_group("S0DBA", |group| {
        group.members.extend(["U0REQ", "U0GUEST", "U0ELSE", "U0SOLO"].map(str::to_owned));
    });
    for user in ["U0OUT", "U0REQ", "U0GUEST", "U0SOLO", "U0ELSE"] {
        stage.workspace.stale_click(CHANNEL, &message.ts, "approve", user).unwrap().ended().await;
        let told = stage.workspace.wait_for("a private answer", |state| {
            let ephemeral = state.ephemerals(user).first().map(|m| m.content.rendered());
            ephemeral.or_else(|| state.direct(user).first().map(|m| m.rendered()))
        });
        assert!(told.await.contains("does not count"), "{user}");
    }
    stage.workspace.change_user("U0APP1", |user| user.deleted = true);
    stage.workspace.stale_click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    stage
        .workspace
        .wait_for("the deactivated user is looked up", |state| {
            state
                .calls("users.info")
                .into_iter()
                .find(|call| call.argument("user") == Some("U0APP1") && call.processed)
                .map(|_| ())
        })
        .await;
    assert_eq!(stage.board.list().len(), 1);
    assert!(stage.board.list()[0].request.id == *ticket.id());
    assert_eq!(stage.workspace.messages(CHANNEL)[0].buttons().len(), 3);
}

#[tokio::test]
async fn nobody_is_a_member_of_a_group_that_cannot_be_read() {
    let stage = Stage::start().await;
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    stage.workspace.fail("usergroups.users.list", Fault::error("missing_scope"), ALWAYS);
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    let told = stage
        .workspace
        .wait_for("a private answer", |state| state.ephemerals("U0APP1").first().map(|m| m.content.rendered()));
    assert!(told.await.contains("Slack did not say who is in S0DBA"));
    stage.workspace.heal();
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
}

#[tokio::test]
async fn a_lost_answer_to_a_post_leaves_a_second_message_and_a_click_on_either_decides_both() {
    let stage = Stage::start().await;
    stage.workspace.fail("chat.postMessage", Fault::ResetAfter, 1);
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let orphan = stage.message(1).await;
    let known = stage.message(2).await;
    stage.workspace.click(CHANNEL, &orphan.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
    ticket.finish(now());
    for ts in [&orphan.ts, &known.ts] {
        assert!(stage.message_saying(ts, "Approved: DELETE").await.buttons().is_empty());
    }
}

#[tokio::test]
async fn a_page_of_html_is_no_success() {
    let stage = Stage::start().await;
    stage.workspace.fail("chat.postMessage", Fault::Html, 1);
    let _ticket = stage.hold("app_rw", "DELETE FROM orders");
    stage.message(1).await;
    let answers = stage.workspace.look(|state| state.calls("chat.postMessage").len());
    assert_eq!(answers, 2);
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_and_the_request_announced_once() {
    let stage = Stage::start().await;
    stage.workspace.fail("chat.postMessage", Fault::RateLimited(1), 1);
    let _ticket = stage.hold("app_rw", "DELETE FROM orders");
    stage.message(1).await;
    let calls: Vec<_> =
        stage.workspace.look(|state| state.calls("chat.postMessage").iter().map(|call| call.at).collect());
    assert_eq!(calls.len(), 2);
    assert!(calls[1].duration_since(calls[0]) >= Duration::from_secs(1));
    assert_eq!(stage.workspace.messages(CHANNEL).len(), 1);
}

#[tokio::test]
async fn a_long_statement_is_a_file_in_the_thread_and_is_not_approved_in_slack() {
    let stage = Stage::start().await;
    let _ticket = stage.hold("app_rw", &long_statement());
    let message = stage.message(1).await;
    assert!(message.rendered().contains("NOT shown in full"), "{}", message.rendered());
    let message = stage.message_saying(&message.ts, "a file in the thread").await;
    assert_eq!(message.buttons(), ["Reject…", "Details"]);
    let file = stage.workspace.look(|state| state.files()[0].clone());
    let content = String::from_utf8(file.content.unwrap()).unwrap();
    assert!(content.contains(&long_statement()) && content.contains("⟨U+202E⟩"));
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn with_the_file_setting_approve_comes_only_after_the_file() {
    let stage =
        Stage::with(|settings| settings.long_statements = querygate::approval::slack::settings::LongStatements::File)
            .await;
    stage.workspace.fail("upload", Fault::Status(500), ALWAYS);
    let mut ticket = stage.hold("app_rw", &long_statement());
    let message = stage.message(1).await;
    assert_eq!(message.buttons(), ["Reject…", "Details"]);
    stage.workspace.wait_for("the upload is given up", |state| (state.calls("upload").len() >= 4).then_some(())).await;
    assert_eq!(stage.workspace.messages(CHANNEL)[0].buttons(), ["Reject…", "Details"]);
    stage.workspace.heal();
    stage.again(ticket.id()).await;
    let message = stage.message_saying(&message.ts, "Read it there before you approve").await;
    assert_eq!(message.buttons(), ["Approve", "Reject…", "Details"]);
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
}

#[tokio::test]
async fn clicks_are_acknowledged_before_any_work_and_several_at_once() {
    let stage = Stage::start().await;
    let mut tickets: Vec<_> = (0..3).map(|_| stage.hold("app_rw", "DELETE FROM orders")).collect();
    let mut messages = Vec::new();
    for count in 1..=3 {
        messages.push(stage.message(count).await);
    }
    stage.workspace.fail("users.info", Fault::Hang, 3);
    let clicks: Vec<_> = messages
        .iter()
        .map(|message| stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap())
        .collect();
    for click in clicks {
        let ending = click.ended().await;
        assert!(ending.acknowledged && ending.attempts == 1 && ending.took < Duration::from_secs(1), "{ending:?}");
    }
    stage.workspace.release("users.info");
    for ticket in &mut tickets {
        ticket.decision().await;
    }
}

#[tokio::test]
async fn redelivered_envelopes_count_once() {
    for fault in
        [DeliveryFault::Twice, DeliveryFault::OnTwoSockets, DeliveryFault::AckLost, DeliveryFault::AckLostOtherEnvelope]
    {
        let stage = Stage::with(|_| {}).await;
        let mut ticket = stage.hold_by_two("DELETE FROM orders");
        let message = stage.message(1).await;
        stage.workspace.fail_delivery(fault);
        stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
        stage.message_saying(&message.ts, "1 so far").await;
        stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP2").unwrap().ended().await;
        let Decision::Approve { by, .. } = ticket.decision().await else { panic!("approved") };
        assert_eq!(by, "ann, bob", "{fault:?}");
        assert!(stage.workspace.look(|state| state.ephemerals("U0APP1").is_empty()), "{fault:?}");
    }
}

#[tokio::test]
async fn sockets_that_break_freeze_or_are_refreshed_are_replaced_and_clicks_arrive() {
    let stage = Stage::with(|settings| settings.idle_deadline = Duration::from_millis(600)).await;
    let workspace = &stage.workspace;
    for round in 0..4 {
        let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
        let message = stage.message(round + 1).await;
        let before = workspace.look(State::sockets_ever);
        match round {
            0 => workspace.drop_sockets().await,
            1 => workspace.freeze_sockets().await,
            2 => workspace.refresh_sockets().await,
            _ => {
                workspace.fail_sockets(SocketFault::NoHello, 1);
                workspace.fail_sockets(SocketFault::TooMany, 1);
                workspace.close_sockets().await;
            }
        }
        workspace
            .wait_for("new sockets", |state| {
                (state.sockets_ever() > before && !state.sockets().is_empty()).then_some(())
            })
            .await;
        // Slack may still send to a socket that is dead and does not show it. It tells whoever clicked, and they click again.
        let mut clicks = 0;
        while !workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await.acknowledged {
            clicks += 1;
            assert!(clicks < 4, "round {round}: no click arrives");
        }
        assert!(matches!(ticket.decision().await, Decision::Approve { .. }), "round {round}");
        ticket.finish(now());
    }
}

#[tokio::test]
async fn a_click_without_a_team_counts_where_the_user_is_of_ours() {
    let stage = Stage::start().await;
    stage.workspace.install_for(Some("E0ORG"));
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    let click = stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap();
    assert!(click.payload()["team"].is_null());
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
}

#[tokio::test]
async fn signed_callbacks_decide_and_unsigned_ones_are_refused() {
    let stage = Stage::with(|settings| {
        settings.mode = querygate::approval::slack::settings::SlackMode::Http;
        settings.callback_address = "127.0.0.1:0".parse().unwrap();
    })
    .await;
    let url = format!("http://{}/slack", stage.running.callback_address().unwrap());
    stage.workspace.deliver_to(Some(Callbacks { interactivity: url.clone(), commands: url.clone(), events: url }));
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    // The last is signed well, eleven minutes ago: replayed.
    for fault in [DeliveryFault::WrongSignature, DeliveryFault::NoSignature, DeliveryFault::SignedBefore(660)] {
        stage.workspace.fail_delivery(fault);
        let ending = stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
        assert!(!ending.acknowledged, "{ending:?}");
        let last = stage.workspace.look(|state| state.deliveries().last().map(ToString::to_string)).unwrap();
        assert!(last.contains("Refused(401)"), "{last}");
    }
    stage.workspace.fail_delivery(DeliveryFault::Truncated);
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    let callback = Api::new(stage.running.callback_address().unwrap(), "no-token-0123456789");
    let body = "0".repeat((128 << 10) + 1);
    let head = format!("POST /slack HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: {}", body.len());
    let large = format!("{head}\r\n\r\n{body}");
    let answer = tokio::task::spawn_blocking(move || callback.send(&large)).await.unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text);
    let nothing = tokio::time::timeout(Duration::from_millis(50), ticket.decision()).await;
    assert!(nothing.is_err(), "nothing of that counted: {nothing:?}");
    let ending = stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(ending.acknowledged, "{ending:?}");
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn a_message_that_would_say_the_same_again_is_not_sent() {
    let stage = Stage::start().await;
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
    stage.message_saying(&message.ts, "Approved").await;
    let request = ticket.request().clone();
    // Released: the timeline gets a line, the message stays as it is.
    ticket.finish(now());
    let line = stage.workspace.wait_for("the timeline", |state| {
        let mut thread = state.thread(CHANNEL, &message.ts).into_iter().map(Message::rendered);
        thread.find(|text| text.contains("released"))
    });
    line.await;
    stage.board.executed(
        request,
        Execution::Completed {
            tag: "DELETE 7".to_owned(),
            rows: Some(7),
            duration_ms: 12,
            committed: true,
            kept: None,
        },
    );
    stage.message_saying(&message.ts, "Done").await;
    let message = stage.workspace.look(|state| state.message(CHANNEL, &message.ts).cloned()).unwrap();
    let versions: Vec<String> = message.earlier.iter().chain([&message.content]).map(Content::rendered).collect();
    assert!(versions.len() > 1, "{versions:?}");
    for pair in versions.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

#[tokio::test]
async fn sockets_that_never_open_are_given_up_and_asked_for_again() {
    let stage = Stage::with(|settings| settings.open_deadline = Duration::from_millis(300)).await;
    let workspace = &stage.workspace;
    let mut ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    let before = workspace.look(State::sockets_ever);
    workspace.fail("apps.connections.open", Fault::Hang, 1);
    workspace.fail("apps.connections.open", Fault::Html, 1);
    workspace.fail_sockets(SocketFault::NeverAnswer, 1);
    workspace.fail_sockets(SocketFault::Refuse(500), 1);
    workspace.drop_sockets().await;
    workspace
        .wait_for("new sockets", |state| (state.sockets_ever() > before && !state.sockets().is_empty()).then_some(()))
        .await;
    let ending = workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    assert!(ending.acknowledged, "{ending:?}");
    assert!(matches!(ticket.decision().await, Decision::Approve { .. }));
}

#[tokio::test]
async fn the_home_and_the_command_list_what_the_viewer_may_decide() {
    let stage = Stage::start().await;
    let ticket = stage.hold("app_rw", "DELETE FROM orders");
    stage.message(1).await;
    for (user, expected) in [("U0APP1", "1 request waits for you"), ("U0OUT", "Nothing waits for you")] {
        stage.workspace.open_home(user).unwrap().ended().await;
        let home = stage.workspace.wait_for("the home", |state| state.home(user).map(View::rendered));
        assert!(home.await.contains(expected), "{user}");
    }
    let id = ticket.id().to_string();
    for (user, text, expected) in [
        ("U0APP1", "pending", id.as_str()),
        ("U0APP2", "help", "/querygate show"),
        ("U0OUT", &format!("show {id}"), "no request"),
        ("U0REQ", &format!("show {id}"), "Approval needed"),
    ] {
        stage.workspace.slash(CHANNEL, "/querygate", text, user).unwrap().ended().await;
        let told =
            stage.workspace.wait_for("an answer", |state| state.ephemerals(user).first().map(|m| m.content.rendered()));
        let told = told.await;
        assert!(told.contains(expected), "{user} {text}: {told}");
    }
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn late_clicks_are_answered_and_endings_take_the_buttons_away() {
    let stage = Stage::start().await;
    let ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    ticket.withdraw(Cause::ClientGone, now());
    assert!(stage.message_saying(&message.ts, "Withdrawn: DELETE").await.buttons().is_empty());
    stage.workspace.stale_click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    let told = stage
        .workspace
        .wait_for("a private answer", |state| state.ephemerals("U0APP1").first().map(|m| m.content.rendered()));
    assert!(told.await.contains("does not count"));
}

#[tokio::test]
async fn the_check_names_what_is_missing_in_plain_words() {
    let stage = Stage::start().await;
    let told = |findings: Vec<querygate::approval::slack::check::Finding>| {
        findings
            .into_iter()
            .map(|finding| format!("{:?} {}", finding.kind, finding.text))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let fine = told(stage.slack.check().await);
    assert!(!fine.contains("Wrong"), "{fine}");
    stage.workspace.grant(&["chat:write", "commands", "users:read"]);
    stage.workspace.grant_app(&[]);
    let fresh = stage.another_slack(|_| {});
    let missing = told(fresh.check().await);
    for part in ["`usergroups:read`", "`files:write`", "`users:read.email`", "app_token"] {
        assert!(missing.contains(part), "{part}: {missing}");
    }
    let elsewhere = stage.another_slack(|settings| settings.channel = "C0NOWHERE".to_owned());
    let elsewhere = told(elsewhere.check().await);
    assert!(elsewhere.contains("no channel C0NOWHERE"), "{elsewhere}");
    stage.workspace.lock_out(Some("token_revoked"));
    let revoked = told(stage.another_slack(|_| {}).check().await);
    assert!(revoked.contains("revoked"), "{revoked}");
}

#[tokio::test]
async fn whoever_is_named_breaks_the_glass_and_everybody_hears_it_until_somebody_else_has_looked() {
    let stage = Stage::start().await;
    let mut ticket = stage.hold_with_glass("DELETE FROM orders");
    let message = stage.message(1).await;
    assert_eq!(message.buttons(), ["Approve", "Reject…", "Details", "Break glass…"]);
    let break_it = async |user: &str| {
        stage.workspace.click(CHANNEL, &message.ts, "break_glass", user).unwrap().ended().await;
        stage.workspace.wait_for("the window", |state| state.modal(user).map(|_| ())).await;
        stage.workspace.submit_view(user, &[("why", "The <!channel> shop is down")]).unwrap().ended().await;
    };
    let told = async |user: &str, text: &str| {
        let ephemeral = |state: &State| {
            let texts = state.ephemerals(user).into_iter().map(|message| message.content.rendered());
            texts.into_iter().find(|told| told.contains(text))
        };
        stage.workspace.wait_for(text, ephemeral).await
    };
    break_it("U0APP2").await;
    told("U0APP2", "not among those who may release").await;
    assert_eq!(stage.workspace.messages(CHANNEL)[0].buttons().len(), 4);

    break_it("U0APP1").await;
    let Decision::Approve { by, reason, .. } = ticket.decision().await else { panic!("approved") };
    assert_eq!((by.as_str(), reason.as_deref()), ("ann", Some("The <!channel> shop is down")));
    ticket.finish(now());
    let broken = stage.message_saying(&message.ts, "GLASS BROKEN by <@U0APP1>").await;
    assert!(broken.rendered().contains("nobody else has looked"), "{}", broken.rendered());
    assert!(!broken.content.mentions().contains(&"channel".to_owned()));
    let broken = stage.message_saying(&message.ts, "Approved: DELETE").await;
    assert_eq!(broken.buttons(), ["Acknowledge", "Details"]);
    let alarm = stage.workspace.wait_for("the alarm", |state| {
        let texts = state.thread(CHANNEL, &message.ts).into_iter().map(Message::rendered);
        texts.into_iter().find(|text| text.contains("Glass broken by <@U0APP1>"))
    });
    let alarm = alarm.await;
    assert!(alarm.contains("S0DBA") && alarm.contains("shop is down"), "{alarm}");
    let aloud = stage.workspace.look(|state| {
        let calls = state.calls("chat.postMessage").into_iter();
        calls.filter(|call| call.arguments.get("reply_broadcast") == Some(&true.into())).count()
    });
    assert_eq!(aloud, 1);

    stage.workspace.click(CHANNEL, &message.ts, "acknowledge", "U0APP1").unwrap().ended().await;
    told("U0APP1", "does not review it").await;
    stage.workspace.open_home("U0APP2").unwrap().ended().await;
    let home = stage.workspace.wait_for("the home", |state| state.home("U0APP2").map(View::rendered)).await;
    assert!(home.contains("Emergency releases"), "{home}");
    stage.workspace.click(CHANNEL, &message.ts, "acknowledge", "U0APP2").unwrap().ended().await;
    assert!(stage.message_saying(&message.ts, "reviewed by bob").await.buttons().is_empty());
    stage.workspace.assert_no_violations();
}

#[tokio::test]
async fn who_cannot_be_told_apart_from_the_requester_does_not_release_alone() {
    // lea is no person of the configuration; nora, who asks, has neither a Slack user nor an address there.
    let stage = Stage::start().await;
    stage.workspace.change_group("S0DBA", |group| group.members.extend(["U0LEAD".to_owned()]));
    let mut ticket = stage.hold_under("careful", "app_nora", "DELETE FROM orders");
    let message = stage.message(1).await;
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0LEAD").unwrap().ended().await;
    let counted = stage.message_saying(&message.ts, "1 so far").await;
    assert!(counted.rendered().contains("Needs *2*"), "{}", counted.rendered());
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    let Decision::Approve { by, .. } = ticket.decision().await else { panic!("approved") };
    assert_eq!(by, "slack:T0HOLD/U0LEAD, ann");
    ticket.finish(now());

    // A person of the configuration is somebody else for certain, and so is anybody where the requester can be compared.
    for (user, count, clicker) in [("app_nora", 2, "U0APP1"), ("app_rw", 3, "U0LEAD")] {
        let mut ticket = stage.hold_under("careful", user, "DELETE FROM orders");
        let message = stage.message(count).await;
        stage.workspace.click(CHANNEL, &message.ts, "approve", clicker).unwrap().ended().await;
        assert!(matches!(ticket.decision().await, Decision::Approve { .. }), "{user}");
        ticket.finish(now());
    }

    let _ticket = stage.hold_under("strict", "app_nora", "DELETE FROM orders");
    let message = stage.message(4).await;
    stage.workspace.click(CHANNEL, &message.ts, "approve", "U0LEAD").unwrap().ended().await;
    let told = stage
        .workspace
        .wait_for("a private answer", |state| state.ephemerals("U0LEAD").first().map(|m| m.content.rendered()));
    assert!(told.await.contains("cannot be told that this is not your own request"));
    assert_eq!(stage.board.list().len(), 1);
}

#[tokio::test]
async fn an_announcement_that_is_held_up_does_not_delay_another() {
    let stage = Stage::start().await;
    stage.workspace.fail("chat.postMessage", Fault::Hang, 1);
    let _first = stage.hold("app_rw", "DELETE FROM orders");
    stage.workspace.wait_for("a call", |state| state.calls("chat.postMessage").first().map(|_| ())).await;
    let _second = stage.hold("app_rw", "DELETE FROM orders WHERE id = 2");
    let message = stage.message(1).await;
    assert!(message.rendered().contains("id = 2"), "{}", message.rendered());
    let calls: Vec<_> =
        stage.workspace.look(|state| state.calls("chat.postMessage").iter().map(|call| call.at).collect());
    // The first is given up after ten seconds; the second did not wait for that.
    assert!(calls[1].duration_since(calls[0]) < Duration::from_secs(5));
    stage.workspace.release("chat.postMessage");
    stage.message(2).await;
}

#[tokio::test]
async fn a_revoked_token_is_told_by_health_and_approves_nothing() {
    let stage = Stage::start().await;
    assert!(stage.slack.health().reachable);
    let ticket = stage.hold("app_rw", "DELETE FROM orders");
    let message = stage.message(1).await;
    stage.workspace.lock_out(Some("token_revoked"));
    let click = stage.workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap();
    click.ended().await;
    stage
        .workspace
        .wait_for("Slack was asked who it is", |state| {
            state.calls("users.info").into_iter().find(|call| call.error() == Some("token_revoked")).map(|_| ())
        })
        .await;
    stage.health(|health| !health.reachable && health.why.as_deref().is_some_and(|why| why.contains("revoked"))).await;
    assert_eq!(stage.board.list().len(), 1);
    drop(ticket);
}
