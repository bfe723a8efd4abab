//! Becoming another program that does not outlive its parent.
#![allow(clippy::disallowed_methods)] // floor 3: processes

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::error::{Error, Result};

/// Turns this process into `argv`, to die with its parent `parent`, in `cgroup` if there is one.
///
/// A parent that is killed cannot end what it runs. Asking the kernel to do so has to happen in the child, and between
/// fork and exec only unsafe code could; so the child is first this program, then the one it is meant to be.
///
/// # Errors
/// Always: on success there is nobody left to return to.
pub fn run_bound(parent: u32, cgroup: Option<&Path>, argv: &[OsString]) -> Result<Infallible> {
    let [program, arguments @ ..] = argv else {
        return Err(Error::usage("no program to run").hint("hamaster run-bound is for hamaster's own use"));
    };
    let failed = |e: std::io::Error| Error::apply(format!("cannot run {}", program.display())).cause(e);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| failed(e.into()))?;
    // Asked after the request above: a parent that died before it would never be noticed.
    if getppid().is_none_or(|p| p.as_raw_nonzero().get().unsigned_abs() != parent) {
        return Err(Error::apply(format!("the parent {parent} is gone")));
    }
    if let Some(cgroup) = cgroup {
        std::fs::write(cgroup.join("cgroup.procs"), "0").map_err(failed)?;
    }
    Err(failed(Command::new(program).args(arguments).exec()))
}
