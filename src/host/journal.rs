//! Lines for the journal: every transition, and of repeated trouble no more than a person would read.
//!
//! They go through a thread. Whoever reads our stderr may hang (a stopped journald, a full pipe), and an election that
//! waits for its log fences for nothing.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::elect::instant::Instant;

/// So many lines of trouble within [`WINDOW`], all groups together; transitions are not counted.
const TROUBLES: usize = 10;
/// See [`TROUBLES`]; also, the same line is not repeated within it.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines that wait for a reader that hangs; what comes after them is lost.
const BACKLOG: usize = 256;
/// How long the end of the process waits for the last lines to be taken.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Writes `<daemon>: <group>: <line>` to stderr.
#[derive(Debug)]
pub struct Journal {
    daemon: &'static str,
    lines: Option<SyncSender<String>>,
    written: Receiver<()>,
    /// Trouble said within the last [`WINDOW`].
    said: VecDeque<(Instant, String)>,
    /// Trouble kept back since the last that was said.
    withheld: usize,
}

impl Journal {
    /// A journal of this `daemon` on `out`: stderr, or what a test reads.
    ///
    /// # Errors
    /// When the system has no room for one more thread.
    pub fn new(daemon: &'static str, mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, todo) = sync_channel::<String>(BACKLOG);
        let (done, written) = sync_channel(0);
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            // Nobody is left to tell of a failed write; the lines after it may fare better.
            todo.iter().for_each(|line| _ = out.write_all(line.as_bytes()).and_then(|()| out.flush()));
            drop(done);
        })?;
        Ok(Self { daemon, lines: Some(lines), written, said: VecDeque::new(), withheld: 0 })
    }

    /// Says it, always; `group` may be empty when it concerns all.
    pub fn say(&self, group: &str, line: &str) {
        // One line each, whatever an error has in it.
        let line = line.trim_end().replace('\n', "; ");
        let colon = if group.is_empty() { "" } else { ": " };
        if let Some(lines) = &self.lines {
            let _ = lines.try_send(format!("{}: {group}{colon}{line}\n", self.daemon));
        }
    }

    /// Says it unless there was too much of it lately.
    pub fn trouble(&mut self, now: Instant, group: &str, line: &str) {
        while self.said.front().is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.said.pop_front();
        }
        let text = format!("{group}\0{line}");
        if self.said.len() >= TROUBLES || self.said.iter().any(|(_, said)| *said == text) {
            self.withheld += 1;
            return;
        }
        self.said.push_back((now, text));
        match std::mem::take(&mut self.withheld) {
            0 => self.say(group, line),
            n => self.say(group, &format!("{line} ({n} more lines were withheld)")),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.lines = None;
        // The thread answers by ending. One that hangs ends with the process.
        let _ = self.written.recv_timeout(LAST_WORDS);
    }
}
