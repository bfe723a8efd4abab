//! How often a source may be refused: enough for a person's mistakes, too few for a flood, and nobody pays for another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Refused so often at once…
const BURST: f64 = 20.0;
/// …and then this often in a second.
const PER_SECOND: f64 = 1.0;
/// Sources that are remembered.
const SOURCES: usize = 4096;

/// What each source has left.
#[derive(Debug, Default)]
pub struct Refusals {
    left: HashMap<IpAddr, Left>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    refusals: f64,
    at: Duration,
}

impl Left {
    fn at(self, now: Duration) -> f64 {
        (self.refusals + now.saturating_sub(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Refusals {
    /// Whether `source` may be refused once more; counted at once, so that many attempts at the same time are as many.
    /// One that was no refusal is given back by [`Refusals::forgive`]. `now` is since any fixed moment.
    pub fn charge(&mut self, source: IpAddr, now: Duration) -> bool {
        let left = self.left(source, now);
        if left < 1.0 {
            return false;
        }
        self.set(source, left - 1.0, now);
        true
    }

    /// It was no refusal.
    pub fn forgive(&mut self, source: IpAddr, now: Duration) {
        let left = self.left(source, now);
        self.set(source, (left + 1.0).min(BURST), now);
    }

    fn left(&self, source: IpAddr, now: Duration) -> f64 {
        self.left.get(&source).map_or(BURST, |left| left.at(now))
    }

    fn set(&mut self, source: IpAddr, refusals: f64, at: Duration) {
        if !self.left.contains_key(&source) && self.left.len() >= SOURCES {
            self.left.retain(|_, left| left.at(at) < BURST);
            // More sources than are remembered: the one that misses its entry least goes.
            let most = self.left.iter().max_by(|a, b| a.1.at(at).total_cmp(&b.1.at(at))).map(|(source, _)| *source);
            if let Some(most) = most.filter(|_| self.left.len() >= SOURCES) {
                self.left.remove(&most);
            }
        }
        self.left.insert(source, Left { refusals, at });
    }
}

/// Whom an address is counted for: an IPv6 host has a whole /64 to speak from.
pub fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}
