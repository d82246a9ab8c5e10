//! The workspace by hand: one line in, what came of it out, and a running account of what the app does. Used by the
//! program `slack-standin`; tests use [`Workspace`] itself.

use std::time::Duration;

use super::fault::{DeliveryFault, Fault, SocketFault};
use super::hands::Impossible;
use super::state::State;
use super::{ALWAYS, Delivery, Workspace};

/// What can be typed.
pub const HELP: &str = "\
people                        who is here
messages | show N             all messages | one, with its buttons
click N ACTION PERSON         clicks a button (an action id, or the beginning of a label)
late N ACTION PERSON          the same, though the button may be gone by now
choose N ACTION OPTION PERSON chooses from a menu
submit PERSON BLOCK=TEXT; …   fills in the open modal and sends it off
close PERSON                  closes it
slash PERSON TEXT             types /querygate TEXT in the first channel
home PERSON                   opens the app's home tab
tap ACTION PERSON             clicks in the open modal or the home tab
deactivate PERSON             deactivates somebody
calls                         the last calls, and what was wrong with them
fail METHOD FAULT [TIMES]     500 502-after 429:SECONDS reset-before reset-after hang hang-after slow:MS html truncated
                              error:WORD; `*` is every method; TIMES may be `always`
release METHOD | heal         lets go what hangs | no more faults
next-socket FAULT             never-answer refuse:STATUS no-hello frozen too-many
next-delivery FAULT           twice two-sockets ack-lost other-envelope lost wrong-signature no-signature truncated
sockets ORDER                 drop close freeze warn refresh
lock-out WORD | let-in        every call fails with token_revoked, account_inactive … | no more";

/// Text that cannot do anything to a terminal: control, direction and invisible characters are spelt out.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if (c.is_control() && c != '\n') || hidden {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

impl Workspace {
    /// Does what a line says (see [`HELP`]) and tells what came of it.
    pub async fn console(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let result = match words.as_slice() {
            [] | ["help"] => Ok(HELP.to_owned()),
            ["people"] => Ok(self.look(people)),
            ["messages"] => Ok(self.look(|state| (1..=state.messages.len()).filter_map(|n| shown(state, n)).collect())),
            ["show", number] => {
                self.look(|state| shown(state, number.parse().ok()?)).ok_or_else(|| "no such message".to_owned())
            }
            ["calls"] => Ok(self.look(calls)),
            ["sockets", order] => self.order_sockets(order).await,
            ["fail", ..] | ["next-socket" | "next-delivery", _] => self.set_fault(&words),
            ["submit", person, ..] => self.submit(person, line).await,
            words => match self.settle(words) {
                Some(result) => result,
                None => self.act(words, line).await,
            },
        };
        visible(&result.unwrap_or_else(|why| why))
    }

    /// What is done at once and has nothing to tell.
    fn settle(&self, words: &[&str]) -> Option<Result<String, String>> {
        match words {
            ["release", method] => self.release(method),
            ["heal"] => self.heal(),
            ["let-in"] => self.lock_out(None),
            ["lock-out", error] => self.lock_out(Some(error)),
            ["deactivate", person] => match self.person(person) {
                Ok(id) => self.change_user(&id, |user| user.deleted = true),
                Err(why) => return Some(Err(why)),
            },
            _ => return None,
        }
        Some(Ok("done".to_owned()))
    }

    async fn act(&self, words: &[&str], line: &str) -> Result<String, String> {
        let delivery = match words {
            ["click", number, action, person] => {
                let (channel, ts, action) = self.button(number, action)?;
                self.click(&channel, &ts, &action, &self.person(person)?)
            }
            ["late", number, action, person] => {
                let (channel, ts, _) = self.button(number, "")?;
                self.stale_click(&channel, &ts, action, &self.person(person)?)
            }
            ["choose", number, action, option, person] => {
                let (channel, ts, action) = self.button(number, action)?;
                self.choose(&channel, &ts, &action, Some(option), &self.person(person)?)
            }
            ["tap", action, person] => self.click_view(action, &self.person(person)?),
            ["home", person] => self.open_home(&self.person(person)?),
            ["slash", person, ..] => {
                let channel = self.look(|state| state.channels.keys().next().cloned()).ok_or("no channel")?;
                self.slash(&channel, "/querygate", rest(line, 2), &self.person(person)?)
            }
            ["close", person] => {
                let closed = self.close_view(&self.person(person)?).map_err(refusal)?;
                return match closed {
                    Some(delivery) => Ok(told(&delivery).await),
                    None => Ok("closed; the app does not want to know".to_owned()),
                };
            }
            _ => return Err(format!("not understood: {line}\n{HELP}")),
        };
        Ok(told(&delivery.map_err(refusal)?).await)
    }

