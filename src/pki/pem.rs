//! PEM, read so that a mistake names its line and written so that a private key is never copied around.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::state::Secret;

/// One `-----BEGIN …-----` block.
pub(super) struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, …
    pub(super) label: String,
    /// Line of the BEGIN marker, from 1.
    pub(super) line: usize,
    /// The bytes; may be a private key.
    pub(super) der: Secret,
}

/// All blocks of a file, in order; text between blocks is a comment.
pub(super) fn blocks(pem: &[u8]) -> Result<Vec<Block>, String> {
    let text = std::str::from_utf8(pem).map_err(|e| format!("not text (byte {})", e.valid_up_to()))?;
    let mut blocks = vec![];
    let mut open: Option<(String, usize, Zeroizing<String>)> = None;
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        if let Some(label) = marker(line, "-----BEGIN ") {
            if let Some((_, at, _)) = open {
                return Err(format!("line {number}: a block begins inside the one of line {at}"));
            }
            open = Some((label.to_owned(), number, Zeroizing::default()));
        } else if let Some(label) = marker(line, "-----END ") {
            let Some((begun, at, body)) = open.take() else {
                return Err(format!("line {number}: END without BEGIN"));
            };
            if begun != label {
                return Err(format!("line {number}: END {label} closes BEGIN {begun} of line {at}"));
            }
            let der = STANDARD.decode(body.as_bytes()).map_err(|_| format!("line {at}: {label} is not base64"))?;
            blocks.push(Block { label: begun, line: at, der: Secret::new(der) });
        } else if let Some((_, _, body)) = &mut open {
            // RFC 1421 headers: only OpenSSL's old passphrase encryption writes them.
            if line.contains(':') {
                return Err(format!("line {number}: encrypted with a passphrase"));
            }
            if line.bytes().any(|b| !(b.is_ascii_alphanumeric() || b"+/=".contains(&b))) {
                return Err(format!("line {number}: not base64"));
            }
            body.push_str(line);
        }
    }
    match open {
        Some((label, at, _)) => Err(format!("line {at}: BEGIN {label} is never closed")),
        None if blocks.is_empty() => Err("no PEM block in it".to_owned()),
        None => Ok(blocks),
    }
}

fn marker<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// Writes one block, 64 columns wide as RFC 7468 asks.
pub(super) fn encode(label: &str, der: &[u8]) -> Secret {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Reserved at once: a growing buffer would leave copies of a key behind.
    let mut out = Vec::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 64);
    out.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in body.as_bytes().chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    Secret::new(out)
}
