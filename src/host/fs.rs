//! The primitives on files: each does one thing below a root, durably, and says in words why it could not.
//!
//! A file or directory is made under a temporary name beside its place (`.NAME.hamaster-1a2b3c4d`, a dotfile: the
//! kubelet and systemd pass over those), gets its content, owner and mode there, and is then renamed. So it is old or
//! new to every reader and after every crash, and never readable by more people than it should be.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, fsync, mkdirat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::host::Stat;
use crate::host::fault::fallible;
use crate::host::resolve::{Place, Root};
use crate::state::observed::PathKind;

/// uid and gid.
pub(super) type Ids = (u32, u32);

/// Bits `chmod` takes.
const MODE_BITS: u32 = 0o7777;

impl Root {
    /// What is at `path`, its last name not followed.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let found = self.place(path, false).and_then(|at| statat(&at.dir, &at.name, AtFlags::SYMLINK_NOFOLLOW));
        absent(found).map(|s| s.map(|s| Stat::of(&s))).map_err(|e| self.failed("look at", path, e))
    }

    /// The bytes of a regular file. Symlinks at the end of `path` are followed if `follow`.
    pub(super) fn read(&self, path: &Path, follow: bool) -> Result<Option<Vec<u8>>> {
        let read = || {
            let at = self.place(path, follow)?;
            // NONBLOCK: a FIFO in place of the file must not hang us.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = openat(&at.dir, &at.name, flags, Mode::empty())?;
            let stat = fstat(&fd)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Errno::NXIO); // what the kernel says of a socket
            }
            // Room for all of it at once: a growing buffer would leave copies of a secret behind.
            let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0) + 1);
            File::from(fd).read_to_end(&mut bytes).map_err(errno)?;
            Ok(bytes)
        };
        absent(read()).map_err(|e| self.failed("read", path, e))
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> Result<Option<Vec<OsString>>> {
        absent(self.place(path, true).and_then(|at| entries(&at))).map_err(|e| self.failed("list", path, e))
    }

    /// Puts a file in place of what is there, atomically.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8], mode: u32, ids: Ids) -> Result<()> {
        let replace = || {
            let at = self.place(path, false)?;
            let temp = at.temp()?;
            let filled = fill(&at, &temp, bytes, mode, ids).and_then(|()| at.rename_from(&temp));
            filled.inspect_err(|_| at.forget(&temp, AtFlags::empty()))?;
            fallible("fs.write.renamed")?;
            at.sync()
        };
        replace().map_err(|e| self.failed("write", path, e))
    }

    /// Makes a directory whose parent is there.
    pub(super) fn make_dir(&self, path: &Path, mode: u32, ids: Ids) -> Result<()> {
        let make = || {
            let at = self.place(path, false)?;
            let temp = at.temp()?;
            let dressed = dress(&at, &temp, mode, ids).and_then(|()| at.rename_from(&temp));
            dressed.inspect_err(|_| at.forget(&temp, AtFlags::REMOVEDIR))?;
            fallible("fs.mkdir.renamed")?;
            at.sync()
        };
        make().map_err(|e| self.failed("make the directory", path, e))
    }

    /// Sets owner and mode of a file or directory that is there.
    pub(super) fn set_mode(&self, path: &Path, mode: u32, ids: Ids) -> Result<()> {
        let set = || {
            let at = self.place(path, false)?;
            let fd = at.open()?;
            fallible("fs.chown")?;
            fchown(&fd, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))?;
            // After chown, which drops set-id bits.
            fallible("fs.chmod")?;
            fchmod(&fd, Mode::from_raw_mode(mode))?;
            fsync(&fd)
        };
        set().map_err(|e| self.failed("set the mode of", path, e))
    }

    /// Removes a file that is there.
    pub(super) fn unlink(&self, path: &Path) -> Result<()> {
        self.take_away(path, "fs.unlink", |at| unlinkat(&at.dir, &at.name, AtFlags::empty()))
    }

    /// Removes a directory that is there and empty.
    pub(super) fn rmdir(&self, path: &Path) -> Result<()> {
        self.take_away(path, "fs.rmdir", |at| unlinkat(&at.dir, &at.name, AtFlags::REMOVEDIR))
    }

    /// Removes everything in a directory that is there.
    pub(super) fn empty(&self, path: &Path) -> Result<()> {
        self.take_away(path, "fs.empty", empty)
    }

    /// Moves a file or directory to a name that is free, on the same filesystem.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let rename = || {
            let (from, to) = (self.place(from, false)?, self.place(to, false)?);
            fallible("fs.move")?;
            renameat(&from.dir, &from.name, &to.dir, &to.name)?;
            to.sync()?;
            from.sync()
        };
        rename().map_err(|e| self.failed("move", from, e))
    }

    /// The filesystem that `path` is on.
    pub(super) fn device(&self, path: &Path) -> Result<Option<u64>> {
        let found = self.place(path, true).and_then(|at| statat(&at.dir, &at.name, AtFlags::empty()));
        absent(found).map(|s| s.map(|s| s.st_dev)).map_err(|e| self.failed("look at", path, e))
    }

    /// Removes the temporary names a killed process left beside `path`.
    pub(super) fn sweep(&self, path: &Path) -> Result<()> {
        let sweep = || {
            let at = self.place(path, false)?;
            let ours = at.temp_prefix();
            let dir = at.beside(".");
            for name in entries(&dir)?.iter().filter(|n| n.as_bytes().starts_with(ours.as_bytes())) {
                let file = unlinkat(&dir.dir, name, AtFlags::empty());
                file.or_else(|_| unlinkat(&dir.dir, name, AtFlags::REMOVEDIR))?;
            }
            Ok(())
        };
        absent(sweep()).map(drop).map_err(|e| self.failed("clean up beside", path, e))
    }

    fn take_away(&self, path: &Path, point: &'static str, take: impl Fn(&Place) -> Result<(), Errno>) -> Result<()> {
        let away = || {
            let at = self.place(path, false)?;
            fallible(point)?;
            take(&at)?;
            at.sync()
        };
        away().map_err(|e| self.failed("remove", path, e))
    }

    /// The reason in words, and the command that shows more.
    fn failed(&self, verb: &str, path: &Path, e: Errno) -> Box<Error> {
        let path = self.shown(path);
        let dir = path.parent().unwrap_or(&path).display();
        let (why, hint) = match e {
            Errno::NOSPC => ("no space left on its filesystem", format!("df -h {dir}; df -i {dir}")),
            Errno::DQUOT => ("the disk quota is used up", format!("quota; df -h {dir}")),
            Errno::ROFS => ("its filesystem is mounted read-only", format!("findmnt -T {dir}")),
            Errno::ACCESS | Errno::PERM => ("permission denied", format!("ls -ld {dir}; lsattr -d {dir}; id")),
            Errno::NOENT => ("its directory is not there", format!("ls -ld {dir}")),
            Errno::NOTDIR => ("a file is where a directory should be", format!("ls -ld {dir}")),
            Errno::INVAL => ("a path must be absolute and without `..`", format!("realpath {}", path.display())),
            Errno::LOOP => ("too many symlinks", format!("namei -l {}", path.display())),
            Errno::NXIO | Errno::ISDIR => ("it is not a regular file", format!("ls -ld {}", path.display())),
            Errno::NOTEMPTY => ("it is not empty", format!("ls -la {}", path.display())),
            Errno::BUSY => ("it is in use", format!("findmnt {}", path.display())),
            Errno::IO => ("the disk reports an error", "dmesg | tail".to_owned()),
            _ => ("", format!("ls -ld {}", path.display())),
        };
        let why = if why.is_empty() { std::io::Error::from(e).to_string() } else { why.to_owned() };
        Error::apply(format!("cannot {verb} {}: {why}", path.display())).hint(hint)
    }
}

