//! How the worker is woken: an eventfd that others ring, polled together with what it watches itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::error::{Error, Result};

/// Rung by other threads; rings before a wait are not lost.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(|e| Error::apply("cannot make an eventfd").cause(e))
    }

    pub(super) fn ring(&self) {
        // Full means it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Returns once rung, once `also` can be read, or after `timeout`; at times for no reason.
    pub(super) fn wait(&self, also: Option<BorrowedFd<'_>>, timeout: Duration) {
        let mut fds = vec![PollFd::new(&self.0, PollFlags::IN)];
        fds.extend(also.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = Timespec::try_from(timeout).ok();
        let _ = poll(&mut fds, timeout.as_ref());
        let _ = rustix::io::read(self.0.as_fd(), &mut [0_u8; 8]);
    }
}
