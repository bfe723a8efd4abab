//! The units of a lab: unit files as processes, enabled ones started with the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::home::Home;
use super::log::Log;
use super::orphans::Alive;
use super::process::{Argv, Invocation, Launcher, Policy, Process};
use super::programs;
use super::socket::{ProcessReport, UnitReport};
use super::unit_file::{self, Kind, Restart, UnitFile};

/// All units that were asked for or are enabled.
#[derive(Debug)]
pub(super) struct Units {
    home: Home,
    enabled: BTreeSet<String>,
    units: BTreeMap<String, Unit>,
    /// Units of this boot that pods still wait for.
    awaited: BTreeSet<String>,
}

#[derive(Debug)]
struct Unit {
    /// As last read: `systemctl daemon-reload` reads again, nothing else does.
    text: String,
    file: Result<UnitFile, String>,
    process: Process,
}

impl Unit {
    /// A unit file that does not read is never started by; what still runs is given systemd's default time to stop.
    fn policy(&self) -> Policy {
        let (restart, pause, stop_timeout, remains) = match &self.file {
            Ok(file) => (file.restart, file.restart_delay, file.stop_timeout, file.remains),
            Err(_) => (Restart::No, Duration::ZERO, Duration::from_secs(90), false),
        };
        Policy { restart, pause, longest_pause: pause, stop_timeout, remains }
    }
}

impl Units {
    /// Reads what is enabled and wants it to run.
    pub(super) fn boot(home: &Home, now: Instant) -> Self {
        let enabled = fs::read(home.enabled()).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let mut units = Self { home: home.clone(), enabled, units: BTreeMap::new(), awaited: BTreeSet::new() };
        for name in units.enabled.clone() {
            // One that cannot be read stays down; its state says so to whoever asks.
            let _ = units.start(&name, now);
        }
        let first = |(_, unit): &(&String, &Unit)| unit.file.as_ref().is_ok_and(|f| f.before_kubelet);
        units.awaited = units.units.iter().filter(first).map(|(name, _)| name.clone()).collect();
        units
    }

    fn read(&self, name: &str) -> Option<String> {
        let path = self.home.units().join(name);
        let mut text = fs::read_to_string(&path).ok()?;
        let drop_ins = self.home.units().join(format!("{name}.d"));
        let mut drop_ins: Vec<PathBuf> =
            fs::read_dir(drop_ins).into_iter().flatten().flatten().map(|e| e.path()).collect();
        drop_ins.retain(|p| p.extension().is_some_and(|e| e == "conf"));
        drop_ins.sort();
        for path in drop_ins {
            text.push('\n');
            text.push_str(&fs::read_to_string(path).ok()?);
        }
        Some(text)
    }

    /// The unit, read now if it never was.
    fn unit(&mut self, name: &str) -> Result<&mut Unit, String> {
        if name.contains('/') || name.starts_with('.') || !name.ends_with(".service") {
            return Err(format!("`{name}` is not the name of a service"));
        }
        if !self.units.contains_key(name) {
            let text = self.read(name).ok_or_else(|| format!("there is no unit file for {name}"))?;
            let log = Log::at(self.home.log(name.trim_end_matches(".service")));
            let file = UnitFile::parse(&text);
            self.units.insert(name.to_owned(), Unit { text, file, process: Process::new(name.to_owned(), log) });
        }
        self.units.get_mut(name).ok_or_else(|| format!("there is no unit {name}"))
    }

    /// Reads every known unit again; one without a file is forgotten once it is down.
    pub(super) fn reload(&mut self) {
        for name in self.units.keys().cloned().collect::<Vec<_>>() {
            let text = self.read(&name);
            let Some(unit) = self.units.get_mut(&name) else { continue };
            match text {
                Some(text) => {
                    unit.file = UnitFile::parse(&text);
                    unit.text = text;
                }
                None if unit.process.is_down() => {
                    self.units.remove(&name);
                }
                None => {}
            }
        }
    }

    pub(super) fn state(&mut self, name: &str, now: Instant) -> UnitReport {
        let (enabled, on_disk) = (self.enabled.contains(name), self.read(name));
        let Ok(unit) = self.unit(name) else { return UnitReport { enabled, ..UnitReport::default() } };
        let report = unit.process.report(now);
        UnitReport {
            loaded: on_disk.is_some(),
            enabled,
            active: unit.process.is_active(),
            failed: unit.process.failed() || unit.file.is_err(),
            needs_reload: on_disk.as_ref() != Some(&unit.text),
            pid: report.pid,
        }
    }

