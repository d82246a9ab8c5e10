//! Prepared statements and portals of one session: which texts a name may stand for.
//!
//! SQL `PREPARE` and the protocol's Parse share one namespace (`src/backend/commands/prepare.c`). The server's answer
//! comes later than the next message that uses a name, so every change is *pending* until its answer is here, and a name
//! may have several candidates. The dangerous mistake would be to believe a harmless definition that failed: candidates
//! are only ever dropped on the server's word.
//!
//! # Portals that execute names
//!
//! A portal bound to `EXECUTE x` looks `x` up when it first runs (`ExecuteQuery`), and there are many ways to run it: the
//! protocol's Execute, FETCH, MOVE, `cursor_to_xml`, any function that opens it by name. They cannot all be seen. So the
//! other end is held fast: as long as such a portal may run, no name it executes, at any depth, is changed through this
//! session (it is *pinned*). Whatever runs the portal then runs what it was judged by when it was bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use super::slots::{Place, Slots};
use crate::judge::{Analysis, Prepared, SessionAct};

/// Names tracked per session. More are refused.
const MAX_NAMES: usize = 65_536;

/// `NAMEDATALEN - 1`: the server compares so many bytes of a statement's or portal's name (`string_hash`, `dynahash.c`).
const NAME_BYTES: usize = 63;

/// Where portals with non-ASCII names are noted, all together: no portal is called this.
const FOREIGN_PORTAL: &[u8] = b"\xff";

/// The name as the server compares it. `None` for names that are not ASCII: which bytes they are for the server depends on
/// `client_encoding`, and a change of that is reported late.
fn key(name: &[u8]) -> Option<&[u8]> {
    let name = name.get(..NAME_BYTES).unwrap_or(name);
    name.is_ascii().then_some(name)
}

fn portal_key(portal: &[u8]) -> &[u8] {
    key(portal).unwrap_or(FOREIGN_PORTAL)
}

/// Whether two portals' names may be one for the server.
pub(super) fn is_same_portal(one: &[u8], other: &[u8]) -> bool {
    portal_key(one) == portal_key(other)
}

/// What a prepared statement's name stands for.
#[derive(Debug)]
pub(super) struct Definition {
    /// The text people are shown.
    pub(super) text: Arc<[u8]>,
    /// What it can do.
    pub(super) analysis: Arc<Analysis>,
    /// Parameter types declared in Parse; zero where open.
    pub(super) declared: Vec<u32>,
    /// Parameter types as the server reported them.
    pub(super) described: OnceLock<Vec<u32>>,
    /// Bit 0: allowed outside transactions; bit 1: inside. Only set when the verdict depends on nothing else.
    allowed: AtomicU8,
    /// Not made through the gate: the text is only a description.
    unseen: bool,
}

impl Definition {
    /// A statement the server knows and the gate has never seen.
    pub(super) fn unseen(description: &str, analysis: Arc<Analysis>) -> Arc<Self> {
        Arc::new(Self {
            text: description.as_bytes().into(),
            analysis,
            declared: Vec::new(),
            described: OnceLock::new(),
            allowed: AtomicU8::new(0),
            unseen: true,
        })
    }

    pub(super) fn new(text: &[u8], analysis: Arc<Analysis>, declared: Vec<u32>) -> Arc<Self> {
        Arc::new(Self {
            text: text.into(),
            analysis,
            declared,
            described: OnceLock::new(),
            allowed: AtomicU8::new(0),
            unseen: false,
        })
    }

    pub(super) fn known_allowed(&self, in_transaction: bool) -> bool {
        self.allowed.load(Ordering::Relaxed) & bit(in_transaction) != 0
    }

    pub(super) fn remember_allowed(&self, in_transaction: bool) {
        // Whoever judges has to see it each time: what is judged after it depends on it.
        if self.analysis.pieces.iter().any(|piece| piece.calls.redefines) {
            return;
        }
        self.allowed.fetch_or(bit(in_transaction), Ordering::Relaxed);
    }

    pub(super) fn forget_allowed(&self) {
        self.allowed.store(0, Ordering::Relaxed);
    }

