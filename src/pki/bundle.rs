//! Where certificates are in a directory someone points at: ours or kubeadm's, a whole root or just the bundle.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::pki::auth;
use crate::pki::judge::Paths;
use crate::pki::table::{CAS, CaRow, LEAVES, LeafRow, Place, Stem, When};
use crate::spec::layout::Layout;
use crate::state::Owner;
use crate::state::desired::Placement;

/// Who laid the files out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// hamaster.
    Hamaster,
    /// kubeadm.
    Kubeadm,
}

/// A set of files below some directory. Every path is relative to that directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundle {
    /// Whose names the files have.
    pub origin: Origin,
    /// The directory is `/etc/kubernetes/pki` itself and not a root that has it.
    pub bare: bool,
}

const ALL: [Bundle; 4] = [
    Bundle { origin: Origin::Hamaster, bare: false },
    Bundle { origin: Origin::Kubeadm, bare: false },
    Bundle { origin: Origin::Hamaster, bare: true },
    Bundle { origin: Origin::Kubeadm, bare: true },
];

impl Bundle {
    /// Every path worth looking at before [`Bundle::detect`].
    pub fn candidates() -> BTreeSet<PathBuf> {
        ALL.iter().flat_map(Bundle::paths).collect()
    }

    /// The bundle most of whose files are there; of two, the first. `None` when there is not a single one.
    pub fn detect(files: &Paths) -> Option<Self> {
        let score = |b: &Bundle| b.paths().iter().filter(|p| files.contains_key(*p)).count();
        ALL.into_iter().rev().max_by_key(score).filter(|b| score(b) > 0)
    }

    /// Certificate and key of a CA; `None` when it is not in here.
    pub fn ca(&self, row: &CaRow) -> Option<(PathBuf, PathBuf)> {
        let at = |extension| match self.origin {
            Origin::Hamaster => self.ours(row.stem, extension),
            Origin::Kubeadm => Some(self.pki(format!("{}.{extension}", row.kubeadm))),
        };
        Some((at("crt")?, at("key")?))
    }

    /// Where a leaf is; `None` when it is not in here.
    pub fn leaf(&self, row: &LeafRow) -> Option<Placement> {
        let root = Layout::below("");
        match row.place {
            Place::Pair(stem, extension, owner) => match self.origin {
                Origin::Hamaster => {
                    Some(Placement::Pair { cert: self.ours(stem, extension)?, key: self.ours(stem, "key")?, owner })
                }
                Origin::Kubeadm => row.kubeadm.map(|stem| Placement::Pair {
                    cert: self.pki(format!("{stem}.crt")),
                    key: self.pki(format!("{stem}.key")),
                    owner: Owner::Root,
                }),
            },
            _ if self.bare => None,
            // kubeadm's flannel is a pod with a service account.
            _ if self.origin == Origin::Kubeadm && row.when != When::Always => None,
            Place::SharedConf(name) | Place::LocalConf(name) => Some(Placement::Kubeconfig {
                path: root.kubeconfig(name),
                server: String::new(),
                cluster: String::new(),
            }),
            Place::KubeletClient => Some(Placement::Combined { path: root.kubelet_client_pem() }),
        }
    }

    /// A file of the bundle that is neither CA nor leaf: `sa.key`, `known_tokens.csv`, …
    pub fn pki(&self, name: impl Into<PathBuf>) -> PathBuf {
        if self.bare { name.into() } else { Layout::below("").pki().join(name.into()) }
    }

    fn ours(&self, stem: Stem, extension: &str) -> Option<PathBuf> {
        match (self.bare, stem) {
            (false, stem) => Some(stem.path(&Layout::below(""), extension)),
            (true, Stem::Bundle(stem)) => Some(format!("{stem}.{extension}").into()),
            (true, _) => None,
        }
    }

    fn paths(&self) -> BTreeSet<PathBuf> {
        let mut paths: BTreeSet<PathBuf> = ["sa.key", "sa.pub"].map(|name| self.pki(name)).into();
        if self.origin == Origin::Hamaster {
            paths.extend([auth::KNOWN_TOKENS, auth::BASIC_AUTH, auth::ENCRYPTION_CONFIG].map(|name| self.pki(name)));
        }
        for (cert, key) in CAS.iter().filter_map(|row| self.ca(row)) {
            paths.extend([cert, key]);
        }
        for placement in LEAVES.iter().filter_map(|row| self.leaf(row)) {
            match placement {
                Placement::Pair { cert, key, .. } => paths.extend([cert, key]),
                Placement::Kubeconfig { path, .. } | Placement::Combined { path } => {
                    paths.insert(path);
                }
            }
        }
        paths
    }
}
