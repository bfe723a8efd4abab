//! Does what the schedule says, and puts everything right at its end.

use hamaster::elect::event::{Event, Unfit};
use hamaster::elect::view::Key;

use crate::schedule::{Fault, MILLI, Operator, SECOND};
use crate::store::Store;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::Cut(n, time) => self.nodes[n].link.cut = now + time,
            Fault::Deaf(n, time) => self.nodes[n].link.deaf = now + time,
            Fault::Slow(n, time) => self.nodes[n].link.slow = now + time,
            Fault::Blind(n, time) => self.nodes[n].link.blind = now + time,
            Fault::EtcdDown(time) => self.etcd_goes(time),
            Fault::EtcdRestart => {
                self.etcd_goes(300 * MILLI);
                (0..self.nodes.len()).for_each(|n| self.break_watch(n));
            }
            Fault::Restored(time) => {
                // Away for longer than any payload may live without it.
                let time = 16 * SECOND + time;
                let (store, cluster) = (Box::new(self.store.clone()), self.cluster + 1);
                let store = if self.chance.percent(50) { store } else { Box::default() };
                let later = self.chance.below(3 * SECOND);
                self.after(later + time, Happening::Restore { store, cluster });
                self.etcd_goes(later + time);
            }
            Fault::Kill(n) => self.kill(n),
            Fault::KillInStep(n) => {
                let after = self.chance.below(4);
                if let Some(process) = &mut self.nodes[n].process {
                    process.dies_after = Some(after);
                }
            }
            Fault::Reboot(n) => self.reboot(n),
            Fault::Pause(n, time) => self.pause(n, time),
            Fault::FreezeLeader => self.freeze_leader(),
            Fault::CutLeader(time) => {
                if let Some(n) = self.leader() {
                    self.nodes[n].link.cut = now + time;
                }
            }
            Fault::KillLeader => {
                if let Some(n) = self.leader() {
                    self.kill(n);
                }
            }
            Fault::LeaseLost(n) => {
                if let Some(lease) = self.nodes[n].process.as_ref().and_then(|p| p.lease) {
                    self.revoke(lease);
                }
            }
            Fault::BreakWatch(n) => self.break_watch(n),
            Fault::Sick(n, time) => {
                self.tell(n, 0, Event::Fitness(Err(Unfit::Health("refused".into()))));
                self.tell(n, time, Event::Fitness(Ok(())));
            }
            Fault::Bias(n, bias) => self.tell(n, 0, Event::Bias(bias)),
            Fault::Resign(n) => self.tell(n, 0, Event::Resign),
            Fault::Terminate(n) => self.tell(n, 0, Event::Terminate),
            Fault::Operator(what) => self.operate(what),
        }
    }

    fn tell(&mut self, n: usize, delay: u64, event: Event) {
        if let Some(life) = self.nodes[n].process.as_ref().map(|p| p.life) {
            self.after(delay, Happening::Tell { n, life, event });
        }
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().find(|n| n.manifest).map(|n| n.number)
    }

    fn etcd_goes(&mut self, time: u64) {
        self.etcd_down = self.etcd_down.max(self.now + time);
        // Whoever watches finds the connection broken.
        self.changed();
        self.after(time + MILLI, Happening::EtcdBack);
    }

    /// The worst that can befall a leader: its last answers came late, it is cut off, stopped right before it would
    /// have fenced, and everyone who has to act for it takes as long as allowed.
    fn freeze_leader(&mut self) {
        let Some(n) = self.leader() else { return };
        let renew = u64::try_from(self.nodes[n].timing.renew().as_nanos()).unwrap();
        self.nodes[n].link.slow = self.now + 3 * renew;
        let later = self.chance.between(renew, 3 * renew);
        let Some(life) = self.nodes[n].process.as_ref().map(|p| p.life) else { return };
        self.after(later, Happening::CutNow { n, life });
    }

    pub(crate) fn cut_now(&mut self, n: usize, life: u64) {
        self.nodes[n].link.cut = self.now + 25 * SECOND;
        let falsehood = self.nodes[n].process.as_ref().filter(|p| p.life == life).map(|p| p.falsehood);
        let (Some(deadline), Some(falsehood)) = (self.nodes[n].deadline(), falsehood) else { return };
        let watchdog = u64::try_from(self.nodes[n].timing.watchdog().as_nanos()).unwrap();
        let before = if self.chance.percent(60) { MILLI } else { self.chance.below(watchdog) };
        let at = (deadline + falsehood).saturating_sub(before + self.now);
        self.after(at, Happening::FreezeNow { n, life });
    }

    fn operate(&mut self, what: Operator) {
        if self.now < self.etcd_down {
            return;
        }
        let candidates: Vec<_> = self.store.keys().into_iter().filter(|k| matches!(k, Key::Candidate(_))).collect();
        let one = if candidates.is_empty() { None } else { Some(self.chance.pick(&candidates)) };
        match what {
            Operator::DeleteLeader => self.store.delete(&[Key::Leader]),
            Operator::DeleteTerm => self.store.delete(&[Key::Term]),
            Operator::DeleteCandidate => self.store.delete(one.as_slice()),
            Operator::DeleteAll => self.store.delete(&self.store.keys()),
            Operator::SpoilLeader => self.store.put(Key::Leader, b"mine"),
            Operator::SpoilTerm => self.store.put(Key::Term, b"{}"),
            Operator::SpoilCandidate => {
                one.into_iter().for_each(|key| self.store.put(key, b"[]"));
            }
            Operator::Pause => self.store.put(Key::Pause, br#"{"by":"someone"}"#),
            Operator::Unpause => self.store.delete(&[Key::Pause]),
            Operator::Transfer(to) => {
                let to = to.map_or("null".to_owned(), |n| format!("\"m{}\"", n + 1));
                self.store.put(Key::Transfer, format!("{{\"to\":{to}}}").as_bytes());
            }
        }
        self.changed();
    }

    /// Another cluster, with what a backup had: every candidate hears of it when it reads.
    pub(crate) fn restore(&mut self, store: Store, cluster: u64) {
        self.store = store.after(&self.store);
        (self.cluster, self.highest) = (cluster, 0);
        self.etcd_down = self.now;
        self.etcd_is_back();
        for n in 0..self.nodes.len() {
            self.tell(n, MILLI, Event::Replaced);
            self.break_watch(n);
        }
    }

    /// No more faults: what was in the way is gone, what was not running runs.
    pub(crate) fn calm(&mut self) {
        if self.now < self.etcd_down {
            self.etcd_down = self.now;
            self.etcd_is_back();
        }
        self.store.delete(&[Key::Pause, Key::Transfer]);
        self.changed();
        for n in 0..self.nodes.len() {
            self.nodes[n].link = Default::default();
            self.resume(n);
            self.tell(n, 0, Event::Fitness(Ok(())));
        }
    }
}
