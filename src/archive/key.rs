//! The key of archives: 256 random bits, written as one line that a typing mistake is found in.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What a key begins with.
const MARK: &str = "hmkey1-";
/// Random bytes of a key.
const LEN: usize = 32;
/// Bytes of the checksum behind them.
const SUM: usize = 4;

/// A key of archives. It is shown once, or kept in a file only root reads.
pub struct Key(Zeroizing<[u8; LEN]>);

impl Key {
    /// A fresh one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; LEN]);
        aws_lc_rs::rand::fill(bytes.as_mut()).map_err(|_| Error::apply("the system has no randomness to give"))?;
        Ok(Self(bytes))
    }

    /// Reads what [`Key::reveal`] wrote; space around it does no harm.
    ///
    /// # Errors
    /// When it is no key, or one with a typing mistake. The text is not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::usage(format!("this is not a key of an archive: {why}"))
                .hint("hamaster etcd snapshot verify FILE --key-file KEYFILE")
        };
        let Some(body) = text.trim().strip_prefix(MARK) else {
            return Err(bad(&format!("it does not begin with {MARK}")));
        };
        let bytes = URL_SAFE_NO_PAD.decode(body).map(Zeroizing::new).map_err(|_| bad("a character is wrong"))?;
        if bytes.len() != LEN + SUM {
            return Err(bad("it is too short or too long"));
        }
        let (key, sum) = bytes.split_at(LEN);
        if digest(&SHA256, key).as_ref()[..SUM] != *sum {
            return Err(bad("a character is wrong"));
        }
        let mut own = Zeroizing::new([0; LEN]);
        own.copy_from_slice(key);
        Ok(Self(own))
    }

    /// The key as text, for a file or for the one time it is shown.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.0.to_vec());
        bytes.extend(&digest(&SHA256, self.0.as_ref()).as_ref()[..SUM]);
        Zeroizing::new(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}
