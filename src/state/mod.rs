//! Plain data shared by every floor above: what a host should hold ([`desired`]), what it does hold ([`observed`],
//! [`facts`]), and the words both are written in.

pub mod desired;
pub mod facts;
pub mod observed;
pub mod report;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let d = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(d.as_ref());
        Self(out)
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// Reads 64 hex digits.
    pub fn parse(s: &str) -> Option<Self> {
        if s.len() != 64 || !s.is_ascii() {
            return None;
        }
        let mut out = [0; 32];
        for (i, b) in out.iter_mut().enumerate() {
            *b = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        Digest::parse(&s).ok_or_else(|| serde::de::Error::custom("not a sha256 digest of 64 hex digits"))
    }
}

/// Bytes that must never be shown: wiped on drop, redacted in Debug, no Display, no Serialize.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the writer and the signer only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes, redacted)", self.0.len())
    }
}

/// Who owns a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// root:root
    Root,
    /// The user and group etcd runs as.
    Etcd,
}

/// The order in which a master comes to be. Each phase is observed, planned, shown and applied before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseId {
    /// Every check, nothing touched.
    Preflight,
    /// CAs, leaves, tokens, keys: the bundle.
    Pki,
    /// admin, super-admin, controller-manager, scheduler, kubelet.
    Kubeconfig,
    /// The member, its unit, healthy and sealed.
    Etcd,
    /// Kernel modules, sysctls, flannel's key and unit, CNI.
    Network,
    /// docker or containerd.
    Runtime,
    /// kubelet's configuration and unit.
    Kubelet,
    /// Static pods.
    ControlPlane,
    /// podmaster and what waits on standby.
    Election,
    /// The spec in etcd, bindings in the API.
    Register,
}

impl PhaseId {
    /// All phases in order.
    pub const ALL: [PhaseId; 10] = [
        PhaseId::Preflight,
        PhaseId::Pki,
        PhaseId::Kubeconfig,
        PhaseId::Etcd,
        PhaseId::Network,
        PhaseId::Runtime,
        PhaseId::Kubelet,
        PhaseId::ControlPlane,
        PhaseId::Election,
        PhaseId::Register,
    ];

    /// The word on the command line and on screen.
    pub fn name(self) -> &'static str {
        match self {
            PhaseId::Preflight => "preflight",
            PhaseId::Pki => "pki",
            PhaseId::Kubeconfig => "kubeconfig",
            PhaseId::Etcd => "etcd",
            PhaseId::Network => "network",
            PhaseId::Runtime => "runtime",
            PhaseId::Kubelet => "kubelet",
            PhaseId::ControlPlane => "control-plane",
            PhaseId::Election => "election",
            PhaseId::Register => "register",
        }
    }
}

impl fmt::Display for PhaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
