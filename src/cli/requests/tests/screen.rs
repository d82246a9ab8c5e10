//! The live view: keys in, wishes out, and what the screen shows.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::super::api::{ApiError, Change};
use super::super::live::draw::draw;
use super::super::live::model::{Input, Mode, Model, Wish};
use super::{at, change, list, view};
use crate::approval::http::view::{RequestView, State};

struct Screen {
    model: Model,
    terminal: Terminal<TestBackend>,
}

impl Screen {
    fn new(requests: Vec<RequestView>) -> Self {
        let terminal = Terminal::new(TestBackend::new(90, 24)).unwrap();
        let mut screen = Self { model: Model::default(), terminal };
        screen.hear(Change::Snapshot(list(requests)));
        screen
    }

    fn hear(&mut self, change: Change) -> Option<Wish> {
        self.model.input(Input::Change(change), at(0))
    }

    fn press(&mut self, code: KeyCode) -> Option<Wish> {
        self.look();
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        self.model.input(Input::Terminal(Event::Key(key)), at(0))
    }

    fn type_text(&mut self, text: &str) -> Option<Wish> {
        text.chars().filter_map(|c| self.press(KeyCode::Char(c))).last()
    }

    fn look(&mut self) -> String {
        let model = &mut self.model;
        self.terminal.draw(|frame| draw(frame, model, at(48))).unwrap();
        self.terminal.backend().to_string()
    }
}

#[test]
fn a_request_is_understood_at_a_glance() {
    let mut screen = Screen::new(vec![view("qg-a")]);
    let seen = screen.look();
    for words in [
        "1 request waits",
        "live",
        "PENDING 4m 12s left",
        "app (dev) on shop",
        "delete public.customers",
        "WHERE id = $1",
        "$1 integer = '42'",
        "a approve · r reject",
    ] {
        assert!(seen.contains(words), "{words:?} is not on\n{seen}");
    }
}

#[test]
fn approving_takes_a_reason_prompt_and_a_confirmation_and_binds_the_digest() {
    let mut screen = Screen::new(vec![view("qg-a")]);
    assert_eq!(screen.press(KeyCode::Char('a')), None);
    assert_eq!(screen.type_text("okx"), None);
    assert_eq!(screen.press(KeyCode::Backspace), None);
    assert_eq!(screen.press(KeyCode::Enter), None);
    assert!(screen.look().contains("Really approve qg-a?"));
    let Some(Wish::Decide { id, approve, body }) = screen.press(KeyCode::Char('y')) else {
        panic!("no decision");
    };
    assert_eq!((id.as_str(), approve), ("qg-a", true));
    assert_eq!(body.reason.as_deref(), Some("ok"));
    assert_eq!(body.statement_sha256, Some("0f".repeat(32)));
}

#[test]
fn anything_but_yes_decides_nothing() {
    for key in [KeyCode::Enter, KeyCode::Esc, KeyCode::Char('n'), KeyCode::Char('a')] {
        let mut screen = Screen::new(vec![view("qg-a")]);
        screen.press(KeyCode::Char('r'));
        screen.press(KeyCode::Enter);
        assert_eq!(screen.press(key), None);
        assert_eq!(screen.model.mode, Mode::Browse);
    }
    let mut screen = Screen::new(vec![view("qg-a")]);
    screen.press(KeyCode::Char('r'));
    assert_eq!(screen.press(KeyCode::Esc), None);
    assert_eq!(screen.model.mode, Mode::Browse);
}

#[test]
fn a_list_that_moves_does_not_move_the_prompt_to_another_request() {
    let mut screen = Screen::new(vec![view("qg-b")]);
    screen.press(KeyCode::Char('r'));
    let mut older = view("qg-a");
    older.opened_at = at(-10);
    screen.hear(Change::One("opened".into(), change(older)));
    screen.press(KeyCode::Enter);
    let Some(Wish::Decide { id, approve, .. }) = screen.press(KeyCode::Char('y')) else {
        panic!("no decision");
    };
    assert_eq!((id.as_str(), approve), ("qg-b", false));
}

#[test]
fn a_prompt_closes_when_its_request_ends_so_late_keys_decide_nothing_else() {
    let mut screen = Screen::new(vec![view("qg-a"), view("qg-b")]);
    screen.press(KeyCode::Char('a'));
    screen.press(KeyCode::Enter);
    let mut gone = view("qg-a");
    gone.state = State::Withdrawn;
    gone.ended_at = Some(at(1));
    screen.hear(Change::One("ended".into(), change(gone)));
    assert_eq!(screen.press(KeyCode::Char('y')), None);
    assert!(screen.look().contains("qg-a is over"));
}

