//! Fills [`Observed`]: looks at the paths and units a phase is about, and changes nothing.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::host::Host;
use crate::state::observed::Observed;

/// Looks at `paths` and `units`, and reads the record of what we own.
///
/// # Errors
/// When something is there but cannot be read, the service manager does not answer, or the record is corrupt.
pub fn observe(host: &Host, paths: &[PathBuf], units: &[String], record_path: &Path) -> Result<Observed> {
    let _ = (host, paths, units, record_path);
    todo!()
}
