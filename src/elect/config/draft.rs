//! A configuration as it was written, before its parts are held against each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, Confirm, Endpoint, FileKind, FilePayload, Group, Health, Payload, TlsFiles, Unfenceable, Update};
use crate::elect::timing::{Timing, Wanted};
use crate::spec::mistake::{Mistake, nearest};
use crate::spec::report::Report;

/// K unless it is set: what has to die gets this long.
const STOP: Duration = Duration::from_millis(4500);

/// The whole, each value by itself in order.
pub(super) struct Draft {
    pub(super) id: Option<String>,
    pub(super) etcd: Etcd,
    pub(super) lease: Duration,
    pub(super) renew: Option<Duration>,
    pub(super) attempt: Option<Duration>,
    pub(super) watchdog: Option<Duration>,
    pub(super) removal: Option<Duration>,
    pub(super) stop: Option<Duration>,
    pub(super) priority: u8,
    pub(super) preempt_after: Option<Duration>,
    pub(super) min_term: Duration,
    pub(super) runtime_dir: PathBuf,
    pub(super) listen: Option<std::net::SocketAddr>,
    pub(super) store_timeout: Option<Duration>,
    pub(super) once: bool,
    pub(super) health: Health,
    pub(super) on_unfenceable: Unfenceable,
    pub(super) groups: Vec<DraftGroup>,
    pub(super) notes: Vec<String>,
}

#[derive(Default)]
pub(super) struct Etcd {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

pub(super) struct DraftGroup {
    pub(super) name: Option<String>,
    pub(super) source: Option<PathBuf>,
    pub(super) dest: Option<PathBuf>,
    pub(super) exec: Option<Vec<String>>,
    pub(super) unit: Option<String>,
    pub(super) kind: FileKind,
    pub(super) confirm: Option<Confirm>,
    pub(super) cri_socket: Option<PathBuf>,
    pub(super) annotate_token: bool,
    pub(super) update: Update,
    pub(super) on_start: Option<Vec<String>>,
    pub(super) on_stop: Option<Vec<String>>,
    pub(super) stop: Option<Duration>,
    pub(super) spread: Vec<String>,
    pub(super) together: Vec<String>,
}

impl Default for Draft {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            id: None,
            etcd: Etcd::default(),
            lease: second * 10,
            renew: None,
            attempt: None,
            watchdog: None,
            removal: None,
            stop: None,
            priority: 0,
            preempt_after: None,
            min_term: second * 30,
            runtime_dir: PathBuf::from("/run/hamaster/elect"),
            listen: None,
            store_timeout: None,
            once: false,
            health: Health {
                checks: vec![],
                every: second * 2,
                timeout: second,
                fall: 3,
                rise: 5,
                healthy_for: second * 10,
            },
            on_unfenceable: Unfenceable::Alarm,
            groups: vec![],
            notes: vec![],
        }
    }
}

impl Default for DraftGroup {
    fn default() -> Self {
        Self {
            name: None,
            source: None,
            dest: None,
            exec: None,
            unit: None,
            kind: FileKind::Pod,
            confirm: None,
            cri_socket: None,
            annotate_token: false,
            update: Update::Restart,
            on_start: None,
            on_stop: None,
            stop: None,
            spread: vec![],
            together: vec![],
        }
    }
}

impl Draft {
    /// Holds the parts against each other. The result is whole only if nothing was reported.
    pub(super) fn resolve(self, report: &mut Report<'_>) -> Config {
        let tls = self.etcd.resolve(report);
        self.names(report);
        self.paths(report);
        self.relations(report);
        let mut unsafe_timing = None;
        let mut groups = vec![];
        for (at, draft) in self.groups.iter().enumerate() {
            let stop = draft.stop(at, self.stop, report);
            let wanted = Wanted {
                lease: self.lease,
                renew: self.renew,
                attempt: self.attempt,
                watchdog: self.watchdog,
                removal: self.removal,
                stop,
            };
            match Timing::new(wanted) {
                Ok(timing) => groups.extend(draft.group(timing)),
                Err(mistake) => _ = unsafe_timing.get_or_insert(mistake),
            }
        }
        if let Some(mistake) = unsafe_timing {
            let keys = ["leaseDuration", "renewInterval", "attemptTimeout", "watchdog", "removal", "stopTimeout"];
            report.across(&keys, || mistake);
        }
        if self.health.timeout > self.health.every {
            report.across(&["health.timeout", "health.every"], || {
                Mistake::new("a health check may last longer than the time to the next").hint("write timeout ≤ every")
            });
        }
        Config {
            id: self.id,
            endpoints: self.etcd.endpoints,
            tls,
            priority: self.priority,
            preempt_after: self.preempt_after,
            min_term: self.min_term,
            runtime_dir: self.runtime_dir,
            listen: self.listen,
            store_timeout: self.store_timeout,
            once: self.once,
            health: self.health,
            on_unfenceable: self.on_unfenceable,
            groups,
            notes: self.notes,
        }
    }

