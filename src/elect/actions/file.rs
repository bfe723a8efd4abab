//! A file that is there while this node leads: install, keep in sync, remove, confirm dead.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::bounded;
use super::confirm::Checker;
use super::hook::Term;
use super::ladder::{Bounds, Rung};
use super::line::{Failed, Line};
use super::manifest::{Found, Manifest, Refused};
use super::source::{Content, PodName, Source};
use super::watch::Watch;
use super::{Action, LOOK, PayloadEvent, Setting};
use crate::elect::config::{FileKind, FilePayload, Update};
use crate::elect::instant::Instant;
use crate::elect::record::Token;
use crate::elect::timing::Timing;
use crate::host::clock::boottime;
use crate::state::Digest;

/// After the last sign of a change to the source: an editor writes more than once.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// But no longer than this after the first.
const SETTLED_BY: Duration = Duration::from_secs(3);
/// Everything is looked at this often without a sign: not every filesystem gives one.
const REGULAR: Duration = Duration::from_secs(10);
/// Before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The file of one group.
pub(super) struct FileAction {
    manifest: Manifest,
    source: Source,
    watch: Watch,
    checker: Checker,
    kind: FileKind,
    update: Update,
    stop: Duration,
    removal: Duration,
    /// What should be there, while started.
    installed: Option<Content>,
    token: Option<Token>,
    /// What ran of an earlier file may still run: unknown at first, and between a removal and its confirmation.
    dying: bool,
    /// All pods that may run because of the destination.
    pods: BTreeSet<PodName>,
    due: Due,
    /// The source's last mistake, told once.
    invalid: Option<String>,
}

/// When to look next.
#[derive(Debug, Clone, Copy)]
struct Due {
    regular: Instant,
    source: Option<Instant>,
    /// The source is looked at by then, however often it is still touched.
    source_latest: Instant,
    dest: Option<Instant>,
}

impl FileAction {
    pub(super) fn new(file: &FilePayload, timing: Timing, setting: &Setting) -> Self {
        let (removal, stop) = (timing.removal(), timing.stop());
        Self {
            manifest: Manifest::new(&file.dest, removal),
            source: Source::new(&file.source, file.kind, file.annotate_token),
            watch: Watch::new(&file.source, &file.dest),
            checker: Checker::new(file, stop, setting),
            kind: file.kind,
            update: file.update,
            stop,
            removal,
            installed: None,
            token: None,
            dying: true,
            pods: BTreeSet::new(),
            due: Due { regular: Instant::BOOT, source: None, source_latest: Instant::BOOT, dest: None },
            invalid: None,
        }
    }

    /// Makes the destination hold `content`, by way of nothing when a pod must not meet its successor.
    fn put(&mut self, content: &Content, found: &Found, line: &Line) -> Result<(), Failed> {
        if *found == Found::File(content.bytes.clone()) {
            self.checker.found();
            return Ok(());
        }
        let replaces = matches!(found, Found::File(_)) && self.update == Update::Replace;
        if *found != Found::Nothing && (self.kind == FileKind::File || replaces) {
            // A rename replaces a file; anything else has to go first.
            if *found == Found::Other {
                self.manifest.remove().map_err(|e| Failed::Why(self.cannot("move", e)))?;
            }
        } else if *found != Found::Nothing || self.dying {
            self.retire(line)?;
        }
        self.pods.extend(content.pod.clone());
        self.checker.appears();
        self.manifest.install(&content.bytes, line.until()).map_err(|refused| {
            Failed::Why(match refused {
                Refused::Late => "the lease ran out before the file could be installed".to_owned(),
                Refused::InTheWay => self.in_the_way(),
                Refused::Failed(e) => self.cannot("install", e),
            })
        })
    }

    /// Removes the file and waits until what ran of it is dead; killed after half of K as at a stop.
    fn retire(&mut self, line: &Line) -> Result<(), Failed> {
        let bounds = Bounds::from_now(self.removal, self.stop);
        loop {
            let rung = bounds.rung(boottime()).min(Rung::Kill);
            if self.end(rung, false).is_ok() {
                return Ok(());
            }
            line.pause(LOOK)?;
        }
    }

    /// One step from whatever is there to nothing, confirmed.
    fn end(&mut self, rung: Rung, overdue: bool) -> Result<(), String> {
        self.dying = true;
        match self.manifest.remove() {
            Ok(Found::Nothing) => {}
            Ok(found) => {
                self.checker.went();
                self.note_pod(&found);
            }
            Err(e) => {
                if let Ok(found) = self.manifest.look() {
                    self.note_pod(&found);
                }
                // Nothing can make the kubelet let go of a file that stays but its own end.
                if overdue && self.kind == FileKind::Pod {
                    self.checker.kill_without_kubelet(&self.pods);
                }
                return Err(self.cannot("remove", e));
            }
        }
        if self.kind == FileKind::Pod && self.pods.is_empty() {
            // An earlier process may have removed the file: then what runs is what the source says.
            self.pods.extend(self.source.load(None, self.removal).ok().and_then(|c| c.pod));
        }
        self.checker.dead(&self.pods, rung)?;
        self.dying = false;
        Ok(())
    }

    fn note_pod(&mut self, found: &Found) {
        if let (FileKind::Pod, Found::File(bytes)) = (self.kind, found) {
            self.pods.extend(PodName::of(bytes));
        }
    }

