//! The floor plan in `src/lib.rs` is true: every module stands on a floor, imports go down, and effects stay on floor 3.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The only floor that may touch files, processes, the network and the clock.
const HANDS_AND_EYES: u8 = 3;
/// Longer than this, a file is more than one noun.
const LONGEST_FILE: usize = 500;

/// Module path → floor, read from the crate's documentation: `//! 3  host · etcd::client   hands and eyes: …`
fn floors() -> BTreeMap<Vec<String>, u8> {
    let plan = fs::read_to_string("src/lib.rs").unwrap();
    let rows = plan.lines().filter_map(|l| l.strip_prefix("//! ")?.split_once("  "));
    let rows = rows.filter_map(|(floor, row)| Some((floor.parse().ok()?, row.split("  ").next()?)));
    let modules = |(floor, names): (u8, &str)| {
        let paths: Vec<Vec<String>> = names.split(" · ").map(path).collect();
        paths.into_iter().map(move |p| (p, floor))
    };
    rows.flat_map(modules).collect()
}

fn path(text: &str) -> Vec<String> {
    text.split("::").map(str::to_owned).collect()
}

/// The floor of a path: that of the longest module of the plan it begins with.
fn floor_of(floors: &BTreeMap<Vec<String>, u8>, path: &[String]) -> Option<u8> {
    (1..=path.len()).rev().find_map(|n| floors.get(&path[..n]).copied())
}

/// Every source file below `dir`.
fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut todo = vec![PathBuf::from(dir)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                todo.push(entry);
            } else if entry.extension().is_some_and(|e| e == extension) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

/// `src/etcd/client.rs` → `etcd::client`; nothing for the two roots, `lib.rs` and `main.rs`.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap().with_extension("");
    let mut names: Vec<_> = inside.iter().map(|n| n.to_str().unwrap().to_owned()).collect();
    names.pop_if(|n| matches!(n.as_str(), "mod" | "lib" | "main"));
    names
}

/// The code without comments and without what is between quotes.
fn code(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    out
}

/// The number of `#` when a raw string begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The length of a literal that begins here, its quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path that begins with `crate::` or `super::`, in imports and elsewhere, from the root of the crate;
/// `crate::{a, b::{c, d}}` is three paths.
fn imports(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![];
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let base = if root == "crate::" { vec![] } else { module[..module.len().saturating_sub(1)].to_vec() };
            expand(&code[at + root.len()..], base, &mut found);
        }
    }
    found
}

/// Follows one use tree; returns what comes after it.
fn expand<'a>(text: &'a str, mut base: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        while !rest.trim_start().starts_with('}') {
            rest = expand(rest, base.clone(), found).trim_start();
            // `a as b`
            rest = rest.trim_start_matches(|c| !matches!(c, ',' | '}')).trim_start_matches(',');
        }
        return rest.trim_start().strip_prefix('}').unwrap_or("");
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match name {
        "super" => base.truncate(base.len().saturating_sub(1)),
        "self" | "" => {}
        name => base.push(name.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(more) => expand(more, base, found),
        None => {
            found.push(base);
            rest
        }
    }
}

#[test]
fn every_module_stands_on_a_floor_and_imports_only_what_is_not_above_it() {
    let floors = floors();
    let mut wrong = vec![];
    for file in files("src", "rs") {
        let module = module_of(&file);
        if module.is_empty() {
            continue;
        }
        let Some(own) = floor_of(&floors, &module) else {
            wrong.push(format!("{}: the plan in src/lib.rs has no floor for it", file.display()));
            continue;
        };
        let source = fs::read_to_string(&file).unwrap();
        for import in imports(&code(&source), &module) {
            if let Some(other) = floor_of(&floors, &import).filter(|other| *other > own) {
                wrong.push(format!("{} (floor {own}) imports {} (floor {other})", file.display(), import.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_hands_and_eyes_allow_themselves_effects() {
    let floors = floors();
    let allows = |f: &PathBuf| code(&fs::read_to_string(f).unwrap()).contains("disallowed_methods");
    let others = |f: &PathBuf| floor_of(&floors, &module_of(f)) != Some(HANDS_AND_EYES);
    let wrong: Vec<_> = files("src", "rs").into_iter().filter(others).filter(allows).collect();
    assert!(wrong.is_empty(), "effects outside floor 3: {wrong:?}");
}

#[test]
fn nothing_unfinished_is_left_in_the_code() {
    for file in files("src", "rs") {
        let code = code(&fs::read_to_string(&file).unwrap());
        for word in ["todo!", "unimplemented!", "dbg!"] {
            assert!(!code.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn a_file_is_one_noun() {
    for file in [files("src", "rs"), files("tests", "rs")].concat() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines; {LONGEST_FILE} is the limit", file.display());
    }
}

#[test]
fn no_template_takes_a_value_unescaped() {
    for file in files("templates", "hbs") {
        let text = fs::read_to_string(&file).unwrap();
        for raw in ["{{{", "{{&", "{{~&", "{{~{"] {
            assert!(!text.contains(raw), "{}: {raw} bypasses the escaping", file.display());
        }
    }
}

/// The reader above is itself code that can be wrong; a floor test that sees no imports passes for ever.
#[test]
fn the_reader_sees_every_way_to_write_an_import() {
    let source = r##"
        //! [`crate::comment`]
        use crate::state::{Owner, desired::{CaSpec, Desired as D}, self};
        use super::{above, ui};
        fn f<'a>() -> crate::error::Result<()> { g("crate::text", '"', r#"crate::"raw"#); crate::plan::go::<u8>() /* crate::c */ }
        pub(crate) fn g() { $crate::host::x!(); mycrate::no(); }
    "##;
    let module = path("pki::issue");
    let mut seen: Vec<String> = imports(&code(source), &module).iter().map(|p| p.join("::")).collect();
    seen.sort();
    let expected = [
        "error::Result",
        "host::x",
        "pki::above",
        "pki::ui",
        "plan::go",
        "state",
        "state::Owner",
        "state::desired::CaSpec",
        "state::desired::Desired",
    ];
    assert_eq!(seen, expected);
    let top = imports("use super::ui;", &path("error"));
    assert_eq!(top, [path("ui")]);
    let floors = floors();
    assert_eq!(floor_of(&floors, &path("etcd::client::get")), Some(HANDS_AND_EYES));
    assert_eq!(floor_of(&floors, &path("etcd::Member")), Some(1));
    assert_eq!(floor_of(&floors, &path("error::Kind")), Some(0));
}