    fn names(&self, report: &mut Report<'_>) {
        for (at, group) in self.groups.iter().enumerate() {
            let earlier = self.groups[..at].iter().any(|g| g.name.is_some() && g.name == group.name);
            if let Some(name) = group.name.as_ref().filter(|_| earlier) {
                report.across(&[&key(at, "name")], || {
                    Mistake::new(format!("two groups are named `{name}`")).hint("give each its own name")
                });
            }
        }
    }

    /// No file is two groups', and the kubelet runs what it should and nothing else.
    fn paths(&self, report: &mut Report<'_>) {
        for (at, group) in self.groups.iter().enumerate() {
            let (Some(source), Some(dest)) = (&group.source, &group.dest) else { continue };
            let [source_key, dest_key] = [key(at, "sourceFile"), key(at, "destFile")];
            let shown = dest.display();
            if source == dest {
                report.across(&[&dest_key, &source_key], || {
                    Mistake::new(format!("source and destination are one file, {shown}"))
                        .hint("keep the source outside the kubelet's directory, e.g. in /etc/kubernetes/standby")
                });
            } else if group.kind == FileKind::Pod && source.parent() == dest.parent() {
                report.across(&[&source_key, &dest_key], || {
                    Mistake::new(format!("the kubelet runs all that lies beside {shown}, the source too"))
                        .hint("keep the source elsewhere, e.g. in /etc/kubernetes/standby")
                });
            }
            let name = dest.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if group.kind == FileKind::Pod && (name.starts_with('.') || name.ends_with('~')) {
                report.across(&[&dest_key], || {
                    Mistake::new(format!("the kubelet ignores a file named `{name}`"))
                        .hint(format!("write `{}`", dest.with_file_name(name.trim_matches(['.', '~'])).display()))
                });
            }
            let others = self.groups.iter().enumerate().filter(|(other, _)| *other != at);
            for (other, theirs) in others {
                let theirs_named = theirs.name.as_deref().unwrap_or_default();
                if other < at && theirs.dest.as_ref() == Some(dest) {
                    report.across(&[&dest_key], || {
                        Mistake::new(format!("{shown} is the destination of group `{theirs_named}` too"))
                            .hint("two groups need two files")
                    });
                } else if theirs.source.as_ref() == Some(dest) {
                    report.across(&[&dest_key], || {
                        Mistake::new(format!("{shown} is the source of group `{theirs_named}`"))
                            .hint("fencing removes a destination: it cannot be a source")
                    });
                }
            }
        }
    }

    fn relations(&self, report: &mut Report<'_>) {
        let known: Vec<&str> = self.groups.iter().filter_map(|g| g.name.as_deref()).collect();
        for (at, group) in self.groups.iter().enumerate() {
            for (word, names) in [("spread", &group.spread), ("together", &group.together)] {
                for (nth, name) in names.iter().enumerate() {
                    let mistake = match () {
                        () if group.name.as_deref() == Some(name) => {
                            Mistake::new(format!("`{name}` is the group itself")).hint("name another one")
                        }
                        () if !known.contains(&name.as_str()) => {
                            let mistake = Mistake::new(format!("there is no group `{name}`"));
                            match nearest(name, known.iter().copied()) {
                                Some(near) => mistake.hint(format!("write `{near}`")),
                                None => mistake.hint(format!("groups: {}", known.join(", "))),
                            }
                        }
                        () if word == "together" && group.spread.contains(name) => {
                            Mistake::new(format!("`{name}` is in `spread` too")).hint("keep one of them")
                        }
                        () => continue,
                    };
                    report.across(&[&key(at, &format!("{word}.{nth}"))], || mistake);
                }
            }
        }
    }
}

