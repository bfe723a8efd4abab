//! Static pods whose manifests are gone are given the time to end, before the kubelet that ends them is stopped.

use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::wait;
use crate::error::Result;
use crate::host::Host;
use crate::host::clock::{self, Waited};
use crate::host::pods::{self, Pods};

/// The longest grace period of ours is 90 s; an apiserver with nothing to drain takes 16 s of it.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until no pod that runs one of `programs` is left; where no kubelet runs, ends them itself. Names those that do
/// not end, and pods that are not ours, which stay. True when there was something to wait for.
///
/// # Errors
/// When the operator interrupts.
pub(super) fn gone(host: &Host, programs: &[String], sink: Sink<'_>) -> Result<bool> {
    // In an image nothing runs, and what runs on this machine is not the image's.
    if !host.starts_units() {
        return Ok(false);
    }
    let (ours, others): (Pods, Pods) =
        pods::running().into_iter().partition(|(_, all)| all.iter().any(|p| programs.contains(&p.program)));
    if !others.is_empty() {
        sink(Event::Note(&format!(
            "pods that are not ours will go on without a kubelet: {}; end them with: kill {}",
            words(&others, |p| p.program.clone()),
            words(&others, |p| p.pid.to_string()),
        )));
    }
    if ours.is_empty() {
        return Ok(false);
    }
    if !host.units().state("kubelet.service")?.active {
        pods::terminate(&ours);
    }
    let left = || -> Pods { pods::running().into_iter().filter(|(pod, _)| ours.contains_key(pod)).collect() };
    let label = format!("{} to end", programs.join(", "));
    let ended = || if left().is_empty() { Poll::Ready(()) } else { Poll::Pending };
    match clock::poll(DEADLINE, Duration::from_millis(200), ended, |since| {
        sink(Event::Waiting { condition: &label, since });
    }) {
        Waited::Ready(()) => Ok(true),
        Waited::Interrupted => Err(wait::interrupted(&format!("waiting for {label}"))),
        Waited::TimedOut => {
            let left = left();
            sink(Event::Note(&format!(
                "still running after {} s: {}; end them with: kill {}",
                DEADLINE.as_secs(),
                words(&left, |p| p.program.clone()),
                words(&left, |p| p.pid.to_string()),
            )));
            Ok(true)
        }
    }
}

fn words(pods: &Pods, of: impl Fn(&pods::Process) -> String) -> String {
    pods.values().flatten().map(of).collect::<Vec<_>>().join(" ")
}
