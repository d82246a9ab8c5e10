//! A request as a message. Pure: from a view and a look to blocks; knows no network.
//!
//! Start at [`message`]. The statement stands as literal text, whole or visibly not whole; the message stays within Slack's
//! limits whatever users wrote.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
// Writing into a string cannot fail.
use std::fmt::Write as _;

use slack_morphism::blocks::SlackBlock;

use crate::approval::channel::RequestView;
use crate::approval::people::People;
use crate::hold::{Decision, Ended, Execution, HoldId, HoldRequest, Outcome, Undone};
use crate::impact::headlines;
use crate::judge::{EffectKind, Redact};

use super::again;
use super::beforehand;
use super::footer::footer;
use super::glass;
use super::kit::{self, limit};
use super::settings::LongStatements;
use super::text::{clip, code, length, literal, literal_line, moment, person, plain, start, words};

/// How many undos of a request are told; the latest.
const MOST_UNDONE: usize = 3;

/// What rendering has to know besides the request.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    /// Who is who.
    pub(super) people: &'a People,
    /// User groups to be mentioned.
    pub(super) groups: &'a [String],
    /// What long statements are to do.
    pub(super) long: LongStatements,
    /// The whole text is a file in the thread.
    pub(super) filed: bool,
}

/// A message: blocks, and the text notifications show.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) blocks: Vec<SlackBlock>,
    /// An approver sees everything the approval is for.
    pub(super) whole: bool,
}

impl Message {
    /// Tells what it shows from anything else.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        serde_json::to_string(&self.blocks).unwrap_or_default().hash(&mut hasher);
        hasher.finish()
    }
}

/// What stands in a message's header, and whether it can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Escalated,
    Running,
    Done,
    Failed,
    NotKnown,
    Rejected,
    Expired,
    Withdrawn,
    /// Approved beforehand: its statements may pass.
    Window,
    /// They may no more.
    WindowOver,
}

impl State {
    pub(super) fn of(view: &RequestView) -> Self {
        match (&view.ended, &view.decision) {
            (Some(Ended { outcome: Outcome::Released, .. }), _) | (None, Some(Decision::Approve { .. }))
                if view.window.is_some() =>
            {
                let over = view.window.as_ref().is_some_and(|window| window.over.is_some());
                if over { Self::WindowOver } else { Self::Window }
            }
            (Some(ended), _) => match ended.outcome {
                Outcome::Rejected => Self::Rejected,
                Outcome::Expired => Self::Expired,
                // The gate ended between the approval and its execution: what became of it is not known.
                Outcome::Withdrawn { .. } if view.execution == Some(Execution::Unknown) => Self::NotKnown,
                Outcome::Withdrawn { .. } => Self::Withdrawn,
                Outcome::Released => match view.execution {
                    None => Self::Running,
                    Some(Execution::Completed { .. }) => Self::Done,
                    Some(Execution::Failed { .. }) => Self::Failed,
                    Some(Execution::Unknown) => Self::NotKnown,
                },
            },
            (None, Some(Decision::Approve { .. })) => Self::Running,
            (None, Some(Decision::Reject { .. })) => Self::Rejected,
            (None, None) if view.escalated > 0 => Self::Escalated,
            (None, None) => Self::Pending,
        }
    }

    pub(super) fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Escalated => true,
            Self::Running
            | Self::Done
            | Self::Failed
            | Self::NotKnown
            | Self::Rejected
            | Self::Expired
            | Self::Withdrawn
            | Self::Window
            | Self::WindowOver => false,
        }
    }

    fn words(self, beforehand: bool) -> (&'static str, &'static str) {
        if beforehand {
            return beforehand::words_for(self);
        }
        match self {
            Self::Pending => (":hourglass_flowing_sand:", "Approval needed"),
            Self::Escalated => (":rotating_light:", "Still waiting"),
            Self::Running => (":white_check_mark:", "Approved"),
            Self::Done => (":white_check_mark:", "Done"),
            Self::Failed => (":warning:", "Approved but failed"),
            Self::NotKnown => (":grey_question:", "Approved, result not known"),
            Self::Rejected => (":no_entry:", "Rejected"),
            Self::Expired => (":alarm_clock:", "Expired"),
            Self::Withdrawn => (":leftwards_arrow_with_hook:", "Withdrawn"),
            // Of what is asked for beforehand only.
            Self::Window | Self::WindowOver => beforehand::words_for(self),
        }
    }
}

/// How much of what users wrote is shown; from generous to whatever fits.
#[derive(Clone, Copy)]
pub(super) struct Room {
    statement: usize,
    parameters: usize,
    words: usize,
    /// Lines about what it would touch.
    impact: usize,
}

