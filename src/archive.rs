//! An encrypted archive: named entries in one file that nobody reads or changes without its key.
//!
//! A header (what this is, what it holds, a random salt), then chunks of 64 KiB, each sealed with AES-256-GCM. The
//! header is part of what every chunk authenticates; its number and whether it is the last are the nonce. So a file
//! that was cut, reordered, changed, or put together from two is refused. One key may seal any number of archives:
//! each has an encryption key of its own, derived from the salt.
//!
//! [`Writer`] and [`Reader`] stream, so a database need not fit into memory; [`seal`] and [`open`] are for what does.

mod chunks;
mod key;

use std::io::{self, Read, Write};

use chunks::{Opener, Sealer};
pub use key::Key;

use crate::error::{Error, Result};
use crate::state::Secret;

/// The longest name of an entry.
const MAX_NAME: usize = 4096;
/// The most bytes [`open`] and [`Reader::held`] hold in memory for one entry.
const MAX_HELD: usize = 16 << 20;
/// Plain bytes of one frame of an entry.
const FRAME: usize = 32 << 10;

/// What an archive is for. A snapshot is not taken for a join bundle, whatever its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A snapshot of a cluster.
    Snapshot,
    /// What a host needs to join.
    Join,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Snapshot => b's',
            Kind::Join => b'j',
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Join => "join bundle",
        }
    }
}

/// A file in an archive.
#[derive(Debug)]
pub struct Entry {
    /// Its name, usually a path without the leading `/`.
    pub name: String,
    /// Mode bits.
    pub mode: u32,
    /// Content.
    pub bytes: Secret,
}

/// Seals entries that fit into memory.
///
/// # Errors
/// When a name is too long, or the system has no randomness to give.
pub fn seal(key: &Key, kind: Kind, entries: &[Entry]) -> Result<Vec<u8>> {
    let mut writer = Writer::new(key, kind, vec![])?;
    for entry in entries {
        writer.entry(&entry.name, entry.mode, &mut entry.bytes.expose())?;
    }
    writer.finish()
}

/// Opens an archive that fits into memory, whole or not at all.
///
/// # Errors
/// When the key is another one, or the archive was cut or changed.
pub fn open(key: &Key, kind: Kind, bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut reader = Reader::new(key, kind, bytes)?;
    let mut entries = vec![];
    while let Some((name, mode)) = reader.next_entry()? {
        entries.push(Entry { name, mode, bytes: reader.held()? });
    }
    Ok(entries)
}

/// Writes an archive entry by entry.
pub struct Writer<W: Write> {
    sealer: Sealer<W>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When `out` does not take it, or the system has no randomness to give.
    pub fn new(key: &Key, kind: Kind, out: W) -> Result<Self> {
        Ok(Self { sealer: Sealer::new(key, kind.byte(), out).map_err(|e| unwritten(&e))? })
    }

    /// Adds an entry with what `content` gives. Returns its size.
    ///
    /// # Errors
    /// When the name is too long, `content` cannot be read, or the archive not written.
    pub fn entry(&mut self, name: &str, mode: u32, content: &mut dyn Read) -> Result<u64> {
        let len = u16::try_from(name.len()).ok().filter(|n| usize::from(*n) <= MAX_NAME && *n > 0);
        let Some(len) = len else {
            return Err(Error::usage(format!("an archive takes no name of {} bytes", name.len())));
        };
        let mut head = len.to_be_bytes().to_vec();
        head.extend(name.as_bytes());
        head.extend(mode.to_be_bytes());
        self.copy(&head, content).map_err(|e| unwritten(&e))
    }

    fn copy(&mut self, head: &[u8], content: &mut dyn Read) -> io::Result<u64> {
        self.sealer.write_all(head)?;
        let mut frame = zeroize::Zeroizing::new(vec![0; FRAME]);
        let mut size = 0;
        loop {
            let n = match content.read(&mut frame) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            // A frame of no bytes ends the entry.
            self.sealer.write_all(&u32::try_from(n).map_err(io::Error::other)?.to_be_bytes())?;
            self.sealer.write_all(&frame[..n])?;
            size += n as u64;
            if n == 0 {
                return Ok(size);
            }
        }
    }

