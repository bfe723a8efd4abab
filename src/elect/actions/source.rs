//! The file that says what the destination should hold.
#![allow(clippy::disallowed_methods)] // floor 3: files

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::bounded::{self, Bounded};
use crate::elect::config::{self, FileKind};
use crate::elect::record::Token;

/// Stands for the fencing token in a source with `annotateToken`.
const TOKEN: &str = "${HAMASTER_TOKEN}";
/// Larger than any manifest: etcd would not take the object either.
const LARGEST: u64 = 3 << 20;

/// Which pod a manifest is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodName {
    pub(super) namespace: String,
    /// Without the node's name, which the kubelet appends.
    pub(super) name: String,
}

impl PodName {
    /// The pod that `bytes` describe.
    ///
    /// # Errors
    /// When they are no YAML, more than one document, or not a Pod with a name and containers.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, String> {
        let (namespace, name) = config::pod_name(bytes).map_err(|mistake| match mistake.hint {
            Some(hint) => format!("{}; hint: {hint}", mistake.message),
            None => mistake.message,
        })?;
        Ok(Self { namespace, name })
    }
}

/// A source file.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    kind: FileKind,
    annotate_token: bool,
    bounded: Bounded,
}

/// Its content, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// What to install.
    pub(super) bytes: Vec<u8>,
    /// Which pod it is, if it is one.
    pub(super) pod: Option<PodName>,
}

impl Source {
    pub(super) fn new(path: &Path, kind: FileKind, annotate_token: bool) -> Self {
        Self { path: path.to_owned(), kind, annotate_token, bounded: Bounded::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks it, and puts the token in its place.
    ///
    /// # Errors
    /// When it cannot be read or is not what it should be, in words.
    pub(super) fn load(&mut self, token: Option<&Token>, within: Duration) -> Result<Content, String> {
        let failed = |why: String| format!("{}: {why}", self.path.display());
        let path = self.path.clone();
        let read = move || {
            let mut bytes = vec![];
            let file = File::open(&path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes));
            file.map(|_| bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        };
        let show = |e| failed(format!("{}; hint: ls -l {}", bounded::told(e), self.path.display()));
        let bytes = self.bounded.run(within, read).map_err(show)?;
        if bytes.len() as u64 > LARGEST {
            return Err(failed(format!("larger than {} MiB", LARGEST >> 20)));
        }
        let bytes = match token.filter(|_| self.annotate_token) {
            None => bytes,
            Some(token) => {
                let text = String::from_utf8(bytes).map_err(|e| failed(e.to_string()))?;
                text.replace(TOKEN, &token.to_string()).into_bytes()
            }
        };
        let pod = match self.kind {
            FileKind::File => None,
            FileKind::Pod => Some(PodName::of(&bytes).map_err(failed)?),
        };
        Ok(Content { bytes, pod })
    }
}