    async fn submit(&self, person: &str, line: &str) -> Result<String, String> {
        let pairs = rest(line, 2).split(';').filter(|pair| !pair.trim().is_empty());
        let values: Option<Vec<(&str, &str)>> = pairs.map(|pair| pair.trim().split_once('=')).collect();
        let values = values.ok_or("expected BLOCK=TEXT; BLOCK=TEXT …")?;
        let delivery = self.submit_view(&self.person(person)?, &values).map_err(refusal)?;
        Ok(told(&delivery).await)
    }

    async fn order_sockets(&self, order: &str) -> Result<String, String> {
        match order {
            "drop" => self.drop_sockets().await,
            "close" => self.close_sockets().await,
            "freeze" => self.freeze_sockets().await,
            "warn" => self.warn_sockets().await,
            "refresh" => self.refresh_sockets().await,
            _ => return Err("expected drop, close, freeze, warn or refresh".to_owned()),
        }
        Ok("done".to_owned())
    }

    fn set_fault(&self, words: &[&str]) -> Result<String, String> {
        let unknown = || format!("unknown fault\n{HELP}");
        match words {
            ["fail", method, fault, times @ ..] => {
                let times = match times {
                    [] => 1,
                    ["always"] => ALWAYS,
                    [number] => number.parse().map_err(|_| "TIMES is a number or `always`")?,
                    _ => return Err(unknown()),
                };
                self.fail(method, call_fault(fault).ok_or_else(unknown)?, times);
            }
            ["next-socket", fault] => self.fail_sockets(socket_fault(fault).ok_or_else(unknown)?, 1),
            ["next-delivery", fault] => self.fail_delivery(delivery_fault(fault).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        }
        Ok("done".to_owned())
    }

    /// A person by id or handle.
    fn person(&self, name: &str) -> Result<String, String> {
        let found = self.look(|state| {
            let mut users = state.users.values();
            users.find(|user| user.id == name || user.name == name).map(|user| user.id.clone())
        });
        found.ok_or_else(|| format!("nobody is called {name}"))
    }

    /// A message by its number, and an action in it by id or by the beginning of its label.
    fn button(&self, number: &str, action: &str) -> Result<(String, String, String), String> {
        let number: usize = number.parse().map_err(|_| "messages have numbers")?;
        self.look(|state| {
            let message = number.checked_sub(1).and_then(|index| state.messages.get(index)).ok_or("no such message")?;
            let actions = message.content.actions();
            let wanted = action.to_lowercase();
            let exact = actions.iter().find(|known| known.action_id == action);
            let found = exact.or_else(|| actions.iter().find(|known| known.label.to_lowercase().starts_with(&wanted)));
            let action = found.map_or_else(|| action.to_owned(), |known| known.action_id.clone());
            Ok((message.channel.clone(), message.ts.clone(), action))
        })
    }

    /// Prints what the app does, for good: posts, updates, modals, home tabs, and what it should not have done.
    pub async fn follow(&self, mut print: impl FnMut(&str)) {
        let mut seen = Seen::default();
        loop {
            let lines = self.inner.wait(|state| Some(seen.news(state)).filter(|lines| !lines.is_empty())).await;
            for line in lines {
                print(&visible(&line));
            }
        }
    }
}

/// What was printed already.
#[derive(Debug, Default)]
struct Seen {
    /// Per message: how many versions, and whether its end.
    messages: Vec<(usize, bool)>,
    views: Vec<(String, bool)>,
    ephemerals: usize,
    violations: usize,
    sockets: usize,
}

impl Seen {
    fn news(&mut self, state: &State) -> Vec<String> {
        let mut lines = Vec::new();
        let open = state.sockets().len();
        if open != self.sockets {
            lines.push(format!("-- {open} sockets open"));
            self.sockets = open;
        }
        for (index, message) in state.messages.iter().enumerate() {
            let now = (message.updates().saturating_add(1), message.deleted);
            if self.messages.get(index) == Some(&now) {
                continue;
            }
            lines.extend(shown(state, index.saturating_add(1)));
            self.messages.resize(self.messages.len().max(index.saturating_add(1)), (0, false));
            if let Some(seen) = self.messages.get_mut(index) {
                *seen = now;
            }
        }
        for (index, view) in state.views.iter().enumerate() {
            let now = (view.hash.clone(), view.open);
            if self.views.get(index) != Some(&now) && view.open {
                lines.push(format!("== {} on the screen of {}:\n{}\n", view.kind(), view.user, view.rendered()));
            }
            self.views.resize(self.views.len().max(index.saturating_add(1)), (String::new(), false));
            if let Some(seen) = self.views.get_mut(index) {
                *seen = now;
            }
        }
        for one in state.ephemerals.iter().skip(self.ephemerals) {
            lines.push(format!("== only for {}:\n{}\n", one.user, one.content.rendered()));
        }
        self.ephemerals = state.ephemerals.len();
        lines.extend(state.violations.iter().skip(self.violations).map(|what| format!("!! {what}")));
        self.violations = state.violations.len();
        lines
    }
}

fn refusal(why: Impossible) -> String {
    match why {
        Impossible::NoUser(id) => format!("{id} is not here, or was deactivated"),
        Impossible::NoMessage => "no such message there for this person".to_owned(),
        Impossible::NoView => "nothing is on that person's screen".to_owned(),
        Impossible::NoAction(known) => format!("no such button; there are: {}", known.join(", ")),
        Impossible::NoOption => "no such option".to_owned(),
        Impossible::Invalid(what) => what,
    }
}

async fn told(delivery: &Delivery) -> String {
    let ending = delivery.ended().await;
    let answer = ending.answer.map(|answer| format!(", with {answer}")).unwrap_or_default();
    if ending.acknowledged {
        format!("acknowledged after {:.1?}{answer}", ending.took)
    } else {
        format!("not acknowledged ({} attempts)", ending.attempts)
    }
}

/// What stands after the first `words` words of a line.
fn rest(line: &str, words: usize) -> &str {
    let mut left = line.trim_start();
    for _ in 0..words {
        left = left.split_once(char::is_whitespace).map_or("", |(_, after)| after.trim_start());
    }
    left.trim_end()
}

fn people(state: &State) -> String {
    let mut lines = Vec::new();
    for user in state.users.values() {
        let groups = state.groups.values().filter(|group| group.members.contains(&user.id));
        let groups: Vec<String> = groups.map(|group| format!("@{}", group.handle)).collect();
        let gone = if user.deleted { " (deactivated)" } else { "" };
        lines.push(format!("{:8} {:15} {:?} {}{gone}", user.id, user.name, user.membership, groups.join(" ")));
    }
    lines.extend(state.groups.values().map(|group| format!("{:8} @{}", group.id, group.handle)));
    lines.extend(state.channels.values().map(|channel| format!("{:8} #{}", channel.id, channel.name)));
    lines.join("\n")
}

fn shown(state: &State, number: usize) -> Option<String> {
    let message = state.messages.get(number.checked_sub(1)?)?;
    let place = state.channels.get(&message.channel).map_or("", |channel| channel.shown_name());
    let what = match (message.deleted, message.updates()) {
        (true, _) => "deleted".to_owned(),
        (false, 0) => "posted".to_owned(),
        (false, updates) => format!("update {updates}"),
    };
    let thread = if message.thread_ts.is_some() { ", a reply" } else { "" };
    let files = match message.files.as_slice() {
        [] => String::new(),
        files => format!("\n(files: {})", files.join(" ")),
    };
    Some(format!(
        "== message {number} in {} {place}, {what}{thread}:\n{}{files}\n",
        message.channel,
        message.rendered()
    ))
}

fn calls(state: &State) -> String {
    let last = state.calls.iter().rev().take(20).rev();
    let lines = last.map(|call| {
        let outcome = call.answer.as_ref().map_or_else(
            || "unanswered".to_owned(),
            |answer| if call.succeeded() { "ok".to_owned() } else { answer.to_string() },
        );
        let fault = call.fault.as_ref().map(|fault| format!(" [{fault}]")).unwrap_or_default();
        format!("{}{fault}: {outcome}", call.method)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn call_fault(word: &str) -> Option<Fault> {
    let (name, number) = word.split_once(':').unwrap_or((word, ""));
    Some(match name {
        "reset-before" => Fault::ResetBefore,
        "reset-after" => Fault::ResetAfter,
        "hang" => Fault::Hang,
        "hang-after" => Fault::HangAfter,
        "html" => Fault::Html,
        "truncated" => Fault::Truncated,
        "slow" => Fault::Slow(Duration::from_millis(number.parse().ok()?)),
        "429" => Fault::RateLimited(number.parse().unwrap_or(1)),
        "error" => Fault::error(number),
        _ => match name.strip_suffix("-after") {
            Some(status) => Fault::StatusAfter(status.parse().ok()?),
            None => Fault::Status(name.parse().ok()?),
        },
    })
}

fn socket_fault(word: &str) -> Option<SocketFault> {
    Some(match word {
        "never-answer" => SocketFault::NeverAnswer,
        "no-hello" => SocketFault::NoHello,
        "frozen" => SocketFault::Frozen,
        "too-many" => SocketFault::TooMany,
        _ => SocketFault::Refuse(word.strip_prefix("refuse:")?.parse().ok()?),
    })
}

fn delivery_fault(word: &str) -> Option<DeliveryFault> {
    Some(match word {
        "twice" => DeliveryFault::Twice,
        "two-sockets" => DeliveryFault::OnTwoSockets,
        "ack-lost" => DeliveryFault::AckLost,
        "other-envelope" => DeliveryFault::AckLostOtherEnvelope,
        "lost" => DeliveryFault::Lost,
        "wrong-signature" => DeliveryFault::WrongSignature,
        "no-signature" => DeliveryFault::NoSignature,
        "truncated" => DeliveryFault::Truncated,
        _ => return None,
    })
}
