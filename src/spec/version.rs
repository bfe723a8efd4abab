//! Which Kubernetes and etcd versions there are and what each takes.

use std::fmt;

/// A Kubernetes release, `v1.34.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubeVersion {
    /// The minor; the major is always 1.
    pub minor: u32,
    /// The patch.
    pub patch: u32,
    /// `-rc.0` and the like without the dash; empty for a release.
    pub pre: String,
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.minor, self.patch)?;
        if self.pre.is_empty() { Ok(()) } else { write!(f, "-{}", self.pre) }
    }
}

/// An etcd release, `3.5.24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EtcdVersion {
    /// 3
    pub major: u32,
    /// The minor: 4 to 7 are known.
    pub minor: u32,
    /// The patch.
    pub patch: u32,
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
