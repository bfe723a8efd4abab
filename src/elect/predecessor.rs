//! What an earlier daemon of this host may have left running: fenced here, by whoever comes after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::actions;
use super::config::{self, Config, Group};
use super::instant::Instant;
use super::status::Status;
use crate::error::{Error, Problem, Result};
use crate::host::clock::boottime;
use crate::host::runtime_dir::{GroupLock, RuntimeDir};

/// On top of f and K: there is nobody who would do it later.
const MARGIN: Duration = Duration::from_secs(2);
/// Whoever hangs for this long on top of that (a program on a dead filesystem cannot even be started) is not waited for.
const HUNG: Duration = Duration::from_secs(5);
/// Between two looks at those that are spared.
const LOOK: Duration = Duration::from_millis(50);
/// Exit code: it may still run.
const UNFENCED: u8 = 7;

/// What became of one group.
#[derive(Debug)]
pub enum Fate {
    /// Its payload is confirmed dead.
    Fenced,
    /// It was left alone, for this reason.
    Kept(String),
    /// It may still run.
    Failed(Box<Error>),
}

/// The groups of the configuration that the last daemon ran with, as far as one with `config` would not go on with
/// them: gone, or with another payload, other times, hooks or neighbours, or under another identity or other endpoints.
/// Only those that may run on this boot.
pub fn orphans(config: &Config, directory: &RuntimeDir, boot_id: &str) -> Vec<Group> {
    let load = |text: &str| config::load("accepted.yaml", text).ok();
    // Both as they are read back: what is written is rounded to milliseconds.
    let accepted = directory.read_accepted().and_then(|text| load(&text));
    let (Some(old), Some(new)) = (accepted, load(&config::to_yaml(config))) else { return vec![] };
    let goes_on = (&new.id, &new.endpoints) == (&old.id, &old.endpoints);
    let left = |group: &Group| directory.read(&group.name).is_some_and(|s| s.unfinished(boot_id).is_some());
    let left: Vec<Group> = old.groups.into_iter().filter(left).collect();
    left.into_iter().filter(|g| !(goes_on && new.groups.contains(g))).collect()
}

/// For a daemon that is about to begin: if there are orphans, everything the last one led is fenced at once, for
/// nothing could be renewed meanwhile. The names of groups that another process has and looks after.
///
/// # Errors
/// When a payload may still run: exit code 7.
pub fn clear(
    config: &Config,
    directory: &RuntimeDir,
    boot_id: &str,
    mut say: impl FnMut(&str, &str),
) -> Result<Vec<String>> {
    let orphans = orphans(config, directory, boot_id);
    if orphans.is_empty() {
        return Ok(vec![]);
    }
    let led = |g: &&Group| directory.read(&g.name).is_some_and(|s| s.unfinished(boot_id).is_some());
    let others = config.groups.iter().filter(led).filter(|g| orphans.iter().all(|o| o.name != g.name));
    let groups: Vec<Group> = orphans.iter().chain(others).cloned().collect();
    for group in &groups {
        say(&group.name, "was led under another configuration: fenced before this one counts");
    }
    let fates = fence_all(&groups, Some(directory), boot_id, true, |_| None);
    let problems = problems(&fates);
    if !problems.is_empty() {
        return Err(Error::apply("what an earlier daemon led may still run here").problems(problems).exits(UNFENCED));
    }
    Ok(fates.into_iter().filter(|(_, fate)| matches!(fate, Fate::Kept(_))).map(|(name, _)| name).collect())
}

