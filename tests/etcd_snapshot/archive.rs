//! The file format: what was sealed comes out, and nothing else ever does.

use std::io::Read;

use hamaster::archive::{self, Entry, Key, Kind, Reader, Writer};
use hamaster::error::Kind as Why;
use hamaster::state::Secret;
use proptest::prelude::*;

fn entry(name: &str, bytes: &[u8]) -> Entry {
    Entry { name: name.to_owned(), mode: 0o600, bytes: Secret::new(bytes.to_vec()) }
}

fn plain(entries: &[Entry]) -> Vec<(String, u32, Vec<u8>)> {
    entries.iter().map(|e| (e.name.clone(), e.mode, e.bytes.expose().to_vec())).collect()
}

/// Where a chunk ends, and around it.
const SIZES: [usize; 9] = [0, 1, 1000, 32 << 10, 65_500, 65_535, 65_536, 65_537, 200_000];

#[test]
fn what_was_sealed_comes_out() {
    let key = Key::generate().unwrap();
    for size in SIZES {
        let entries = vec![entry("a", &vec![7; size]), entry("etc/b", b"short"), entry("empty", b"")];
        let sealed = archive::seal(&key, Kind::Snapshot, &entries).unwrap();
        let again = Key::parse(&key.reveal()).unwrap();
        assert_eq!(plain(&archive::open(&again, Kind::Snapshot, &sealed).unwrap()), plain(&entries), "{size}");
    }
    let nothing = archive::seal(&key, Kind::Join, &[]).unwrap();
    assert!(archive::open(&key, Kind::Join, &nothing).unwrap().is_empty());
}

#[test]
fn an_archive_that_ends_where_a_chunk_ends_is_whole_only_with_all_its_chunks() {
    let key = Key::generate().unwrap();
    // Head of an entry, frames of 32 KiB with their lengths, the end: sizes that fill two chunks to the byte.
    for size in 131_000..131_080 {
        let sealed = archive::seal(&key, Kind::Snapshot, &[entry("a", &vec![1; size])]).unwrap();
        assert!(archive::open(&key, Kind::Snapshot, &sealed).is_ok(), "{size}");
    }
}

#[test]
fn every_byte_counts() {
    let key = Key::generate().unwrap();
    let sealed = archive::seal(&key, Kind::Snapshot, &[entry("a", &[3; 300])]).unwrap();
    for at in 0..sealed.len() {
        for bit in [1, 0x80] {
            let mut changed = sealed.clone();
            changed[at] ^= bit;
            let e = archive::open(&key, Kind::Snapshot, &changed).expect_err("a changed bit");
            assert_eq!(e.kind(), Why::Conflict, "byte {at}");
        }
        assert!(archive::open(&key, Kind::Snapshot, &sealed[..at]).is_err(), "cut to {at}");
    }
    assert!(archive::open(&key, Kind::Snapshot, &[sealed.as_slice(), b"x"].concat()).is_err(), "more behind it");
}

/// Bytes of the header, and of a sealed chunk.
const HEADER: usize = 19 + 1 + 32;
const CHUNK: usize = (64 << 10) + 16;

#[test]
fn chunks_have_one_place() {
    let key = Key::generate().unwrap();
    let sealed = archive::seal(&key, Kind::Snapshot, &[entry("a", &vec![9; 5 * (64 << 10)])]).unwrap();
    let (header, body) = sealed.split_at(HEADER);
    let chunks: Vec<&[u8]> = body.chunks(CHUNK).collect();
    let opens = |chunks: &[&[u8]]| archive::open(&key, Kind::Snapshot, &[header, &chunks.concat()].concat()).is_ok();
    assert!(opens(&chunks));
    let mut swapped = chunks.clone();
    swapped.swap(1, 2);
    assert!(!opens(&swapped), "two swapped");
    for gone in 0..chunks.len() {
        let mut fewer = chunks.clone();
        fewer.remove(gone);
        assert!(!opens(&fewer), "without chunk {gone}");
        let mut twice = chunks.clone();
        twice.insert(gone, chunks[gone]);
        assert!(!opens(&twice), "chunk {gone} twice");
    }
    // The same content and key, but another archive.
    let other = archive::seal(&key, Kind::Snapshot, &[entry("a", &vec![9; 5 * (64 << 10)])]).unwrap();
    let mut mixed = chunks.clone();
    mixed[1] = &other[HEADER + CHUNK..HEADER + 2 * CHUNK];
    assert!(!opens(&mixed), "a chunk of another archive");
    assert!(archive::open(&key, Kind::Snapshot, &[&other[..HEADER], body].concat()).is_err(), "another's header");
}

#[test]
fn the_key_and_the_kind_must_be_right_and_the_error_says_so() {
    let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
    let sealed = archive::seal(&key, Kind::Snapshot, &[entry("a", b"secret")]).unwrap();
    let wrong = archive::open(&other, Kind::Snapshot, &sealed).unwrap_err().to_string();
    assert!(wrong.contains("another key"), "{wrong}");
    let kind = archive::open(&key, Kind::Join, &sealed).unwrap_err().to_string();
    assert!(kind.contains("another kind"), "{kind}");
    let none = archive::open(&key, Kind::Snapshot, b"PK\x03\x04").unwrap_err().to_string();
    assert!(none.contains("no archive"), "{none}");
}

#[test]
fn a_key_is_checked_as_it_is_typed_and_never_repeated() {
    let key = Key::generate().unwrap();
    let text = key.reveal().to_string();
    assert!(Key::parse(&format!("  {text}\n")).is_ok());
    for at in 0..text.len() {
        let mut typed = text.clone().into_bytes();
        typed[at] = if typed[at] == b'A' { b'B' } else { b'A' };
        let typed = String::from_utf8(typed).unwrap();
        let e = Key::parse(&typed).expect_err(&typed).to_string();
        assert!(!e.contains(&typed[10..]), "{e}");
    }
    for bad in ["", "hmkey1-", &text[..text.len() - 1], &format!("{text}A")] {
        assert!(Key::parse(bad).is_err(), "{bad:?}");
    }
    assert!(!format!("{key:?}").contains(&text[8..20]));
}

#[test]
fn it_streams_what_is_larger_than_what_is_held() {
    let key = Key::generate().unwrap();
    let size = 40 << 20;
    let mut writer = Writer::new(&key, Kind::Snapshot, vec![]).unwrap();
    let written = writer.entry("large", 0o600, &mut std::io::repeat(5).take(size)).unwrap();
    assert_eq!(written, size);
    writer.entry("small", 0o644, &mut &b"x"[..]).unwrap();
    let sealed = writer.finish().unwrap();
    let mut reader = Reader::new(&key, Kind::Snapshot, sealed.as_slice()).unwrap();
    assert_eq!(reader.next_entry().unwrap(), Some(("large".to_owned(), 0o600)));
    assert!(reader.held().is_err(), "40 MiB are not held");
    // What was not read is passed over.
    let mut reader = Reader::new(&key, Kind::Snapshot, sealed.as_slice()).unwrap();
    reader.next_entry().unwrap();
    assert_eq!(reader.next_entry().unwrap(), Some(("small".to_owned(), 0o644)));
    assert_eq!(reader.held().unwrap().expose(), b"x");
    assert_eq!(reader.next_entry().unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn noise_is_refused_and_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let key = Key::generate().unwrap();
        prop_assert!(archive::open(&key, Kind::Snapshot, &noise).is_err());
        let like = [&b"hamaster-archive-1\ns"[..], &noise].concat();
        prop_assert!(archive::open(&key, Kind::Snapshot, &like).is_err());
    }
}
