//! What people read.

use super::super::text;
use super::{at, list, view};
use crate::approval::http::view::{DecisionView, State};
use crate::approval::is_deceptive;

#[test]
fn show_says_who_what_why_and_how_long() {
    let shown = text::request(&view("qg-a"), at(48));
    let expected = "\
qg-a  PENDING 4m 12s left

  who          app (dev) on shop · psql · 10.0.0.7:5000
  does         delete public.customers — DELETE removes rows
  held because deletes rows (rule deletes)
  reason       “ticket 12”
  transaction  open: its locks stay while this waits
  search_path  public
  session      7, backend 4242
  deadline     2023-11-14 22:18:20 UTC

  DELETE FROM customers
  WHERE id = $1

  $1 integer = '42'

  shown in full: 35 bytes, 2 lines, sha256 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f

  querygate requests approve qg-a
  querygate requests reject qg-a --reason \"…\"
";
    assert_eq!(shown, expected);
}

#[test]
fn a_list_has_what_a_first_look_needs() {
    let mut request = view("qg-a");
    request.effects[0].has_where = Some(false);
    let shown = text::list(&super::ListView { now: at(290), ..list(vec![request]) }, "");
    let expected = "\
qg-a  PENDING 10s left  app (dev) on shop · psql · 10.0.0.7:5000
    DELETE FROM customers ⏎ WHERE id = $1
    delete public.customers (no WHERE: every row) · in a transaction
";
    assert_eq!(shown, expected);
    assert_eq!(text::list(&list(Vec::new()), "nothing waits for a decision"), "nothing waits for a decision\n");
}

#[test]
fn nothing_a_client_sends_reaches_the_terminal_as_a_command() {
    let evil = "x\u{1b}[2J\u{1b}]0;t\u{7}\u{202e}\u{200b}\r\u{9b}1m";
    let mut request = view("qg-a");
    request.statement.text = format!("DROP TABLE t -- {evil}");
    for field in [
        &mut request.origin.user,
        &mut request.origin.database,
        &mut request.origin.application_name,
        &mut request.origin.client,
        &mut request.why,
        &mut request.rule,
        &mut request.effects[0].why,
    ] {
        evil.clone_into(field);
    }
    evil.clone_into(&mut request.effects[0].objects[0]);
    request.reason = Some(evil.to_owned());
    request.parameters[0].value = Some(evil.to_owned());
    request.parameters[0].type_name = Some(evil.to_owned());
    request.cause = Some(evil.to_owned());
    for state in [State::Pending, State::Withdrawn] {
        request.state = state;
        let shown = text::request(&request, at(0));
        let listed = text::list(&list(vec![request.clone()]), "");
        let told = text::Known::default().news(&request, at(0)).unwrap();
        for shown in [shown, listed, told] {
            assert!(!shown.chars().any(is_deceptive), "{shown:?}");
        }
    }
    let remarks = text::remarks(&request).join("\n");
    assert!(remarks.contains("12 invisible or misleading"), "{remarks}");
}

#[test]
fn line_breaks_of_a_parameter_cannot_pose_as_further_lines() {
    let mut request = view("qg-a");
    request.parameters[0].value = Some("1\n\n  shown in full".to_owned());
    assert_eq!(text::parameter_line(&request.parameters[0]), "$1 integer = '1⟨U+000A⟩⟨U+000A⟩  shown in full'");
    request.parameters[0].value = None;
    assert_eq!(text::parameter_line(&request.parameters[0]), "$1 integer = NULL");
}

#[test]
fn look_alikes_damage_and_cuts_are_remarked_on() {
    let mut request = view("qg-a");
    request.statement.text = "DELETE FROM сustomers".to_owned();
    request.statement.lossy = true;
    request.statement.complete = false;
    let remarks = text::remarks(&request).join("\n");
    assert!(remarks.contains("! not ASCII: с U+0441"), "{remarks}");
    assert!(remarks.contains("! the statement is not UTF-8 text"), "{remarks}");
    assert!(remarks.contains("! NOT shown in full: "), "{remarks}");
}

#[test]
fn a_withdrawn_request_with_an_approval_says_that_it_never_ran() {
    let mut request = view("qg-a");
    request.state = State::Withdrawn;
    request.cause = Some("the client went away".to_owned());
    request.decision = Some(DecisionView { approve: true, by: "ann".to_owned(), reason: None, at: at(1) });
    assert_eq!(text::standing(&request, at(2)), "WITHDRAWN, the client went away (approved by ann, never ran)");
}

#[test]
fn countdowns_are_short_and_never_negative() {
    for (seconds, expected) in
        [(0, "time is up"), (-5, "time is up"), (59, "59s left"), (60, "1m 00s left"), (3_661, "1h 01m left")]
    {
        assert_eq!(text::left(at(seconds), at(0)), expected);
    }
}

#[test]
fn long_statements_are_cut_with_a_mark_and_news_is_told_once() {
    let mut request = view("qg-a");
    request.statement.text = "x".repeat(1_000_000);
    let summary = text::summary(&request);
    assert_eq!(summary.chars().count(), 101);
    assert!(summary.ends_with('…'));
    let mut known = text::Known::default();
    assert!(known.news(&request, at(0)).is_some());
    assert!(known.news(&request, at(1)).is_none());
    request.state = State::Expired;
    assert_eq!(known.news(&request, at(2)).unwrap(), "qg-a  EXPIRED");
}