impl Stat {
    fn of(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => PathKind::File,
            FileType::Directory => PathKind::Dir,
            _ => PathKind::Other,
        };
        Self { kind, mode: stat.st_mode & MODE_BITS, uid: stat.st_uid, gid: stat.st_gid }
    }
}

impl Place {
    /// Opens the file or directory, to change what `stat` says of it.
    fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.dir, &self.name, flags, Mode::empty())
    }

    fn open_dir(&self) -> Result<OwnedFd, Errno> {
        openat(
            &self.dir,
            &self.name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Another name in the same directory.
    fn beside(self, name: &str) -> Self {
        Self { dir: self.dir, name: name.into() }
    }

    fn temp_prefix(&self) -> OsString {
        [OsStr::new("."), &self.name, OsStr::new(".hamaster-")].into_iter().collect()
    }

    /// A temporary name that nobody can guess.
    fn temp(&self) -> Result<OsString, Errno> {
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Errno::IO)?;
        let mut temp = self.temp_prefix();
        temp.push(format!("{:08x}", u32::from_be_bytes(random)));
        Ok(temp)
    }

    fn rename_from(&self, temp: &OsStr) -> Result<(), Errno> {
        fallible("fs.rename")?;
        renameat(&self.dir, temp, &self.dir, &self.name)
    }

    /// Removes a temporary name after a failure, which is what the caller hears of; it may not have come to be.
    fn forget(&self, temp: &OsStr, flags: AtFlags) {
        let _ = unlinkat(&self.dir, temp, flags);
    }

    /// Makes names that came and went last through a power cut.
    fn sync(&self) -> Result<(), Errno> {
        fsync(openat(&self.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// Makes the temporary file.
fn fill(at: &Place, temp: &OsStr, bytes: &[u8], mode: u32, ids: Ids) -> Result<(), Errno> {
    fallible("fs.write.create")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&at.dir, temp, flags, Mode::RUSR | Mode::WUSR)?);
    fallible("fs.write.created")?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first).map_err(errno)?;
    fallible("fs.write.half")?;
    file.write_all(second).map_err(errno)?;
    fallible("fs.write.filled")?;
    fchown(&file, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    fsync(&file)
}

/// Makes the temporary directory.
fn dress(at: &Place, temp: &OsStr, mode: u32, ids: Ids) -> Result<(), Errno> {
    fallible("fs.mkdir")?;
    mkdirat(&at.dir, temp, Mode::RWXU)?;
    fallible("fs.mkdir.made")?;
    let made =
        openat(&at.dir, temp, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    fchown(&made, Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)))?;
    fchmod(&made, Mode::from_raw_mode(mode))
}

/// Every fresh ext4 has one at its top; it belongs to the filesystem.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// Removes what is in a directory, symlinks as themselves.
fn empty(at: &Place) -> Result<(), Errno> {
    for name in entries(at)?.into_iter().filter(|name| name != LOST_AND_FOUND) {
        let child = Place { dir: at.open_dir()?, name };
        match unlinkat(&child.dir, &child.name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                empty(&child)?;
                unlinkat(&child.dir, &child.name, AtFlags::REMOVEDIR)?;
            }
            removed => removed?,
        }
    }
    Ok(())
}

/// The names in a directory, sorted.
fn entries(at: &Place) -> Result<Vec<OsString>, Errno> {
    let mut names = vec![];
    for entry in Dir::new(at.open_dir()?)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_owned());
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Nothing there is an answer, not a failure.
fn absent<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}

fn errno(e: std::io::Error) -> Errno {
    Errno::from_io_error(&e).unwrap_or(Errno::IO)
}