/// What it would touch: what has to be seen at once. The rest is behind the button for details.
fn impact(view: &RequestView, room: Room) -> Option<SlackBlock> {
    let lines = headlines(view.impact.as_deref()?);
    if lines.is_empty() {
        return None;
    }
    let mut text = "*Impact*".to_owned();
    for line in lines.iter().take(room.impact) {
        let _infallible = write!(text, "\n• {}", words(line, room.words));
    }
    let more = lines.len().saturating_sub(room.impact);
    if more > 0 {
        let _infallible = write!(text, "\n• _{more} more: see Details_");
    }
    Some(kit::section(text))
}

/// Why it is asked anew, while it is.
fn changed(view: &RequestView, room: Room) -> Option<SlackBlock> {
    if view.changed.is_empty() || !State::of(view).is_open() {
        return None;
    }
    let mut text = ":warning: *Changed since it was shown, so it is asked anew*".to_owned();
    for line in view.changed.iter().take(room.impact) {
        let _infallible = write!(text, "\n• {}", words(line, room.words));
    }
    Some(kit::section(text))
}

/// What Postgres has unless told otherwise: not worth a line.
const USUAL_PATH: &str = "\"$user\", public";

const ROOMS: [Room; 5] = [
    Room { statement: limit::LITERAL, parameters: 2_900, words: 300, impact: 8 },
    Room { statement: limit::LITERAL, parameters: 1_500, words: 120, impact: 6 },
    Room { statement: 1_500, parameters: 500, words: 100, impact: 5 },
    Room { statement: 600, parameters: 200, words: 60, impact: 4 },
    Room { statement: 200, parameters: 100, words: 40, impact: 3 },
];

/// Why, by which rule, and what that tells the requester.
fn held_because(request: &HoldRequest, room: Room) -> String {
    let mut because = format!("{} (rule {})", words(&request.why, room.words), code(&request.rule, room.words.min(70)));
    for (label, said) in [("The rule says", &request.message), ("Its advice", &request.advice)] {
        if let Some(said) = said {
            let _infallible = write!(because, "\n{label}: {}", words(said, room.words));
        }
    }
    because
}

/// The request as it stands.
pub(super) fn message(view: &RequestView, look: &Look<'_>) -> Message {
    let state = State::of(view);
    let shown = Shown::of(&view.request);
    let mut blocks = Vec::new();
    let mut whole = false;
    for room in ROOMS {
        blocks = in_room(view, look, state, &shown, room);
        whole = shown.is_whole(room) && shows_setting(&view.request, room);
        if size(&blocks) <= limit::MESSAGE {
            break;
        }
    }
    let footer = footer(view, look, state, 100);
    let id = &view.request.id;
    let (emoji, verb) = state.words(view.request.beforehand.is_some());
    let title = words(&title(&view.request), 100);
    Message { text: format!("{emoji} {verb}: {title} (request {id}; {footer})"), blocks, whole }
}

/// Blocks as Slack counts them.
pub(super) fn size(blocks: &[SlackBlock]) -> usize {
    // A message that cannot be written is too long for any room.
    serde_json::to_string(blocks).map_or(usize::MAX, |json| length(&json))
}

/// A request's literal texts, made visible.
struct Shown {
    statement: String,
    parameters: String,
    /// The statement is here to its end.
    complete: bool,
    /// Bytes that are not text are shown as U+FFFD, so what is shown is not what would run.
    lossy: bool,
}

impl Shown {
    fn of(request: &HoldRequest) -> Self {
        let text = &*request.statement.text;
        // No more of a huge text than shows that it is too long.
        let beginning = start(text, limit::LITERAL.saturating_add(1));
        Self {
            statement: literal(beginning),
            complete: beginning.len() == text.len(),
            parameters: parameters(request, limit::LITERAL.saturating_add(1)),
            lossy: request.statement.lossy,
        }
    }

    fn is_whole(&self, room: Room) -> bool {
        // Fail closed: what is missing or not exactly what would run is not shown whole. That the beginning fits is not enough,
        // because carriage returns vanish when it is made visible.
        !self.lossy
            && self.complete
            && length(&self.statement) <= room.statement
            && length(&self.parameters) <= room.parameters
    }
}

/// What the session said of itself is shown to its end: the schema that matters may be the last.
fn shows_setting(request: &HoldRequest, room: Room) -> bool {
    let said = request.setting.iter().flat_map(|setting| [&setting.search_path, &setting.role]).flatten();
    said.into_iter().all(|value| code(value, room.words) == code(value, usize::MAX))
}

