//! What can be done to a master of a lab, and its cure.

use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use super::status::find;
use super::up::{boot, settled};
use crate::error::{Error, Result};
use crate::host::clock::{self, Waited};
use crate::host::processes::Supervised;
use crate::host::supervisor::home::Home;

/// How long whoever asked waits until every relay has heard of a partition.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that happens to a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything of it is gone at once, as in a power cut. Its files stay as they are.
    Kill,
    /// The power is back.
    Start,
    /// All its processes are stopped (SIGSTOP); what is started after that is not.
    Pause,
    /// They go on.
    Resume,
    /// Its relay and those of all others swallow what goes between them, both ways. Its own processes reach each other.
    Partition,
    /// The network is whole again.
    Heal,
}

/// Does `fault` to `master` of the lab at `dir`. `program` is this program. False when it was so already.
///
/// # Errors
/// When there is no such master, it is down and must not be, or it does not do what it is told.
pub fn inflict(dir: &Path, master: &str, fault: Fault, program: &Path) -> Result<bool> {
    let lab = find(dir)?;
    let _lock = lab.lock()?;
    let home = lab.master(master)?;
    let units = Supervised::of(&home);
    match fault {
        Fault::Kill => units.kill(),
        Fault::Start if units.report()?.is_some() => Ok(false),
        Fault::Start => {
            boot(&home, program)?;
            settled(&[home]).map(|()| true)
        }
        Fault::Pause => units.freeze(true).map(|()| true),
        Fault::Resume => units.freeze(false).map(|()| true),
        Fault::Partition | Fault::Heal => cut(&home, fault == Fault::Partition),
    }
}

fn cut(home: &Home, off: bool) -> Result<bool> {
    if home.is_direct()? {
        return Err(Error::usage("a lab that was made with one master has no relays: nobody can be cut off in it")
            .hint("hamaster lab up --masters 3 --dir ANOTHER"));
    }
    let changed = home.partition(off)?;
    let name = home.name();
    let all: Vec<Supervised> = home.masters()?.iter().map(Supervised::of).collect();
    let knows = |units: &Supervised| Ok(units.report()?.is_none_or(|report| report.partitioned.contains(&name) == off));
    let condition = || match all.iter().map(knows).collect::<Result<Vec<bool>>>() {
        Ok(know) if know.contains(&false) => Poll::Pending,
        other => Poll::Ready(other.map(|_| ())),
    };
    match clock::poll(PATIENCE, Duration::from_millis(20), condition, |_| {}) {
        Waited::Ready(result) => result.map(|()| changed),
        _ => Err(Error::apply(format!("not every master has heard that {name} is cut off or not any more"))),
    }
}
