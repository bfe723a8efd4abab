//! Unit files are read as systemd reads them.

use std::collections::BTreeMap;

use hamaster::host::supervisor::unit_file::{UnitFile, expand};
use proptest::prelude::*;

/// As systemd.syntax(7) allows it: quoted, with escapes, percent and dollar signs doubled.
fn quoted(word: &str) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '%' => out.push_str("%%"),
            '$' => out.push_str("$$"),
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

proptest! {
    #[test]
    fn a_command_line_is_read_as_it_was_meant(words in prop::collection::vec("[^\u{0}]{0,12}", 1..5)) {
        let line: Vec<String> = words.iter().map(|w| quoted(w)).collect();
        let unit = UnitFile::parse(&format!("[Service]\nExecStart=/bin/true {}", line.join(" \\\n  "))).unwrap();
        let read = expand(&unit.exec, &BTreeMap::from([("a".to_owned(), "wrong".to_owned())]));
        prop_assert_eq!(&read[1..], &words[..]);
    }

    #[test]
    fn no_unit_file_ends_the_supervisor(text in "(\\[Service\\]\n)?((ExecStart|Environment|RestartSec|TimeoutStopSec)=[^\n]{0,20}\n){0,4}") {
        let _ = UnitFile::parse(&text);
    }
}