/// Bound values, one a line; stops after about `most` units.
pub(super) fn parameters(request: &HoldRequest, most: usize) -> String {
    let mut lines = String::new();
    let mut units = 0_usize;
    for parameter in &request.parameters {
        if !lines.is_empty() {
            lines.push('\n');
        }
        let type_name = parameter.type_name.as_deref().map(literal_line).unwrap_or_default();
        let type_name = if type_name.is_empty() { "unknown type".to_owned() } else { type_name };
        let value = match &parameter.value {
            None => "NULL".to_owned(),
            // It was taken out, and is no value of one character.
            Some(_) if !request.redact.is_none() => "(redacted)".to_owned(),
            Some(value) if parameter.raw => format!("bytes {}", literal_line(start(value, most))),
            Some(value) => format!("'{}'", literal_line(start(value, most))),
        };
        let line = format!("${} {} = {value}", parameter.position, clip(&type_name, 80));
        units = units.saturating_add(length(&line)).saturating_add(1);
        lines.push_str(&line);
        if units > most.saturating_add(1) {
            break;
        }
    }
    lines
}

fn in_room(view: &RequestView, look: &Look<'_>, state: State, shown: &Shown, room: Room) -> Vec<SlackBlock> {
    let request = &view.request;
    let mut blocks = vec![kit::header(&header(view, state))];
    blocks.extend(glass::banner(view, look, room.words));
    blocks.push(kit::fields(facts(request, look, room)));
    blocks.extend(impact(view, room));
    blocks.extend(risks(request, room.words));
    blocks.extend(changed(view, room));
    blocks.push(kit::literal(&clip(&shown.statement, room.statement)));
    if !shown.parameters.is_empty() {
        blocks.push(kit::literal(&clip(&shown.parameters, room.parameters)));
    }
    let shows_setting = shows_setting(request, room);
    let whole = shown.is_whole(room) && shows_setting;
    blocks.push(kit::context(if whole { in_full(request) } else { not_in_full(request, look, shown, state) }));
    if state.is_open() {
        // Fail closed: a file has the statement, not this.
        let approvable = whole || (look.long == LongStatements::File && look.filed && shows_setting);
        blocks.push(buttons(view, look, approvable));
    }
    if let Some(reason) = view.decision.as_ref().and_then(Decision::reason) {
        blocks.push(kit::section(format!(">{}", words(reason, room.words))));
    }
    if view.is_unreviewed() {
        blocks.push(glass::review(request));
    }
    blocks.extend(again::standing(view));
    blocks.extend(undone(view, room.words));
    let footer = footer(view, look, state, room.words);
    blocks.push(kit::context(format!("{footer} · `{}`", request.id)));
    blocks
}

/// That what it did was undone; the last few times.
fn undone(view: &RequestView, most: usize) -> Vec<SlackBlock> {
    let skipped = view.undone.len().saturating_sub(MOST_UNDONE);
    let line = |undone: &Undone| {
        kit::context(format!(
            ":leftwards_arrow_with_hook: {} at {}",
            words(&undone.to_string(), most),
            moment(undone.at)
        ))
    };
    view.undone.iter().skip(skipped).map(line).collect()
}

fn header(view: &RequestView, state: State) -> String {
    let (emoji, verb) = state.words(view.request.beforehand.is_some());
    clip(&format!("{emoji} {verb}: {}", plain(&title(&view.request), limit::HEADER)), limit::HEADER)
}

/// `DELETE on shop/public.customers`; raw, to be made safe by the caller.
pub(super) fn title(request: &HoldRequest) -> String {
    let mut verbs: Vec<String> = Vec::new();
    for effect in &request.effects {
        let verb = effect.kind.to_string().to_uppercase();
        if !matches!(effect.kind, EffectKind::Read | EffectKind::Session | EffectKind::Transaction)
            && !verbs.contains(&verb)
        {
            verbs.push(verb);
        }
    }
    let verb = match verbs.as_slice() {
        [] => "Statement".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    };
    let objects: Vec<String> = objects(request);
    let target = match objects.as_slice() {
        [] => String::new(),
        [one] => format!("/{one}"),
        [one, rest @ ..] => format!("/{one} and {} more", rest.len()),
    };
    format!("{verb} on {}{target}", request.origin.database)
}

/// What nobody should overlook, a line each.
fn risks(request: &HoldRequest, most: usize) -> Option<SlackBlock> {
    let lines: Vec<String> =
        request.risks.iter().map(|risk| format!("\n:warning: {}", words(&risk.text, most))).collect();
    (!lines.is_empty()).then(|| kit::section(format!("*Look twice*{}", lines.concat())))
}

