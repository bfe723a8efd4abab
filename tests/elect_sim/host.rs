//! What happens on a host: the payload's worker, the kubelet, the watchdog and systemd, within their bounds.

use std::time::Duration;

use hamaster::elect::event::Event;
use hamaster::elect::instant::Instant;

use crate::schedule::{MILLI, SECOND};
use crate::world::{Happening, World};

/// `elect fence --unless-adoptable` leaves alone what has more than this left.
const ADOPTABLE: Duration = Duration::from_secs(2);

impl World {
    /// Up to a bound that the host's own clock measures: a little less in true time.
    fn within(&mut self, bound: Duration) -> u64 {
        let nanos = u64::try_from(bound.as_nanos()).unwrap();
        self.chance.edge(nanos / 1000 * 994)
    }

    fn worker(&mut self, n: usize) -> Option<u64> {
        let process = self.nodes[n].process.as_mut()?;
        process.job += 1;
        Some(process.job)
    }

    fn is_current(&self, n: usize, job: u64) -> bool {
        self.nodes[n].process.as_ref().is_some_and(|p| p.job == job)
    }

    /// What the host's clock shows the process; a planted bug sets it back.
    fn shows(&self, n: usize) -> Instant {
        let node = &self.nodes[n];
        let falsehood = node.process.as_ref().map_or(0, |p| p.falsehood);
        Instant::from_nanos(node.clock.show(self.now).saturating_sub(falsehood))
    }

    pub(crate) fn begin(&mut self, n: usize, life: u64, token: i64, until: Instant) {
        let Some(job) = self.worker(n) else { return };
        if self.nodes[n].manifest {
            // Adopted: untouched.
            return self.after(MILLI, Happening::Tell { n, life, event: Event::Started(Ok(())) });
        }
        if token < self.highest {
            self.violate(format!("m{} installs under token {token}, after {}", n + 1, self.highest));
        }
        self.highest = token;
        let delay = match self.chance.below(20) {
            0 => self.chance.below(4 * SECOND),
            _ => self.chance.between(MILLI, 30 * MILLI),
        };
        self.after(delay, Happening::Install { n, life, job, until });
    }

    /// The deadline is looked at right before the rename; the process may be stopped in between.
    pub(crate) fn install(&mut self, n: usize, life: u64, job: u64, until: Instant) {
        if !self.is_current(n, job) {
            return;
        }
        if self.shows(n) >= until || self.chance.percent(1) {
            return self.step(n, Event::Started(Err("too late, or no space".into())));
        }
        let delay = self.chance.below(MILLI);
        self.after(delay, Happening::Rename { n, life, job, until });
    }

    pub(crate) fn rename(&mut self, n: usize, job: u64, until: Instant) {
        if !self.is_current(n, job) {
            return;
        }
        let late = self.shows(n) >= until;
        let node = &mut self.nodes[n];
        node.manifest = true;
        node.installs += 1;
        let (install, boot) = (node.installs, node.boot);
        if node.timing.stop().is_zero() {
            node.payload = true;
        } else {
            let delay = self.chance.edge(SECOND);
            self.after(delay, Happening::PayloadUp { n, boot, install });
        }
        if late {
            self.unlink(n);
            return self.step(n, Event::Started(Err("too late".into())));
        }
        self.step(n, Event::Started(Ok(())));
    }

    pub(crate) fn stop(&mut self, n: usize, life: u64) {
        let Some(job) = self.worker(n) else { return };
        let delay = if self.nodes[n].manifest { self.within(self.nodes[n].timing.removal()) } else { MILLI };
        if self.chance.percent(5) {
            let event = Event::Stopped(Err("the directory hangs".into()));
            self.after(delay / 2, Happening::Tell { n, life, event });
        }
        self.after(delay, Happening::Remove { n, life, job });
    }

    pub(crate) fn remove(&mut self, n: usize, life: u64, job: u64) {
        if !self.is_current(n, job) {
            return;
        }
        self.unlink(n);
        let dead = self.nodes[n].dead_at.saturating_sub(self.now);
        self.after(dead + MILLI, Happening::Confirm { n, life, job });
    }

    /// The manifest is gone, whoever removed it; the kubelet ends the payload within K.
    pub(crate) fn unlink(&mut self, n: usize) {
        if !self.nodes[n].manifest {
            return;
        }
        let dying = self.within(self.nodes[n].timing.stop());
        let node = &mut self.nodes[n];
        node.manifest = false;
        let (boot, install) = (node.boot, node.installs);
        node.dead_at = self.now + dying;
        if node.timing.stop().is_zero() {
            node.payload = false;
        }
        self.after(dying, Happening::PayloadDead { n, boot, install });
    }

