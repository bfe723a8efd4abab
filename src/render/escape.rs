//! One way per syntax to write any string so that its reader gets exactly that string back.
//!
//! Everything outside printable ASCII is written as an escape: what a parser does with U+0085, U+2028 or a byte order
//! mark differs between parsers, and even between versions of one.

use std::fmt::Write;

use serde_json::Value;

/// A YAML double-quoted scalar: never a bool, a number or a null, whatever it says.
pub(super) fn yaml(s: &str) -> String {
    double_quoted(s, wide_escape)
}

/// A JSON string; JSON has no escape beyond U+FFFF, so such a character becomes a surrogate pair.
pub(super) fn json(s: &str) -> String {
    double_quoted(s, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// A TOML basic string.
pub(super) fn toml(s: &str) -> String {
    double_quoted(s, wide_escape)
}

/// One argument of a systemd `Exec…=` line: specifiers (`%`) and variables (`$`) are doubled, and everything but plain
/// words is quoted.
pub(super) fn exec_argument(s: &str) -> String {
    if !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./:,=@+-".contains(&b)) {
        return s.to_owned();
    }
    let quoted = double_quoted(s, wide_escape);
    quoted.replace('%', "%%").replace('$', "$$")
}

/// A path or word in any other systemd setting: quoted, but without C escapes, which those settings do not take.
/// `None` for what cannot be written there.
pub(super) fn unit_setting(s: &str) -> Option<String> {
    if s.is_empty() || s.chars().any(|c| c.is_control()) {
        return None;
    }
    if s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./:,=@+-".contains(&b)) {
        return Some(s.to_owned());
    }
    let escaped = s.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    Some(format!("\"{escaped}\""))
}

/// Whether `s` can stand bare in haproxy's, nginx' and keepalived's configuration, which share no way of quoting.
pub(super) fn is_word(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:[]/*-".contains(&b))
}

/// A value with its type: numbers, bools and lists as they are, strings by `quote`.
pub(super) fn literal(value: &Value, quote: fn(&str) -> String) -> String {
    match value {
        Value::String(s) => quote(s),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|v| literal(v, quote)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{}: {}", quote(k), literal(v, quote))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

fn double_quoted(s: &str, other: fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ => other(c, &mut out),
        }
    }
    out.push('"');
    out
}

/// `\u1234`, `\U0001f600`: YAML, TOML and systemd agree on these.
fn wide_escape(c: char, out: &mut String) {
    let code = u32::from(c);
    let _ = if code <= 0xffff { write!(out, "\\u{code:04x}") } else { write!(out, "\\U{code:08x}") };
}