    /// It was not made through the gate.
    pub(super) fn is_unseen(&self) -> bool {
        self.unseen
    }

    /// Whether running it reads or changes names, so that what it does depends on the session.
    pub(super) fn has_acts(&self) -> bool {
        self.unseen || self.analysis.pieces.iter().any(|piece| !piece.acts.is_empty())
    }
}

/// Names run by SQL `EXECUTE` in a text.
fn executes(analysis: &Analysis) -> impl Iterator<Item = &str> {
    acts(analysis).filter_map(|act| match act {
        SessionAct::Execute { name } => Some(name.as_str()),
        SessionAct::Prepare { .. }
        | SessionAct::Deallocate { .. }
        | SessionAct::SetReason { .. }
        | SessionAct::CopyIn
        | SessionAct::EndTransaction => None,
    })
}

fn bit(in_transaction: bool) -> u8 {
    if in_transaction { 2 } else { 1 }
}

/// Whether running it may start COPY FROM STDIN.
pub(super) fn may_copy_in(analysis: &Analysis) -> bool {
    acts(analysis).any(|act| matches!(act, SessionAct::CopyIn | SessionAct::Execute { .. }))
}

pub(super) fn acts(analysis: &Analysis) -> impl Iterator<Item = &SessionAct> {
    analysis.pieces.iter().flat_map(|piece| &piece.acts)
}

/// A change to a name.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Parse or SQL PREPARE.
    Define(Arc<Definition>),
    /// Close or DEALLOCATE.
    Drop,
}

impl Change {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Define(a), Self::Define(b)) => Arc::ptr_eq(a, b),
            (Self::Drop, Self::Drop) => true,
            (Self::Define(_), Self::Drop) | (Self::Drop, Self::Define(_)) => false,
        }
    }
}

#[derive(Debug)]
struct Pending {
    /// The batch (messages up to a Sync) it was sent in, if failing there makes the server skip to Sync.
    batch: Option<u32>,
    change: Change,
}

#[derive(Debug, Default)]
struct Slot {
    /// What it stands for if no pending change succeeds: several where an answer left it open.
    confirmed: Vec<Arc<Definition>>,
    pending: Vec<Pending>,
}

impl Place for Slot {
    fn is_vacant(&self) -> bool {
        self.confirmed.is_empty() && self.pending.is_empty()
    }
}

/// What a name stands for now.
#[derive(Debug)]
pub(super) enum Resolved {
    /// Exactly this.
    One(Arc<Definition>),
    /// One of these; `pending`: it will be known once the backend has answered.
    Several { candidates: Vec<Arc<Definition>>, pending: bool },
    /// Nothing the gate has seen.
    Unknown,
}

/// Names a text executes, those executed by what they stand for included, each with all it may stand for; empty where the
/// gate does not know it.
pub(super) type Executed = BTreeMap<String, Vec<Arc<Definition>>>;

/// One Bind: its number, and what is to be known of its statement, if anything.
type Bound = (u32, Option<PortalNote>);

/// The names of a session.
#[derive(Debug, Default)]
pub(super) struct Names {
    statements: Slots<Slot>,
    /// Portals whose statement may read or change names when it runs: what each was bound to, oldest first, with the
    /// number of the Bind; `None` for a statement that does neither.
    portals: HashMap<Box<[u8]>, Vec<Bound>>,
    binds: u32,
    /// Pending changes of all names together.
    pending: usize,
}

/// What a portal was bound to.
#[derive(Debug, Clone)]
pub(super) struct PortalNote {
    /// Its statement.
    pub(super) definition: Arc<Definition>,
    /// What the names it executes stood for when it was judged.
    pub(super) judged: Executed,
}