    fn check_dest(&mut self, line: &Line) -> Option<PayloadEvent> {
        let wanted = self.installed.clone()?;
        let found = match self.manifest.look() {
            Ok(found) => found,
            Err(_) => {
                self.due.dest = Some(boottime() + AGAIN);
                return None;
            }
        };
        if found == Found::File(wanted.bytes.clone()) {
            return None;
        }
        // By hand: put back at once, by replacement. A kubelet that saw the other content restarts the pod anyway.
        let cleared = if found == Found::Other { self.manifest.remove().is_ok() } else { true };
        // A pod that went with the file may be begun anew.
        self.checker.appears();
        if cleared && self.manifest.install(&wanted.bytes, line.until()).is_ok() {
            return Some(PayloadEvent::Synced);
        }
        self.due.dest = Some(boottime() + AGAIN);
        None
    }

    fn check_source(&mut self, line: &Line) -> Option<PayloadEvent> {
        let old = self.installed.clone()?;
        let loaded = self.source.load(self.token.as_ref(), self.removal).and_then(|new| match (&old.pod, &new.pod) {
            (Some(before), Some(now)) if before != now => Err(format!(
                "{}: it is pod {}/{} now and was {}/{}",
                self.source.path().display(),
                now.namespace,
                now.name,
                before.namespace,
                before.name
            )),
            _ => Ok(new),
        });
        let new = match loaded {
            Ok(new) => new,
            Err(why) if self.invalid.as_ref() == Some(&why) => return None,
            Err(why) => {
                self.invalid = Some(why.clone());
                return Some(PayloadEvent::SourceInvalid(why));
            }
        };
        self.invalid = None;
        if new == old {
            return None;
        }
        self.installed = Some(new.clone());
        let found = self.manifest.look().unwrap_or(Found::Nothing);
        match self.put(&new, &found, line) {
            Ok(()) => Some(PayloadEvent::Synced),
            Err(Failed::Preempted) => None,
            Err(Failed::Why(_)) => {
                self.due.dest = Some(boottime() + AGAIN);
                None
            }
        }
    }

    /// Whether it could lead.
    fn fitness(&mut self) -> Result<(), String> {
        self.source.load(None, self.removal)?;
        self.manifest.probe().map_err(|e| {
            let dir = self.manifest.dir().display();
            let look = match e {
                Errno::NOENT => "mkdir -p",
                Errno::ROFS => "findmnt --target",
                Errno::NOSPC | Errno::DQUOT => "df --output=target,avail,iavail",
                Errno::PERM | Errno::ACCESS => "lsattr -d",
                _ => "ls -ld",
            };
            format!("{dir}: cannot write: {}; hint: {look} {dir}", bounded::told(e))
        })
    }

    fn in_the_way(&self) -> String {
        format!("{} is there and no file", self.manifest.dest().display())
    }

    fn cannot(&self, verb: &str, e: Errno) -> String {
        format!("cannot {verb} {}: {}", self.manifest.dest().display(), bounded::told(e))
    }
}

impl Action for FileAction {
    fn tidy(&mut self) {
        let _ = self.manifest.sweep();
    }

    fn start(&mut self, term: &Term, line: &Line) -> Result<(), Failed> {
        let found = self.manifest.look().map_err(|e| Failed::Why(self.cannot("look at", e)))?;
        let content = match (self.source.load(Some(&term.token), self.removal), &found) {
            (Ok(content), _) => content,
            // A leader goes on with what it has.
            (Err(why), Found::File(bytes)) => {
                let pod = match self.kind {
                    FileKind::File => None,
                    FileKind::Pod => Some(PodName::of(bytes).map_err(|_| Failed::Why(why.clone()))?),
                };
                self.invalid = Some(why);
                Content { bytes: bytes.clone(), pod }
            }
            (Err(why), _) => return Err(Failed::Why(why)),
        };
        if found == Found::Other {
            return Err(Failed::Why(self.in_the_way()));
        }
        self.put(&content, &found, line)?;
        self.pods.extend(content.pod.clone());
        self.installed = Some(content);
        self.token = Some(term.token);
        self.due.regular = boottime() + REGULAR;
        Ok(())
    }

    fn stop(&mut self, rung: Rung, overdue: bool) -> Result<(), String> {
        self.installed = None;
        self.end(rung, overdue)
    }

    fn tend(&mut self, line: &Line) -> Vec<PayloadEvent> {
        let now = boottime();
        let touched = self.watch.touched();
        if touched.source {
            if self.due.source.is_none() {
                self.due.source_latest = now + SETTLED_BY;
            }
            self.due.source = Some((now + DEBOUNCE).min(self.due.source_latest));
        }
        if touched.dest {
            self.due.dest = Some(now);
        }
        if now >= self.due.regular {
            self.due.regular = now + REGULAR;
            self.watch.renew();
            if self.installed.is_some() {
                self.checker.look(&self.pods);
            }
            self.due.source = Some(now);
            self.due.dest = Some(now);
        }
        let mut events = vec![];
        if self.installed.is_none() {
            let due = [&mut self.due.dest, &mut self.due.source].map(|due| due.take_if(|at| *at <= now).is_some());
            if due.contains(&true) {
                events.push(PayloadEvent::Fitness(self.fitness()));
            }
            return events;
        }
        if self.due.dest.take_if(|at| *at <= now).is_some() {
            events.extend(self.check_dest(line));
        }
        if self.due.source.take_if(|at| *at <= now).is_some() {
            events.extend(self.check_source(line));
        }
        events
    }

    fn next(&self) -> Instant {
        [self.due.source, self.due.dest].into_iter().flatten().fold(self.due.regular, Instant::min)
    }

    fn digest(&self) -> Option<Digest> {
        self.installed.as_ref().map(|content| Digest::of(&content.bytes))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.fd()
    }
}