/// Fences groups beside each other, each by the bounds that others wait by. A group is left alone as long as `spared`
/// has a reason to, which is asked until all others are done. `yields`: a group that a living process has locked is its.
pub fn fence_all(
    groups: &[Group],
    directory: Option<&RuntimeDir>,
    boot_id: &str,
    yields: bool,
    spared: impl Fn(&Group) -> Option<String>,
) -> Vec<(String, Fate)> {
    let (tell, told) = channel();
    let mut fates: Vec<Option<Fate>> = groups.iter().map(|_| None).collect();
    let mut running: BTreeMap<usize, Instant> = BTreeMap::new();
    // What one group was and what it is now are fenced under one lock: neither takes the other for a daemon that runs.
    let mut locks: BTreeMap<&str, Weak<GroupLock>> = BTreeMap::new();
    let mut left: BTreeMap<&str, Arc<AtomicUsize>> = BTreeMap::new();
    for group in groups {
        left.entry(&group.name).or_default().fetch_add(1, Ordering::Relaxed);
    }
    loop {
        let mut kept = vec![];
        for (n, group) in groups.iter().enumerate() {
            if fates[n].is_some() || running.contains_key(&n) {
                continue;
            }
            if let Some(reason) = spared(group) {
                kept.push((n, reason));
                continue;
            }
            let held = locks.get(&*group.name).and_then(Weak::upgrade);
            let lock = match held.map_or_else(|| locked(group, directory, yields), |held| Ok(Some(held))) {
                Ok(lock) => lock,
                Err(fate) => {
                    fates[n] = Some(fate);
                    continue;
                }
            };
            locks.extend(lock.as_ref().map(|lock| (group.name.as_str(), Arc::downgrade(lock))));
            let limit = group.timing.removal() + group.timing.stop() + MARGIN + HUNG;
            running.insert(n, boottime() + limit);
            let (group, directory, boot_id, tell) =
                (group.clone(), directory.cloned(), boot_id.to_owned(), tell.clone());
            // Nobody listens to one that hung.
            let left = left.get(&*group.name).cloned().unwrap_or_default();
            let work = move || {
                let fate = one(&group, directory.as_ref(), &boot_id, &left);
                drop(lock);
                drop(tell.send((n, fate)));
            };
            if let Err(e) = std::thread::Builder::new().name("fence".into()).spawn(work) {
                running.remove(&n);
                fates[n] = Some(Fate::Failed(Error::apply("cannot start a thread").cause(e)));
            }
        }
        if running.is_empty() {
            kept.into_iter().for_each(|(n, reason)| fates[n] = Some(Fate::Kept(reason)));
            let names = groups.iter().map(|g| g.name.clone());
            return names.zip(fates.into_iter().flatten()).collect();
        }
        if let Ok((n, fate)) = told.recv_timeout(LOOK)
            && running.remove(&n).is_some()
        {
            fates[n] = Some(fate);
        }
        let now = boottime();
        for n in running.iter().filter(|(_, limit)| now >= **limit).map(|(n, _)| *n).collect::<Vec<_>>() {
            running.remove(&n);
            fates[n] = Some(Fate::Failed(Error::apply("its fence hangs").hint("dmesg | tail    # a dead filesystem?")));
        }
    }
}

/// Each that may still run, for a report.
pub fn problems(fates: &[(String, Fate)]) -> Vec<Problem> {
    let problem = |(at, fate): &(String, Fate)| match fate {
        Fate::Failed(e) => {
            let words = std::iter::once(e.message()).chain(e.causes().iter().map(String::as_str));
            let message = words.collect::<Vec<_>>().join(": ");
            Some(Problem { at: at.clone(), message, hint: e.hints().first().cloned() })
        }
        _ => None,
    };
    fates.iter().filter_map(problem).collect()
}

/// The group for ourselves: a daemon that runs would put it back. It looks after the group itself.
fn locked(group: &Group, directory: Option<&RuntimeDir>, yields: bool) -> Result<Option<Arc<GroupLock>>, Fate> {
    match directory.map(|d| d.lock(&group.name)).transpose() {
        Ok(lock) => Ok(lock.map(Arc::new)),
        Err(_) if yields => Err(Fate::Kept("a daemon runs".to_owned())),
        Err(e) => Err(Fate::Failed(e.hint("systemctl stop hamaster-elect.service"))),
    }
}

/// One group, wherever its payload comes from; then its status says so, if there is a directory for it, and none is
/// `left` of what the group was and is.
fn one(group: &Group, directory: Option<&RuntimeDir>, boot_id: &str, left: &AtomicUsize) -> Fate {
    let status = directory.and_then(|d| d.read(&group.name));
    let unfinished = status.as_ref().and_then(|s| s.unfinished(boot_id));
    let (gone, dead) = group.timing.stop_by(unfinished, boottime());
    if let Err(e) = actions::fence(group, gone, dead, MARGIN) {
        return Fate::Failed(e);
    }
    let is_last = left.fetch_sub(1, Ordering::AcqRel) == 1;
    if let (true, Some(directory), Some(status)) = (is_last, directory, status) {
        let over = Status { state: "ended".to_owned(), is_leader: false, deadline_ns: None, ..status };
        if let Err(e) = directory.write(&over) {
            let file = directory.status_file(&group.name);
            let message = format!("{} still says that this host leads", file.display());
            return Fate::Failed(Error::apply(message).cause(e));
        }
    }
    Fate::Fenced
}
