//! Every word a person reads passes here: results on stdout, messages on stderr; colour, quiet and tty decided once.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one module that prints")]

pub mod plan_view;
pub mod progress;
pub mod table;

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Result};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one document with a `schema`.
    Json,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The terminal, as decided once at start.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// How results are written.
    pub format: Format,
    /// Only errors.
    pub quiet: bool,
    /// Say more.
    pub verbose: bool,
    color: bool,
    tty: bool,
}

/// Colours with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Good.
    Good,
    /// Look at it.
    Warn,
    /// Bad.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Ui {
    /// Decides from the flags, the environment and what stderr is.
    pub fn new(format: Format, quiet: bool, verbose: bool, color: ColorChoice) -> Self {
        let tty = std::io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => tty && std::io::stdout().is_terminal() && !no_color,
        };
        Self { format, quiet, verbose, color, tty }
    }

    /// Stderr is a terminal: progress may redraw, questions may be asked.
    pub fn is_interactive(&self) -> bool {
        self.tty && std::io::stdin().is_terminal() && self.format == Format::Text
    }

    /// `text` in a tone, if colours are on.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A result on stdout. A reader that went away (`| head`) is not an error.
    pub fn out(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// A result as JSON on stdout, with its schema first.
    pub fn json(&self, schema: &str, value: &impl Serialize) {
        let mut document = json!({ "schema": format!("hamaster/v1/{schema}") });
        if let (Some(object), Ok(serde_json::Value::Object(fields))) =
            (document.as_object_mut(), serde_json::to_value(value))
        {
            object.extend(fields);
        }
        self.out(&format!("{document:#}\n"));
    }

    /// A message on stderr, unless quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// A `warning:` line.
    pub fn warn(&self, text: &str) {
        self.say(&format!("{} {text}", self.paint(Tone::Warn, "warning:")));
    }

    /// An error: one `error:` line, each problem with its place and hint, `caused by:` and `hint:` lines.
    pub fn error(&self, error: &Error) {
        if self.format == Format::Json {
            self.json("error", &error_json(error));
            return;
        }
        let mut text = format!("{} {}\n", self.paint(Tone::Bad, "error:"), error.message());
        for p in error.all_problems() {
            let place = if p.at.is_empty() { String::new() } else { format!("{}: ", self.paint(Tone::Bold, &p.at)) };
            text.push_str(&format!("  {place}{}\n", p.message.replace('\n', "\n    ")));
            if let Some(hint) = &p.hint {
                text.push_str(&format!("    {} {hint}\n", self.paint(Tone::Dim, "hint:")));
            }
        }
        for cause in error.causes() {
            text.push_str(&format!("caused by: {cause}\n"));
        }
        for hint in error.hints() {
            text.push_str(&format!("{} {hint}\n", self.paint(Tone::Dim, "hint:")));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Asks for a secret; it is not shown while it is typed.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub fn ask_secret(&self, what: &str) -> Result<zeroize::Zeroizing<String>> {
        let nobody = || Error::usage(format!("{}: not on a terminal, so nobody can be asked", what.to_lowercase()));
        if !self.is_interactive() {
            return Err(nobody());
        }
        let answer = dialoguer::Password::new().with_prompt(what).interact();
        answer.map(zeroize::Zeroizing::new).map_err(|e| nobody().cause(e))
    }

    /// Asks before something is changed. Without a terminal `--yes` must have been given.
    ///
    /// # Errors
    /// When nobody can be asked, or the answer is no.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<()> {
        if yes {
            return Ok(());
        }
        if !self.is_interactive() {
            return Err(Error::usage("not on a terminal, so nobody can be asked; nothing was touched")
                .hint("add --yes to go ahead, or --dry-run to see the plan"));
        }
        let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact();
        match answer {
            Ok(true) => Ok(()),
            _ => Err(Error::usage("not confirmed; nothing was touched")),
        }
    }
}

fn error_json(error: &Error) -> serde_json::Value {
    let problems: Vec<_> =
        error.all_problems().iter().map(|p| json!({ "at": p.at, "message": p.message, "hint": p.hint })).collect();
    json!({
        "exitCode": error.exit_code(),
        "message": error.message(),
        "problems": problems,
        "causes": error.causes(),
        "hints": error.hints(),
    })
}
