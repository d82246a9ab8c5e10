//! What the backend says to a statement under guard and to the commands around it.

use super::super::backend::{Fate, is_last_word};
use super::super::errand::Progress;
use super::super::replies::Expect;
use super::super::result::Seen;
use super::super::{Action, Machine, Outbox};
use super::{End, Guarding, How, MAX_TRIES, Stage, frame_of};
use crate::wire::backend;

impl Machine {
    /// CommandComplete of a Query under guard; `None`: it is under none.
    pub(in super::super) fn guarded_tag(&mut self, body: Option<&[u8]>) -> Option<Fate> {
        let guarding = self.guard.as_mut().filter(|guarding| guarding.query && is_running(guarding))?;
        (guarding.verb, guarding.rows) = body.and_then(counted).unzip();
        if !guarding.plan.single || guarding.plan.how == How::Session {
            return None;
        }
        guarding.kept = Some(frame_of(b'C', body));
        Some(Fate::Swallow)
    }

    /// The answer that ends an Execute under guard: CommandComplete, or PortalSuspended, which tells no rows. The Execute is not
    /// awaited any more. `None`: it is under no guard, or nothing is to follow.
    pub(in super::super) fn guarded_execute(&mut self, tag: u8, body: Option<&[u8]>, out: &mut Outbox) -> Option<Fate> {
        let guarding = self.guard.as_mut().filter(|guarding| !guarding.query && is_running(guarding))?;
        (guarding.verb, guarding.rows) = body.filter(|_| tag == b'C').and_then(counted).unzip();
        if let Some(report) = guarding.over("Nothing of it stays: its transaction has failed, as by any error.") {
            self.guard = None;
            self.answered();
            self.undo(false, report, out);
            return Some(Fate::Swallow);
        }
        if guarding.plan.how == How::Session {
            guarding.stage = Stage::AwaitSync;
            return None;
        }
        let follows = guarding.follows();
        if follows.is_empty() {
            self.guard = None;
            return None;
        }
        if tag == b's' {
            // Fail closed: the rest of the rows would be fetched, and what makes them run, without the limits.
            let report = guarding.in_steps();
            self.guard = None;
            self.answered();
            self.undo(false, report, out);
            return Some(Fate::Swallow);
        }
        guarding.kept = Some(frame_of(tag, body));
        guarding.stage = Stage::Ending(End::Keep);
        self.answered();
        self.run_errand(&follows, out);
        Some(Fate::Swallow)
    }

    /// An error of the server's own, while no command of the gate's is being answered.
    pub(in super::super) fn guarded_error(&mut self) {
        let Some(guarding) = &mut self.guard else { return };
        match guarding.stage {
            Stage::Running if guarding.query => {
                guarding.failed = true;
                guarding.kept = None;
            }
            Stage::Bound | Stage::Running => self.drop_portal_guard(),
            Stage::New
            | Stage::Asking
            | Stage::Asked(_)
            | Stage::Drawn(_)
            | Stage::Setting
            | Stage::Set
            | Stage::Failed
            | Stage::AwaitSync
            | Stage::Ending(_) => {}
        }
    }

    /// The portal under guard will not run, or no more. What was set for its transaction goes with that.
    pub(in super::super) fn drop_portal_guard(&mut self) {
        if let Some(guarding) = &mut self.guard {
            if guarding.plan.how == How::Session {
                guarding.stage = Stage::AwaitSync;
            } else {
                self.guard = None;
            }
        }
    }

    /// A command of the gate's own is answered, so far.
    pub(in super::super) fn errand_answered(&mut self, progress: Progress, out: &mut Outbox) -> Fate {
        match progress {
            Progress::More => {}
            Progress::Done => {
                if let Some(Expect::Errand(errand)) = self.replies.pop() {
                    self.errand_done(errand.values(), out);
                }
            }
            Progress::Unexpected => self.lost_count(),
        }
        Fate::Swallow
    }

    /// Commands of the gate's own are answered.
    fn errand_done(&mut self, values: Vec<Option<String>>, out: &mut Outbox) {
        self.asking = false;
        let Some(guarding) = &mut self.guard else { return self.lost_count() };
        match guarding.stage {
            Stage::Asking => guarding.stage = Stage::Asked(values),
            Stage::Setting => guarding.stage = guarding.was_set(values),
            Stage::Ending(End::Keep) => {
                let (kept, query) = (guarding.kept.take(), guarding.query);
                let said = values.into_iter().next().flatten().filter(|_| guarding.warrant.is_some());
                let notice = said.as_ref().map(|said| guarding.kept_notice(said));
                if !query && guarding.plan.how != How::Session {
                    self.guard = None;
                }
                if let Some(notice) = notice {
                    self.send_client(notice.to_bytes(), out);
                }
                if let Some(kept) = kept {
                    self.saw_kept(said);
                    if kept.first() == Some(&b'C') {
                        self.saw_tag(!query, kept.get(crate::wire::frame::HEADER..));
                    }
                    self.send_client(kept, out);
                }
            }
            Stage::Failed | Stage::Ending(End::Undo | End::Over(_)) => {}
            Stage::New
            | Stage::Asked(_)
            | Stage::Drawn(_)
            | Stage::Set
            | Stage::Bound
            | Stage::Running
            | Stage::AwaitSync => {
                self.lost_count();
            }
        }
    }