/// Names of what is changed, without repetition; of what is only read where nothing is changed.
pub(super) fn objects(request: &HoldRequest) -> Vec<String> {
    let changed = |reads: bool| {
        let mut names: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        let effects = request.effects.iter().filter(|effect| (effect.kind == EffectKind::Read) == reads);
        for object in effects.flat_map(|effect| &effect.objects) {
            if seen.insert(object) {
                names.push(object.to_string());
            }
        }
        names
    };
    let names = changed(false);
    if names.is_empty() { changed(true) } else { names }
}

fn facts<'a>(request: &HoldRequest, look: &Look<'_>, room: Room) -> Vec<(&'a str, String)> {
    if let Some(own) = &request.beforehand {
        return beforehand::facts(request, own, look, room.words);
    }
    let origin = &request.origin;
    let name = room.words.min(70);
    let mut facts = vec![
        ("Requested by", requester(request, look.people)),
        ("Database", format!("{} as {}", code(&origin.database, name), code(&origin.user, name))),
        ("Held because", held_because(request, room)),
    ];
    let objects = objects(request);
    if !objects.is_empty() {
        let some: Vec<&str> = objects.iter().take(20).map(String::as_str).collect();
        facts.push(("Touches", words(&some.join(", "), room.words)));
    }
    let client = if origin.application_name.is_empty() { "a client" } else { &origin.application_name };
    facts.push(("Client", format!("{} from {}", words(client, name), words(&origin.client, name))));
    if let Some(certificate) = &origin.certificate_name {
        facts.push(("Certificate", words(certificate, name)));
    }
    let transaction = if request.in_transaction { "open; its locks stay while it waits" } else { "none open" };
    facts.push(("Transaction", transaction.to_owned()));
    if let Some(guard) = &request.guard {
        facts.push(("Guard", words(guard, room.words)));
    }
    if request.beforehand.is_none() {
        // What could not be asked must not look like what is usual.
        let setting = request.setting.clone().unwrap_or_default();
        match &setting.role {
            Some(role) if *role == origin.user => {}
            Some(role) => facts.push(("Acts as role", code(role, room.words))),
            None => facts.push(("Acts as role", "_not known_".to_owned())),
        }
        match &setting.search_path {
            Some(path) if path == USUAL_PATH => {}
            Some(path) => facts.push(("search_path", code(path, room.words))),
            None => facts.push(("search_path", "_not known_".to_owned())),
        }
    }
    facts.push(("Reason", reason(request, room.words)));
    facts
}

pub(super) fn reason(request: &HoldRequest, most: usize) -> String {
    request.reason.as_deref().map_or_else(|| "_none given_".to_owned(), |reason| words(reason, most))
}

/// Who asked: the person, if exactly one works as the database user.
pub(super) fn requester(request: &HoldRequest, people: &People) -> String {
    if let Some(own) = &request.beforehand {
        return person(&own.by, people);
    }
    let user = &request.origin.user;
    let mut known = people.behind(&request.origin);
    match (known.next(), known.next()) {
        (Some(one), None) => person(&one.name, people),
        (Some(_), Some(_)) => format!("one of those who work as {}", code(user, 70)),
        (None, _) => format!("not known; database user {}", code(user, 70)),
    }
}

/// What is taken out by rule, and where the rest is; `None` where nothing is.
pub(super) fn redacted(request: &HoldRequest) -> Option<String> {
    let what = match request.redact {
        Redact::None => return None,
        Redact::Literals => "Literals, comments and bound values are *redacted* here (`?`)",
        Redact::All => "The statement and its bound values are *redacted* here",
    };
    Some(format!(":see_no_evil: {what}; `querygate requests show {}` shows them", request.id))
}

fn in_full(request: &HoldRequest) -> String {
    if let Some(redacted) = redacted(request) {
        return format!("{redacted} · sha256 of the whole `{}`", prefix(&request.statement.sha256));
    }
    let text = &request.statement.text;
    let lines = match text.lines().count() {
        0 | 1 => String::new(),
        lines => format!(" in {lines} lines"),
    };
    format!("shown in full: {} characters{lines}, sha256 `{}`", text.chars().count(), prefix(&request.statement.sha256))
}

