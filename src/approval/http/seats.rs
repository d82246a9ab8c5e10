//! Who sits at the admin API: connections that have proved somebody, and those that have not, which have to make way.
//! Knows no sockets.
//!
//! A connection that never sends a token costs its owner nothing, so it must not keep an approver out: an address has few
//! of them, and the oldest goes when there is no room. Nor may one person's connections keep others out: a quarter of the places (but
//! some at least) is the most for one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failures::network;

/// Connections that one person may have however few places there are.
const FEW: usize = 8;

/// All seats.
pub(super) struct Seats {
    places: Arc<Semaphore>,
    unproved_per_address: usize,
    unproved: Arc<Unproved>,
}

/// Connections that have not presented a valid token, and those that have. Never more than there are places.
struct Unproved {
    seats: Mutex<Waiting>,
    /// Most that one person, or program, may have who has.
    of_one: usize,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// Without a token, oldest first.
    by_age: BTreeMap<u64, Sitter>,
    /// With one: whose, oldest first.
    proved: BTreeMap<u64, (String, Arc<State>)>,
}

struct Sitter {
    address: IpAddr,
    state: Arc<State>,
}

/// What a connection and its seat share.
#[derive(Default)]
struct State {
    proved: AtomicBool,
    evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl State {
    fn evict(&self) {
        self.evicted.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

impl Seats {
    pub(super) fn new(places: usize, unproved_per_address: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.max(1))),
            unproved_per_address: unproved_per_address.max(1),
            // So that nobody's streams keep everybody else out.
            unproved: Arc::new(Unproved { seats: Mutex::default(), of_one: (places / 4).max(FEW) }),
        }
    }

    /// A seat for a new connection. Waits only while every place is taken by somebody who proved who they are.
    pub(super) async fn take(&self, address: IpAddr) -> Seat {
        let address = network(address);
        self.unproved.make_room(address, self.unproved_per_address);
        let place = if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            Some(place)
        } else {
            self.unproved.evict_oldest();
            // `None` only if the semaphore were closed, which nothing does; such a connection would just not be counted.
            Arc::clone(&self.places).acquire_owned().await.ok()
        };
        self.unproved.sit(address, place)
    }
}

impl Unproved {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sit(self: &Arc<Self>, address: IpAddr, place: Option<OwnedSemaphorePermit>) -> Seat {
        let state = Arc::<State>::default();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next = waiting.next.wrapping_add(1);
        waiting.by_age.insert(number, Sitter { address, state: Arc::clone(&state) });
        drop(waiting);
        Seat { _place: place, pass: Pass { number, state, unproved: Arc::clone(self) } }
    }

    /// Leaves fewer than `most` of an address.
    fn make_room(&self, address: IpAddr, most: usize) {
        let mut waiting = self.lock();
        let of_address = waiting.by_age.iter().filter(|(_, sitter)| sitter.address == address);
        let numbers: Vec<_> = of_address.map(|(number, _)| *number).collect();
        let surplus = numbers.len().saturating_add(1).saturating_sub(most);
        for number in numbers.into_iter().take(surplus) {
            if let Some(sitter) = waiting.by_age.remove(&number) {
                sitter.state.evict();
            }
        }
    }

    fn evict_oldest(&self) {
        if let Some((_, sitter)) = self.lock().by_age.pop_first() {
            sitter.state.evict();
        }
    }
}

/// A connection's place; dropping it gives the place to the next.
pub(super) struct Seat {
    _place: Option<OwnedSemaphorePermit>,
    pass: Pass,
}

impl Seat {
    /// For requests that come over the connection.
    pub(super) fn pass(&self) -> Pass {
        self.pass.clone()
    }

    /// The connection has presented a valid token.
    pub(super) fn is_proved(&self) -> bool {
        self.pass.state.proved.load(Ordering::SeqCst)
    }

    /// Whether the connection has to go; if not yet, `waker` is woken when it does.
    pub(super) fn is_evicted(&self, waker: &Waker) -> bool {
        let state = &self.pass.state;
        let mut slot = state.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        drop(slot);
        // After the waker is in place, so that no eviction falls between.
        state.evicted.load(Ordering::SeqCst)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pass.leave();
    }
}

