//! Units, commands and waiting: what `systemctl show` says, programs that hang, and signals in the middle of a wait.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // starts processes and reads the clock to judge the library

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hamaster::error::{Error, Result};
use hamaster::host::clock::{self, Waited};
use hamaster::host::command::run;
use hamaster::host::systemd::{Systemd, parse_show};
use hamaster::host::{Host, Units};
use hamaster::state::Owner;
use hamaster::state::observed::UnitFact;
use tempfile::TempDir;

// ---- what systemctl says --------------------------------------------------------------------------------------------

#[test]
fn show_of_a_running_unit() {
    let text = "MainPID=812\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\
                NeedDaemonReload=no\n";
    let want = UnitFact { loaded: true, enabled: true, active: true, pid: Some(812), ..UnitFact::default() };
    assert_eq!(parse_show(text), want);
}

#[test]
fn show_of_an_unknown_unit_and_of_nothing_is_the_default() {
    let text =
        "MainPID=0\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\nNeedDaemonReload=no\n";
    assert_eq!(parse_show(text), UnitFact::default());
    assert_eq!(parse_show(""), UnitFact::default());
}

#[test]
fn show_of_units_in_trouble() {
    let fact = |states: &str| parse_show(&format!("LoadState=loaded\n{states}"));
    assert!(fact("ActiveState=failed\nSubState=failed\n").failed);
    // Dies and is started again and again; systemd 254 and later say auto-restart-queued in between.
    assert!(fact("ActiveState=activating\nSubState=auto-restart\n").failed);
    assert!(fact("ActiveState=activating\nSubState=auto-restart-queued\n").failed);
    let starting = fact("ActiveState=activating\nSubState=start\nMainPID=7\n");
    assert!(!starting.failed && !starting.active && starting.pid == Some(7));
    assert!(!fact("UnitFileState=enabled-runtime\n").enabled, "gone after a reboot");
    assert!(!fact("UnitFileState=static\n").enabled);
    assert!(fact("ActiveState=active\nNeedDaemonReload=yes\n").needs_reload);
}

#[test]
fn without_systemd_the_error_says_so() {
    if Systemd.state("etcd.service").is_ok() {
        return eprintln!("skipped: systemd runs here");
    }
    let e = Systemd.start("etcd.service").unwrap_err();
    assert!(e.message().contains("systemctl"), "{e}");
    assert!(!e.hints().is_empty());
    assert_eq!(Systemd.logs("etcd.service", 5), Vec::<String>::new());
}

// ---- commands -------------------------------------------------------------------------------------------------------

#[test]
fn a_command_that_hangs_is_killed_with_all_it_started() {
    let pids = TempDir::new().unwrap();
    let script = format!("sleep 600 & echo $! > {0}/a; echo $$ > {0}/b; wait", pids.path().display());
    let began = Instant::now();
    let e = run("sh", &["-c", &script], Duration::from_secs(1)).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(e.message().contains("did not end within 1 s"), "{e}");
    for name in ["a", "b"] {
        let pid = std::fs::read_to_string(pids.path().join(name)).unwrap();
        // Killed: gone, or a zombie until whoever adopted it has looked.
        let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            Ok(stat) if !stat.contains(") Z ") => Poll::Pending,
            _ => Poll::Ready(()),
        };
        assert_eq!(clock::poll(Duration::from_secs(20), Duration::from_millis(10), gone, |_| {}), Waited::Ready(()));
    }
}

#[test]
fn a_command_says_all_it_has_to_say() {
    // More than both pipes hold.
    let script = "i=0; while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 3";
    let out = run("sh", &["-c", script], Duration::from_secs(60)).unwrap();
    assert_eq!((out.status, out.stdout.lines().count(), out.stderr.lines().count()), (Some(3), 20_000, 20_000));
    assert_eq!(run("sh", &["-c", "kill -TERM $$"], Duration::from_secs(60)).unwrap().stderr, "ended by signal 15");
    assert_eq!(run("sh", &["-c", "echo $LC_ALL"], Duration::from_secs(60)).unwrap().stdout, "C\n");
    let e = run("no-such-program", &[], Duration::from_secs(1)).unwrap_err();
    assert_eq!(e.message(), "cannot run no-such-program: it is not installed");
}

// ---- waiting --------------------------------------------------------------------------------------------------------

#[test]
fn a_wait_asks_until_ready_or_until_the_deadline() {
    let (mut asked, mut waits) = (0, 0);
    let third = || {
        asked += 1;
        if asked == 3 { Poll::Ready("up") } else { Poll::Pending }
    };
    assert_eq!(
        clock::poll(Duration::from_secs(60), Duration::from_millis(1), third, |_| waits += 1),
        Waited::Ready("up")
    );
    assert_eq!(waits, 2);

    let began = Instant::now();
    let never = || Poll::<()>::Pending;
    assert_eq!(clock::poll(Duration::from_millis(50), Duration::from_secs(60), never, |_| {}), Waited::TimedOut);
    assert!((Duration::from_millis(50)..Duration::from_secs(20)).contains(&began.elapsed()));
    let ready = || Poll::Ready(1);
    assert_eq!(clock::poll(Duration::ZERO, Duration::ZERO, ready, |_| {}), Waited::Ready(1), "asked at least once");
}