impl Names {
    /// Resolves a name as the server will when it reaches a message sent now, in `batch`.
    pub(super) fn resolve(&self, name: &[u8], batch: u32) -> Resolved {
        let Some(slot) = key(name).and_then(|name| self.statements.get(name)) else {
            return Resolved::Unknown;
        };
        // A change sent earlier in this batch either succeeds or makes the server skip what is sent now.
        if let Some(last) = slot.pending.last()
            && last.batch == Some(batch)
        {
            return match &last.change {
                Change::Define(definition) => Resolved::One(Arc::clone(definition)),
                Change::Drop => Resolved::Unknown,
            };
        }
        let mut candidates = slot.confirmed.clone();
        for pending in &slot.pending {
            if let Change::Define(definition) = &pending.change {
                candidates.push(Arc::clone(definition));
            }
        }
        match (candidates.as_slice(), slot.pending.is_empty()) {
            ([], true) => Resolved::Unknown,
            ([one], true) => Resolved::One(Arc::clone(one)),
            (_, settled) => Resolved::Several { candidates, pending: !settled },
        }
    }

    /// A change was sent on. `batch`: the batch in which its failure makes the server skip; `None` for SQL statements.
    ///
    /// `false`: there are too many names to note another.
    pub(super) fn send(&mut self, name: &[u8], batch: Option<u32>, change: Change) -> bool {
        let Some(name) = key(name) else { return true };
        let slot = match change {
            Change::Define(_) => self.statements.open(name, MAX_NAMES),
            Change::Drop => match self.statements.get_mut(name) {
                Some(slot) => Some(slot),
                // Dropping what is not there changes nothing.
                None => return true,
            },
        };
        let Some(slot) = slot else { return false };
        slot.pending.push(Pending { batch, change });
        self.pending = self.pending.saturating_add(1);
        true
    }

    /// The server said yes.
    pub(super) fn confirm(&mut self, name: &[u8], change: &Change) {
        let Some(name) = key(name) else { return };
        let Some(slot) = self.statements.get_mut(name) else {
            return;
        };
        slot.take(change, &mut self.pending);
        slot.confirmed.clear();
        if let Change::Define(definition) = change {
            slot.confirmed.push(Arc::clone(definition));
        }
        self.statements.tidy(name);
    }

    /// The server said no, or never looked at it.
    pub(super) fn fail(&mut self, name: &[u8], change: &Change) {
        let Some(name) = key(name) else { return };
        if let Some(slot) = self.statements.get_mut(name) {
            slot.take(change, &mut self.pending);
        }
        self.statements.tidy(name);
    }

    /// The server said no to something this was part of; it may have happened.
    pub(super) fn leave_open(&mut self, name: &[u8], change: &Change) {
        let Some(name) = key(name) else { return };
        if let Some(slot) = self.statements.get_mut(name) {
            slot.take(change, &mut self.pending);
            if let Change::Define(definition) = change {
                slot.confirmed.push(Arc::clone(definition));
            }
        }
        self.statements.tidy(name);
    }

