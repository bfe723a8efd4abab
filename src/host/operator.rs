//! Files the operator names on the command line: read as they are, links followed, never below `--root`.
#![allow(clippy::disallowed_methods, reason = "floor 3: this is where files are read")]

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Problem, Result};

/// Largest template that is read.
const MAX_TEMPLATE: u64 = 1 << 20;

/// The bytes of `path`.
///
/// # Errors
/// A usage error naming the path and why.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        Error::usage(format!("cannot read {}", path.display())).cause(e).hint(format!("ls -l {}", path.display()))
    })
}

/// Every `*.hbs` below `dir`, by its name relative to it.
///
/// # Errors
/// Every file that cannot be read, in one report.
pub fn templates(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut problems = vec![];
    walk(dir, dir, &mut found, &mut problems);
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(Error::usage(format!("template overrides in {} cannot be read", dir.display())).problems(problems))
    }
}

fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    let mut note = |path: &Path, why: String| {
        let hint = Some(format!("ls -l {}", path.display()));
        problems.push(Problem { at: path.display().to_string(), message: why, hint });
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return note(dir, e.to_string()),
    };
    let mut dirs = vec![];
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && path.extension().is_none_or(|e| e != "hbs") {
            dirs.push(path);
        } else if path.extension().is_some_and(|e| e == "hbs") {
            let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
            match std::fs::metadata(&path).and_then(|m| {
                if m.len() > MAX_TEMPLATE { Err(std::io::Error::other("larger than 1 MiB")) } else { Ok(()) }
            }) {
                Ok(()) => match std::fs::read_to_string(&path) {
                    Ok(text) => drop(found.insert(name, text)),
                    Err(e) => note(&path, e.to_string()),
                },
                Err(e) => note(&path, e.to_string()),
            }
        }
    }
    for dir in dirs {
        walk(top, &dir, found, problems);
    }
}
