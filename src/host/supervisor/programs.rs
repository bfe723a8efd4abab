//! Finding the programs a lab runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};

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
