//! The words each choice is written with, in `cluster.yaml` and on the command line.

use std::fmt;

use super::mistake::{Mistake, nearest};
use super::{
    BasicAuth, ElectionMode, ElectionRunAs, EtcdBootstrap, FlannelBackend, FlannelLeases, KeyAlgorithm, NetworkPath,
    NetworkPlugin, Profile, Runtime,
};

macro_rules! words {
    ($($choice:ident { $($variant:ident = $word:literal),+ $(,)? })+) => {$(
        impl $choice {
            /// Every word, in the order to show them.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word it is written with.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            ///
            /// # Errors
            /// Any other word, with the nearest one as hint.
            pub fn parse(word: &str) -> Result<Self, Mistake> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(unknown(word, Self::WORDS)),
                }
            }
        }

        impl fmt::Display for $choice {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}

words! {
    EtcdBootstrap { New = "new", Static = "static", Discovery = "discovery" }
    Runtime { Docker = "docker", Containerd = "containerd" }
    NetworkPlugin { Flannel = "flannel", None = "none" }
    FlannelBackend { Vxlan = "vxlan", HostGw = "host-gw", Wireguard = "wireguard" }
    FlannelLeases { Kubernetes = "kubernetes", Etcd = "etcd" }
    NetworkPath { Cni = "cni", Classic = "classic" }
    ElectionMode { Podmaster = "podmaster", Native = "native" }
    ElectionRunAs { Unit = "unit", StaticPod = "static-pod" }
    BasicAuth { Auto = "auto", Off = "off" }
    KeyAlgorithm {
        EcdsaP256 = "ecdsa-p256",
        EcdsaP384 = "ecdsa-p384",
        Rsa2048 = "rsa-2048",
        Rsa3072 = "rsa-3072",
        Rsa4096 = "rsa-4096",
    }
    Profile { Standard = "standard", Cis = "cis" }
}

fn unknown(word: &str, known: &[&'static str]) -> Mistake {
    let mistake = Mistake::new(format!("`{word}` is not one of {}", known.join(", ")));
    match nearest(word, known.iter().copied()) {
        Some(near) => mistake.hint(format!("write `{near}`")),
        None => mistake,
    }
}
