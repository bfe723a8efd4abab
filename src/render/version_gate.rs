//! Facts by version that only rendering needs.

use crate::spec::version::{EtcdVersion, KubeVersion};

/// The newest minor whose flags are known; a newer one is rendered as this.
const NEWEST: u32 = 37;

/// The minor to render for.
pub(super) fn known_minor(version: &KubeVersion) -> u32 {
    version.minor.min(NEWEST)
}

/// The pause image each minor pins.
pub(super) fn pause_tag(minor: u32) -> &'static str {
    match minor {
        ..=20 => "3.2",
        21 => "3.4.1",
        22 => "3.5",
        23 => "3.6",
        24 => "3.7",
        25 => "3.8",
        26..=30 => "3.9",
        31..=33 => "3.10",
        34 | 35 => "3.10.1",
        _ => "3.10.2",
    }
}

/// The newest etcd each minor pins; 1.22 to 1.24 get 3.5.6, since 3.5.0 to 3.5.2 could lose data.
pub(super) fn default_etcd(minor: u32) -> EtcdVersion {
    let (minor, patch) = match minor {
        ..=21 => (4, 13),
        22..=24 => (5, 6),
        25 => (5, 9),
        26 => (5, 10),
        27 => (5, 12),
        28 => (5, 15),
        29 => (5, 16),
        30 => (5, 15),
        31..=33 => (5, 24),
        34 => (6, 5),
        35 => (6, 6),
        36 => (6, 8),
        _ => (7, 0),
    };
    EtcdVersion { major: 3, minor, patch }
}

/// Taint keys that keep workloads off masters.
pub(super) fn master_taints(minor: u32) -> &'static [&'static str] {
    const MASTER: &str = "node-role.kubernetes.io/master";
    const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
    match minor {
        ..=23 => &[MASTER],
        24 => &[MASTER, CONTROL_PLANE],
        _ => &[CONTROL_PLANE],
    }
}