/// Lets a request say that its connection proved somebody.
#[derive(Clone)]
pub(super) struct Pass {
    number: u64,
    state: Arc<State>,
    unproved: Arc<Unproved>,
}

impl Pass {
    /// A valid token of somebody came: from now on the connection keeps its place, while they have no more than their share of
    /// them; then their oldest goes.
    /// `None`: it is the only one who can come here.
    pub(super) fn prove(&self, who: Option<&str>) {
        if self.state.proved.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut seats = self.unproved.lock();
        seats.by_age.remove(&self.number);
        let Some(who) = who else { return };
        seats.proved.insert(self.number, (who.to_owned(), Arc::clone(&self.state)));
        let own = |(_, (whose, _)): &(&u64, &(String, Arc<State>))| whose == who;
        if seats.proved.iter().filter(own).count() > self.unproved.of_one {
            let oldest = seats.proved.iter().find(own).map(|(number, _)| *number);
            if let Some((_, state)) = oldest.and_then(|number| seats.proved.remove(&number)) {
                state.evict();
            }
        }
    }

    fn leave(&self) {
        let mut seats = self.unproved.lock();
        seats.by_age.remove(&self.number);
        seats.proved.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use std::future::Future;
    use std::task::Context;

    use super::*;

    /// Takes a seat that must be free, or freed by nobody.
    fn take(seats: &Seats, address: &str) -> Option<Seat> {
        let taking = std::pin::pin!(seats.take(address.parse().unwrap()));
        match taking.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(seat) => Some(seat),
            std::task::Poll::Pending => None,
        }
    }

    fn evicted(seats: &[Seat]) -> Vec<bool> {
        seats.iter().map(|seat| seat.is_evicted(Waker::noop())).collect()
    }

    #[test]
    fn an_address_keeps_its_newest_unproved_connections_and_touches_no_other() {
        let seats = Seats::new(100, 2);
        let other = take(&seats, "10.0.0.2").unwrap();
        let same: Vec<_> = (0..4).map(|_| take(&seats, "10.0.0.1").unwrap()).collect();
        assert_eq!(evicted(&same), [true, true, false, false]);
        assert!(!other.is_evicted(Waker::noop()));
    }

    #[test]
    fn proved_connections_are_neither_counted_nor_evicted() {
        let seats = Seats::new(3, 1);
        let proved: Vec<_> = ["ann", "bob"]
            .into_iter()
            .map(|who| {
                let seat = take(&seats, "10.0.0.1").unwrap();
                seat.pass().prove(Some(who));
                seat
            })
            .collect();
        let unproved = take(&seats, "10.0.0.1").unwrap();
        assert_eq!(evicted(&proved), [false, false]);
        assert!(take(&seats, "10.0.0.2").is_none(), "the evicted connection still has its place");
        assert!(unproved.is_evicted(Waker::noop()));
        drop(unproved);
        let last = take(&seats, "10.0.0.2").unwrap();
        last.pass().prove(None);
        assert!(take(&seats, "10.0.0.3").is_none());
        assert_eq!(evicted(&proved), [false, false]);
        assert!(!last.is_evicted(Waker::noop()));
    }

    #[test]
    fn one_person_takes_no_more_than_their_share() {
        let seats = Seats::new(40, 40);
        let proved = |who: &str| {
            let seat = take(&seats, "10.0.0.1").unwrap();
            seat.pass().prove(Some(who));
            seat.pass().prove(Some(who));
            seat
        };
        let ann = [proved("ann")];
        let bob: Vec<_> = (0..12).map(|_| proved("bob")).collect();
        assert_eq!(evicted(&bob[..3]), [true, true, false]);
        assert!(!evicted(&bob[2..]).contains(&true));
        assert_eq!(evicted(&ann), [false]);
        drop(bob);
        let bob = [proved("bob"), proved("bob")];
        assert_eq!(evicted(&bob), [false, false], "who left is not counted");
    }

    #[test]
    fn who_left_is_forgotten() {
        let seats = Seats::new(2, 2);
        drop(take(&seats, "10.0.0.1").unwrap());
        take(&seats, "10.0.0.1").unwrap().pass().prove(Some("ann"));
        assert!(seats.unproved.lock().by_age.is_empty() && seats.unproved.lock().proved.is_empty());
        assert_eq!(seats.places.available_permits(), 2);
    }
}