fn not_in_full(request: &HoldRequest, look: &Look<'_>, shown: &Shown, state: State) -> String {
    let mut text = format!(
        ":warning: *NOT shown in full*: {} characters, {} parameters, sha256 `{}`.",
        request.statement.text.chars().count(),
        request.parameters.len(),
        prefix(&request.statement.sha256)
    );
    if let Some(redacted) = redacted(request) {
        let _infallible = write!(text, " {redacted}.");
    }
    if shown.lossy {
        text.push_str(" It holds bytes that are not text; those are shown as `\u{fffd}`.");
    }
    if look.filed {
        text.push_str(" The whole text is a file in the thread.");
    }
    if state.is_open() {
        match look.long {
            LongStatements::File if look.filed => text.push_str(" Read it there before you approve."),
            LongStatements::File => text.push_str(" It can be approved here once the whole text is in the thread."),
            LongStatements::Console => {
                let _infallible =
                    write!(text, " Approve it in the console: `querygate requests approve {}`", request.id);
            }
        }
    }
    text
}

fn buttons(view: &RequestView, look: &Look<'_>, approvable: bool) -> SlackBlock {
    let request = &view.request;
    let value = binding_of(view);
    let mut buttons = Vec::new();
    if approvable {
        let title = clip(&format!("{}?", plain(&title(request), 98)), limit::CONFIRM_TITLE);
        let who = plain(&requester_name(request, look.people), 80);
        let sha256 = prefix(&request.statement.sha256);
        let text = if let Some(own) = &request.beforehand {
            beforehand::confirm(request, own, &who)
        } else if request.redact.is_none() {
            let characters = request.statement.text.chars().count();
            format!(
                "You approve exactly the statement shown ({characters} characters, sha256 {sha256}), once, for {who}."
            )
        } else {
            format!(
                "You approve a statement whose values are redacted here (sha256 of the whole {sha256}), once, for {who}."
            )
        };
        let yes = if request.beforehand.is_some() { "Approve it" } else { "Run it" };
        let confirm = kit::confirm(&title, &clip(&text, limit::CONFIRM_TEXT), yes, "Go back");
        buttons.push(kit::primary(kit::button(APPROVE, "Approve", value.clone())).with_confirm(confirm));
        buttons.extend(again::button(view, look.people));
    }
    buttons.push(kit::danger(kit::button(REJECT, "Reject…", value.clone())));
    buttons.push(kit::button(DETAILS, "Details", value.clone()));
    if approvable && view.glass {
        buttons.push(glass::button(request, value));
    }
    kit::actions(format!("decide:{}", request.id), buttons)
}

pub(super) fn requester_name(request: &HoldRequest, people: &People) -> String {
    if let Some(own) = &request.beforehand {
        return people.named(&own.by).and_then(|one| one.email.clone()).unwrap_or_else(|| own.by.clone());
    }
    let user = &request.origin.user;
    let mut known = people.behind(&request.origin);
    match (known.next(), known.next()) {
        (Some(one), None) => one.email.clone().unwrap_or_else(|| one.name.clone()),
        (Some(_), Some(_)) | (None, _) => format!("database user {user}"),
    }
}

/// Action ids.
pub(super) const APPROVE: &str = "approve";
pub(super) const REJECT: &str = "reject";
pub(super) const DETAILS: &str = "details";
pub(super) const OPEN: &str = "open";

/// What a button binds: the request and its statement's digest.
pub(super) fn binding(request: &HoldRequest) -> String {
    format!("v1:{}:{}", request.id, request.statement.sha256)
}

/// The same for a button that approves, which is for what is shown now: after the digest, which round that is, but for the first.
pub(super) fn binding_of(view: &RequestView) -> String {
    match view.round {
        0 => binding(&view.request),
        round => format!("{}{ROUND}{round}", binding(&view.request)),
    }
}

/// Between a digest and a round.
const ROUND: char = '@';

/// Reads [`binding`] and [`binding_of`] back, whatever else a button binds besides: the request, and the digest with its round.
pub(super) fn bound(value: &str) -> Option<(HoldId, String)> {
    let (id, rest) = value.strip_prefix("v1:")?.split_once(':')?;
    let shown = rest.split_once(':').map_or(rest, |(shown, _)| shown);
    let is_id = id.len() <= 40 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let (sha256, round) = digest_and_round(shown);
    let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && is_digest && round.is_some()).then(|| (HoldId(id.to_owned()), shown.to_owned()))
}

/// The statement's digest and the round that somebody was shown; `None`: no round can be read.
pub(super) fn digest_and_round(shown: &str) -> (&str, Option<u32>) {
    match shown.split_once(ROUND) {
        Some((sha256, round)) => (sha256, round.parse().ok()),
        None => (shown, Some(0)),
    }
}

/// Enough of a digest for eyes.
pub(super) fn prefix(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