    pub(crate) fn start(&mut self, n: usize, boot: u64) {
        let now = self.now;
        let node = &mut self.nodes[n];
        if !node.up || node.boot != boot || node.process.is_some() {
            return;
        }
        node.start(now);
        let life = node.lives;
        let fit = self.chance.below(300 * MILLI);
        self.after(fit, Happening::Tell { n, life, event: Event::Fitness(Ok(())) });
        let granted = self.latency(n);
        self.after(granted, Happening::KeepAlive { n, life });
        self.step(n, Event::Tick);
    }

    /// The process is dead. systemd fences unless enough of the deadline is left to be adopted, then starts it anew.
    pub(crate) fn kill(&mut self, n: usize) {
        let shows = Instant::from_nanos(self.nodes[n].clock.show(self.now));
        let (boot, boot_id) = (self.nodes[n].boot, self.nodes[n].boot_id());
        let node = &mut self.nodes[n];
        let Some(process) = node.process.take() else { return };
        // With a planted bug the deadline in the file is as wrong as the machine's.
        let shows = Instant::from_nanos(shows.as_nanos().saturating_sub(process.falsehood));
        let adoptable = node.file.as_ref().and_then(|f| f.adoptable(&boot_id, shows));
        let fences = adoptable.is_none_or(|stored| stored.deadline.since(shows) < ADOPTABLE);
        let mut ready = 0;
        if fences && node.manifest {
            ready = self.within(self.nodes[n].timing.removal());
            self.after(ready, Happening::Fence { n, boot });
        }
        let pause = self.chance.between(100 * MILLI, 2 * SECOND);
        self.after(ready + pause, Happening::Start { n, boot });
    }

    /// SIGSTOP. The last sign of life was up to a third of W ago.
    pub(crate) fn pause(&mut self, n: usize, time: u64) {
        let now = self.now;
        let Some(process) = self.nodes[n].process.as_mut().filter(|p| p.paused.is_none()) else { return };
        process.paused = Some(now);
        let life = process.life;
        let watchdog = u64::try_from(self.nodes[n].timing.watchdog().as_nanos()).unwrap() / 1000 * 994;
        let earlier = self.chance.edge(watchdog / 3);
        self.after(watchdog - earlier, Happening::Watchdog { n, life, since: now });
        self.after(time, Happening::Resume { n, life, since: now });
    }

    pub(crate) fn is_paused(&self, n: usize, life: u64, since: u64) -> bool {
        self.nodes[n].process.as_ref().is_some_and(|p| p.life == life && p.paused == Some(since))
    }

    /// SIGCONT: everything that came meanwhile comes now.
    pub(crate) fn resume(&mut self, n: usize) {
        let now = self.now;
        let Some(process) = &mut self.nodes[n].process else { return };
        let Some(since) = process.paused.take() else { return };
        let waiting = std::mem::take(&mut process.waiting);
        let life = process.life;
        let backwards = self.chance.percent(30);
        if now - since > 500 * MILLI {
            let delay = if self.chance.percent(80) { 0 } else { MILLI };
            let event = Event::Anomaly("was not run for a while".into());
            self.after(delay, Happening::Tell { n, life, event });
        }
        // Which of several ready sources is looked at first is chance: an answer or its deadline, a watch or a tick.
        let last = waiting.len() as u64;
        for (i, happening) in waiting.into_iter().enumerate() {
            let place = i as u64;
            let independent = matches!(happening, Happening::GiveUp { .. } | Happening::Tick { .. });
            self.after(if backwards && independent { 0 } else { 1 + place.min(last) }, happening);
        }
    }

    /// Power off. The boot fence and the tmpfs see to it that nothing of it is left.
    pub(crate) fn reboot(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.process = None;
        node.boot += 1;
        node.up = false;
        (node.manifest, node.payload, node.file) = (false, false, None);
        let away = self.chance.between(SECOND / 2, 20 * SECOND);
        self.after(away, Happening::Boot { n });
    }

    pub(crate) fn boot(&mut self, n: usize) {
        let now = self.now;
        let shown = self.chance.between(SECOND, 20 * SECOND);
        let node = &mut self.nodes[n];
        if node.up {
            return;
        }
        node.up = true;
        node.clock = node.clock.anew(shown, now);
        let boot = node.boot;
        self.after(0, Happening::Start { n, boot });
    }
}
