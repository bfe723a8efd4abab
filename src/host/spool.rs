//! Large files on their way: a spool without a name, which is gone with its process, and a file that appears whole or
//! not at all.
#![allow(clippy::disallowed_methods, reason = "floor 3: this is where files are touched")]

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};
use crate::host::fault::{fallible, point};

/// Plain data that has no name on any disk, so that a killed run leaves no secret behind.
pub struct Spool(File);

impl Spool {
    /// A spool on the filesystem of `dir`, or where temporary files go if that takes none.
    ///
    /// # Errors
    /// When neither takes a file.
    pub fn new(dir: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(dir).or_else(|_| tempfile::tempfile());
        file.map(Self).map_err(|e| Error::apply("cannot make a temporary file").cause(e).hint("df -h /tmp"))
    }

    /// A path at which other programs find it while this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    /// Back to its beginning.
    ///
    /// # Errors
    /// When the file cannot be moved in.
    pub fn rewind(&mut self) -> Result<()> {
        self.0.rewind().map_err(|e| Error::apply("cannot read a temporary file").cause(e))
    }

    /// Bytes written so far.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn size(&self) -> Result<u64> {
        let size = self.0.metadata().map(|m| m.len());
        size.map_err(|e| Error::apply("cannot look at a temporary file").cause(e))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Read for Spool {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

/// A file of 0600 in the making.
pub struct NewFile {
    temp: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins the file that will be at `path`. What killed runs left beside it is removed.
    ///
    /// # Errors
    /// When something is at `path` already, or its directory takes no file.
    pub fn begin(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(Error::conflict(format!("{} exists already", path.display())).hint("choose another name"));
        }
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |e: io::Error| unwritten(path, &e);
        for entry in std::fs::read_dir(dir).map_err(failed)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.contains(PARTIAL) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mode = std::fs::Permissions::from_mode(0o600);
        let temp = Builder::new().prefix(&format!(".{name}{PARTIAL}")).permissions(mode).tempfile_in(dir);
        let temp = temp.map_err(failed)?;
        point("snapshot.begun");
        Ok(Self { temp, path: path.to_owned() })
    }

    /// Where its bytes are until it appears: to read them once more before anybody else does.
    pub fn unnamed(&self) -> &Path {
        self.temp.path()
    }

    /// Lets it appear, durably.
    ///
    /// # Errors
    /// When it cannot be synced or named.
    pub fn appear(self) -> Result<()> {
        let path = self.path;
        let appear = || {
            fallible("snapshot.filled")?;
            self.temp.as_file().sync_all()?;
            fallible("snapshot.synced")?;
            let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
            self.temp.persist_noclobber(&path).map_err(|e| e.error)?;
            point("snapshot.named");
            File::open(dir)?.sync_all()
        };
        appear().map_err(|e: io::Error| unwritten(&path, &e))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.flush()
    }
}

/// In the name of a file in the making.
const PARTIAL: &str = ".hamaster-part-";

fn unwritten(path: &Path, e: &io::Error) -> Box<Error> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Error::apply(format!("cannot write {}", path.display()))
        .cause(e)
        .hint(format!("ls -ld {0}; df -h {0}", dir.display()))
}

/// A file the operator named, to be read as it comes.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<io::BufReader<File>> {
    let opened = File::open(path).map(|f| io::BufReader::with_capacity(256 << 10, f));
    opened.map_err(|e| {
        Error::usage(format!("cannot read {}", path.display())).cause(e).hint(format!("ls -l {}", path.display()))
    })
}

/// All of standard input, as a key is read: not more than anyone would type.
///
/// # Errors
/// When it does not read, or is not text.
pub fn stdin_line() -> Result<zeroize::Zeroizing<String>> {
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|e| Error::usage("cannot read the key from standard input").cause(e))?;
    Ok(text)
}
