//! Which Kubernetes and etcd versions there are and what each takes.

use std::cmp::Ordering;
use std::fmt;

use super::mistake::Mistake;

/// The newest minor this build renders for; a newer one is rendered as this, with a warning.
pub const NEWEST: u32 = 37;

/// The oldest minor every rendered flag is checked for; older ones down to [`OLDEST`] come with a warning.
pub const OLDEST_CHECKED: u32 = 20;

/// The oldest minor that is taken at all: the first whose apiserver has `/readyz` and `/livez`.
pub const OLDEST: u32 = 16;

/// Minor, the etcd and the pause image its last patch pins. Three deviations: 1.16 to 1.18 pin an etcd older than 3.4,
/// which we cannot run; 1.22 to 1.24 first came with etcd 3.5.0 to 3.5.2, which may lose data (etcd #13766); and
/// within a minor the last pin is taken.
const PINS: [(u32, [u32; 3], &str); 22] = [
    (16, [3, 4, 13], "3.1"),
    (17, [3, 4, 13], "3.1"),
    (18, [3, 4, 13], "3.2"),
    (19, [3, 4, 13], "3.2"),
    (20, [3, 4, 13], "3.2"),
    (21, [3, 4, 13], "3.4.1"),
    (22, [3, 5, 6], "3.5"),
    (23, [3, 5, 6], "3.6"),
    (24, [3, 5, 6], "3.7"),
    (25, [3, 5, 9], "3.8"),
    (26, [3, 5, 10], "3.9"),
    (27, [3, 5, 12], "3.9"),
    (28, [3, 5, 15], "3.9"),
    (29, [3, 5, 16], "3.9"),
    (30, [3, 5, 15], "3.9"),
    (31, [3, 5, 24], "3.10"),
    (32, [3, 5, 24], "3.10"),
    (33, [3, 5, 24], "3.10"),
    (34, [3, 6, 5], "3.10.1"),
    (35, [3, 6, 6], "3.10.1"),
    (36, [3, 6, 8], "3.10.2"),
    (NEWEST, [3, 7, 0], "3.10.2"),
];

/// A Kubernetes release, `v1.34.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeVersion {
    /// The minor; the major is always 1.
    pub minor: u32,
    /// The patch.
    pub patch: u32,
    /// `-rc.0` and the like without the dash; empty for a release.
    pub pre: String,
}

impl Default for KubeVersion {
    fn default() -> Self {
        Self { minor: 34, patch: 1, pre: String::new() }
    }
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.minor, self.patch)?;
        if self.pre.is_empty() { Ok(()) } else { write!(f, "-{}", self.pre) }
    }
}

impl Ord for KubeVersion {
    /// A release comes after its candidates.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |v: &Self| (v.minor, v.patch, v.pre.is_empty());
        key(self).cmp(&key(other)).then_with(|| self.pre.cmp(&other.pre))
    }
}

impl PartialOrd for KubeVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl KubeVersion {
    /// Reads `v1.34.1`, `1.34.1` or `v1.37.0-rc.0`.
    ///
    /// # Errors
    /// Not all of major, minor and patch; not Kubernetes 1; older than [`OLDEST`].
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let wrong = || {
            let mistake = Mistake::new(format!("`{}` is not a Kubernetes version", text.escape_debug()));
            mistake.hint(format!("write major, minor and patch, e.g. `{}`", Self::default()))
        };
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let numbers: Option<Vec<u32>> = core.strip_prefix('v').unwrap_or(core).split('.').map(number).collect();
        let (major, minor, patch) = match numbers.as_deref() {
            Some([major, minor]) => (*major, *minor, None),
            Some([major, minor, patch]) => (*major, *minor, Some(*patch)),
            _ => return Err(wrong()),
        };
        if major != 1 {
            return Err(wrong());
        }
        if minor < OLDEST {
            return Err(Mistake::new(format!(
                "Kubernetes `{text}` is older than v1.{OLDEST}.0, the oldest hamaster takes"
            ))
            .hint(format!("write e.g. `{}`", Self::default())));
        }
        let Some(patch) = patch else {
            let example = if minor == Self::default().minor { Self::default().patch } else { 0 };
            return Err(Mistake::new(format!("`{text}` lacks the patch number"))
                .hint(format!("write the patch, e.g. `v1.{minor}.{example}`")));
        };
        let ident = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric());
        if !pre.is_none_or(|p| p.split('.').all(ident)) {
            return Err(wrong());
        }
        Ok(Self { minor, patch, pre: pre.unwrap_or_default().to_owned() })
    }

    /// The minor to render for: a newer one than [`NEWEST`] is rendered as that.
    pub fn render_minor(&self) -> u32 {
        self.minor.min(NEWEST)
    }

    /// What the operator should know about the choice.
    pub fn warnings(&self) -> Vec<String> {
        if self.minor > NEWEST {
            vec![format!("Kubernetes {self} is newer than this build knows: rendered as 1.{NEWEST}")]
        } else if self.minor < OLDEST_CHECKED {
            vec![format!("Kubernetes {self} is older than v1.{OLDEST_CHECKED}.0, the oldest that is fully checked")]
        } else {
            vec![]
        }
    }

    /// Whether the apiserver still reads `basic_auth.csv`: the flag was removed in 1.19.
    pub fn accepts_basic_auth(&self) -> bool {
        self.minor <= 18
    }

    /// The etcd this version is released with.
    pub fn default_etcd(&self) -> EtcdVersion {
        let [major, minor, patch] = self.pins().0;
        EtcdVersion { major, minor, patch }
    }

    /// Tag of the `pause` image this version is released with.
    pub fn pause_image_tag(&self) -> &'static str {
        self.pins().1
    }

    fn pins(&self) -> ([u32; 3], &'static str) {
        let row = self.render_minor().saturating_sub(OLDEST) as usize;
        let (_, etcd, pause) = PINS[row.min(PINS.len() - 1)];
        (etcd, pause)
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

impl EtcdVersion {
    /// Finds the first full version in `text`: `3.5.24` alone or the output of `etcd --version`.
    pub fn parse(text: &str) -> Option<Self> {
        text.split_ascii_whitespace().find_map(|word| {
            let core = word.strip_prefix('v').unwrap_or(word).split(['-', '+']).next()?;
            let numbers: Vec<u32> = core.split('.').map(number).collect::<Option<_>>()?;
            match numbers[..] {
                [major, minor, patch] => Some(Self { major, minor, patch }),
                _ => None,
            }
        })
    }

    /// Whether flags are known for it: 3.4 to 3.7.
    pub fn supported(&self) -> bool {
        self.major == 3 && (4..=7).contains(&self.minor)
    }
}

/// A number as versions have it: no sign, no leading zero.
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten()
}