    /// A command of the gate's own has failed: the session was cancelled, its time was up, or a constraint that was deferred does
    /// not hold. The server skips to the next Sync.
    pub(in super::super) fn errand_failed(&mut self, body: Option<&[u8]>) -> Fate {
        self.asking = false;
        self.replies.pop();
        self.meaning.failed();
        let Some(guarding) = self.guard.as_mut().filter(|_| !is_last_word(body)) else {
            return Fate::Relay;
        };
        let query = guarding.query;
        match guarding.stage {
            Stage::Asking | Stage::Setting => {
                guarding.stage = Stage::Failed;
                if !query {
                    // What is skipped to the Sync need not be dropped here.
                    self.guard = None;
                }
                let error = Some(words(body));
                self.act(Action::Executed(Seen { error, ..Seen::default() }));
            }
            // The statement has ended well and cannot be undone any more: only setting back is tried again.
            Stage::Ending(End::Keep) if guarding.plan.how == How::Session => {
                guarding.failed = true;
                return Fate::Swallow;
            }
            Stage::Ending(End::Keep) => {
                guarding.failed = true;
                guarding.kept = None;
                if !query {
                    self.guard = None;
                }
                self.saw_error(body);
            }
            // Tried again.
            Stage::Failed | Stage::Ending(End::Undo | End::Over(_)) => return Fate::Swallow,
            Stage::New
            | Stage::Asked(_)
            | Stage::Drawn(_)
            | Stage::Set
            | Stage::Bound
            | Stage::Running
            | Stage::AwaitSync => {
                self.lost_count();
            }
        }
        // The client's own Sync is to come.
        self.skip |= !query;
        Fate::Relay
    }

    /// ReadyForQuery, with a statement under guard. `None`: it is what it would be without.
    pub(in super::super) fn guarded_ready(&mut self, own: bool, ends_query: bool, out: &mut Outbox) -> Option<Fate> {
        let (idle, guarding) = (self.status == b'I', self.guard.as_mut()?);
        match guarding.stage {
            // The client has the error of what went before its Query; this ends the Query.
            Stage::Failed if own && guarding.query => {
                if idle || guarding.plan.how != How::Block {
                    return Some(Fate::Relay);
                }
                self.finish_with(&["ROLLBACK"], out);
                Some(Fate::Swallow)
            }
            Stage::Running if ends_query && guarding.query => Some(self.query_ended(out)),
            Stage::Ending(_) if own => Some(self.ending_ended(out)),
            Stage::Bound | Stage::Running | Stage::AwaitSync if !own && !guarding.query => {
                if guarding.plan.how == How::Session {
                    guarding.stage = Stage::Ending(End::Keep);
                    Some(self.set_back(out))
                } else {
                    None
                }
            }
            Stage::New
            | Stage::Asking
            | Stage::Asked(_)
            | Stage::Drawn(_)
            | Stage::Setting
            | Stage::Set
            | Stage::Failed
            | Stage::Bound
            | Stage::Running
            | Stage::AwaitSync
            | Stage::Ending(_) => None,
        }
    }

    /// The Query under guard has been answered.
    fn query_ended(&mut self, out: &mut Outbox) -> Fate {
        let Some(guarding) = &mut self.guard else { return Fate::Relay };
        match (guarding.plan.how, self.status) {
            (How::Block, b'E') => {
                guarding.stage = Stage::Ending(End::Undo);
                self.finish_with(&["ROLLBACK"], out);
                Fate::Swallow
            }
            (How::Block, b'T') => {
                let over = guarding.over("Nothing was changed.");
                let mut commands: Vec<String> =
                    guarding.ends_keeping().filter(|_| over.is_none()).into_iter().collect();
                commands.push(if over.is_some() { "ROLLBACK" } else { "COMMIT" }.to_owned());
                guarding.stage = Stage::Ending(over.map_or(End::Keep, End::Over));
                self.finish_with(&commands, out);
                Fate::Swallow
            }
            // Its transaction has failed with it, or has ended.
            (How::Local, b'E') => self.guard_ends(),
            (How::Local, _) => self.local_query_ended(out),
            (How::Session, b'I') => {
                guarding.stage = Stage::Ending(End::Keep);
                self.set_back(out)
            }
            // Fail closed: it has ended the gate's transaction, or has left one open.
            (How::Block | How::Session | How::Nothing, _) => {
                self.guard_is_lost();
                Fate::Swallow
            }
        }
    }

