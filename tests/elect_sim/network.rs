//! What passes between the nodes and etcd: late, twice as late, in one direction only, or not at all.

use std::time::Duration;

use hamaster::elect::event::{Event, Interest, RequestId};
use hamaster::elect::txn::{Answer, Op, Txn};
use hamaster::elect::view::Key;

use crate::node::Watch;
use crate::plant::Bug;
use crate::schedule::{MILLI, SECOND};
use crate::world::{Happening, World};

/// A key of the queue outlives its process by at most this.
const LEASE: u64 = 15 * SECOND;

impl World {
    pub(crate) fn latency(&mut self, _n: usize) -> u64 {
        match self.chance.below(50) {
            0 => self.chance.below(400 * MILLI),
            _ => self.chance.between(MILLI / 5, 5 * MILLI),
        }
    }

    fn is_cut(&self, n: usize) -> bool {
        self.now < self.nodes[n].link.cut
    }

    pub(crate) fn send(&mut self, n: usize, life: u64, id: RequestId, txn: Txn, within: Duration) {
        let node = &mut self.nodes[n];
        let Some(process) = &mut node.process else { return };
        process.open.insert(id);
        if txn.then.len() == 1 && matches!(txn.then[0], Op::Put(Key::Leader, ..)) {
            process.renewals.push((id, self.now));
        }
        let nanos = u64::try_from(within.as_nanos()).unwrap();
        let given_up = node.clock.when(node.clock.show(self.now) + nanos) - self.now;
        self.after(given_up, Happening::GiveUp { n, life, id });
        let lost = self.is_cut(n) || self.chance.percent(1);
        let delay = if lost {
            // It may lie in a queue somewhere and arrive when nobody thinks of it any more.
            if !self.chance.percent(30) {
                return;
            }
            self.chance.below(20 * SECOND)
        } else {
            self.latency(n)
        };
        let cluster = self.cluster;
        self.after(delay, Happening::Arrive { n, life, cluster, id, txn });
    }

    pub(crate) fn arrive(&mut self, n: usize, life: u64, id: RequestId, txn: &Txn) {
        if self.now < self.etcd_down {
            return;
        }
        let spoilt = self.bug.spoil(txn);
        let before = self.store.revision;
        let in_queue = spoilt.then.iter().all(|op| match op {
            Op::Delete(key @ Key::Candidate(_)) if spoilt.then.len() == 3 => self.store.has(*key),
            _ => true,
        });
        let answer = self.store.run(&spoilt);
        if self.store.revision > before {
            if !in_queue {
                self.violate(format!("m{} acquires without a place in the queue", n + 1));
            }
            self.changed();
        }
        let late = self.now < self.nodes[n].link.slow;
        if self.is_cut(n) || self.now < self.nodes[n].link.deaf || self.chance.percent(1) {
            return;
        }
        let most = u64::try_from(self.nodes[n].timing.attempt().as_nanos()).unwrap();
        let delay = if late { self.chance.edge(most) } else { self.latency(n) };
        self.after(delay, Happening::Respond { n, life, id, answer });
    }

    pub(crate) fn respond(&mut self, n: usize, id: RequestId, answer: Answer) {
        let now = self.now;
        let Some(process) = &mut self.nodes[n].process else { return };
        if !process.open.remove(&id) {
            return;
        }
        let renewal = process.renewals.iter().position(|(r, _)| *r == id).map(|i| process.renewals.swap_remove(i));
        if let (Bug::FenceFromReceipt, Some((_, sent)), Answer::Done { .. }) = (self.bug, renewal, &answer) {
            process.falsehood = now - sent;
        }
        self.step(n, Event::Answered(id, answer));
    }

    pub(crate) fn watch(&mut self, n: usize, life: u64, interest: Interest) {
        let Some(process) = &mut self.nodes[n].process else { return };
        process.watches += 1;
        let number = process.watches;
        process.watch = Some(Watch { interest, number, cursor: None });
        let delay = self.latency(n);
        self.after(delay, Happening::Read { n, life, watch: number });
    }

