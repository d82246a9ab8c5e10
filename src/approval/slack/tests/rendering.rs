//! Claims about what people are shown.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::limits;
use crate::approval::channel::{Acknowledged, Again, Milestone, RequestView, Review, Window};
use crate::approval::people::{People, Person};
use crate::approval::slack::blocks::{self, Look, bound, message};
use crate::approval::slack::settings::LongStatements;
use crate::approval::slack::{glass, panels};
use crate::approval::testing::request;
use crate::hold::{Beforehand, Cause, Decision, Ended, Execution, HoldId, HoldRequest, Outcome, Parameter};
use crate::judge::{ObjectName, Redact};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_180_000 + second).unwrap()
}

fn people() -> People {
    let person = |name: &str, user: &str, database: &str| Person {
        name: name.to_owned(),
        slack_user: Some(user.to_owned()),
        email: Some(format!("{name}@example.com")),
        database_users: vec![database.to_owned()],
        ..Person::default()
    };
    People::new(vec![person("rita", "U0REQ", "app_rw"), person("ann", "U0APP1", "ann"), person("bob", "U0APP2", "bob")])
        .unwrap()
}

const STATEMENT: &str = "DELETE FROM orders\nWHERE note LIKE '%``` <!channel> & <@U0OUT>%';";

fn held(text: &str) -> HoldRequest {
    let mut request = request("app_rw", text);
    request.id = HoldId("qg-7k3f000000".to_owned());
    request.statement.sha256 = "b8c08e78c676".to_owned() + &"0".repeat(52);
    request.parameters.clear();
    request.opened_at = at(0);
    request.deadline = at(900);
    request.reason = Some("clean-up for OPS-311".to_owned());
    request
}

fn view(request: HoldRequest) -> RequestView {
    RequestView {
        owners_missing: Vec::new(),
        request: Arc::new(request),
        revision: 1,
        audience: crate::approval::audience::Audience::default(),
        impact: None,
        examining: false,
        round: 0,
        changed: Vec::new(),
        asked: "slack:S0DBA".to_owned(),
        quorum: 1,
        approved_by: Vec::new(),
        escalated: 0,
        escalated_to: String::new(),
        decision: None,
        glass: false,
        break_glass: false,
        review: None,
        may_again: None,
        window: None,
        again: None,
        ended: None,
        execution: None,
        undone: Vec::new(),
        timeline: vec![Milestone { at: at(0), what: "asked".to_owned() }],
    }
}

fn approved() -> Option<Decision> {
    Some(Decision::Approve { by: "ann".to_owned(), reason: None, at: at(71), under: None })
}

fn ended(view: &mut RequestView, outcome: Outcome) {
    view.ended = Some(Ended { outcome, decision: view.decision.clone(), at: at(72) });
}

/// The request in each of its states.
fn states(request: &HoldRequest) -> Vec<(&'static str, RequestView)> {
    let fresh = || view(request.clone());
    let with = |change: &dyn Fn(&mut RequestView)| {
        let mut view = fresh();
        change(&mut view);
        view
    };
    let released = |execution: Option<Execution>| {
        with(&|view| {
            view.decision = approved();
            ended(view, Outcome::Released);
            view.execution.clone_from(&execution);
        })
    };
    let completed = Execution::Completed {
        tag: "DELETE 18204".to_owned(),
        rows: Some(18_204),
        duration_ms: 212,
        committed: true,
        kept: None,
    };
    let failed = Execution::Failed {
        sqlstate: "23503".to_owned(),
        message: "violates <!channel> constraint".to_owned(),
        duration_ms: 9,
    };
    vec![
        ("pending", fresh()),
        (
            "escalated",
            with(&|view| {
                view.escalated = 1;
                view.escalated_to = "slack:S0LEAD".to_owned();
            }),
        ),
        ("approved", released(None)),
        ("executed", released(Some(completed))),
        ("failed", released(Some(failed))),
        ("unknown", released(Some(Execution::Unknown))),
        (
            "rejected",
            with(&|view| {
                let reason = Some("Not during the sale. Batch it after 22:00.".to_owned());
                view.decision = Some(Decision::Reject { by: "bob".to_owned(), reason, at: at(40) });
                ended(view, Outcome::Rejected);
            }),
        ),
        ("expired", with(&|view| ended(view, Outcome::Expired))),
        ("withdrawn", with(&|view| ended(view, Outcome::Withdrawn { cause: Cause::ClientGone }))),
    ]
}

