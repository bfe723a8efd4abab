//! What the daemon shows to others: the loop writes it, every face reads it.

use std::collections::BTreeMap;

use super::instant::Instant;
use super::metrics::Metrics;
use super::status::Status;

/// The state of one process, all groups.
#[derive(Debug)]
pub struct Board {
    /// By name.
    pub groups: BTreeMap<String, Status>,
    /// Counters; the gauges are set from `groups` when asked for.
    pub metrics: Metrics,
    /// Start-up is over: nothing is left of an earlier life, or it was adopted. The text says what it waits for.
    pub ready: Result<(), String>,
    /// It does its work; the text says what keeps it from that, such as a payload that cannot be stopped.
    pub sound: Result<(), String>,
}

/// Whether this process leads a group, answered for `/leader`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads<'a> {
    /// Yes, and its deadline is ahead.
    Yes(&'a Status),
    /// No, or no more.
    No(&'a Status),
    /// There is no such group here.
    Unknown,
    /// There are several, and none was named.
    WhichOne,
}

impl Board {
    /// The board of a process that starts and elects for these groups.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            groups: BTreeMap::new(),
            metrics: Metrics::new(groups),
            ready: Err("starting".to_owned()),
            sound: Ok(()),
        }
    }

    /// Whether `group` is led here at `now`. Without a name the only group is meant.
    pub fn leads(&self, group: Option<&str>, now: Instant) -> Leads<'_> {
        let status = match group {
            Some(name) => self.groups.get(name),
            None if self.groups.len() > 1 => return Leads::WhichOne,
            None => self.groups.values().next(),
        };
        match status {
            None => Leads::Unknown,
            Some(s) if s.left(&s.boot_id, now).is_zero() => Leads::No(s),
            Some(s) => Leads::Yes(s),
        }
    }

    /// The metrics as of `now`.
    pub fn exposition(&self, now: Instant) -> String {
        self.groups.values().for_each(|status| self.metrics.show(status, now));
        self.metrics.encode()
    }
}
