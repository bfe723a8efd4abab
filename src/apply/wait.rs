//! Waiting for a unit: what it waits for on screen, and when it fails the last log lines, the cause, the next command.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::error::{Error, Problem, Result};
use crate::host::clock::{self, Waited};
use crate::host::{Host, http, probe};
use crate::state::desired::Readiness;

/// How long a unit may take to become ready. An operator waits for it at most once per unit; etcd alone takes about 1 s.
const DEADLINE: Duration = Duration::from_secs(90);
/// A member that has read or written this many bytes more is at work, on a snapshot or on its own log: its time begins
/// anew.
const MOVED: u64 = 4 << 20;
/// How long a founder waits for the others: as long as an operator takes to start each of them.
const TOGETHER: Duration = Duration::from_secs(600);
/// How often the condition is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// A unit that is down this long in a row is not coming up: with `RestartSec=5s` it has been started and has exited.
const DOWN: Duration = Duration::from_secs(3);

/// Waits until `unit` is ready, and is not the process `old` that a restart has yet to end.
///
/// # Errors
/// When it fails, does not become ready in time, or the operator interrupts.
pub(super) fn ready(host: &Host, unit: &str, old: Option<u32>, ready: &Readiness, sink: Sink<'_>) -> Result<()> {
    let mut says = String::new();
    let mut down_since: Option<Duration> = None;
    let watch = clock::Stopwatch::start();
    let deadline = match ready {
        Readiness::EtcdFormed { .. } => TOGETHER,
        _ => DEADLINE,
    };
    let (mut bytes, mut moved) = (0, clock::Stopwatch::start());
    let condition = || {
        let state = host.units().state(unit).unwrap_or_default();
        if state.failed || !state.active {
            let since = *down_since.get_or_insert(watch.elapsed());
            if state.failed && watch.elapsed().saturating_sub(since) > DOWN {
                return Poll::Ready(Err("it started and exited".to_owned()));
            }
        } else {
            down_since = None;
        }
        match check(ready, state.active && (old.is_none() || state.pid != old)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(why) => {
                let now = state.pid.filter(|_| matches!(ready, Readiness::EtcdHealthy { .. })).and_then(probe::traffic);
                if let Some(now) = now.filter(|now| now.abs_diff(bytes) > MOVED) {
                    (bytes, moved) = (now, clock::Stopwatch::start());
                }
                says.clone_from(&why);
                match moved.elapsed() > deadline {
                    true => Poll::Ready(Err(format!("still not after {} s: {says}", watch.elapsed().as_secs()))),
                    false => Poll::Pending,
                }
            }
        }
    };
    let label = match ready {
        Readiness::EtcdFormed { peers, .. } => {
            let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
            format!("{unit} to be healthy together with {}: run hamaster init there, too", peers.join(", "))
        }
        _ => format!("{unit} to be {}", describe(ready)),
    };
    let day = Duration::from_secs(24 * 3600);
    let outcome = clock::poll(day, EVERY, condition, |since| sink(Event::Waiting { condition: &label, since }));
    match outcome {
        Waited::Ready(Ok(())) => Ok(()),
        Waited::Ready(Err(why)) => Err(failed(host, unit, ready, &why)),
        Waited::TimedOut | Waited::Interrupted => Err(interrupted(&format!("waiting for {label}"))),
    }
}

/// The error of an interrupted run.
pub(super) fn interrupted(during: &str) -> Box<Error> {
    let error = Error::apply(format!("interrupted while {during}"));
    match clock::interruption() {
        Some(why) => error.cause(why),
        None => error,
    }
    .hint("run the same command again: it continues where it is")
}

fn describe(ready: &Readiness) -> &'static str {
    match ready {
        Readiness::EtcdHealthy { .. } | Readiness::EtcdFormed { .. } => "healthy",
        Readiness::Active => "active",
    }
}

fn check(ready: &Readiness, active: bool) -> Result<(), String> {
    match ready {
        // Active too: whoever else listens on that port may be healthy.
        Readiness::EtcdHealthy { ip, port } if active => http::etcd_health(SocketAddr::new(*ip, *port)),
        Readiness::EtcdFormed { ip, port, .. } if active => http::etcd_health(SocketAddr::new(*ip, *port)),
        Readiness::EtcdFormed { peers, .. } => Err(silent(peers)),
        Readiness::Active if active => Ok(()),
        _ => Err("it is not active yet".to_owned()),
    }
}

/// Which founders nobody listens for yet: what the operator has to start.
fn silent(peers: &[SocketAddr]) -> String {
    let silent: Vec<String> = peers.iter().filter(|p| !probe::listens(**p)).map(SocketAddr::to_string).collect();
    match silent.as_slice() {
        [] => "all founders listen; they have not elected a leader yet".to_owned(),
        silent => format!("no member listens at {}: is hamaster init run there?", silent.join(", ")),
    }
}

fn failed(host: &Host, unit: &str, ready: &Readiness, why: &str) -> Box<Error> {
    let logs = host.units().logs(unit, 12);
    let (cause, hint) = explain(&logs);
    let hint = hint.unwrap_or_else(|| host.units().log_command(unit));
    let mut error = Error::apply(format!("{unit} did not become {}", describe(ready))).cause(why);
    if let Some(cause) = cause {
        error = error.cause(cause);
    }
    let lines = logs.into_iter().map(|line| Problem { at: unit.to_owned(), message: line, hint: None }).collect();
    error.problems(lines).hint(hint)
}

/// What log lines usually mean, and the command that shows or cures it. Texts as etcd 3.4 to 3.7 print them.
fn explain(logs: &[String]) -> (Option<String>, Option<String>) {
    const KNOWN: [(&str, &str, &str); 9] = [
        (
            "could not retrieve cluster information",
            "its data is gone: it must not form a new cluster, nor go on as the voter it was",
            "hamaster join --replace    # where other masters live; else: hamaster etcd snapshot restore",
        ),
        ("address already in use", "another process holds the port", "ss -ltnp | grep -E ':(2379|2380|2381) '"),
        ("has already been bootstrapped", "its disk was wiped: it must not form a new cluster", "hamaster doctor"),
        ("member count is unequal", "the member list in its unit is stale", "hamaster doctor"),
        ("has been permanently removed", "this member was removed from its cluster", "hamaster reset"),
        (
            "is out of range [lastIndex",
            "its data is older than the cluster's: it must be removed and added again",
            "hamaster doctor",
        ),
        ("no space left on device", "the disk is full", "df -h"),
        ("permission denied", "the service user may not read a file or enter a directory", "hamaster doctor"),
        (
            "flag provided but not defined",
            "the binary is another version than the one asked for its version",
            "etcd --version",
        ),
    ];
    let hit = KNOWN.iter().find(|(text, ..)| logs.iter().any(|line| line.contains(text)));
    hit.map(|(_, cause, hint)| ((*cause).to_owned(), (*hint).to_owned())).unzip()
}
