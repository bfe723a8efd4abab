//! Reads what a lab acts on in a systemd unit: the commands, their environment, when to restart, how long to wait, who
//! tells that it is ready and alive.
//!
//! Users and sandboxing are systemd's own; a lab runs the same commands as plain processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

/// A parsed unit, drop-ins included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Words of `ExecStart=`, unquoted, variables still in them.
    pub exec: Vec<String>,
    /// `Environment=` in order; a later one wins.
    pub environment: Vec<(String, String)>,
    /// `EnvironmentFile=`; the flag says that it may be absent.
    pub environment_files: Vec<(PathBuf, bool)>,
    /// `Restart=`. Default no.
    pub restart: Restart,
    /// `RestartSec=`. Default 100 ms.
    pub restart_delay: Duration,
    /// `TimeoutStopSec=`. Default 90 s.
    pub stop_timeout: Duration,
    /// `Type=`. Default simple.
    pub kind: Kind,
    /// `RemainAfterExit=`: a clean end counts as running.
    pub remains: bool,
    /// Words of `ExecStopPost=`, run whenever the process has ended.
    pub stop_post: Vec<String>,
    /// `WatchdogSec=`: a process that is silent for this long is ended. Default: it may be silent.
    pub watchdog: Option<Duration>,
    /// `WatchdogSignal=`. Default ABRT.
    pub watchdog_signal: Signal,
    /// `RuntimeDirectory=`, below `/run`.
    pub runtime_directories: Vec<String>,
    /// `Before=kubelet.service`: no static pod starts until it is done.
    pub before_kubelet: bool,
}

/// When a unit counts as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Once its process is there.
    Simple,
    /// Once its process says so.
    Notify,
    /// Never: it does its work and ends.
    Oneshot,
}

/// Which exits are followed by a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// None.
    No,
    /// A non-zero status or a signal other than HUP, INT, TERM or PIPE.
    OnFailure,
    /// Any.
    Always,
}

impl UnitFile {
    /// Parses the unit and its drop-ins, concatenated in reading order.
    ///
    /// # Errors
    /// What a lab cannot run, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut unit = Self {
            exec: vec![],
            environment: vec![],
            environment_files: vec![],
            restart: Restart::No,
            restart_delay: Duration::from_millis(100),
            stop_timeout: Duration::from_secs(90),
            kind: Kind::Simple,
            remains: false,
            stop_post: vec![],
            watchdog: None,
            watchdog_signal: Signal::ABORT,
            runtime_directories: vec![],
            before_kubelet: false,
        };
        let mut section = String::new();
        for line in logical_lines(text) {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
                match (section.as_str(), key) {
                    ("Service", _) => unit.set(key, value).map_err(|why| format!("{key}: {why}"))?,
                    ("Unit", "Before") => {
                        unit.before_kubelet |= value.split_whitespace().any(|u| u == "kubelet.service");
                    }
                    _ => {}
                }
            }
        }
        if unit.exec.is_empty() { Err("it has no ExecStart".to_owned()) } else { Ok(unit) }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ExecStart" if value.is_empty() => self.exec.clear(),
            "ExecStart" if !self.exec.is_empty() => return Err("given more than once".to_owned()),
            "ExecStart" => self.exec = command(value)?,
            "ExecStopPost" if !self.stop_post.is_empty() && !value.is_empty() => {
                return Err("given more than once".to_owned());
            }
            "ExecStopPost" => self.stop_post = command(value)?,
            "Type" => {
                self.kind = match value {
                    "simple" | "exec" => Kind::Simple,
                    "notify" => Kind::Notify,
                    "oneshot" => Kind::Oneshot,
                    other => return Err(format!("`{other}` is not known to a lab")),
                }
            }
            "RemainAfterExit" => self.remains = matches!(value, "yes" | "true" | "on" | "1"),
            "WatchdogSec" => self.watchdog = Some(duration(value)?).filter(|d| !d.is_zero()),
            "WatchdogSignal" => {
                self.watchdog_signal = match value.trim_start_matches("SIG") {
                    "KILL" => Signal::KILL,
                    "ABRT" => Signal::ABORT,
                    "TERM" => Signal::TERM,
                    _ => return Err(format!("`{value}` is not known to a lab")),
                }
            }
            "RuntimeDirectory" => self.runtime_directories.extend(specifiers(words(value)?)?),
            "Environment" if value.is_empty() => self.environment.clear(),
            "Environment" => {
                for word in specifiers(words(value)?)? {
                    let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not NAME=VALUE"))?;
                    self.environment.push((name.to_owned(), value.to_owned()));
                }
            }
            "EnvironmentFile" if value.is_empty() => self.environment_files.clear(),
            "EnvironmentFile" => {
                let path = specifiers(vec![value.trim_start_matches('-').to_owned()])?.concat();
                self.environment_files.push((path.into(), value.starts_with('-')));
            }
            "Restart" => {
                self.restart = match value {
                    "no" => Restart::No,
                    "on-failure" | "on-abnormal" | "on-abort" | "on-watchdog" => Restart::OnFailure,
                    "always" => Restart::Always,
                    other => return Err(format!("`{other}` is not known to a lab")),
                }
            }
            "RestartSec" => self.restart_delay = duration(value)?,
            "TimeoutStopSec" => self.stop_timeout = duration(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// A command line: `-` forgives failures, `+` and `!` are about privileges; none of them changes what is run.
fn command(value: &str) -> Result<Vec<String>, String> {
    specifiers(words(value.trim_start_matches(['-', '+', '!']))?)
}

/// Lines joined at a trailing backslash; comments, also between joined lines, and blank lines are gone.
fn logical_lines(text: &str) -> Vec<String> {
    let (mut lines, mut open) = (Vec::new(), String::new());
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(head) => open = format!("{open}{head} "),
            None => lines.push(format!("{}{line}", std::mem::take(&mut open)).trim().to_owned()),
        }
    }
    lines.push(open.trim().to_owned());
    lines.retain(|l| !l.is_empty());
    lines
}

