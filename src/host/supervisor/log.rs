//! Log files of a lab: appended by the processes themselves, cut when they grow too long.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A log longer than this is moved to `<name>.log.1`, so two of these per process at most.
const CAP: u64 = 8 << 20;
/// No more than this is read for a tail.
const TAIL: u64 = 256 << 10;

/// One log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens for appending.
    pub(super) fn open(&self) -> io::Result<File> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        File::options().append(true).create(true).open(&self.path)
    }

    /// Adds a line of the supervisor's own. A log that cannot be written must not stop what is logged.
    pub(super) fn note(&self, text: &str) {
        let _ = self.open().and_then(|mut file| writeln!(file, "[lab] {text}"));
    }

    /// Copies and truncates when too long: writers hold the file open in append mode and go on at its new start.
    pub(super) fn cut(&self) {
        if fs::metadata(&self.path).is_ok_and(|m| m.len() > CAP) {
            let _ = fs::copy(&self.path, self.path.with_extension("log.1"))
                .and_then(|_| File::options().write(true).open(&self.path)?.set_len(0));
        }
    }
}

/// The last `count` lines at `path`, oldest first; empty when there are none.
pub fn tail(path: &Path, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|&l| l.to_owned()).collect()
}