    /// Ends the archive. Without it, it is a cut one.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(mut self) -> Result<W> {
        let end = self.sealer.write_all(&0u16.to_be_bytes());
        end.and_then(|()| self.sealer.finish()).map_err(|e| unwritten(&e))
    }
}

/// Reads an archive entry by entry. What it gave is to be trusted bit by bit; that it was everything is known once
/// [`Reader::next_entry`] said `None`.
pub struct Reader<R: Read> {
    opener: Opener<R>,
    kind: Kind,
    /// Bytes left of the current frame; `None` between entries.
    frame: Option<usize>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When `from` is not an archive of this kind, or the key is another one.
    pub fn new(key: &Key, kind: Kind, from: R) -> Result<Self> {
        let opener = Opener::new(key, kind.byte(), from).map_err(|e| unread(kind, &e))?;
        Ok(Self { opener, kind, frame: None })
    }

    /// Name and mode of the next entry; what was not read of the last one is passed over. `None` at the end of a whole
    /// archive.
    ///
    /// # Errors
    /// When the archive was cut or changed.
    pub fn next_entry(&mut self) -> Result<Option<(String, u32)>> {
        if self.frame.is_some() {
            io::copy(self, &mut io::sink()).map_err(|e| unread(self.kind, &e))?;
        }
        self.head().map_err(|e| unread(self.kind, &e))
    }

    fn head(&mut self) -> io::Result<Option<(String, u32)>> {
        let mut len = [0; 2];
        self.opener.read_exact(&mut len)?;
        let len = usize::from(u16::from_be_bytes(len));
        if len == 0 {
            return if self.opener.at_end()? { Ok(None) } else { Err(invalid("there is more after its end")) };
        }
        if len > MAX_NAME {
            return Err(invalid("an entry's name is too long"));
        }
        let mut name = vec![0; len];
        self.opener.read_exact(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| invalid("an entry's name is not UTF-8"))?;
        let mut mode = [0; 4];
        self.opener.read_exact(&mut mode)?;
        self.next_frame()?;
        Ok(Some((name, u32::from_be_bytes(mode))))
    }

    fn next_frame(&mut self) -> io::Result<()> {
        let mut len = [0; 4];
        self.opener.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        self.frame = (len > 0).then_some(len);
        Ok(())
    }

    /// All of the current entry, if it is small.
    ///
    /// # Errors
    /// When it is not, or the archive was cut or changed.
    pub fn held(&mut self) -> Result<Secret> {
        let mut bytes = vec![];
        let kind = self.kind;
        let read = self.by_ref().take(MAX_HELD as u64 + 1).read_to_end(&mut bytes);
        let bytes = Secret::new(bytes);
        read.map_err(|e| unread(kind, &e))?;
        if bytes.expose().len() > MAX_HELD {
            return Err(unread(kind, &invalid("an entry that should be small is not")));
        }
        Ok(bytes)
    }
}

/// The content of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.frame else { return Ok(0) };
        if buf.is_empty() {
            return Ok(0);
        }
        let most = left.min(buf.len());
        let n = self.opener.read(&mut buf[..most])?;
        match left - n {
            _ if n == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => self.next_frame()?,
            left => self.frame = Some(left),
        }
        Ok(n)
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn unwritten(e: &io::Error) -> Box<Error> {
    Error::apply("cannot write the archive").cause(e).hint("df -h .")
}

fn unread(kind: Kind, e: &io::Error) -> Box<Error> {
    let why = match e.kind() {
        io::ErrorKind::UnexpectedEof => "it was cut short".to_owned(),
        _ => e.to_string(),
    };
    let noun = kind.noun();
    Error::conflict(format!("the {noun} cannot be opened")).cause(why).hint(match kind {
        Kind::Snapshot => "ls -l /var/lib/hamaster/snapshots    # take another one",
        Kind::Join => "hamaster token create --offline FILE    # make a new one",
    })
}
