//! `hamaster elect fence`: what this host led is gone, whatever became of the daemon.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::seconds;
use crate::elect::config::Config;
use crate::elect::predecessor;
use crate::error::{Error, Problem, Result};
use crate::host::runtime_dir::RuntimeDir;
use crate::host::{clock, command, identity};
use crate::ui::{Format, Ui};

/// With less than this left, a daemon started now would come too late to go on.
const ADOPTABLE: Duration = Duration::from_secs(2);
/// systemctl answers within this time; whoever asks has [`ADOPTABLE`] left.
const ASKED: Duration = Duration::from_secs(1);
/// Exit code: it may still run.
const UNFENCED: u8 = 7;

/// Fences all groups; one that fails does not keep the others from it.
pub(super) fn run(config: &Config, unless_adoptable: bool, unit: Option<&str>, ui: &Ui) -> Result<ExitCode> {
    let directory = RuntimeDir::open(&config.runtime_dir);
    if let Err(error) = &directory {
        // Rather two that fence than none.
        ui.warn(&error.to_string());
    }
    let boot_id = identity::boot_id()?;
    let (mut fenced, mut kept, mut problems) = (vec![], vec![], vec![]);
    let directory = directory.as_ref().ok();
    let orphans = directory.map(|d| predecessor::orphans(config, d, &boot_id)).unwrap_or_default();
    // Where the payload was changed meanwhile, both: what the file says now may be there from before.
    let groups: Vec<_> = orphans.iter().map(|g| (g, false)).chain(config.groups.iter().map(|g| (g, true))).collect();
    for (group, adoptable) in &groups {
        let status = directory.and_then(|d| d.read(&group.name)).filter(|_| *adoptable);
        let left = status.as_ref().map_or(Duration::ZERO, |s| s.left(&boot_id, clock::boottime()));
        if unless_adoptable && left >= ADOPTABLE && !unit.is_some_and(is_stopping) {
            ui.say(&format!("{}: kept, its lead lasts {} more", group.name, seconds(left)));
            kept.push(&group.name);
            continue;
        }
        // A daemon that runs would put it back. It looks after the group itself.
        let lock = directory.map(|d| d.lock(&group.name)).transpose();
        if lock.is_err() && unless_adoptable {
            ui.say(&format!("{}: kept, a daemon runs", group.name));
            kept.push(&group.name);
            continue;
        }
        let lock = lock.map_err(|e| e.hint("systemctl stop hamaster-elect.service"));
        match lock.and_then(|_lock| predecessor::fence(group, directory, &boot_id)) {
            Ok(()) => {
                ui.say(&format!("{}: fenced", group.name));
                fenced.push(&group.name);
            }
            Err(e) => problems.push(Problem {
                at: group.name.clone(),
                message: std::iter::once(e.message())
                    .chain(e.causes().iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join(": "),
                hint: e.hints().first().cloned(),
            }),
        }
    }
    if !problems.is_empty() {
        let of = groups.len();
        return Err(Error::conflict(format!("{} of {of} groups may still run here", problems.len()))
            .problems(problems)
            .exits(UNFENCED));
    }
    if ui.format == Format::Json {
        ui.json("elect-fence", &json!({ "fenced": fenced, "kept": kept }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether systemd stops the unit because it was told to, and so does not start it again. A daemon that is frozen when
/// that happens is killed without having let go. It counts as stopping when nobody can tell.
fn is_stopping(unit: &str) -> bool {
    let asked = command::run("systemctl", &["show", "--property=Job", "--value", "--", unit], ASKED);
    // Restart= makes its job only after ExecStopPost.
    !asked.is_ok_and(|out| out.success() && out.stdout.trim().is_empty())
}
