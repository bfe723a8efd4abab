//! `/run/hamaster/elect`: what an election leaves for others on this host, and for the process started after it. It is
//! on a tmpfs, gone with the boot it speaks of; so nothing here is ever synced to a disk.
#![allow(clippy::disallowed_methods)] // floor 3: files, locks and sockets

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, ftruncate, open};
use rustix::io::Errno;

use crate::elect::status::Status;
use crate::error::{Error, Result};

/// The directory, which is there.
#[derive(Debug, Clone)]
pub struct RuntimeDir {
    path: PathBuf,
}

/// A group that no other process on this host elects for, as long as this lives.
#[derive(Debug)]
pub struct GroupLock {
    _file: File,
}

impl RuntimeDir {
    /// Makes the directory if it is missing, with 0755 and its parents: who leads is no secret.
    ///
    /// # Errors
    /// When it cannot be made, or is not a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let missing: Vec<_> = path.ancestors().take_while(|dir| !dir.is_dir()).collect();
        let make = || {
            missing.iter().rev().try_for_each(|dir| {
                fs::create_dir(dir)?;
                // Whatever the umask says.
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            })
        };
        make().map_err(|e| {
            Error::refused(format!("cannot make the runtime directory {}", path.display()))
                .cause(e)
                .hint("write a `runtimeDir:` this user may write to, on a tmpfs")
        })?;
        Ok(Self { path: path.to_owned() })
    }

    /// The directory, whether it is there or not: for those who only read.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Takes `group` for this process. Released by the kernel when it dies; children do not inherit it.
    ///
    /// # Errors
    /// When another process has it: two with one directory would remove each other's payload.
    pub fn lock(&self, group: &str) -> Result<GroupLock> {
        let path = self.path.join(format!("{group}.lock"));
        let failed = |e: io::Error| Error::refused(format!("cannot lock {}", path.display())).cause(e);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = open(&path, flags, Mode::from_raw_mode(0o644)).map_err(|e| failed(e.into()))?;
        let taken = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let mut file = File::from(file);
        match taken {
            Ok(()) => {
                // For the message of the one who comes second.
                let sign = ftruncate(&file, 0).map_err(io::Error::from);
                sign.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
                Ok(GroupLock { _file: file })
            }
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.take(16).read_to_string(&mut pid);
                let who = if pid.trim().is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
                Err(Error::refused(format!("another process{who} on this host takes part in the election of {group}"))
                    .hint(format!(
                        "fuser -v {}    # stop it, or give this one a `runtimeDir:` of its own",
                        path.display()
                    )))
            }
            Err(e) => Err(failed(e.into())),
        }
    }

    /// Writes `<group>.json`, old or new to every reader, never half.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, status: &Status) -> io::Result<()> {
        let temp = self.path.join(format!(".{}.json", status.group));
        let mut text = serde_json::to_vec(status)?;
        text.push(b'\n');
        let mut file = File::create(&temp)?;
        file.write_all(&text)?;
        fchmod(&file, Mode::from_raw_mode(0o644))?;
        fs::rename(&temp, self.status_file(&status.group))
    }

    /// Keeps the configuration a daemon runs with: whoever fences after it died needs one that reads, and the
    /// operator's may have been edited since.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn accept(&self, yaml: &str) -> io::Result<()> {
        let temp = self.path.join(".accepted.yaml");
        let mut file = File::create(&temp)?;
        fchmod(&file, Mode::from_raw_mode(0o600))?;
        file.write_all(yaml.as_bytes())?;
        fs::rename(&temp, self.accepted())
    }

    /// What [`RuntimeDir::accept`] kept, if it did.
    pub fn read_accepted(&self) -> Option<String> {
        fs::read_to_string(self.accepted()).ok()
    }

    /// Where [`RuntimeDir::accept`] writes.
    pub fn accepted(&self) -> PathBuf {
        self.path.join("accepted.yaml")
    }

    /// What the process before this one, or another one on this host, wrote last of `group`. `None`: nothing that
    /// reads.
    pub fn read(&self, group: &str) -> Option<Status> {
        serde_json::from_slice(&fs::read(self.status_file(group)).ok()?).ok()
    }

    /// Where [`RuntimeDir::write`] writes.
    pub fn status_file(&self, group: &str) -> PathBuf {
        self.path.join(format!("{group}.json"))
    }

    /// Where [`RuntimeDir::socket`] listens.
    pub fn socket_path(&self) -> PathBuf {
        self.path.join("elect.sock")
    }

    /// Listens on `elect.sock`, for the owner only. The socket that a dead process left is replaced.
    ///
    /// # Errors
    /// When a living process listens there, or the path cannot be a socket's.
    pub fn socket(&self) -> Result<UnixListener> {
        let path = self.socket_path();
        let failed = |e: io::Error| {
            let error = Error::apply(format!("cannot listen on {}", path.display())).cause(&e);
            // The kernel's limit for the path of a socket, std says it as invalid input.
            if e.kind() == io::ErrorKind::InvalidInput {
                error.hint("write a `runtimeDir:` of less than 90 letters")
            } else {
                error
            }
        };
        if UnixStream::connect(&path).is_ok() {
            return Err(Error::conflict(format!("another process listens on {}", path.display()))
                .hint(format!("fuser -v {}", path.display())));
        }
        // Nobody may connect before the mode is set, and nobody find no socket: made beside, renamed over.
        let temp = self.path.join(".elect.sock");
        let listen = || {
            match fs::remove_file(&temp) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = UnixListener::bind(&temp)?;
            fs::set_permissions(&temp, fs::Permissions::from_mode(0o600))?;
            fs::rename(&temp, &path)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        listen().map_err(failed)
    }
}
