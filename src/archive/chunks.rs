//! The chunks an archive is made of: numbered, authenticated, the last one marked.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use super::{Key, invalid};

/// What every archive begins with; the digit is the format.
const MAGIC: &[u8] = b"hamaster-archive-1\n";
const SALT: usize = 32;
/// Magic, kind, salt.
const HEADER: usize = MAGIC.len() + 1 + SALT;
/// Plain bytes of a chunk; only the last has fewer.
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

/// What seals or opens the chunks of one archive.
struct Chunks {
    key: LessSafeKey,
    header: [u8; HEADER],
    number: u64,
}

impl Chunks {
    fn new(key: &Key, header: [u8; HEADER]) -> io::Result<Self> {
        let failed = |_| io::Error::other("no encryption key can be derived");
        let secret = Salt::new(HKDF_SHA256, &header[HEADER - SALT..]).extract(key.bytes());
        let derived = secret.expand(&[b"chunks"], &AES_256_GCM).map_err(failed)?;
        Ok(Self { key: LessSafeKey::new(UnboundKey::from(derived)), header, number: 0 })
    }

    /// Number and end are the nonce: no chunk opens in another place.
    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(last);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> io::Result<()> {
        let (nonce, aad) = (self.nonce(last), Aad::from(self.header));
        self.key.seal_in_place_append_tag(nonce, aad, chunk).map_err(|_| io::Error::other("cannot encrypt"))
    }

    /// Opens in place; returns the plain length.
    fn open(&mut self, chunk: &mut [u8], last: bool) -> io::Result<usize> {
        let first = self.number == 0;
        let (nonce, aad) = (self.nonce(last), Aad::from(self.header));
        match self.key.open_in_place(nonce, aad, chunk) {
            Ok(plain) => Ok(plain.len()),
            Err(_) if first => Err(invalid("it was sealed with another key, or was changed or cut")),
            Err(_) => Err(invalid("it was changed or cut")),
        }
    }
}

/// Encrypts what is written to it.
pub(super) struct Sealer<W: Write> {
    out: W,
    chunks: Chunks,
    plain: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    pub(super) fn new(key: &Key, kind: u8, mut out: W) -> io::Result<Self> {
        let mut header = [0; HEADER];
        header[..MAGIC.len()].copy_from_slice(MAGIC);
        header[MAGIC.len()] = kind;
        let no_randomness = |_| io::Error::other("the system has no randomness to give");
        aws_lc_rs::rand::fill(&mut header[HEADER - SALT..]).map_err(no_randomness)?;
        out.write_all(&header)?;
        Ok(Self { out, chunks: Chunks::new(key, header)?, plain: Zeroizing::new(Vec::with_capacity(CHUNK + TAG)) })
    }

    /// Writes the last chunk.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush_chunk(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush_chunk(&mut self, last: bool) -> io::Result<()> {
        self.chunks.seal(&mut self.plain, last)?;
        self.out.write_all(&self.plain)?;
        self.plain.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for the next byte: it may be the last.
        if self.plain.len() == CHUNK && !bytes.is_empty() {
            self.flush_chunk(false)?;
        }
        let n = bytes.len().min(CHUNK - self.plain.len());
        self.plain.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts what it reads; gives out no byte that was not authenticated.
pub(super) struct Opener<R: Read> {
    from: R,
    chunks: Chunks,
    /// A chunk, and the first byte of the next.
    buffer: Zeroizing<Vec<u8>>,
    /// That byte, if there is a next.
    ahead: Option<u8>,
    plain: std::ops::Range<usize>,
    done: bool,
}

impl<R: Read> Opener<R> {
    pub(super) fn new(key: &Key, kind: u8, mut from: R) -> io::Result<Self> {
        let mut header = [0; HEADER];
        let n = fill(&mut from, &mut header)?;
        if n < MAGIC.len() || !header.starts_with(MAGIC) {
            return Err(invalid("it is no archive of hamaster, or one of another version"));
        }
        if n < HEADER {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if header[MAGIC.len()] != kind {
            return Err(invalid("it is an archive of another kind"));
        }
        let mut first = [0];
        let ahead = (fill(&mut from, &mut first)? == 1).then_some(first[0]);
        let buffer = Zeroizing::new(vec![0; CHUNK + TAG + 1]);
        let mut opener = Self { from, chunks: Chunks::new(key, header)?, buffer, ahead, plain: 0..0, done: false };
        // A wrong key is told before anything is made of the content.
        opener.next_chunk()?;
        Ok(opener)
    }

    /// Whether everything was read, and the last chunk was the last.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        while self.plain.is_empty() && !self.done {
            self.next_chunk()?;
        }
        Ok(self.plain.is_empty())
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let Some(first) = self.ahead.take() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        self.buffer[0] = first;
        let n = 1 + fill(&mut self.from, &mut self.buffer[1..])?;
        let last = n <= CHUNK + TAG;
        let end = n.min(CHUNK + TAG);
        self.ahead = (!last).then(|| self.buffer[CHUNK + TAG]);
        let len = self.chunks.open(&mut self.buffer[..end], last)?;
        (self.plain, self.done) = (0..len, last);
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at_end()? {
            return Ok(0);
        }
        let n = buf.len().min(self.plain.len());
        buf[..n].copy_from_slice(&self.buffer[self.plain.start..self.plain.start + n]);
        self.plain.start += n;
        Ok(n)
    }
}

/// Reads until `buf` is full or there is no more.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match from.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}
