//! `hamaster elect stop`: ends a daemon that may not hear of it. systemd's watchdog does not look at a service any more
//! once it was told to stop, so one that is frozen then would keep its payload beyond its time.

use std::process::ExitCode;

use crate::elect::config::Config;
use crate::error::{Error, Result};
use crate::host::runtime_dir::RuntimeDir;
use crate::host::{clock, ending, identity};

/// Ends the process; by force once a leadership of its is over and it did not notice. What it led is for the fence.
pub(super) fn run(config: &Config, pid: i32) -> Result<ExitCode> {
    let directory = RuntimeDir::at(&config.runtime_dir);
    let boot_id = identity::boot_id()?;
    let overdue = || {
        let led = config.groups.iter().filter_map(|g| directory.read(&g.name)?.unfinished(&boot_id));
        led.min().is_some_and(|deadline| clock::boottime() >= deadline)
    };
    ending::end(pid, overdue).map_err(|e| {
        let hint = format!("kill -9 {pid}; hamaster elect fence");
        Error::apply(format!("cannot end process {pid}")).cause(e).hint(hint)
    })?;
    Ok(ExitCode::SUCCESS)
}