fn look<'a>(people: &'a People, groups: &'a [String]) -> Look<'a> {
    Look { people, groups, long: LongStatements::Console, filed: false }
}

fn rendered(view: &RequestView) -> Value {
    let people = people();
    json!(message(view, &look(&people, &[])).blocks)
}

fn find<'a>(blocks: &'a Value, kind: &str) -> Vec<&'a Value> {
    blocks.as_array().unwrap().iter().filter(|block| block["type"] == kind).collect()
}

fn button_names(blocks: &Value) -> Vec<String> {
    let elements = find(blocks, "actions").into_iter().flat_map(|block| block["elements"].as_array().unwrap());
    elements.map(|element| element["action_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_state_says_its_name_and_only_open_ones_have_buttons() {
    let names = [
        ("pending", ":hourglass_flowing_sand: Approval needed: DELETE on shop/public.customers"),
        ("escalated", ":rotating_light: Still waiting: DELETE on shop/public.customers"),
        ("approved", ":white_check_mark: Approved: DELETE on shop/public.customers"),
        ("executed", ":white_check_mark: Done: DELETE on shop/public.customers"),
        ("failed", ":warning: Approved but failed: DELETE on shop/public.customers"),
        ("unknown", ":grey_question: Approved, result not known: DELETE on shop/public.customers"),
        ("rejected", ":no_entry: Rejected: DELETE on shop/public.customers"),
        ("expired", ":alarm_clock: Expired: DELETE on shop/public.customers"),
        ("withdrawn", ":leftwards_arrow_with_hook: Withdrawn: DELETE on shop/public.customers"),
    ];
    for ((state, view), (expected, header)) in states(&held(STATEMENT)).into_iter().zip(names) {
        assert_eq!(state, expected);
        let blocks = rendered(&view);
        assert_eq!(blocks[0]["text"]["text"], header);
        let open = matches!(state, "pending" | "escalated");
        let buttons = button_names(&blocks);
        assert_eq!(buttons, if open { vec!["approve", "reject", "details"] } else { vec![] }, "{state}");
        assert_eq!(limits::wrong(&blocks, 50), Vec::<String>::new(), "{state}");
    }
}

#[test]
fn the_messages_look_like_this() {
    let people = people();
    let groups = ["S0DBA".to_owned()];
    for (state, view) in states(&held(STATEMENT)) {
        let message = message(&view, &look(&people, &groups));
        insta::assert_snapshot!(
            state,
            serde_json::to_string_pretty(&json!({"text": message.text, "blocks": message.blocks})).unwrap()
        );
    }
}

#[test]
fn the_statement_is_literal_and_whole_and_its_digest_is_on_every_button() {
    let request = held(STATEMENT);
    let blocks = rendered(&view(request.clone()));
    assert_eq!(find(&blocks, "rich_text")[0]["elements"][0]["elements"][0]["text"], STATEMENT);
    for button in find(&blocks, "actions")[0]["elements"].as_array().unwrap() {
        let (id, digest) = bound(button["value"].as_str().unwrap()).unwrap();
        assert_eq!((id, digest), (request.id.clone(), request.statement.sha256.clone()));
    }
    let approve = &find(&blocks, "actions")[0]["elements"][0];
    let confirm = approve["confirm"]["text"]["text"].as_str().unwrap();
    assert!(confirm.contains("b8c08e78c676") && confirm.contains("rita@example.com"), "{confirm}");
}

#[test]
fn what_is_not_shown_whole_says_so_and_has_no_approve_button() {
    let long = format!("DELETE FROM orders WHERE id IN ({}1)", "12345, ".repeat(1_000));
    let hidden_tail = format!("SELECT 1{}; DROP TABLE orders", "\r\n".repeat(1_500));
    let mut lossy = held("DELETE FROM orders");
    lossy.statement.lossy = true;
    let mut parameters = held("DELETE FROM orders WHERE id = $1");
    parameters.parameters = vec![parameter(&"x".repeat(4_000))];
    let mut many = held("DELETE FROM orders WHERE id = $1");
    many.parameters = (0..2_000).map(|_| parameter("7")).collect();
    for request in [held(&long), held(&hidden_tail), lossy, parameters, many] {
        let blocks = rendered(&view(request));
        assert_eq!(button_names(&blocks), ["reject", "details"]);
        assert!(blocks.to_string().contains("NOT shown in full"));
        assert!(blocks.to_string().contains("in the console"));
    }
}

/// A path is read from its beginning: where long names hide its end, they hide the schema that counts.
#[test]
fn a_search_path_that_does_not_fit_is_not_approved_in_slack() {
    let long = |names: usize| format!("{}, evil", vec!["x".repeat(63); names].join(", "));
    let large = "DELETE FROM orders -- ".to_owned() + &"y".repeat(2_500);
    for (text, names, whole) in [
        ("DELETE FROM t", 0, true),
        ("DELETE FROM t", 4, true),
        ("DELETE FROM t", 5, false),
        (&large, 4, true),
        (&large, 60, false),
    ] {
        for as_role in [false, true] {
            let mut request = held(text);
            let mut setting = request.setting.clone().unwrap_or_default();
            let said = Some(long(names));
            if as_role {
                setting.role = said;
            } else {
                setting.search_path = said;
            }
            request.setting = Some(setting);
            let blocks = rendered(&view(request));
            let approvable = button_names(&blocks).contains(&"approve".to_owned());
            assert_eq!(approvable, whole, "{names}");
            // Whatever room is left: where Approve is offered the end is in view.
            assert!(!approvable || blocks.to_string().contains(", evil`"), "{blocks}");
        }
    }
}

#[test]
fn with_the_text_in_the_thread_approve_stays_only_where_the_setting_says_so_and_the_file_is_there() {
    let people = people();
    let long = view(held(&"x".repeat(10_000)));
    for (setting, filed, expected) in [
        (LongStatements::Console, true, false),
        (LongStatements::File, false, false),
        (LongStatements::File, true, true),
    ] {
        let look = Look { people: &people, groups: &[], long: setting, filed };
        let message = message(&long, &look);
        assert!(!message.whole);
        assert_eq!(button_names(&json!(message.blocks)).contains(&"approve".to_owned()), expected);
    }
}

#[test]
fn a_standing_approval_is_offered_with_exactly_what_it_grants_and_shown_until_it_is_over() {
    let mut view = view(held(STATEMENT));
    view.quorum = 2;
    view.may_again = Some(std::time::Duration::from_secs(900));
    let blocks = rendered(&view);
    assert_eq!(button_names(&blocks), ["approve", "approve_again", "reject", "details"]);
    let button = &find(&blocks, "actions")[0]["elements"][1];
    assert_eq!(button["text"]["text"], "Approve for 15 min…");
    let value = button["value"].as_str().unwrap();
    assert_eq!(bound(value), Some((view.request.id.clone(), view.request.statement.sha256.clone())));
    let confirm = button["confirm"]["text"]["text"].as_str().unwrap();
    for part in [
        "rita@example.com",
        "b8c08e78c676",
        "15 min",
        "this session",
        "same values, role and search_path",
        "All who approve",
    ] {
        assert!(confirm.contains(part), "{part}: {confirm}");
    }
    view.decision = approved();
    ended(&mut view, Outcome::Released);
    view.again = Some(Again { until: at(900), uses: 3, ended: None });
    let blocks = rendered(&view);
    assert_eq!(button_names(&blocks), ["revoke"]);
    let text = blocks.to_string();
    assert!(text.contains("used 3 times") && text.contains("<!date^1795180900^"), "{text}");
    view.again = Some(Again { until: at(900), uses: 3, ended: Some("revoked by <!here>".to_owned()) });
    let blocks = rendered(&view);
    assert!(button_names(&blocks).is_empty());
    assert!(blocks.to_string().contains("no longer runs again: revoked by &lt;!here&gt;; used 3 times"), "{blocks}");
}

/// What rita asked for beforehand.
fn asked_beforehand() -> RequestView {
    let mut request = held("DELETE FROM a;\nDELETE FROM b WHERE note = '<!channel>'");
    request.beforehand = Some(Beforehand { by: "rita".to_owned(), statements: vec!["0f".repeat(32); 2] });
    request.origin.user = "migrate".to_owned();
    let window = Some(Window { statements: 2, ..Window::default() });
    RequestView { window, ..view(request) }
}

#[test]
fn what_is_asked_beforehand_says_so_in_every_state_and_what_may_pass_until_when() {
    let pending = asked_beforehand();
    let with = |change: &dyn Fn(&mut RequestView)| {
        let mut view = pending.clone();
        change(&mut view);
        view
    };
    let approved_with = |passed: &[usize], over: Option<&str>| {
        with(&|view| {
            view.decision = approved();
            ended(view, Outcome::Released);
            let (passed, over) = (passed.iter().copied().collect(), over.map(str::to_owned));
            view.window = Some(Window { statements: 2, passed, over });
        })
    };
    let rejected = Decision::Reject { by: "bob".to_owned(), reason: None, at: at(40) };
    for (view, parts) in [
        (
            pending.clone(),
            &["Pre-approval asked: DELETE", "each of 2 statements may run once", "`shop` as `migrate`"][..],
        ),
        (approved_with(&[], None), &["Pre-approved: DELETE", "0 of 2 statements passed", "until <!date^1795180900"]),
        (approved_with(&[0], None), &["1 of 2 statements passed"]),
        (
            approved_with(&[0, 1], Some("every statement has passed")),
            &["Pre-approval is over", "2 of 2 statements passed"],
        ),
        (
            approved_with(&[0], Some("withdrawn by rita")),
            &["Pre-approval is over", "withdrawn by rita: nothing more passes"],
        ),
        (
            with(&|view| {
                view.decision = Some(rejected.clone());
                ended(view, Outcome::Rejected);
            }),
            &["Pre-approval rejected", "nothing passes"],
        ),
        (with(&|view| ended(view, Outcome::Expired)), &["Pre-approval expired", "nothing passes"]),
        (
            with(&|view| ended(view, Outcome::Withdrawn { cause: Cause::CancelRequest })),
            &["Pre-approval withdrawn", "nothing passes"],
        ),
    ] {
        let blocks = rendered(&view);
        let text = blocks.to_string();
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("<@U0REQ>") && !text.contains("held by") && !text.contains("did *not* run"), "{text}");
        assert_eq!(button_names(&blocks).is_empty(), view.decision.is_some() || view.ended.is_some(), "{text}");
        assert_eq!(limits::wrong(&blocks, 50), Vec::<String>::new());
    }
    let blocks = rendered(&pending);
    let confirm = find(&blocks, "actions")[0]["elements"][0]["confirm"]["text"]["text"].as_str().unwrap();
    for part in ["Nothing waits", "2 statements", "b8c08e78c676", "shop", "migrate", "rita@example.com", "UTC", "once"]
    {
        assert!(confirm.contains(part), "{part}: {confirm}");
    }
    let people = people();
    let listed = json!(panels::pending(std::slice::from_ref(&pending), &people, |_| None).blocks).to_string();
    assert!(listed.contains("pre-approval of DELETE"), "{listed}");
    let told = panels::to_requester(&approved_with(&[], None), &look(&people, &[]), None).unwrap();
    assert!(json!(told.blocks).to_string().contains("may run once, in the order shown, until"), "{told:?}");
    let details = json!(panels::details_modal(&pending, &people)).to_string();
    assert!(details.contains("Asked beforehand by") && !details.contains("backend"), "{details}");
}

#[test]
fn a_parameter_cannot_look_like_two() {
    let mut request = held("DELETE FROM orders WHERE id = $1");
    request.parameters = vec![parameter("1'\n$2 integer = '2"), Parameter { value: None, ..parameter("") }];
    let blocks = rendered(&view(request));
    let shown = find(&blocks, "rich_text")[1]["elements"][0]["elements"][0]["text"].as_str().unwrap();
    assert_eq!(shown, "$1 integer = '1'⟨U+000A⟩$2 integer = '2'\n$1 integer = NULL");
}

#[test]
fn what_should_not_be_overlooked_stands_above_the_statement() {
    assert!(!rendered(&view(held("DELETE FROM orders"))).to_string().contains("Look twice"));
    let mut request = held("DELETE FROM orders");
    let risk = |kind: &str, text: &str| serde_json::from_value(json!({"kind": kind, "text": text})).unwrap();
    request.risks = vec![risk("no-where", "every row of orders"), risk("look-alike", "`<!here>` is not `x`")];
    let blocks = rendered(&view(request));
    let at = |kind: &str| blocks.as_array().unwrap().iter().position(|block| block["type"] == kind).unwrap();
    let look = find(&blocks, "section").into_iter().find(|block| block.to_string().contains("Look twice")).unwrap();
    assert_eq!(
        look["text"]["text"].as_str().unwrap(),
        "*Look twice*\n:warning: every row of orders\n:warning: `&lt;!here&gt;` is not `x`"
    );
    assert!(at("rich_text") > blocks.as_array().unwrap().iter().position(|block| *block == *look).unwrap());
}

#[test]
fn only_the_desks_words_mention_anybody() {
    let mut request = held("DELETE FROM orders");
    request.reason = Some("<!channel> slack:U0EVIL".to_owned());
    request.origin.application_name = "<@U0EVIL>".to_owned();
    request.why = "`<!here>`".to_owned();
    let mut view = view(request);
    view.timeline.push(Milestone { at: at(5), what: "rejected: <!channel> slack:U0EVIL".to_owned() });
    for blocks in [rendered(&view), json!(panels::details_modal(&view, &people()))["blocks"].take()] {
        let text = blocks.to_string();
        assert!(!text.contains("<@U0EVIL") && !text.contains("<!channel") && !text.contains("<!here"), "{text}");
    }
}

#[test]
fn a_buttons_value_is_read_back_strictly() {
    for value in ["", "v1:", "v1:qg-1:abc", "v2:qg-1:0f", "v1:../etc:0f"] {
        assert_eq!(bound(value), None, "{value}");
    }
    let request = held("x");
    let binding = blocks::binding(&request);
    assert_eq!(bound(&format!("{binding}@x")), None, "a round that cannot be read is none");
    let mut view = view(request);
    let digest = view.request.statement.sha256.clone();
    assert_eq!(bound(&binding), Some((view.request.id.clone(), digest.clone())));
    assert_eq!(blocks::digest_and_round(&digest), (digest.as_str(), Some(0)));
    view.round = 3;
    let (id, shown) = bound(&format!("{}:again=900", blocks::binding_of(&view))).unwrap();
    assert_eq!((id, blocks::digest_and_round(&shown)), (view.request.id.clone(), (digest.as_str(), Some(3))));
}

#[test]
fn the_requester_is_told_of_outcomes_and_of_nothing_before() {
    let people = people();
    for (state, view) in states(&held(STATEMENT)) {
        let told = panels::to_requester(&view, &look(&people, &[]), Some("https://acme.slack.com/archives/C0/p1"));
        assert_eq!(told.is_none(), matches!(state, "pending" | "escalated" | "approved" | "withdrawn"), "{state}");
        if let Some(message) = told {
            assert_eq!(limits::wrong(&json!(message.blocks), 50), Vec::<String>::new());
        }
    }
}

fn parameter(value: &str) -> Parameter {
    Parameter { position: 1, type_name: Some("integer".to_owned()), value: Some(value.to_owned()), raw: false }
}

/// Text that hurts: markup, quotes that double in JSON, characters of two units, invisible ones, of any length.
fn nasty(most: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("&".to_owned()),
        Just("<!channel>".to_owned()),
        Just("```".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\u{202e}".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("🙂".to_owned()),
        Just("x".repeat(200)),
        Just("slack:U0EVIL".to_owned()),
        any::<char>().prop_map(|c| c.to_string()),
    ];
    (proptest::collection::vec(piece, 0..60), 1..=most.max(1)).prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

prop_compose! {
    fn any_view()(
        (text, why, reason, words) in (nasty(200), nasty(5), proptest::option::of(nasty(5)), nasty(2)),
        (user, database, application, rule) in (nasty(1), nasty(1), nasty(1), nasty(1)),
        values in proptest::collection::vec(proptest::option::of(nasty(10)), 0..6),
        names in proptest::collection::vec(nasty(1), 0..40),
        (lossy, state, approvals, quorum) in (any::<bool>(), 0_usize..9, 0_usize..9, 0_usize..9),
        (beforehand, over) in (any::<bool>(), any::<bool>()),
        (glass, seen, redact, repeats, uses) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>()),
    ) -> RequestView {
        let mut request = held(&text);
        request.why = why;
        request.reason = reason;
        request.origin.user = user;
        request.origin.database = database;
        request.origin.application_name = application;
        request.rule = Arc::from(rule);
        request.statement.lossy = lossy;
        request.parameters = values
            .into_iter()
            .map(|value| Parameter { value, ..parameter("") })
            .collect();
        let objects = names.into_iter().map(|name| ObjectName { schema: None, name });
        request.effects[0].objects.extend(objects);
        request.effects[0].why.clone_from(&words);
        request.redact = if redact { Redact::Literals } else { Redact::None };
        if beforehand {
            request.beforehand = Some(Beforehand { by: words.clone(), statements: vec!["0f".repeat(32); 500] });
        }
        let (_, mut view) = states(&request).swap_remove(state);
        if beforehand {
            view.window = Some(Window { statements: 500, passed: (0..500).collect(), over: over.then(|| words.clone()) });
        }
        view.approved_by = vec![words.clone(); approvals];
        view.quorum = quorum;
        view.asked = words.clone();
        view.escalated_to = words.clone();
        if let Some(Decision::Approve { reason, .. } | Decision::Reject { reason, .. }) = &mut view.decision {
            *reason = Some(words.clone());
        }
        view.glass = glass;
        if glass && matches!(view.decision, Some(Decision::Approve { .. })) {
            let seen = seen.then(|| Acknowledged { by: words.clone(), comment: Some(words.clone()), at: at(4) });
            view.break_glass = true;
            view.review = Some(Review { broken_by: words.clone(), why: Some(words.clone()), acknowledged: seen });
        }
        if repeats {
            view.may_again = Some(std::time::Duration::from_secs(uses));
            let until = at(900);
            view.again = view.decision.as_ref().map(|_| Again { until, uses, ended: seen.then(|| words.clone()) });
        }
        view.timeline = vec![Milestone { at: at(1), what: words }; approvals * 5];
        view
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_users_write_stays_within_slacks_limits(view in any_view(), filed in any::<bool>()) {
        let people = people();
        let groups = ["S0DBA".to_owned()];
        let look = Look { people: &people, groups: &groups, long: LongStatements::File, filed };
        let message = message(&view, &look);
        let blocks = json!(message.blocks);
        prop_assert_eq!(limits::wrong(&blocks, 50), Vec::<String>::new());
        prop_assert!(limits::total(&blocks) <= 13_000, "{}", limits::total(&blocks));
        prop_assert_eq!(limits::markup(&message.text), Vec::<String>::new());
        prop_assert!(message.text.len() < 12_000);
        if !message.whole {
            prop_assert!(blocks.to_string().contains("NOT shown in full"));
        }
    }

    #[test]
    fn modals_home_and_notes_stay_within_slacks_limits(view in any_view()) {
        let people = people();
        let groups = ["S0DBA".to_owned()];
        let remembered = panels::Remembered {
            r: view.request.id.0.clone(), h: view.request.statement.sha256.clone(), c: "C0".into(), t: "1.2".into(),
        };
        let views = vec![view.clone(); 30];
        for modal in [
            json!(panels::reject_modal(&view, &remembered, &people)),
            json!(glass::modal(&view, &remembered, &people)),
            json!(panels::details_modal(&view, &people)),
            json!(panels::home(&views, &views, &people, at(3))),
        ] {
            prop_assert_eq!(limits::wrong(&modal["blocks"], 100), Vec::<String>::new());
            prop_assert!(modal.to_string().len() < 250_000);
        }
        let look = look(&people, &groups);
        let notes = [
            Some(panels::reminder(&view, &look)),
            Some(panels::escalation(&view)),
            glass::alarm(&view, &look),
            panels::to_requester(&view, &look, Some("https://acme.slack.com/archives/C0/p1")),
            Some(panels::pending(&views, &people, |_| Some("https://acme.slack.com/archives/C0/p1".to_owned()))),
            Some(panels::note(panels::timeline(&view))),
        ];
        for note in notes.into_iter().flatten() {
            prop_assert_eq!(limits::wrong(&json!(note.blocks), 50), Vec::<String>::new());
        }
    }
}
