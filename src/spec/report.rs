//! Walks the tree section by section and gathers every mistake with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::mistake::{Mistake, nearest};
use super::wire::{Key, Node, Place, Value};
use crate::error::{Error, Problem, Result};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    File(Place),
    Flag(&'static str),
}

/// All mistakes found so far, and where each value came from.
#[derive(Debug)]
pub(crate) struct Report<'f> {
    file: &'f str,
    found: Vec<(Option<Origin>, Problem)>,
    origins: BTreeMap<String, Origin>,
    refused: BTreeSet<String>,
}

impl<'f> Report<'f> {
    pub(crate) fn new(file: &'f str) -> Self {
        Self { file, found: vec![], origins: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// A mistake at a place of the file.
    pub(crate) fn at(&mut self, place: Place, mistake: Mistake) {
        self.push(Some(Origin::File(place)), String::new(), mistake);
    }

    /// A mistake in the values of these keys together; reported at the first that was given. Nothing is said if one
    /// of them was refused already: a default stands in for it, which would only confuse.
    pub(crate) fn across(&mut self, keys: &[&str], mistake: impl FnOnce() -> Mistake) {
        if !keys.iter().any(|k| self.refused.contains(*k)) {
            let origin = keys.iter().find_map(|k| self.origins.get(*k)).copied();
            self.push(origin, keys.first().copied().unwrap_or_default().to_owned(), mistake());
        }
    }

    /// Nothing more is said about what depends on this key.
    pub(crate) fn doubt(&mut self, key: &str) {
        self.refused.insert(key.to_owned());
    }

    /// Whether the file or a flag said something about this key.
    pub(crate) fn given(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// A flag's value, in place of the file's.
    pub(crate) fn flag<T, E: Into<Mistake>>(
        &mut self,
        flag: &'static str,
        key: impl Into<String>,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let key = key.into();
        self.origins.insert(key.clone(), Origin::Flag(flag));
        self.refused.remove(&key);
        parse(text).map_err(|e| self.refuse(Origin::Flag(flag), key, e.into())).ok()
    }

    /// Nothing found, or everything that was.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(origin, _)| (origin.is_none(), *origin));
        let flags = self.found.iter().filter(|(o, _)| matches!(o, Some(Origin::Flag(_)))).count();
        let count = match self.found.len() {
            1 => "1 mistake".to_owned(),
            n => format!("{n} mistakes"),
        };
        let message = match flags {
            0 => format!("{} has {count}", self.file),
            n if n == self.found.len() => format!("the command line has {count}"),
            _ => format!("{} and the command line have {count}", self.file),
        };
        Err(Error::usage(message).problems(self.found.into_iter().map(|(_, p)| p).collect()))
    }

    /// A value that is refused: nothing more is said about what depends on it.
    pub(crate) fn refuse(&mut self, origin: Origin, key: String, mistake: Mistake) {
        self.push(Some(origin), key.clone(), mistake);
        self.refused.insert(key);
    }

    fn push(&mut self, origin: Option<Origin>, key: String, mistake: Mistake) {
        let at = match origin {
            Some(Origin::File(p)) => format!("{}:{}:{}", self.file, p.line, p.column),
            Some(Origin::Flag(flag)) => flag.to_owned(),
            None => key,
        };
        self.found.push((origin, Problem { at, message: mistake.message, hint: mistake.hint }));
    }
}

/// One mapping of the file. The keys that are asked for are the keys that are known.
pub(crate) struct Section<'r, 'f, 'n> {
    report: &'r mut Report<'f>,
    path: String,
    entries: &'n [(Key, Node)],
    asked: Vec<&'static str>,
}

impl<'f, 'n> Section<'_, 'f, 'n> {
    /// Reads `node` as a mapping with `read`, then reports the keys `read` did not ask for, and those given twice.
    pub(crate) fn read<T>(
        report: &mut Report<'f>,
        path: &str,
        node: Option<&'n Node>,
        read: impl FnOnce(&mut Section<'_, 'f, 'n>) -> T,
    ) -> T {
        let entries: &[(Key, Node)] = match node.map(|n| (n.at, &n.value)) {
            Some((_, Value::Map(entries))) => entries,
            None | Some((_, Value::Null)) => &[],
            Some((at, other)) => {
                let key = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
                report.at(
                    at,
                    Mistake::new(format!("{key} is {}, not a mapping", other.describe()))
                        .hint("write `key: value` lines"),
                );
                &[]
            }
        };
        duplicates(report, entries);
        let mut section = Section { report, path: path.to_owned(), entries, asked: vec![] };
        let value = read(&mut section);
        section.unknown();
        value
    }

    /// A nested mapping; absent is the same as empty.
    pub(crate) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 'f, 'n>) -> T) -> T {
        let node = self.find(key);
        let path = self.key(key);
        Section::read(self.report, &path, node, read)
    }

    /// A scalar; `default` if the key is absent, null or refused.
    pub(crate) fn value<T, E: Into<Mistake>>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// A scalar that may be absent.
    pub(crate) fn optional<T, E: Into<Mistake>>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let node = self.find(key)?;
        let path = self.key(key);
        scalar(self.report, path, node, parse)
    }

    /// A scalar that must be there.
    pub(crate) fn required<T, E: Into<Mistake>>(
        &mut self,
        key: &'static str,
        at: Place,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.has(key) {
            self.report.at(at, Mistake::new(format!("`{}` is missing", self.key(key))));
        }
        self.optional(key, parse)
    }

    /// The items of a list, each with its path and the report to tell about it.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        mut item: impl FnMut(&mut Report<'f>, &str, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.find(key) else { return vec![] };
        let path = self.key(key);
        match &node.value {
            Value::Null => vec![],
            Value::List(items) => {
                let mut read = vec![];
                for node in items {
                    // The path counts what was read: that is the index in the spec.
                    let path = format!("{path}.{}", read.len());
                    read.extend(item(self.report, &path, node));
                }
                read
            }
            other => {
                let mistake = Mistake::new(format!("`{path}` is {}, not a list", other.describe()));
                self.report.refuse(Origin::File(node.at), path, mistake.hint("write `[a, b]` or one `- a` line each"));
                vec![]
            }
        }
    }

    /// A mapping with keys of the operator's choice, all values scalars.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
        check_key: impl Fn(&str) -> Result<(), Mistake>,
        check_value: impl Fn(&str) -> Result<String, Mistake>,
    ) -> BTreeMap<String, String> {
        let Some(node) = self.find(key) else { return BTreeMap::new() };
        let path = self.key(key);
        let Value::Map(entries) = &node.value else {
            if !matches!(node.value, Value::Null) {
                let mistake = Mistake::new(format!("`{path}` is {}, not a mapping", node.value.describe()));
                self.report.at(node.at, mistake.hint("write `key: value` lines"));
            }
            return BTreeMap::new();
        };
        duplicates(self.report, entries);
        let mut table = BTreeMap::new();
        for (key, node) in entries {
            if let Err(mistake) = check_key(&key.name) {
                self.report.at(key.at, mistake);
            }
            if matches!(node.value, Value::Null) {
                let mistake = Mistake::new(format!("`{path}.{}` has no value", key.name));
                self.report.at(key.at, mistake.hint("write a value, or `\"\"` for an empty one"));
            }
            if let Some(value) = scalar(self.report, format!("{path}.{}", key.name), node, &check_value) {
                table.entry(key.name.clone()).or_insert(value);
            }
        }
        table
    }

    /// The value of a key, whatever it is.
    pub(crate) fn find(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        self.entries.iter().find(|(k, _)| k.name == key).map(|(_, node)| node)
    }

    /// Whether it says something about this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, n)| k.name == key && !matches!(n.value, Value::Null))
    }

    /// Whether it is given as one word, where a mapping may stand too.
    pub(crate) fn is_scalar(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, n)| k.name == key && matches!(n.value, Value::Scalar(_)))
    }

    /// Its whole path.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where mistakes are gathered.
    pub(crate) fn report(&mut self) -> &mut Report<'f> {
        self.report
    }

    fn unknown(self) {
        for (key, _) in self.entries.iter().filter(|(k, _)| !self.asked.contains(&k.name.as_str())) {
            let place = if self.path.is_empty() { "at the top".to_owned() } else { format!("in `{}`", self.path) };
            let mistake = Mistake::new(format!("unknown key `{}` {place}", key.name.escape_debug()));
            self.report.at(
                key.at,
                match nearest(&key.name, self.asked.iter().copied()) {
                    Some(near) => mistake.hint(format!("write `{near}`")),
                    None => mistake.hint(format!("known keys: {}", self.asked.join(", "))),
                },
            );
        }
    }
}