    fn local_query_ended(&mut self, out: &mut Outbox) -> Fate {
        let Some(guarding) = &mut self.guard else { return Fate::Relay };
        if let Some(report) = guarding.over("Nothing of it stays: the transaction has failed, as by any error.") {
            if self.status != b'T' {
                self.guard_is_lost();
                return Fate::Swallow;
            }
            self.guard = None;
            self.undo(true, report, out);
            return Fate::Swallow;
        }
        let follows = guarding.follows();
        if self.status != b'T' && guarding.warrant.is_some() {
            // Fail closed: nothing can be said of rows in a transaction that is over.
            self.guard_is_lost();
            return Fate::Swallow;
        }
        if self.status != b'T' || follows.is_empty() {
            if let Some(kept) = guarding.kept.take() {
                self.saw_tag(false, kept.get(crate::wire::frame::HEADER..));
                self.send_client(kept, out);
            }
            return self.guard_ends();
        }
        guarding.stage = Stage::Ending(End::Keep);
        self.finish_with(&follows, out);
        Fate::Swallow
    }

    /// Sets back what was set for the session.
    fn set_back(&mut self, out: &mut Outbox) -> Fate {
        let Some(guarding) = &mut self.guard else { return Fate::Relay };
        if guarding.restore.is_empty() {
            return self.guard_ends();
        }
        if self.status != b'I' {
            // Fail closed: what is set within a transaction is undone with it.
            self.guard_is_lost();
            return Fate::Swallow;
        }
        let restore = guarding.restore.clone();
        self.finish_with(&restore, out);
        Fate::Swallow
    }

    /// The commands behind the statement have been answered.
    fn ending_ended(&mut self, out: &mut Outbox) -> Fate {
        let idle = self.status == b'I';
        let Some(guarding) = &mut self.guard else { return Fate::Relay };
        let failed = std::mem::take(&mut guarding.failed);
        let stage = std::mem::replace(&mut guarding.stage, Stage::Running);
        match (stage, guarding.plan.how) {
            (Stage::Ending(End::Keep), How::Local) => self.guard_ends(),
            (Stage::Ending(End::Keep), How::Block) | (Stage::Ending(End::Undo), _) if idle => self.guard_ends(),
            (Stage::Ending(End::Keep), How::Session) if idle && !failed => self.guard_ends(),
            (Stage::Ending(End::Keep), How::Session) => {
                guarding.stage = Stage::Ending(End::Keep);
                self.set_back(out)
            }
            (Stage::Ending(End::Over(report)), _) if idle => {
                self.guard = None;
                self.undo(true, report, out);
                Fate::Swallow
            }
            // The ROLLBACK did not come to it, or COMMIT was refused before it.
            (Stage::Ending(end), _) => {
                guarding.stage = Stage::Ending(if matches!(end, End::Keep) { End::Undo } else { end });
                self.finish_with(&["ROLLBACK"], out);
                Fate::Swallow
            }
            _ => {
                self.guard_is_lost();
                Fate::Swallow
            }
        }
    }

    /// Gives the session the commands that end a guard, a few times at most.
    fn finish_with<T: AsRef<[u8]>>(&mut self, commands: &[T], out: &mut Outbox) {
        let tries = self.guard.as_mut().map_or(MAX_TRIES, |guarding| {
            guarding.tries = guarding.tries.saturating_add(1);
            guarding.tries
        });
        if tries > MAX_TRIES {
            self.guard_is_lost();
        } else {
            self.run_errand(commands, out);
        }
    }

    /// All is as it was, and the client is told that its turn has come.
    fn guard_ends(&mut self) -> Fate {
        let query = self.guard.take().is_some_and(|guarding| guarding.query);
        self.saw_ready(query, self.status);
        Fate::Relay
    }
}

fn is_running(guarding: &Guarding) -> bool {
    matches!(guarding.stage, Stage::Running)
}

/// What a statement did and to how many rows, by its command tag (`BuildQueryCompletionString`); `None`: it is no tag of a statement
/// that writes rows.
fn counted(tag: &[u8]) -> Option<(&'static str, u64)> {
    let tag = std::str::from_utf8(tag.strip_suffix(b"\0")?).ok()?;
    let mut words = tag.split(' ');
    let (command, last) = (words.next()?, words.next_back()?);
    let verb = ["INSERT", "UPDATE", "DELETE", "MERGE"].into_iter().find(|verb| *verb == command)?;
    Some((verb, last.parse().ok()?))
}

/// SQLSTATE and message.
fn words(body: Option<&[u8]>) -> (String, String) {
    let field = |code| {
        let value = body.and_then(|body| backend::report_field(body, code)).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    (field(b'C'), field(b'M'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_are_counted_by_tags_of_writing_statements_alone() {
        let tags: [(&[u8], Option<u64>); 9] = [
            (b"INSERT 0 5\0", Some(5)),
            (b"UPDATE 0\0", Some(0)),
            (b"DELETE 12\0", Some(12)),
            (b"MERGE 3\0", Some(3)),
            (b"SELECT 3\0", None),
            (b"COPY 3\0", None),
            (b"DELETE\0", None),
            (b"DELETE x\0", None),
            (b"DELETE 3", None),
        ];
        for (tag, expected) in tags {
            assert_eq!(super::counted(tag).map(|(_, rows)| rows), expected, "{}", tag.escape_ascii());
        }
    }
}