/// Not a test: the child process of the next one.
#[test]
fn child() {
    if std::env::var_os("SYSTEMD_CHILD").is_none() {
        return;
    }
    clock::watch_interrupts().unwrap();
    clock::watch_interrupts().unwrap();
    assert!(!clock::interrupted());
    println!("\nwatching");
    let never = || Poll::<()>::Pending;
    let waited = clock::poll(Duration::from_secs(60), Duration::from_secs(60), never, |_| {});
    println!("\n{waited:?} {}", clock::interrupted());
}

#[test]
fn a_signal_ends_a_wait_at_once_and_not_the_process() {
    use std::io::{BufRead, BufReader};
    for signal in ["INT", "TERM", "HUP"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("SYSTEMD_CHILD", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|l| l.unwrap());
        assert!(lines.any(|l| l.contains("watching")));
        let began = Instant::now();
        let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(lines.any(|l| l.contains("Interrupted true")), "SIG{signal}");
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(child.wait().unwrap().success());
    }
}

// ---- units are undone as well ---------------------------------------------------------------------------------------

/// A service manager in memory that writes down what it is told, and which bytes of the unit file it saw.
#[derive(Default, Clone)]
struct Fake {
    units: Rc<RefCell<BTreeMap<String, UnitFact>>>,
    told: Rc<RefCell<Vec<String>>>,
    refuse: Rc<RefCell<Option<&'static str>>>,
    file: std::path::PathBuf,
}

impl Fake {
    fn tell(&self, what: String, change: impl FnOnce(&mut BTreeMap<String, UnitFact>)) -> Result<()> {
        if self.refuse.borrow().is_some_and(|r| what.starts_with(r)) {
            return Err(Error::apply(format!("{what} was refused")));
        }
        let sees = std::fs::read_to_string(&self.file).unwrap_or_else(|_| "no file".to_owned());
        self.told.borrow_mut().push(format!("{what} ({sees})"));
        change(&mut self.units.borrow_mut());
        Ok(())
    }
}

impl Units for Fake {
    fn reload(&self) -> Result<()> {
        self.tell("reload".to_owned(), |_| ())
    }
    fn state(&self, unit: &str) -> Result<UnitFact> {
        Ok(self.units.borrow().get(unit).cloned().unwrap_or_default())
    }
    fn enable(&self, unit: &str, on: bool) -> Result<()> {
        self.tell(format!("enable {unit} {on}"), |u| u.entry(unit.to_owned()).or_default().enabled = on)
    }
    fn start(&self, unit: &str) -> Result<()> {
        self.tell(format!("start {unit}"), |u| u.entry(unit.to_owned()).or_default().active = true)
    }
    fn restart(&self, unit: &str) -> Result<()> {
        self.tell(format!("restart {unit}"), |u| u.entry(unit.to_owned()).or_default().active = true)
    }
    fn stop(&self, unit: &str) -> Result<()> {
        self.tell(format!("stop {unit}"), |u| u.entry(unit.to_owned()).or_default().active = false)
    }
    fn logs(&self, _: &str, _: usize) -> Vec<String> {
        vec![]
    }
}

fn with_fake() -> (TempDir, Fake, Host) {
    let dir = TempDir::new().unwrap();
    let fake = Fake { file: dir.path().join("unit"), ..Fake::default() };
    let host = Host::new(dir.path(), Box::new(fake.clone())).unwrap();
    (dir, fake, host)
}

#[test]
fn a_new_unit_is_stopped_before_its_file_goes() {
    let (_dir, fake, mut host) = with_fake();
    host.begin_undo();
    host.write(Path::new("/unit"), b"new", 0o644, Owner::Root).unwrap();
    host.unit_reload().unwrap();
    assert!(host.unit_enable("etcd", true).unwrap());
    assert!(host.unit_start("etcd").unwrap());
    assert!(!host.unit_start("etcd").unwrap());
    fake.told.borrow_mut().clear();
    assert_eq!(host.rollback(), Vec::<String>::new());
    assert_eq!(*fake.told.borrow(), ["stop etcd (new)", "enable etcd false (new)", "reload (no file)"]);
}

#[test]
fn a_unit_that_ran_before_runs_again_on_the_old_file() {
    let (_dir, fake, mut host) = with_fake();
    host.write(Path::new("/unit"), b"old", 0o644, Owner::Root).unwrap();
    let ran = UnitFact { loaded: true, enabled: true, active: true, ..UnitFact::default() };
    fake.units.borrow_mut().insert("docker".to_owned(), ran.clone());
    for disturb in [Host::unit_restart, |h: &mut Host, u: &str| h.unit_stop(u).map(drop)] {
        host.begin_undo();
        host.write(Path::new("/unit"), b"new", 0o644, Owner::Root).unwrap();
        host.unit_enable("docker", false).unwrap();
        disturb(&mut host, "docker").unwrap();
        fake.told.borrow_mut().clear();
        assert_eq!(host.rollback(), Vec::<String>::new());
        assert_eq!(*fake.told.borrow(), ["reload (old)", "enable docker true (old)", "restart docker (old)"]);
        assert_eq!(fake.units.borrow()["docker"], ran);
    }
}

#[test]
fn what_cannot_be_put_back_is_said_and_the_rest_is_put_back() {
    let (dir, fake, mut host) = with_fake();
    host.begin_undo();
    host.write(Path::new("/unit"), b"new", 0o644, Owner::Root).unwrap();
    host.unit_start("etcd").unwrap();
    *fake.refuse.borrow_mut() = Some("stop");
    assert_eq!(host.rollback(), ["stop etcd was refused"]);
    assert!(!dir.path().join("unit").exists());
    host.commit();
    assert_eq!(host.rollback(), Vec::<String>::new(), "nothing is undone twice");
}