impl Etcd {
    /// All members with TLS, then all three files; or all without, and none.
    fn resolve(&self, report: &mut Report<'_>) -> Option<TlsFiles> {
        let files = [("etcd.caFile", &self.ca), ("etcd.certFile", &self.cert), ("etcd.keyFile", &self.key)];
        let secure = self.endpoints.iter().filter(|e| e.tls).count();
        if secure > 0 && secure < self.endpoints.len() {
            let plain = self.endpoints.iter().position(|e| !e.tls).unwrap_or_default();
            report.across(&[&format!("etcd.endpoints.{plain}")], || {
                Mistake::new("some endpoints are https and some http")
                    .hint("an etcd cluster has one of them: write https")
            });
            return None;
        }
        if secure == 0 {
            if let Some((key, _)) = files.iter().find(|(_, f)| f.is_some())
                && !self.endpoints.is_empty()
            {
                report.across(&[key], || {
                    Mistake::new("certificates for endpoints without TLS")
                        .hint("write `https://` endpoints, or leave the three files out")
                });
            }
            return None;
        }
        for (key, _) in files.iter().filter(|(_, f)| f.is_none()) {
            report.across(&[key], || {
                Mistake::new(format!("`{key}` is missing: etcd asks for a client certificate"))
                    .hint("write caFile, certFile and keyFile")
            });
        }
        Some(TlsFiles { ca: self.ca.clone()?, cert: self.cert.clone()?, key: self.key.clone()? })
    }
}

impl DraftGroup {
    /// K: the group's own, the file's, or by what has to die.
    fn stop(&self, at: usize, all: Option<Duration>, report: &mut Report<'_>) -> Duration {
        let plain = self.kind == FileKind::File && self.source.is_some();
        let nothing_dies = plain && matches!(self.confirm, None | Some(Confirm::None)) && self.on_stop.is_none();
        let given = self.stop.or(all);
        if given.is_some_and(|d| d.is_zero()) && !nothing_dies {
            report.across(&[&key(at, "stopTimeout"), "stopTimeout"], || {
                Mistake::new("no time is given for the payload to die").hint("write e.g. `stopTimeout: 4500ms`")
            });
        }
        if plain && self.confirm == Some(Confirm::Cri) {
            report.across(&[&key(at, "confirm")], || {
                Mistake::new("a plain file has no pod the runtime could be asked for")
                    .hint("write `kind: pod`, or another confirm")
            });
        }
        given.unwrap_or(if nothing_dies { Duration::ZERO } else { STOP })
    }

    fn group(&self, timing: Timing) -> Option<Group> {
        let payload = match (&self.source, &self.exec, &self.unit) {
            (Some(source), _, _) => Payload::File(self.file(source)?),
            (_, Some(argv), _) => Payload::Exec { argv: argv.clone() },
            (_, _, Some(name)) => Payload::Unit { name: name.clone() },
            _ => return None,
        };
        Some(Group {
            name: self.name.clone()?,
            payload,
            on_start: self.on_start.clone(),
            on_stop: self.on_stop.clone(),
            spread: self.spread.clone(),
            together: self.together.clone(),
            timing,
        })
    }

    fn file(&self, source: &Path) -> Option<FilePayload> {
        let default = match self.kind {
            FileKind::Pod => Confirm::Auto,
            FileKind::File => Confirm::None,
        };
        Some(FilePayload {
            source: source.to_owned(),
            dest: self.dest.clone()?,
            kind: self.kind,
            confirm: self.confirm.clone().unwrap_or(default),
            cri_socket: self.cri_socket.clone(),
            annotate_token: self.annotate_token,
            update: self.update,
        })
    }
}

fn key(group: usize, name: &str) -> String {
    format!("groups.{group}.{name}")
}