    pub(super) fn enable(&mut self, name: &str, on: bool) -> Result<(), String> {
        if on {
            self.unit(name)?;
        }
        let changed = if on { self.enabled.insert(name.to_owned()) } else { self.enabled.remove(name) };
        if !changed {
            return Ok(());
        }
        let path = self.home.enabled();
        let bytes = serde_json::to_vec(&self.enabled).map_err(|e| e.to_string())?;
        self.home.replace(&path, &bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    pub(super) fn start(&mut self, name: &str, now: Instant) -> Result<(), String> {
        let unit = self.unit(name)?;
        unit.file.as_ref().map_err(|why| format!("{name} cannot be run: {why}"))?;
        unit.process.start(now);
        Ok(())
    }

    pub(super) fn restart(&mut self, name: &str, now: Instant) -> Result<(), String> {
        let unit = self.unit(name)?;
        unit.file.as_ref().map_err(|why| format!("{name} cannot be run: {why}"))?;
        let policy = unit.policy();
        unit.process.restart(&policy, now);
        Ok(())
    }

    /// Begins to stop it; a unit nobody knows is down already.
    pub(super) fn stop(&mut self, name: &str, now: Instant) {
        if let Ok(unit) = self.unit(name) {
            let policy = unit.policy();
            unit.process.stop(&policy, now);
        }
    }

    pub(super) fn freeze(&mut self, on: bool) {
        self.units.values_mut().for_each(|u| u.process.freeze(on));
    }

    /// What was to come before the kubelet at this boot has done its work.
    pub(super) fn let_pods_run(&mut self) -> bool {
        let units = &self.units;
        self.awaited.retain(|name| !units.get(name).is_some_and(|u| u.process.is_active()));
        self.awaited.is_empty()
    }

    pub(super) fn stop_all(&mut self, now: Instant) {
        for unit in self.units.values_mut() {
            let policy = unit.policy();
            unit.process.stop(&policy, now);
        }
    }

    pub(super) fn all_down(&self) -> bool {
        self.units.values().all(|u| u.process.is_down())
    }

    pub(super) fn tick(&mut self, launcher: &Launcher, search: &[PathBuf], now: Instant) {
        let (run, notify) = (self.home.layout().path("/run"), self.home.run_dir().join("notify"));
        for (name, unit) in &mut self.units {
            let policy = unit.policy();
            let file = &unit.file;
            let what = || invocation(file.as_ref().map_err(Clone::clone)?, search, &run, &notify.join(name));
            unit.process.tick(&policy, launcher, now, what);
        }
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = Alive> {
        self.units.values().filter_map(|u| u.process.alive())
    }

    /// Those that run, ran or should run: most units of a lab are only asked for.
    pub(super) fn report(&self, now: Instant) -> Vec<ProcessReport> {
        let touched = self.units.iter().filter(|(name, u)| !u.process.is_untouched() || self.enabled.contains(*name));
        touched.map(|(_, u)| u.process.report(now)).collect()
    }
}

/// What a start of the unit runs, its environment files read now. `run` stands for `/run`.
fn invocation(unit: &UnitFile, search: &[PathBuf], run: &Path, notify: &Path) -> Result<Invocation, String> {
    let mut environment: BTreeMap<String, String> = unit.environment.iter().cloned().collect();
    for (path, optional) in &unit.environment_files {
        match fs::read_to_string(path) {
            Ok(text) => environment
                .extend(unit_file::environment_file(&text).map_err(|why| format!("{}: {why}", path.display()))?),
            Err(e) if *optional && e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        }
    }
    for dir in unit.runtime_directories.iter().map(|dir| run.join(dir)) {
        fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    }
    let argv = |words: &[String]| {
        let mut words = unit_file::expand(words, &environment).into_iter();
        let program = words.next().ok_or("the command is empty")?;
        let program = match Path::new(&program) {
            path if path.is_absolute() => path.to_owned(),
            _ => programs::find(search, &program).ok_or_else(|| format!("no program {program} on PATH"))?,
        };
        Ok::<_, String>(Argv { program, arguments: words.collect() })
    };
    Ok(Invocation {
        command: argv(&unit.exec)?,
        stop_post: if unit.stop_post.is_empty() { None } else { Some(argv(&unit.stop_post)?) },
        notify: (unit.kind == Kind::Notify).then(|| notify.to_owned()),
        watchdog: unit.watchdog.map(|patience| (patience, unit.watchdog_signal)),
        environment,
    })
}