#[test]
fn what_is_over_or_forbidden_has_no_prompt() {
    let mut own = view("qg-a");
    own.may_decide = false;
    own.may_not_decide_because = Some("nobody decides their own request".to_owned());
    let mut screen = Screen::new(vec![own]);
    screen.press(KeyCode::Char('a'));
    assert_eq!(screen.model.mode, Mode::Browse);
    assert!(screen.look().contains("nobody decides their own request"));
    let mut over = view("qg-a");
    over.state = State::Expired;
    over.ended_at = Some(at(1));
    let mut screen = Screen::new(vec![over]);
    screen.press(KeyCode::Char('r'));
    assert_eq!(screen.model.mode, Mode::Browse);
}

#[test]
fn a_cut_statement_is_fetched_and_cannot_be_decided_before() {
    let mut cut = view("qg-a");
    cut.statement.complete = false;
    let mut screen = Screen::new(Vec::new());
    let wish = screen.hear(Change::One("opened".into(), change(cut.clone())));
    assert_eq!(wish, Some(Wish::Show("qg-a".to_owned())));
    screen.press(KeyCode::Char('a'));
    assert_eq!(screen.model.mode, Mode::Browse);
    screen.model.input(Input::Shown(Ok(Box::new(view("qg-a")))), at(0));
    // A new snapshot carries the cut text again; the whole one stays.
    assert_eq!(screen.hear(Change::Snapshot(list(vec![cut]))), None);
    screen.press(KeyCode::Char('a'));
    assert!(matches!(screen.model.mode, Mode::Reason { .. }));
}

#[test]
fn a_long_statement_scrolls_and_the_confirmation_says_what_was_not_seen() {
    let mut long = view("qg-a");
    long.statement.text = (0..200).map(|n| format!("-- {n}")).collect::<Vec<_>>().join("\n");
    let mut screen = Screen::new(vec![long]);
    assert!(screen.look().contains("lines 1–"));
    screen.press(KeyCode::Char('a'));
    screen.press(KeyCode::Enter);
    assert!(screen.look().contains("You have NOT seen"));
    screen.press(KeyCode::Esc);
    screen.press(KeyCode::End);
    assert!(screen.look().contains("-- 199"));
    screen.press(KeyCode::Char('a'));
    screen.press(KeyCode::Enter);
    assert!(!screen.look().contains("You have NOT seen"));
}

#[test]
fn a_lost_connection_is_shown_and_a_snapshot_mends_everything() {
    let mut screen = Screen::new(vec![view("qg-a"), view("qg-b")]);
    screen.press(KeyCode::Down);
    let lost = ApiError::Unreachable { base: "http://gate".to_owned(), why: "refused".to_owned() };
    screen.hear(Change::Trouble(lost));
    assert!(screen.look().contains("connection lost, trying again"));
    screen.hear(Change::Snapshot(list(vec![view("qg-b"), view("qg-c")])));
    assert_eq!(screen.model.selected.as_deref(), Some("qg-b"));
    let seen = screen.look();
    assert!(!seen.contains("qg-a") && seen.contains("qg-c") && seen.contains("live"));
}

#[test]
fn late_news_does_not_reopen_what_is_over() {
    let mut over = view("qg-a");
    over.state = State::Released;
    over.ended_at = Some(at(1));
    let mut screen = Screen::new(vec![over]);
    let mut decided = view("qg-a");
    decided.state = State::Approved;
    screen.model.input(Input::Decided("qg-a".into(), Ok(Box::new(decided))), at(0));
    assert_eq!(screen.model.requests[0].state, State::Released);
}

#[test]
fn a_pasted_text_presses_no_keys() {
    let mut screen = Screen::new(vec![view("qg-a")]);
    let paste = |text: &str| Input::Terminal(Event::Paste(text.to_owned()));
    screen.model.input(paste("a\ny"), at(0));
    assert_eq!(screen.model.mode, Mode::Browse);
    screen.press(KeyCode::Char('r'));
    screen.model.input(paste("two\nlines"), at(0));
    let Mode::Reason { typed, .. } = &screen.model.mode else {
        panic!("left the prompt");
    };
    assert_eq!(typed, "two lines");
}

#[test]
fn countdowns_use_the_gates_clock() {
    let mut screen = Screen::new(Vec::new());
    // The gate says second 0 while it is second 1000 here.
    let news = Input::Change(Change::Snapshot(list(vec![view("qg-a")])));
    screen.model.input(news, at(1_000));
    assert_eq!(screen.model.gate_time(at(1_010)), at(10));
}

#[test]
fn quitting_works_from_everywhere() {
    let mut screen = Screen::new(vec![view("qg-a")]);
    assert_eq!(screen.press(KeyCode::Char('q')), Some(Wish::Quit));
    screen.press(KeyCode::Char('a'));
    assert_eq!(screen.press(KeyCode::Char('q')), None, "typed into the reason");
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let interrupt = Input::Terminal(Event::Key(interrupt));
    assert_eq!(screen.model.input(interrupt, at(0)), Some(Wish::Quit));
}
