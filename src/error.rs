//! The one error type: what failed, on which object, why, and the command that helps.
//!
//! A caller that must branch looks at [`Kind`]; a person reads one `error:` line, then each problem or cause,
//! then `hint:` lines that are commands to run. The kind decides the exit code, unless a command has codes of its own.

use std::fmt;

/// Why a command stopped; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Failed or interrupted while applying; the command can safely be run again. Exit code 1.
    Apply,
    /// Usage or configuration is wrong; nothing was touched. Exit code 2.
    Usage,
    /// Preflight refused; nothing was touched. Exit code 3.
    Refused,
    /// Conflict with something we do not own, drift, or unhealthy. Exit code 4.
    Conflict,
}

impl Kind {
    /// The documented exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Apply => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
            Kind::Conflict => 4,
        }
    }
}

/// One of several mistakes reported together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `cluster.yaml:12:5`, a path, a check id. Empty when the message says it all.
    pub at: String,
    /// What is wrong, lower case, one line (a snippet may follow on further lines).
    pub message: String,
    /// What to run or write instead.
    pub hint: Option<String>,
}

/// An error on its way to the operator.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    exit_code: Option<u8>,
    message: String,
    problems: Vec<Problem>,
    causes: Vec<String>,
    hints: Vec<String>,
}

/// Shorthand used by the whole crate. The error is boxed: results stay small on the good path.
pub type Result<T, E = Box<Error>> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` says what failed and on which object, in lower case.
    pub fn new(kind: Kind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            kind,
            exit_code: None,
            message: message.into(),
            problems: vec![],
            causes: vec![],
            hints: vec![],
        })
    }

    /// Shorthand for [`Kind::Apply`].
    pub fn apply(message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Apply, message)
    }

    /// Shorthand for [`Kind::Usage`].
    pub fn usage(message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Usage, message)
    }

    /// Shorthand for [`Kind::Refused`].
    pub fn refused(message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Refused, message)
    }

    /// Shorthand for [`Kind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Conflict, message)
    }

    /// Adds a `hint:` line: a command to run or the value to write.
    pub fn hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hints.push(hint.into());
        self
    }

    /// Adds a `caused by:` line.
    pub fn cause(mut self: Box<Self>, cause: impl fmt::Display) -> Box<Self> {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds all the mistakes found, each with its own place and hint.
    pub fn problems(mut self: Box<Self>, problems: Vec<Problem>) -> Box<Self> {
        self.problems.extend(problems);
        self
    }

    /// In place of the kind's exit code: for commands whose callers tell more cases apart.
    pub fn exits(mut self: Box<Self>, code: u8) -> Box<Self> {
        self.exit_code = Some(code);
        self
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code.unwrap_or(self.kind.exit_code())
    }

    /// Why it stopped.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The first line, without the `error:` word.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The mistakes reported together; empty for a single failure.
    pub fn all_problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The chain of causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// The hints, in the order to try them.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for p in &self.problems {
            write!(f, "; {}: {}", p.at, p.message)?;
        }
        for c in &self.causes {
            write!(f, ": {c}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
