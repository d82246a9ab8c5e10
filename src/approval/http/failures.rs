//! Counts failed authentications per address, in bounded memory. Time is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses remembered. The one that has been quiet longest is forgotten for a new one.
const MAX_ADDRESSES: usize = 4_096;

/// A bucket per address: every failure takes one, time gives them back.
pub(super) struct Failures {
    burst: u32,
    refill: Duration,
    /// For each address, when its bucket will be full again.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl Failures {
    pub(super) fn new(burst: u32, refill: Duration) -> Self {
        Self { burst: burst.max(1), refill, full_at: Mutex::new(HashMap::new()) }
    }

    /// Whether an address may try (again).
    ///
    /// # Errors
    ///
    /// How long it has to wait.
    pub(super) fn may_try(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner).get(&network(address)).copied();
        let owed = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        // An empty bucket is `burst` refills away from full; one more failure must fit.
        let room = self.refill.saturating_mul(self.burst.saturating_sub(1));
        owed.checked_sub(room).filter(|wait| !wait.is_zero()).map_or(Ok(()), Err)
    }

    /// Counts a failure.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if !full_at.contains_key(&address) && full_at.len() >= MAX_ADDRESSES {
            full_at.retain(|_, at| *at > now);
            let quietest = full_at.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip);
            if let Some(quietest) = quietest.filter(|_| full_at.len() >= MAX_ADDRESSES) {
                full_at.remove(&quietest);
            }
        }
        let at = full_at.entry(address).or_insert(now);
        *at = (*at).max(now).checked_add(self.refill).unwrap_or(*at);
    }
}

/// Whoever has one IPv6 address has its whole /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn after_the_burst_an_address_waits_and_time_gives_tries_back() {
        let failures = Failures::new(3, SECOND);
        let start = crate::clock::now();
        for _ in 0..3 {
            assert_eq!(failures.may_try(ip("10.0.0.1"), start), Ok(()));
            failures.failed(ip("10.0.0.1"), start);
        }
        assert_eq!(failures.may_try(ip("10.0.0.1"), start), Err(SECOND));
        assert_eq!(failures.may_try(ip("::ffff:10.0.0.1"), start), Err(SECOND), "the same address");
        assert_eq!(failures.may_try(ip("10.0.0.2"), start), Ok(()));
        assert_eq!(failures.may_try(ip("10.0.0.1"), start + SECOND), Ok(()));
        failures.failed(ip("10.0.0.1"), start + SECOND);
        assert_eq!(failures.may_try(ip("10.0.0.1"), start + SECOND), Err(SECOND));
        assert_eq!(failures.may_try(ip("10.0.0.1"), start + SECOND * 9), Ok(()));
    }

    #[test]
    fn a_whole_ipv6_network_counts_as_one_address() {
        let failures = Failures::new(1, SECOND);
        let now = crate::clock::now();
        failures.failed(ip("2001:db8::1"), now);
        assert!(failures.may_try(ip("2001:db8::ffff"), now).is_err());
        assert!(failures.may_try(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_busiest_address_is_not_forgotten() {
        let failures = Failures::new(2, SECOND);
        let now = crate::clock::now();
        for _ in 0..5 {
            failures.failed(ip("10.0.0.1"), now);
        }
        for n in 0..2 * u32::try_from(MAX_ADDRESSES).unwrap() {
            failures.failed(IpAddr::V4((0x0b00_0000 + n).into()), now);
        }
        assert_eq!(failures.full_at.lock().unwrap().len(), MAX_ADDRESSES);
        assert!(failures.may_try(ip("10.0.0.1"), now).is_err());
    }
}