    /// Every answer is here. A change that is still pending was lost count of: it may have happened.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.pending) == 0 {
            return;
        }
        self.statements.each(|_, slot| {
            for pending in slot.pending.drain(..) {
                if let Change::Define(definition) = pending.change {
                    slot.confirmed.push(definition);
                }
            }
        });
    }

    /// DEALLOCATE ALL or DISCARD ALL succeeded: every name settled before it is gone. The unnamed statement stays
    /// (`DropAllPreparedStatements` does not know it).
    pub(super) fn clear(&mut self) {
        self.statements.each(|name, slot| {
            if !name.is_empty() {
                slot.confirmed.clear();
            }
        });
    }

    /// Verdicts remembered under an older policy or other facts no longer hold.
    pub(super) fn forget_verdicts(&self) {
        for slot in self.statements.values() {
            let pending = slot.pending.iter().filter_map(|pending| match &pending.change {
                Change::Define(definition) => Some(definition),
                Change::Drop => None,
            });
            for definition in slot.confirmed.iter().chain(pending) {
                definition.forget_allowed();
            }
        }
    }

    /// What the names a text executes may stand for now, to full depth.
    pub(super) fn executed(&self, analysis: &Analysis) -> Executed {
        let mut found = Executed::new();
        let mut names: Vec<String> = executes(analysis).map(str::to_owned).collect();
        while let Some(name) = names.pop() {
            if found.contains_key(&name) {
                continue;
            }
            let candidates = match self.resolve(name.as_bytes(), u32::MAX) {
                Resolved::One(definition) => vec![definition],
                Resolved::Several { candidates, .. } => candidates,
                Resolved::Unknown => Vec::new(),
            };
            names.extend(candidates.iter().flat_map(|one| executes(&one.analysis)).map(str::to_owned));
            found.insert(name, candidates);
        }
        found
    }

    /// A portal that may still be run executes this name. All names that are not ASCII count as one.
    pub(super) fn is_pinned(&self, name: &[u8]) -> bool {
        self.notes().any(|note| note.judged.keys().any(|pinned| key(pinned.as_bytes()) == key(name)))
    }

    /// Running a text would change a name that a portal which may still be run executes.
    pub(super) fn changes_pinned(&self, analysis: &Analysis) -> bool {
        if self.portals.is_empty() {
            return false;
        }
        let nested = self.executed(analysis);
        let nested = nested.values().flatten().flat_map(|definition| acts(&definition.analysis));
        acts(analysis).chain(nested).any(|act| match act {
            SessionAct::Prepare { name, .. } | SessionAct::Deallocate { name: Some(name) } => {
                self.is_pinned(name.as_bytes())
            }
            SessionAct::Deallocate { name: None } => self.notes().any(|note| !note.judged.is_empty()),
            SessionAct::Execute { .. }
            | SessionAct::SetReason { .. }
            | SessionAct::CopyIn
            | SessionAct::EndTransaction => false,
        })
    }

    fn notes(&self) -> impl Iterator<Item = &PortalNote> {
        self.portals.values().flatten().filter_map(|(_, note)| note.as_ref())
    }

    /// Whether what a portal executes may stand for something it did not when it was judged.
    pub(super) fn was_redefined(&self, note: &PortalNote) -> bool {
        let now = self.executed(&note.definition.analysis);
        // Fail closed: a name that came to be known, or is not any more, is another too. One that was never known was
        // judged as such, and since it is pinned like the others it has not become known in between.
        !now.iter().all(|(name, now)| {
            note.judged.get(name).is_some_and(|then| {
                now.is_empty() == then.is_empty()
                    && now.iter().all(|one| then.iter().any(|known| Arc::ptr_eq(known, one)))
            })
        })
    }

    /// A Bind was sent on. Returns its number if it has to be settled by [`Self::bound`] or [`Self::unbound`].
    pub(super) fn bind(&mut self, portal: &[u8], note: Option<PortalNote>) -> Option<u32> {
        let portal = portal_key(portal);
        if note.is_none() && !self.portals.contains_key(portal) {
            return None;
        }
        self.binds = self.binds.wrapping_add(1);
        self.portals.entry(portal.into()).or_default().push((self.binds, note));
        Some(self.binds)
    }

    /// A Bind succeeded: what the portal was bound to before is gone.
    pub(super) fn bound(&mut self, portal: &[u8], number: u32) {
        let portal = portal_key(portal);
        if portal != FOREIGN_PORTAL
            && let Some(notes) = self.portals.get_mut(portal)
            && let Some(at) = notes.iter().position(|(known, _)| *known == number)
        {
            notes.drain(..at);
        }
        self.tidy_portal(portal);
    }

    /// A Bind failed or was skipped.
    pub(super) fn unbound(&mut self, portal: &[u8], number: u32) {
        let portal = portal_key(portal);
        if let Some(notes) = self.portals.get_mut(portal) {
            notes.retain(|(known, _)| *known != number);
        }
        self.tidy_portal(portal);
    }

    /// A portal was executed after Bind number `until`, and has run: executed again it only tells more of its result
    /// (`PortalRun` keeps that of a statement which executes another, or refuses a second run).
    pub(super) fn ran(&mut self, portal: &[u8], until: u32) {
        let portal = portal_key(portal);
        if portal != FOREIGN_PORTAL
            && let Some(notes) = self.portals.get_mut(portal)
        {
            notes.retain(|(number, _)| is_after(*number, until));
        }
        self.tidy_portal(portal);
    }

    fn tidy_portal(&mut self, portal: &[u8]) {
        if self.portals.get(portal).is_some_and(|notes| notes.iter().all(|(_, note)| note.is_none())) {
            self.portals.remove(portal);
        }
    }

    /// What a portal may run.
    pub(super) fn portal(&self, portal: &[u8]) -> Vec<Option<PortalNote>> {
        let notes = self.portals.get(portal_key(portal));
        notes.map(|notes| notes.iter().map(|(_, note)| note.clone()).collect()).unwrap_or_default()
    }

    /// The number of the last Bind that was noted.
    pub(super) fn last_bind(&self) -> u32 {
        self.binds
    }

    /// No transaction was open at a point after Bind number `until`: portals of the protocol from before are gone
    /// (`AtCommit_Portals`, `AtCleanup_Portals`).
    pub(super) fn end_transaction(&mut self, until: u32) {
        if self.portals.is_empty() {
            return;
        }
        self.portals.retain(|_, notes| {
            notes.retain(|(number, _)| is_after(*number, until));
            !notes.is_empty()
        });
    }

    /// Whether portals need watching at all.
    pub(super) fn watches_portals(&self) -> bool {
        !self.portals.is_empty()
    }
}

