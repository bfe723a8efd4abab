//! What an earlier daemon of this host may have left running: fenced here, by whoever comes after it.

use std::time::Duration;

use super::actions;
use super::config::{self, Config, Group};
use super::status::Status;
use crate::error::{Error, Result};
use crate::host::clock::boottime;
use crate::host::runtime_dir::RuntimeDir;

/// On top of f and K: there is nobody who would do it later.
const MARGIN: Duration = Duration::from_secs(2);

/// The groups of the configuration that the last daemon ran with, as far as one with `config` would not go on with
/// them: gone, with another payload or other times, or under another identity. Only those that may run on this boot.
pub fn orphans(config: &Config, directory: &RuntimeDir, boot_id: &str) -> Vec<Group> {
    let load = |text: &str| config::load("accepted.yaml", text).ok();
    // Both as they are read back: what is written is rounded to milliseconds.
    let accepted = directory.read_accepted().and_then(|text| load(&text));
    let (Some(old), Some(new)) = (accepted, load(&config::to_yaml(config))) else { return vec![] };
    let goes_on = (&new.id, &new.endpoints) == (&old.id, &old.endpoints);
    let left = |group: &Group| directory.read(&group.name).is_some_and(|s| s.unfinished(boot_id).is_some());
    old.groups.into_iter().filter(|g| !(goes_on && new.groups.contains(g)) && left(g)).collect()
}

/// Removes the payload of `group`, has it confirmed dead and says so in its status, if there is a directory for it.
/// Others wait for its end since its daemon last renewed, which is what bounds the steps.
///
/// # Errors
/// When it is not confirmed dead in time, or the status still says that it leads.
pub fn fence(group: &Group, directory: Option<&RuntimeDir>, boot_id: &str) -> Result<()> {
    let status = directory.and_then(|d| d.read(&group.name));
    let unfinished = status.as_ref().and_then(|s| s.unfinished(boot_id));
    let (gone, dead) = group.timing.stop_by(unfinished, boottime());
    actions::fence(group, gone, dead, MARGIN)?;
    if let (Some(directory), Some(status)) = (directory, status) {
        let over = Status { state: "ended".to_owned(), is_leader: false, deadline_ns: None, ..status };
        directory.write(&over).map_err(|e| {
            let file = directory.status_file(&group.name);
            Error::apply(format!("{} still says that this host leads", file.display())).cause(e)
        })?;
    }
    Ok(())
}
