//! What the live view knows and what keys mean. No I/O: inputs go in, wishes come out, time is an argument.
//!
//! Start at [`Model::input`].

use jiff::{SignedDuration, Timestamp};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::approval::MAX_REASON_CHARS;
use crate::approval::http::view::{AnswerBody, MeView, RequestView, State};
use crate::approval::one_line;
use crate::cli::requests::api::{ApiError, Change};
use crate::cli::requests::text;

/// Ended requests kept on the screen.
const ENDED: usize = 50;

/// Lines a page key moves when nothing has been drawn yet.
const PAGE: usize = 10;

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A key, or the terminal changed size.
    Terminal(Event),
    /// News from the gate.
    Change(Change),
    /// The whole of a request whose texts had been cut.
    Shown(Result<Box<RequestView>, ApiError>),
    /// What became of a decision on the named request.
    Decided(String, Result<Box<RequestView>, ApiError>),
    /// The gate will not talk to us any more.
    Fatal(ApiError),
}

/// What is to be done for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Leave.
    Quit,
    /// Fetch a request whole.
    Show(String),
    /// Decide.
    Decide {
        /// The request.
        id: String,
        /// Which way.
        approve: bool,
        /// Reason, and the digest of what was on the screen.
        body: AnswerBody,
    },
}

/// What the keys are for at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Looking around.
    Browse,
    /// Typing a reason. The request is named here, so that a list that moves meanwhile changes nothing.
    Reason {
        /// The request.
        id: String,
        /// Which way.
        approve: bool,
        /// So far.
        typed: String,
    },
    /// One last question.
    Confirm {
        /// The request.
        id: String,
        /// Which way.
        approve: bool,
        /// As typed.
        reason: String,
    },
}

/// How the connection to the gate does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not yet.
    Connecting,
    /// News comes as it happens.
    Live,
    /// Lost; being tried again.
    Lost(String),
}

/// The live view's state.
#[derive(Debug)]
pub struct Model {
    /// Lines above everything else (the demo's instructions).
    pub headline: Vec<String>,
    /// Who decides here.
    pub me: String,
    /// Waiting ones, oldest first, then ended ones, newest first.
    pub requests: Vec<RequestView>,
    /// The request whose details are shown.
    pub selected: Option<String>,
    /// First line of the details shown.
    pub scroll: usize,
    /// Lines of the details, and how many fit: as last drawn.
    pub drawn: (usize, usize),
    /// The furthest line of the selected request that was on the screen.
    pub seen: usize,
    /// What the keys are for.
    pub mode: Mode,
    /// How the connection does.
    pub link: Link,
    /// The last thing worth saying.
    pub note: String,
    /// Why it ended, if not by wish.
    pub fatal: Option<ApiError>,
    /// The gate's clock minus ours.
    skew: SignedDuration,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            headline: Vec::new(),
            me: String::new(),
            requests: Vec::new(),
            selected: None,
            scroll: 0,
            drawn: (0, 0),
            seen: 0,
            mode: Mode::Browse,
            link: Link::Connecting,
            note: String::new(),
            fatal: None,
            skew: SignedDuration::ZERO,
        }
    }
}

impl Model {
    /// A view with lines of its own above everything.
    #[must_use]
    pub fn with_headline(headline: Vec<String>) -> Self {
        Self { headline, ..Self::default() }
    }

    /// Says who decides here.
    pub fn introduce(&mut self, me: &MeView) {
        self.me = one_line(&me.name);
        if !me.approver {
            "you are not an approver: you see your own requests only".clone_into(&mut self.note);
        }
    }

    /// Takes one input; what it leads to outside comes back.
    pub fn input(&mut self, input: Input, now: Timestamp) -> Option<Wish> {
        match input {
            Input::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => self.key(key),
            Input::Terminal(Event::Paste(text)) => {
                self.type_text(&text);
                None
            }
            Input::Terminal(_) => None,
            Input::Change(change) => self.change(change, now),
            Input::Shown(Ok(whole)) => {
                self.put(*whole);
                None
            }
            Input::Shown(Err(error)) => {
                self.note = error.to_string();
                None
            }
            Input::Decided(_, Ok(decided)) => {
                self.note = text::decided(&decided);
                self.put(*decided);
                None
            }
            Input::Decided(id, Err(error)) => {
                self.note = format!("{}: {error}", one_line(&id));
                None
            }
            Input::Fatal(error) => {
                self.fatal = Some(error);
                Some(Wish::Quit)
            }
        }
    }

