//! The socket a unit talks to its supervisor by (sd_notify(3)): it is ready, it is alive, what it is doing.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Longest message; systemd's own limit is the page.
const LONGEST: usize = 4096;

/// What a unit said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Ready,
    /// The watchdog was fed.
    Alive,
    /// It asks to be ended as if it had been silent.
    Trigger,
    Status(String),
}

/// The socket of one unit. Its own, so that nobody else's words are taken for the unit's.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    /// Held open: the socket's name goes by it.
    dir: File,
    path: PathBuf,
}

impl Notify {
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        fs::create_dir_all(parent)?;
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let dir = File::open(parent)?;
        let socket = UnixDatagram::bind(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), name.display()))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, dir, path: path.to_owned() })
    }

    /// `NOTIFY_SOCKET`, by a short name: a socket address holds 107 bytes, a lab may lie deeper than that.
    pub(super) fn address(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        format!("/proc/{}/fd/{}/{}", std::process::id(), self.dir.as_raw_fd(), name.display())
    }

    /// Everything said since last asked.
    pub(super) fn words(&self) -> Vec<Word> {
        let mut words = vec![];
        let mut buffer = [0; LONGEST];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            words.extend(text.lines().filter_map(|line| match line.split_once('=')? {
                ("READY", "1") => Some(Word::Ready),
                ("WATCHDOG", "1") => Some(Word::Alive),
                ("WATCHDOG", "trigger") => Some(Word::Trigger),
                ("STATUS", status) => Some(Word::Status(status.to_owned())),
                _ => None,
            }));
        }
        words
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