/// Splits at whitespace, honouring both quotes and C escapes (systemd.syntax(7), "Quoting").
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<Vec<u8>>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => escape(&mut chars, word.get_or_insert_default())?,
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => push(word.get_or_insert_default(), c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    words.into_iter().map(|w| String::from_utf8(w).map_err(|_| "not valid UTF-8".to_owned())).collect()
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn escape(chars: &mut std::str::Chars<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let c = chars.next().ok_or("a backslash at the end")?;
    let mut number = |first: Option<char>, digits: usize, radix: u32| {
        let text: String = first.into_iter().chain(chars.by_ref().take(digits)).collect();
        u32::from_str_radix(&text, radix).map_err(|_| format!("`\\{c}{text}` is not an escape"))
    };
    match c {
        'a' => out.push(7),
        'b' => out.push(8),
        'f' => out.push(12),
        'n' => out.push(b'\n'),
        'r' => out.push(b'\r'),
        't' => out.push(b'\t'),
        'v' => out.push(11),
        's' => out.push(b' '),
        '\\' | '"' | '\'' => push(out, c),
        'x' => out.push(u8::try_from(number(None, 2, 16)?).unwrap_or(b'?')),
        '0'..='3' => out.push(u8::try_from(number(Some(c), 2, 8)?).unwrap_or(b'?')),
        'u' | 'U' => {
            let code = number(None, if c == 'u' { 4 } else { 8 }, 16)?;
            push(out, char::from_u32(code).ok_or_else(|| format!("`\\{c}{code:x}` is not a character"))?);
        }
        _ => return Err(format!("`\\{c}` is not an escape")),
    }
    Ok(())
}

/// `%%` is a percent sign; every other specifier needs a systemd to answer it.
fn specifiers(words: Vec<String>) -> Result<Vec<String>, String> {
    let one = |word: String| {
        let (mut out, mut chars) = (String::new(), word.chars());
        while let Some(c) = chars.next() {
            match (c, if c == '%' { chars.next() } else { None }) {
                ('%', Some('%')) => out.push('%'),
                ('%', next) => return Err(format!("`%{}` is not known to a lab", next.unwrap_or(' '))),
                (c, _) => out.push(c),
            }
        }
        Ok(out)
    };
    words.into_iter().map(one).collect()
}

/// `5`, `100ms`, `1min 30s`, `infinity`.
fn duration(text: &str) -> Result<Duration, String> {
    if text == "infinity" {
        return Ok(Duration::from_secs(u64::from(u32::MAX)));
    }
    let wrong = || format!("`{text}` is not a time span");
    let (mut total, mut rest) = (Duration::ZERO, text.trim());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let milliseconds: u64 = match &rest[..letters] {
            "ms" | "msec" => 1,
            "" | "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            _ => return Err(wrong()),
        };
        rest = rest[letters..].trim_start();
        total += Duration::from_millis(count.checked_mul(milliseconds).ok_or_else(wrong)?);
    }
    if text.trim().is_empty() { Err(wrong()) } else { Ok(total) }
}

/// Puts variables into the words of `ExecStart=`: `${NAME}` anywhere, `$NAME` as a whole word (split at blanks), `$$`.
pub fn expand(words: &[String], environment: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| environment.get(name).map_or("", String::as_str);
    let mut out = Vec::new();
    for word in words {
        if let Some(name) = word.strip_prefix('$').filter(|n| is_name(n)) {
            out.extend(value(name).split_whitespace().map(str::to_owned));
            continue;
        }
        let (mut done, mut rest) = (String::new(), word.as_str());
        while let Some(at) = rest.find('$') {
            done.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(tail) = rest.strip_prefix('$') {
                done.push('$');
                rest = tail;
            } else if let Some((name, tail)) =
                rest.strip_prefix('{').and_then(|r| r.split_once('}')).filter(|(n, _)| is_name(n))
            {
                done.push_str(value(name));
                rest = tail;
            } else {
                done.push('$');
            }
        }
        out.push(done + rest);
    }
    out
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// An `EnvironmentFile=`: `NAME=VALUE` lines, comments, single quotes as they are, double quotes with escapes.
///
/// # Errors
/// The first line that does not read.
pub fn environment_file(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';'])) {
        let (name, raw) = line.split_once('=').ok_or_else(|| format!("`{line}` is not NAME=VALUE"))?;
        let (mut value, mut quote, mut chars) = (String::new(), None, raw.trim().chars());
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(q)) if c == q => quote = None,
                ('\\', None) => value.extend(chars.next()),
                // Inside double quotes a backslash only protects what a shell would read.
                ('\\', Some('"')) => match chars.next() {
                    Some(next @ ('"' | '\\' | '`' | '$')) => value.push(next),
                    next => {
                        value.push('\\');
                        value.extend(next);
                    }
                },
                (c, _) => value.push(c),
            }
        }
        if quote.is_some() {
            return Err(format!("{}: a quote is not closed", name.trim()));
        }
        out.push((name.trim().to_owned(), value));
    }
    Ok(out)
}
