//! systemd as the runner of units, through `systemctl` and `journalctl`.
//!
//! Not D-Bus: these two are on every systemd host, say in words what is wrong, and are what the operator types next.
#![allow(clippy::disallowed_methods)] // floor 3: looks whether systemd is there

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::Units;
use crate::host::command::{Output, run};
use crate::state::observed::UnitFact;

/// For calls that only talk to PID 1. A `daemon-reload` of a busy host takes seconds.
const CALL: Duration = Duration::from_secs(60);

/// For a stop: longer than the 90 s after which systemd itself kills a unit.
const STOP: Duration = Duration::from_secs(180);

/// What [`parse_show`] reads.
const PROPERTIES: &str = "LoadState,UnitFileState,ActiveState,SubState,NeedDaemonReload,MainPID";

/// The system's service manager.
#[derive(Debug, Clone, Copy)]
pub struct Systemd;

impl Systemd {
    /// Whether systemd runs this machine: the test `sd_booted(3)` makes.
    pub fn is_running() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }
}

impl Units for Systemd {
    fn reload(&self) -> Result<()> {
        systemctl(&["daemon-reload"], CALL).map(drop)
    }

    fn state(&self, unit: &str) -> Result<UnitFact> {
        if !Self::is_running() {
            return Ok(UnitFact::default());
        }
        systemctl(&["show", "-p", PROPERTIES, "--", unit], CALL).map(|out| parse_show(&out.stdout))
    }

    fn enable(&self, unit: &str, on: bool) -> Result<()> {
        systemctl(&[if on { "enable" } else { "disable" }, "--", unit], CALL).map(drop)
    }

    fn start(&self, unit: &str) -> Result<()> {
        systemctl(&["start", "--no-block", "--", unit], CALL).map(drop)
    }

    fn restart(&self, unit: &str) -> Result<()> {
        systemctl(&["restart", "--no-block", "--", unit], CALL).map(drop)
    }

    fn stop(&self, unit: &str) -> Result<()> {
        if !self.state(unit)?.loaded {
            return Ok(());
        }
        systemctl(&["stop", "--", unit], STOP)?;
        // Otherwise a unit that failed stays in `systemctl --failed` even after its file is gone.
        if self.state(unit)?.failed {
            systemctl(&["reset-failed", "--", unit], CALL)?;
        }
        Ok(())
    }

    fn logs(&self, unit: &str, lines: usize) -> Vec<String> {
        let n = lines.to_string();
        let said = |out: Result<Output>| out.ok().map(|o| o.stdout).filter(|s| !s.trim().is_empty());
        said(run("journalctl", &["-q", "--no-pager", "-o", "cat", "-n", &n, "-u", unit], CALL))
            .or_else(|| said(run("systemctl", &["status", "--no-pager", "-l", "-n", &n, "--", unit], CALL)))
            .map(|text| text.lines().map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

/// Reads `systemctl show -p LoadState,UnitFileState,ActiveState,SubState,NeedDaemonReload,MainPID`. A property that is
/// missing or empty counts as not so.
pub fn parse_show(text: &str) -> UnitFact {
    let get = |key: &str| {
        text.lines().filter_map(|l| l.split_once('=')).find(|(k, _)| *k == key).map_or("", |(_, value)| value.trim())
    };
    UnitFact {
        loaded: !matches!(get("LoadState"), "" | "not-found"),
        enabled: get("UnitFileState") == "enabled",
        active: matches!(get("ActiveState"), "active" | "reloading"),
        // Between two of its restarts a unit that keeps dying is `activating`.
        failed: get("ActiveState") == "failed" || get("SubState").starts_with("auto-restart"),
        needs_reload: get("NeedDaemonReload") == "yes",
        pid: get("MainPID").parse().ok().filter(|pid| *pid > 0),
    }
}

/// An image below `--root`: units are enabled for its first boot, and nothing is started.
#[derive(Debug, Clone)]
pub struct Image {
    root: String,
}

impl Image {
    /// The image below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: format!("--root={}", root.display()) }
    }
}

impl Units for Image {
    fn starts_units(&self) -> bool {
        false
    }

    fn reload(&self) -> Result<()> {
        Ok(())
    }

    fn state(&self, unit: &str) -> Result<UnitFact> {
        let said = run("systemctl", &[&self.root, "is-enabled", "--", unit], CALL)?.stdout;
        let word = said.trim();
        Ok(UnitFact { loaded: !word.is_empty(), enabled: word == "enabled", ..UnitFact::default() })
    }

    fn enable(&self, unit: &str, on: bool) -> Result<()> {
        systemctl(&["--quiet", &self.root, if on { "enable" } else { "disable" }, "--", unit], CALL).map(drop)
    }

    fn start(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn restart(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn stop(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn logs(&self, _: &str, _: usize) -> Vec<String> {
        vec![]
    }
}

fn systemctl(args: &[&str], timeout: Duration) -> Result<Output> {
    let out = run("systemctl", args, timeout)?;
    if out.success() {
        return Ok(out);
    }
    let line = format!("systemctl {}", args.join(" "));
    let failed = Error::apply(format!("`{line}` failed")).cause(out.stderr.trim());
    Err(match args {
        _ if !Systemd::is_running() => failed.hint("ps -p 1    # systemd does not run this machine"),
        [.., "--", unit] => failed.hint(format!("systemctl status {unit}; journalctl -u {unit} -n 50 --no-pager")),
        _ => failed.hint("systemctl status"),
    })
}