    /// The gate's time.
    #[must_use]
    pub fn gate_time(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.skew).unwrap_or(now)
    }

    /// The request whose details are shown.
    #[must_use]
    pub fn current(&self) -> Option<&RequestView> {
        self.find(self.selected.as_deref()?)
    }

    /// The request a prompt is about.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&RequestView> {
        self.requests.iter().find(|request| request.id == id)
    }

    /// How many wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        let pending = |request: &&RequestView| request.state == State::Pending;
        self.requests.iter().filter(pending).count()
    }

    fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Wish::Quit);
        }
        match self.mode.clone() {
            Mode::Browse => self.browse_key(key),
            Mode::Reason { id, approve, typed } => {
                self.reason_key(key, id, approve, typed);
                None
            }
            Mode::Confirm { id, approve, reason } => self.confirm_key(key, id, approve, &reason),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "keys without a meaning have none")]
    fn browse_key(&mut self, key: KeyEvent) -> Option<Wish> {
        let page = self.drawn.1.saturating_sub(1).max(1);
        let page = if self.drawn.1 == 0 { PAGE } else { page };
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
            KeyCode::Up | KeyCode::Char('k') => return self.step(false),
            KeyCode::Down | KeyCode::Char('j') => return self.step(true),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll_to(self.scroll.saturating_add(page)),
            KeyCode::PageUp | KeyCode::Char('b') => self.scroll_to(self.scroll.saturating_sub(page)),
            KeyCode::Char('J') => self.scroll_to(self.scroll.saturating_add(1)),
            KeyCode::Char('K') => self.scroll_to(self.scroll.saturating_sub(1)),
            KeyCode::Home | KeyCode::Char('g') => self.scroll_to(0),
            KeyCode::End | KeyCode::Char('G') => self.scroll_to(usize::MAX),
            KeyCode::Char('a') => self.ask(true),
            KeyCode::Char('r') => self.ask(false),
            _ => {}
        }
        None
    }

    fn scroll_to(&mut self, line: usize) {
        let (lines, fit) = self.drawn;
        self.scroll = line.min(lines.saturating_sub(fit));
    }

    /// Starts the way to a decision on the selected request, if there is one to make.
    fn ask(&mut self, approve: bool) {
        let Some(request) = self.current() else {
            return;
        };
        let refusal = match (request.state, &request.may_not_decide_because) {
            (State::Pending, None) if !text::is_complete(request) => {
                Some("wait until the whole statement is here".to_owned())
            }
            (State::Pending, None) => None,
            (State::Pending, Some(why)) => Some(format!("you may not decide this: {}", one_line(why))),
            (State::Approved | State::Released | State::Rejected | State::Expired | State::Withdrawn, _) => {
                Some("this request is over".to_owned())
            }
        };
        let id = request.id.clone();
        if let Some(why) = refusal {
            self.note = why;
            return;
        }
        self.note.clear();
        self.mode = Mode::Reason { id, approve, typed: String::new() };
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "keys without a meaning have none")]
    fn reason_key(&mut self, key: KeyEvent, id: String, approve: bool, mut typed: String) {
        match key.code {
            KeyCode::Esc => {
                self.mode = Mode::Browse;
                return;
            }
            KeyCode::Enter => {
                self.mode = Mode::Confirm { id, approve, reason: typed };
                return;
            }
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => typed.clear(),
            KeyCode::Char(c) if typed.chars().count() < MAX_REASON_CHARS => typed.push(c),
            _ => {}
        }
        self.mode = Mode::Reason { id, approve, typed };
    }

    /// A pasted text is typed where text is typed, and nowhere else: its letters are not keys.
    fn type_text(&mut self, text: &str) {
        if let Mode::Reason { typed, .. } = &mut self.mode {
            typed.push_str(&one_line(text));
            *typed = typed.chars().take(MAX_REASON_CHARS).collect();
        }
    }

    fn confirm_key(&mut self, key: KeyEvent, id: String, approve: bool, reason: &str) -> Option<Wish> {
        self.mode = Mode::Browse;
        if !matches!(key.code, KeyCode::Char('y' | 'Y')) {
            "not decided".clone_into(&mut self.note);
            return None;
        }
        let shown = self.find(&id)?;
        let statement_sha256 = Some(shown.statement.sha256.clone());
        let round = shown.progress.as_ref().map(|progress| progress.round);
        self.note = format!("{id}: sent");
        let reason = Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty());
        Some(Wish::Decide {
            id,
            approve,
            body: AnswerBody { reason, statement_sha256, round, ..AnswerBody::default() },
        })
    }

    fn change(&mut self, change: Change, now: Timestamp) -> Option<Wish> {
        match change {
            Change::Alive => self.link = Link::Live,
            Change::Trouble(error) => self.link = Link::Lost(error.to_string()),
            Change::Snapshot(list) => {
                self.link = Link::Live;
                self.skew = list.now.duration_since(now);
                // What was fetched whole stays whole.
                let whole: Vec<_> = std::mem::take(&mut self.requests);
                self.requests = list.requests;
                for request in &mut self.requests {
                    keep_whole(request, whole.iter().find(|old| old.id == request.id));
                }
                self.tidy();
            }
            Change::One(_, change) => {
                self.link = Link::Live;
                self.skew = change.now.duration_since(now);
                let id = change.request.id.clone();
                // What was said of this request is no longer the news.
                if self.note.starts_with(&id) {
                    self.note = format!("{id}  {}", text::standing(&change.request, change.now));
                }
                self.put(change.request);
                // Somebody who looks at something that is over is shown what waits.
                let waits = |request: &RequestView| request.state == State::Pending;
                let idle = self.mode == Mode::Browse && !self.current().is_some_and(waits);
                if idle && self.find(&id).is_some_and(waits) {
                    self.select(Some(id));
                }
            }
        }
        self.wish_whole()
    }

    /// Adds a request or replaces what was known of it.
    fn put(&mut self, mut request: RequestView) {
        let old = self.requests.iter().position(|old| old.id == request.id);
        if let Some(old) = old {
            let old = self.requests.remove(old);
            // Late news about something that is over changes nothing.
            if rank(old.state) > rank(request.state) {
                request = RequestView { statement: request.statement, parameters: request.parameters, ..old };
            } else {
                keep_whole(&mut request, Some(&old));
            }
        }
        self.requests.push(request);
        self.tidy();
    }

    /// Order, limits, a selection that exists, and no prompt about what is over.
    fn tidy(&mut self) {
        let recency = |request: &RequestView| request.ended_at.map(Timestamp::as_nanosecond);
        self.requests.sort_by(|a, b| {
            let key =
                |request: &RequestView| (request.state != State::Pending, recency(request).map(std::cmp::Reverse));
            (key(a), a.opened_at, &a.id).cmp(&(key(b), b.opened_at, &b.id))
        });
        let pending = self.pending();
        self.requests.truncate(pending.saturating_add(ENDED));
        if self.current().is_none() {
            self.select(self.requests.first().map(|request| request.id.clone()));
        }
        if let Mode::Reason { id, .. } | Mode::Confirm { id, .. } = &self.mode {
            let open = self.find(id).is_some_and(|request| request.state == State::Pending);
            if !open {
                self.note = format!("{id} is over: nothing to decide any more");
                self.mode = Mode::Browse;
            }
        }
    }

    fn select(&mut self, id: Option<String>) {
        self.selected = id;
        self.scroll = 0;
        self.seen = 0;
    }

    fn step(&mut self, down: bool) -> Option<Wish> {
        let at = self.requests.iter().position(|request| Some(&request.id) == self.selected.as_ref());
        let to = match at {
            None => 0,
            Some(at) if down => at.saturating_add(1),
            Some(at) => at.saturating_sub(1),
        };
        let id = self.requests.get(to).map(|request| request.id.clone());
        if id.is_some() && id != self.selected {
            self.select(id);
        }
        self.wish_whole()
    }

    /// The selected request is to be seen whole.
    fn wish_whole(&self) -> Option<Wish> {
        let request = self.current()?;
        (!text::is_complete(request)).then(|| Wish::Show(request.id.clone()))
    }
}

/// Lists and streams cut long texts; one that is here whole is not replaced by its beginning.
fn keep_whole(request: &mut RequestView, old: Option<&RequestView>) {
    if let Some(old) = old
        && text::is_complete(old)
        && !text::is_complete(request)
        && old.statement.sha256 == request.statement.sha256
    {
        request.statement.clone_from(&old.statement);
        request.parameters.clone_from(&old.parameters);
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::Pending => 0,
        State::Approved => 1,
        State::Rejected => 2,
        State::Released | State::Expired | State::Withdrawn => 3,
    }
}
