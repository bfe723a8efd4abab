//! Finding the programs a lab runs, and becoming one of them.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::error::{Error, Result};

/// Where programs are looked for: `KUBEBUILDER_ASSETS`, `KUBE_BIN_DIR`, then `PATH`.
pub fn search_dirs() -> Vec<PathBuf> {
    let one = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    one("KUBEBUILDER_ASSETS").into_iter().chain(one("KUBE_BIN_DIR")).chain(std::env::split_paths(&path)).collect()
}

/// The first executable file called `name` in `dirs`.
pub fn find(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    dirs.iter().map(|d| d.join(name)).find(|p| p.is_file() && access(p, Access::EXEC_OK).is_ok())
}

/// What `program --version` prints, if it does.
pub fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Turns this process into `argv`, to die with its parent, the supervisor `parent`.
///
/// A supervisor that is killed cannot end what it runs. Asking the kernel to do so has to happen in the child, and
/// between fork and exec only unsafe code could; so the child is first this program, then the one it is meant to be.
///
/// # Errors
/// Always: on success there is nobody left to return to.
pub fn exec_bound(parent: u32, argv: &[OsString]) -> Result<std::convert::Infallible> {
    let [program, arguments @ ..] = argv else {
        return Err(Error::usage("no program to run").hint("hamaster lab exec is for the lab's own use"));
    };
    let failed = |e: std::io::Error| Error::apply(format!("cannot run {}", program.display())).cause(e);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| failed(e.into()))?;
    // Asked after the request above: a parent that died before it would never be noticed.
    if getppid().is_none_or(|p| p.as_raw_nonzero().get().unsigned_abs() != parent) {
        return Err(Error::apply(format!("the lab supervisor {parent} is gone")));
    }
    Err(failed(Command::new(program).args(arguments).exec()))
}