/// Numbers of Binds start again at zero some time.
fn is_after(number: u32, until: u32) -> bool {
    until.wrapping_sub(number) > u32::MAX / 2
}

impl Slot {
    fn take(&mut self, change: &Change, total: &mut usize) {
        if let Some(at) = self.pending.iter().position(|pending| pending.change.is(change)) {
            self.pending.remove(at);
            *total = total.saturating_sub(1);
        }
    }
}

impl Prepared for Names {
    fn prepared(&self, name: &str) -> Option<Arc<Analysis>> {
        // Never "this batch": a failing SQL statement does not make the server skip.
        match self.resolve(name.as_bytes(), u32::MAX) {
            Resolved::One(definition) => Some(Arc::clone(&definition.analysis)),
            Resolved::Several { candidates, .. } => merge(&candidates),
            Resolved::Unknown => None,
        }
    }
}

/// Several candidates are judged as if all of them ran.
fn merge(candidates: &[Arc<Definition>]) -> Option<Arc<Analysis>> {
    let mut candidates = candidates.iter();
    let mut merged = Analysis::clone(&candidates.next()?.analysis);
    for other in candidates {
        merged.pieces.extend(other.analysis.pieces.iter().cloned());
        merged.opaque |= other.analysis.opaque;
    }
    Some(Arc::new(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Arc<Definition> {
        Definition::new(b"SELECT 1", Arc::new(super::super::unreadable("test")), Vec::new())
    }

    #[test]
    fn names_are_compared_as_the_server_compares_them() {
        let mut names = Names::default();
        let long = [b'a'; 70];
        let define = Change::Define(definition());
        assert!(names.send(&long, Some(1), define.clone()));
        names.confirm(&long, &define);
        assert!(matches!(names.resolve(&long[..63], 2), Resolved::One(_)));
        assert!(matches!(names.resolve(&long[..62], 2), Resolved::Unknown));
        names.confirm(&long[..65], &Change::Drop);
        assert!(matches!(names.resolve(&long, 2), Resolved::Unknown));
    }

    #[test]
    fn names_that_are_not_ascii_are_never_believed() {
        let mut names = Names::default();
        let define = Change::Define(definition());
        assert!(names.send("é".as_bytes(), Some(1), define.clone()));
        names.confirm("é".as_bytes(), &define);
        assert!(matches!(names.resolve("é".as_bytes(), 1), Resolved::Unknown));
    }

    #[test]
    fn one_name_too_many_is_refused_and_those_noted_stay() {
        let mut names = Names::default();
        let define = Change::Define(definition());
        for number in 0..MAX_NAMES {
            assert!(names.send(number.to_string().as_bytes(), Some(1), define.clone()));
        }
        assert!(!names.send(b"more", Some(1), define.clone()));
        assert!(names.send(b"7", Some(1), define), "another change of a noted name");
        assert!(matches!(names.resolve(b"more", 1), Resolved::Unknown));
    }
}