    pub(crate) fn read(&mut self, n: usize, life: u64, watch: u64) {
        let live = self.nodes[n].process.as_ref().is_some_and(|p| p.life == life);
        if !live || self.interest(n, watch).is_none() {
            return;
        }
        let away = self.is_cut(n) || self.now < self.nodes[n].link.deaf || self.now < self.etcd_down;
        if away {
            let again = self.chance.between(300 * MILLI, SECOND);
            return self.after(again, Happening::Read { n, life, watch });
        }
        let (view, delay) = (self.store.view(), self.latency(n));
        self.after(delay, Happening::Seen { n, life, watch, view });
    }

    pub(crate) fn seen(&mut self, n: usize, number: u64, view: hamaster::elect::view::View) {
        let Some(process) = &mut self.nodes[n].process else { return };
        let Some(watch) = process.watch.as_mut().filter(|w| w.number == number) else { return };
        watch.cursor = Some(view.revision);
        let life = process.life;
        self.after(0, Happening::Pump { n, life, watch: number });
        self.step(n, Event::Seen(view));
    }

    /// Tells `n` what its watch has missed so far; one that cannot be told reads anew later.
    pub(crate) fn pump(&mut self, n: usize, life: u64, number: u64) {
        let Some(interest) = self.interest(n, number) else { return };
        let link = self.nodes[n].link;
        if self.now < link.blind {
            return self.after(link.blind - self.now, Happening::Pump { n, life, watch: number });
        }
        let Some(watch) = self.nodes[n].process.as_mut().and_then(|p| p.watch.as_mut()) else { return };
        let Some(cursor) = watch.cursor else { return };
        if self.now < link.cut || self.now < link.deaf || self.now < self.etcd_down {
            watch.cursor = None;
            return self.after(300 * MILLI, Happening::Read { n, life, watch: number });
        }
        watch.cursor = Some(self.store.revision);
        let mut changes = self.store.since(cursor, interest);
        // Of different keys there are different watches, in no order among each other.
        if matches!(interest, Interest::Queue { .. }) && self.chance.percent(50) {
            changes.sort_by_key(|c| (c.key, c.modified));
        }
        for change in changes {
            self.step(n, Event::Changed(change));
        }
    }

    pub(crate) fn break_watch(&mut self, n: usize) {
        let Some(process) = &mut self.nodes[n].process else { return };
        let life = process.life;
        let Some(watch) = &mut process.watch else { return };
        watch.cursor = None;
        let number = watch.number;
        self.after(MILLI, Happening::Read { n, life, watch: number });
    }

    /// Every third of its life a lease is renewed; a lost one is told of and granted anew.
    pub(crate) fn keep_alive(&mut self, n: usize, life: u64) {
        let link = self.nodes[n].link;
        let until = self.now + LEASE;
        if self.now < link.cut || self.now < link.deaf || self.now < self.etcd_down {
            return self.after(SECOND, Happening::KeepAlive { n, life });
        }
        self.after(LEASE / 3, Happening::KeepAlive { n, life });
        let held = self.nodes[n].process.as_ref().and_then(|p| p.lease);
        if held.is_some_and(|lease| self.store.keep_alive(lease, until)) {
            return self.after(LEASE, Happening::Expire);
        }
        if let Some(earlier) = self.nodes[n].process.as_mut().and_then(|p| p.earlier.take()) {
            self.revoke(earlier);
        }
        if held.is_some() {
            self.step(n, Event::Lease(None));
        }
        let lease = self.store.grant(until);
        if let Some(process) = &mut self.nodes[n].process {
            process.lease = Some(lease);
        }
        let delay = self.latency(n);
        self.after(delay, Happening::Tell { n, life, event: Event::Lease(Some(lease)) });
        self.after(LEASE, Happening::Expire);
    }

    pub(crate) fn expire(&mut self) {
        if self.now < self.etcd_down {
            return;
        }
        for lease in self.store.expired(self.now) {
            self.revoke(lease);
        }
    }

    /// etcd is back: whoever leads it lets every lease begin anew.
    pub(crate) fn etcd_is_back(&mut self) {
        self.store.renew_leases(self.now + LEASE);
        self.after(LEASE, Happening::Expire);
    }
}