/// Reads one scalar and remembers where it stands.
pub(crate) fn scalar<T, E: Into<Mistake>>(
    report: &mut Report<'_>,
    path: String,
    node: &Node,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let origin = Origin::File(node.at);
    let parsed = match &node.value {
        Value::Null => return None,
        Value::Scalar(text) => parse(text).map_err(Into::into),
        other => Err(Mistake::new(format!("`{path}` is {}, not a single value", other.describe()))),
    };
    report.origins.insert(path.clone(), origin);
    // A list counts what it read, so a refused item's path is the next item's.
    report.refused.remove(&path);
    parsed.map_err(|mistake| report.refuse(origin, path, mistake)).ok()
}

fn duplicates(report: &mut Report<'_>, entries: &[(Key, Node)]) {
    let mut first: BTreeMap<&str, &Key> = BTreeMap::new();
    for (key, _) in entries {
        match first.get(key.name.as_str()) {
            Some(earlier) => report.at(
                key.at,
                Mistake::new(format!("duplicate key `{}`, first on line {}", key.name.escape_debug(), earlier.at.line))
                    .hint("keep one of them"),
            ),
            None => _ = first.insert(&key.name, key),
        }
    }
}

/// Refuses an item that was listed before.
pub(crate) fn unique<T: Clone + PartialEq + Display>(seen: &mut Vec<T>, item: T, what: &str) -> Result<T, Mistake> {
    if seen.contains(&item) {
        return Err(Mistake::new(format!("{what} `{item}` is listed twice")).hint("keep one of them"));
    }
    seen.push(item.clone());
    Ok(item)
}
