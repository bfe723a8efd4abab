//! System calls that may hang (a dead NFS server), each on a thread of its own with a deadline.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

/// Works on one filesystem. What hangs there is waited for before anything else is begun: it may yet take effect, and
/// a rename that comes true after a removal was confirmed would be a second master.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    stuck: Option<Receiver<()>>,
}

impl Bounded {
    /// Runs `work`, at most `within`.
    ///
    /// # Errors
    /// What `work` fails with, and `ETIMEDOUT` when it, or something before it, hangs.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        within: Duration,
        work: impl FnOnce() -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, Errno> {
        if let Some(stuck) = &self.stuck {
            if stuck.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
                return Err(Errno::TIMEDOUT);
            }
            self.stuck = None;
        }
        let (done, ended): (Sender<()>, _) = channel();
        let (answer, answered) = channel();
        let work = Arc::new(Mutex::new(Some(work)));
        let go = {
            let work = Arc::clone(&work);
            move || {
                let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
                let _ = work.map(|work| answer.send(work()));
                drop(done);
            }
        };
        if let Err(e) = std::thread::Builder::new().name("elect-io".into()).spawn(go) {
            // No thread to be had, of all moments now: a call that probably does not hang beats none.
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            return work.map_or_else(|| Err(Errno::from_io_error(&e).unwrap_or(Errno::AGAIN)), |work| work());
        }
        match answered.recv_timeout(within) {
            Ok(result) => result,
            Err(_) => {
                self.stuck = Some(ended);
                Err(Errno::TIMEDOUT)
            }
        }
    }
}

/// Why a call failed, in words: what hangs here is no connection.
pub(super) fn told(e: Errno) -> String {
    if e == Errno::TIMEDOUT { "the filesystem does not answer in time".to_owned() } else { e.to_string() }
}
