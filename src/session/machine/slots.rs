//! Where the statements' names are kept: the unnamed statement, which most drivers use most of the time, has a place of its
//! own that is found without hashing. Knows nothing of what a slot means.

use std::collections::HashMap;

/// A place in [`Slots`].
pub(super) trait Place: Default {
    /// Nothing is kept here, so the place may be given up.
    fn is_vacant(&self) -> bool;
}

/// Places by name. A vacant place counts as none.
#[derive(Debug, Default)]
pub(super) struct Slots<S> {
    unnamed: S,
    named: HashMap<Box<[u8]>, S>,
}

impl<S: Place> Slots<S> {
    pub(super) fn get(&self, name: &[u8]) -> Option<&S> {
        if name.is_empty() { Some(&self.unnamed).filter(|slot| !slot.is_vacant()) } else { self.named.get(name) }
    }

    /// The place, if it is taken. Whoever may have emptied it calls [`Slots::tidy`] afterwards.
    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut S> {
        if name.is_empty() {
            Some(&mut self.unnamed).filter(|slot| !slot.is_vacant())
        } else {
            self.named.get_mut(name)
        }
    }

    /// The place, taken or new. `None`: `limit` named places are taken, and this is none of them.
    pub(super) fn open(&mut self, name: &[u8], limit: usize) -> Option<&mut S> {
        if name.is_empty() {
            return Some(&mut self.unnamed);
        }
        if !self.named.contains_key(name) && self.named.len() >= limit {
            return None;
        }
        Some(self.named.entry(name.into()).or_default())
    }

    /// Gives the place up if it is vacant.
    pub(super) fn tidy(&mut self, name: &[u8]) {
        if !name.is_empty() && self.named.get(name).is_some_and(Place::is_vacant) {
            self.named.remove(name);
        }
    }

    /// Changes every place; those left vacant are given up.
    pub(super) fn each(&mut self, mut change: impl FnMut(&[u8], &mut S)) {
        change(&[], &mut self.unnamed);
        self.named.retain(|name, slot| {
            change(name, slot);
            !slot.is_vacant()
        });
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &S> {
        std::iter::once(&self.unnamed).chain(self.named.values())
    }
}
