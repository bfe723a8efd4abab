//! Units of a lab: the client side of its supervisor.
#![allow(clippy::disallowed_methods)] // floor 3: starts the supervisor and waits for it

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Units;
use super::supervisor::home::Home;
use super::supervisor::socket::{Reply, Report, Request, UnitReport, ask};
use super::supervisor::{await_end, log, programs};
use crate::error::{Error, Result};
use crate::state::observed::UnitFact;

const POLL: Duration = Duration::from_millis(50);

/// A lab's supervisor, as seen by those who ask it.
#[derive(Debug, Clone)]
pub struct Supervised {
    home: Home,
}

impl Supervised {
    /// The supervisor of `home`, whether it runs or not.
    pub fn of(home: &Home) -> Self {
        Self { home: home.clone() }
    }

    /// Everything it runs; `None` when it does not run itself.
    ///
    /// # Errors
    /// When it runs but does not answer.
    pub fn report(&self) -> Result<Option<Report>> {
        match self.ask(&Request::Report)? {
            Some(Reply::Report(report)) => Ok(Some(report)),
            Some(other) => Err(self.unexpected(&other)),
            None => Ok(None),
        }
    }

    /// Starts a supervisor from `program` (this program), detached from the terminal, and waits until it answers.
    ///
    /// # Errors
    /// When it ends or stays silent; the error carries its last words.
    pub fn launch(&self, program: &Path) -> Result<()> {
        let path = self.home.supervisor_log();
        let failed = |e: io::Error| Error::apply("cannot start the lab supervisor").cause(e);
        let output: File = File::options().append(true).create(true).open(&path).map_err(failed)?;
        let mut child = Command::new(program)
            .args(["lab", "supervise"])
            .arg(self.home.dir())
            .arg(self.home.name())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.report()?.is_none() {
            let ended = child.try_wait().map_err(failed)?;
            if ended.is_some() || Instant::now() > deadline {
                let last = log::tail(&path, 5).join("\n");
                let how = ended.map_or_else(|| "stays silent".to_owned(), |status| format!("ended, {status}"));
                return Err(Error::apply(format!("the lab supervisor {how}"))
                    .cause(last)
                    .hint(format!("tail {}", path.display())));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Tells it where this command finds programs: its own environment may be older.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn search_like_me(&self) -> Result<()> {
        self.done(&Request::Search { dirs: programs::search_dirs() })
    }

    /// Tells it to stop everything and end; false when it does not run.
    ///
    /// # Errors
    /// When it runs but does not answer.
    pub fn shut_down(&self) -> Result<bool> {
        match ask(&self.home, &Request::Shutdown) {
            Ok(Reply::Done) => Ok(true),
            Ok(other) => Err(self.unexpected(&other)),
            Err(e) if is_absent(&e) => Ok(false),
            // With nothing to stop it may be gone before its answer is.
            Err(e) if is_cut_short(&e) => Ok(true),
            Err(e) => Err(self.mute(e)),
        }
    }

    /// Ends it and everything it runs as a power cut would: at once, and nobody is told. False when it does not run.
    ///
    /// # Errors
    /// When it does not answer, or something of it does not end.
    pub fn kill(&self) -> Result<bool> {
        let Some(pid) = self.report()?.and_then(|r| Pid::from_raw(r.pid.cast_signed())) else { return Ok(false) };
        kill_process(pid, Signal::KILL).map_err(|e| Error::apply("cannot kill the lab supervisor").cause(e))?;
        await_end(&self.home, Duration::from_secs(20)).map(|_| true)
    }

    /// Freezes everything it runs, or thaws it; it goes on itself, as a machine's systemd would.
    ///
    /// # Errors
    /// When it does not run or does not answer.
    pub fn freeze(&self, on: bool) -> Result<()> {
        self.done(&Request::Freeze { on })
    }

    /// Tells `unit` to stop and does not wait.
    ///
    /// # Errors
    /// When it does not run or does not answer.
    pub fn begin_stop(&self, unit: &str) -> Result<()> {
        self.done(&Request::Stop { unit: unit.to_owned() })
    }

    /// `None` when nobody is there to be asked.
    fn ask(&self, request: &Request) -> Result<Option<Reply>> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match ask(&self.home, request) {
                Ok(reply) => return Ok(Some(reply)),
                Err(e) if is_absent(&e) => return Ok(None),
                // It ended while it was asked; asked again it is absent.
                Err(e) if is_cut_short(&e) && Instant::now() < deadline => std::thread::sleep(POLL),
                Err(e) => return Err(self.mute(e)),
            }
        }
    }

    fn must(&self, request: &Request) -> Result<Reply> {
        self.ask(request)?.ok_or_else(|| self.mute(io::ErrorKind::NotConnected.into()))
    }

    fn done(&self, request: &Request) -> Result<()> {
        match self.must(request)? {
            Reply::Done => Ok(()),
            Reply::Refused(why) => Err(Error::apply(why)),
            other => Err(self.unexpected(&other)),
        }
    }

    fn unit(&self, unit: &str) -> Result<UnitReport> {
        match self.must(&Request::State { unit: unit.to_owned() })? {
            Reply::State(state) => Ok(state),
            other => Err(self.unexpected(&other)),
        }
    }

    fn mute(&self, cause: io::Error) -> Box<Error> {
        let (name, dir) = (self.home.name(), self.home.dir().display());
        Error::apply(format!("the supervisor of {name} of the lab at {dir} does not answer"))
            .cause(cause)
            .hint(format!("hamaster lab up --dir {}", self.home.dir().display()))
    }

    fn unexpected(&self, reply: &Reply) -> Box<Error> {
        self.mute(io::Error::other(match reply {
            Reply::Refused(why) => why.clone(),
            _ => "an answer to another question".to_owned(),
        }))
        .hint("was it started by another version of hamaster? then: hamaster lab down")
    }
}

/// No socket, or one that nobody listens on.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn is_cut_short(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl Units for Supervised {
    fn reload(&self) -> Result<()> {
        self.done(&Request::Reload)
    }

    fn state(&self, unit: &str) -> Result<UnitFact> {
        let UnitReport { loaded, enabled, active, failed, needs_reload, pid } = self.unit(unit)?;
        Ok(UnitFact { loaded, enabled, active, failed, needs_reload, pid })
    }

    fn enable(&self, unit: &str, on: bool) -> Result<()> {
        self.done(&Request::Enable { unit: unit.to_owned(), on })
    }

    fn start(&self, unit: &str) -> Result<()> {
        self.done(&Request::Start { unit: unit.to_owned() })
    }

    fn restart(&self, unit: &str) -> Result<()> {
        self.done(&Request::Restart { unit: unit.to_owned() })
    }

    fn stop(&self, unit: &str) -> Result<()> {
        self.begin_stop(unit)?;
        // The supervisor kills what does not stop in its TimeoutStopSec; this only guards against a stuck kernel.
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.unit(unit)?.pid.is_some() {
            if Instant::now() > deadline {
                return Err(Error::apply(format!("{unit} does not stop")));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn logs(&self, unit: &str, lines: usize) -> Vec<String> {
        log::tail(&self.home.log(unit.trim_end_matches(".service")), lines)
    }

    fn log_command(&self, unit: &str) -> String {
        format!("tail -n 100 {}", self.home.log(unit.trim_end_matches(".service")).display())
    }
}
