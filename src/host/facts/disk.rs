//! Where data will lie: filesystem, room, and how fast it syncs.
#![allow(clippy::disallowed_methods)] // floor 3: measures the disk

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{StatFs, fdatasync, statfs};

use super::Look;
use crate::host::clock::Stopwatch;
use crate::spec::layout::Layout;

/// As etcd's own advice for fio: `--bs=2300 --fdatasync=1`.
const BLOCK: [u8; 2300] = [0; 2300];
const SAMPLES: usize = 100;
/// A disk this slow has been found out before the last sample.
const PATIENCE: Duration = Duration::from_secs(3);

/// Magic numbers of `statfs(2)`.
const FILESYSTEMS: [(u32, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "cifs"),
    (0x517b, "smb"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x794c_7630, "overlay"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
];

impl Look<'_> {
    pub(super) fn disks(&mut self, data_dir: &Path, layout: &Layout) {
        let mut entries = self.names(data_dir);
        entries.remove("lost+found");
        self.facts.data_dir.entries = entries;
        let nearest = nearest(&self.at(data_dir));
        if let Some(fs) = self.statfs(&nearest) {
            self.facts.data_dir.filesystem = Some(name(fs.f_type as u32));
            self.facts.data_dir.free_bytes = Some(free(&fs));
        }
        if self.live {
            match fsync_p99(&nearest) {
                Ok(p99) => self.facts.data_dir.fsync_p99 = Some(p99),
                Err(e) => self.unknown(format!("speed of the disk below {}", nearest.display()), e),
            }
        }
        self.facts.data_dir.nearest = nearest;
        let written = [layout.kubernetes(), layout.state()].map(|dir| self::nearest(&self.at(dir)));
        self.facts.free_bytes = written.iter().filter_map(|dir| self.statfs(dir)).map(|fs| free(&fs)).min();
    }

    fn statfs(&mut self, dir: &Path) -> Option<StatFs> {
        statfs(dir).map_err(|e| self.unknown(dir.display().to_string(), e)).ok()
    }
}

/// `path` or the nearest of its parents that exists.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn name(magic: u32) -> String {
    let known = FILESYSTEMS.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

fn free(fs: &StatFs) -> u64 {
    fs.f_bavail.saturating_mul(fs.f_bsize as u64)
}

/// The file has no name: nothing is left of it, however we end.
fn fsync_p99(dir: &Path) -> std::io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(dir)?;
    let all = Stopwatch::start();
    let mut samples = vec![];
    while samples.len() < SAMPLES && all.elapsed() < PATIENCE {
        let one = Stopwatch::start();
        file.write_all(&BLOCK)?;
        fdatasync(&file)?;
        samples.push(one.elapsed());
    }
    samples.sort();
    Ok(samples.get((samples.len() * 99 / 100).saturating_sub(1)).copied().unwrap_or_default())
}
