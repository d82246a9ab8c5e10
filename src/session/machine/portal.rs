//! The portal of a Bind that people released: what it runs is what they were shown only as long as nothing comes between.
//!
//! A Bind is judged and shown with the role and `search_path` of its moment, but much of what a portal does is settled when it is
//! executed: utility statements look up their tables then, triggers and functions run then, as whoever the session is by then. And
//! there are more ways to run a portal than Execute (FETCH, MOVE, functions that open it by name), not all of which can be seen.
//!
//! So the rule is: **the portal lives until the next message that is not about it.** Before any other message goes on, the gate
//! closes the portal on the server; a later Execute of it is refused. So is its first Execute if that comes late: which rows it meets is
//! settled then, and more of them may have come than people were shown. Execute, Describe of a portal, Close, Flush, Sync and the data of
//! its COPY are no other messages: they run nothing but the portal. A portal that was executed right away, and whose statement runs no code
//! that cannot be seen through, is left alone: it has run, or is a query under way whose names are settled, of which
//! more rows may be fetched. Knows no people.

use super::names::is_same_portal;
use super::replies::Expect;
use super::{Machine, Outbox};
use crate::wire::frame;
use crate::wire::frontend::{self, Target};

/// The portal of the Bind released last.
#[derive(Debug)]
pub(super) struct HeldPortal {
    name: Box<[u8]>,
    /// Counts them.
    number: u32,
    course: Course,
    /// Its statement runs code that cannot be seen through.
    opaque: bool,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It waits for its Execute.
    Bound,
    /// It has waited for too long.
    Late,
    /// It was executed.
    Executed,
    /// Something else came then, and it was left alone: only its result is still wanted.
    Left,
}

impl Machine {
    /// A Bind that was released is sent on.
    pub(super) fn keep_portal(&mut self, name: &[u8], opaque: bool) {
        self.released_portals = self.released_portals.wrapping_add(1);
        let number = self.released_portals;
        self.held_portal = Some(HeldPortal { name: name.into(), number, course: Course::Bound, opaque });
        self.watch_portal();
    }

    /// The released portal that has not been executed: a number of its own. Which rows it meets is settled when it is executed, so it must
    /// not wait for long.
    pub fn released_portal(&self) -> Option<u32> {
        let waits = self.held_portal.as_ref().filter(|portal| matches!(portal.course, Course::Bound | Course::Late));
        waits.map(|portal| portal.number)
    }

    /// The released portal has waited for its Execute for too long, which is refused from now on.
    pub fn released_portal_is_late(&mut self) {
        if let Some(portal) = self.held_portal.as_mut().filter(|portal| portal.course == Course::Bound) {
            portal.course = Course::Late;
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.held_portal.as_ref().is_some_and(|portal| portal.course == Course::Late)
    }

    /// A frame comes to the front that will be sent on or answered: if it is about something else, the portal is not run any more.
    pub(super) fn part_with_portal(&mut self, tag: u8, body: &[u8], whole: bool, out: &mut Outbox) {
        let Some(portal) = &mut self.held_portal else { return };
        let is_about_it = match tag {
            b'S' | b'H' | b'X' | b'C' | b'd' | b'c' | b'f' => true,
            // Until it is here whole it stays at the front.
            b'E' | b'D' if !whole => true,
            b'E' => frontend::execute(body).is_ok_and(|name| *name == *portal.name) && portal.course != Course::Late,
            b'D' => matches!(frontend::target(body), Ok(Target::Portal(_))),
            _ => false,
        };
        if is_about_it || portal.course == Course::Left {
            return;
        }
        let executed = portal.course == Course::Executed;
        let stays = executed && !portal.opaque;
        if stays {
            portal.course = Course::Left;
        }
        self.watch_not_alone(executed);
        if stays {
            return;
        }
        if let Some(portal) = self.held_portal.take() {
            self.send_backend(frame::build(b'C', &[b"P", &portal.name, b"\0"]), out);
            self.replies.push(Expect::OwnClose);
            self.batch.open = true;
            self.lapsed_portal = Some(portal.name);
        }
    }

    /// A portal is executed. `true`: it is the one whose result is wanted.
    pub(super) fn executes_portal(&mut self, name: &[u8]) -> bool {
        let held = self.held_portal.as_mut().filter(|portal| *portal.name == *name);
        held.map(|portal| {
            if portal.course != Course::Left {
                portal.course = Course::Executed;
            }
        })
        .is_some()
    }

    /// The gate has closed the portal, and nothing was bound to its name since.
    pub(super) fn is_lapsed(&self, name: &[u8]) -> bool {
        self.lapsed_portal.as_deref() == Some(name)
    }

    /// Bind, Close or (of the unnamed portal) a Query is sent on: what had that name is gone.
    pub(super) fn replaces_portal(&mut self, name: &[u8]) {
        if self.is_lapsed(name) {
            self.lapsed_portal = None;
        }
        if self.held_portal.as_ref().is_some_and(|portal| is_same_portal(&portal.name, name)) {
            self.held_portal = None;
            self.watch_no_more();
        }
    }

    /// No transaction is open and nothing is outstanding: portals are gone.
    pub(super) fn forget_portals(&mut self) {
        self.held_portal = None;
        self.lapsed_portal = None;
    }
}
