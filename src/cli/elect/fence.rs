//! `hamaster elect fence`: what this host led is gone, whatever became of the daemon.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::seconds;
use crate::elect::config::{Config, Group};
use crate::elect::predecessor::{self, Fate};
use crate::error::{Error, Result};
use crate::host::runtime_dir::RuntimeDir;
use crate::host::{clock, command, identity};
use crate::ui::{Format, Ui};

/// With less than this left, a daemon started now would come too late to go on.
const ADOPTABLE: Duration = Duration::from_secs(2);
/// systemctl answers within this time; whoever asks has [`ADOPTABLE`] left.
const ASKED: Duration = Duration::from_secs(1);
/// Exit code: it may still run.
const UNFENCED: u8 = 7;

/// Fences all groups at once; one that fails does not keep the others from it.
pub(super) fn run(config: &Config, unless_adoptable: bool, unit: Option<&str>, ui: &Ui) -> Result<ExitCode> {
    let directory = RuntimeDir::open(&config.runtime_dir);
    if let Err(error) = &directory {
        // Rather two that fence than none.
        ui.warn(&error.to_string());
    }
    let directory = directory.as_ref().ok();
    let boot_id = identity::boot_id()?;
    let orphans = directory.map(|d| predecessor::orphans(config, d, &boot_id)).unwrap_or_default();
    // Where the payload was changed meanwhile, both: what the file says now may be there from before.
    let groups: Vec<_> = orphans.iter().chain(&config.groups).cloned().collect();
    let stops = unit.is_some_and(is_stopping);
    let soonest = Cell::new(None::<Duration>);
    let spared = |group: &Group| {
        if !unless_adoptable || stops || orphans.iter().any(|o| o.name == group.name) {
            return None;
        }
        let status = directory?.read(&group.name)?;
        let left = status.left(&boot_id, clock::boottime());
        (left >= ADOPTABLE).then(|| {
            soonest.set(Some(soonest.get().map_or(left, |s| s.min(left))));
            format!("its lead lasts {} more", seconds(left))
        })
    };
    let fates = predecessor::fence_all(&groups, directory, &boot_id, unless_adoptable, spared);
    if let (Some(unit), Some(left)) = (unit, soonest.get())
        && let Err(error) = look_again(left.saturating_sub(ADOPTABLE))
    {
        ui.warn(&format!("{error}: if {unit} is stopped before it is started again, nothing removes what is kept"));
    }
    let (mut fenced, mut kept) = (vec![], vec![]);
    for (name, fate) in &fates {
        match fate {
            Fate::Fenced => {
                ui.say(&format!("{name}: fenced"));
                fenced.push(name);
            }
            Fate::Kept(reason) => {
                ui.say(&format!("{name}: kept, {reason}"));
                kept.push(name);
            }
            Fate::Failed(_) => {}
        }
    }
    let problems = predecessor::problems(&fates);
    if !problems.is_empty() {
        let of = fates.len();
        return Err(Error::conflict(format!("{} of {of} groups may still run here", problems.len()))
            .problems(problems)
            .exits(UNFENCED));
    }
    if ui.format == Format::Json {
        ui.json("elect-fence", &json!({ "fenced": fenced, "kept": kept }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Has systemd run this very command once more after `wait`, when what was kept is adopted or must go: a unit that is
/// stopped while it waits for its restart runs nothing more, and one that fails to start may never come back.
fn look_again(wait: Duration) -> Result<()> {
    let program = std::env::current_exe().map_err(|e| Error::apply("cannot find the path of this program").cause(e))?;
    let after = format!("--on-active={}ms", wait.as_millis() + 100);
    let mut words = vec!["--quiet", "--collect", &after, "--timer-property=AccuracySec=50ms", "--"];
    let (program, rest) = (program.display().to_string(), std::env::args().skip(1).collect::<Vec<_>>());
    words.push(&program);
    words.extend(rest.iter().map(String::as_str));
    let ran = command::run("systemd-run", &words, ASKED)?;
    match ran.success() {
        true => Ok(()),
        false => Err(Error::apply("systemd sets no timer").cause(ran.stderr.trim())),
    }
}

/// Whether systemd stops the unit because it was told to, and so does not start it again. A daemon that is frozen when
/// that happens is killed without having let go. It counts as stopping when nobody can tell.
fn is_stopping(unit: &str) -> bool {
    let asked = command::run("systemctl", &["show", "--property=Job", "--value", "--", unit], ASKED);
    // Restart= makes its job only after ExecStopPost.
    !asked.is_ok_and(|out| out.success() && out.stdout.trim().is_empty())
}
