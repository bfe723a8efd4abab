//! One candidate and its host: what it knows, what it holds, and which step the protocol allows it next.

use std::time::Duration;

use hamaster::elect::record::{LeaseId, TermState};
use hamaster::elect::txn::{self, Compare, Txn};
use hamaster::elect::view::{Key, View};

use crate::model::Bug;
use crate::store::{self, Value};

/// The times of one node, in ticks of its own clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// F: no install from here on, and removal begins.
    pub(crate) fence: u8,
    /// L: the manifest is gone.
    pub(crate) lease: u8,
    /// B: the payload is dead.
    pub(crate) bound: u8,
}

/// B(1+ρ). The model's ρ is a quarter: a slow clock loses every fifth tick.
pub(crate) fn with_drift(bound: u8) -> u8 {
    bound + bound.div_ceil(4)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    Up,
    /// SIGSTOP. The watchdog kills it, or it goes on at any moment before.
    Paused,
    Down,
}

/// What the process, or after its death the state file, knows of its leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Waiting,
    Leading(u8),
    /// Started again with a manifest in place: one renewal under the old token decides.
    Adopting(u8),
    /// What is left of a leadership is being removed.
    Lost,
    /// Lets go of its own accord; the key goes after the payload.
    Releasing(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Manifest {
    Absent,
    /// The deadline was checked, the rename is not done yet.
    Renaming,
    Visible,
}

/// A transaction under way, as few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Request {
    Acquire { node: u8, incarnation: u8, create: u8, term: u8 },
    Take { leader: u8, term: u8, bound: u8 },
    Renew { node: u8, incarnation: u8, token: u8 },
    Release { token: u8, bound: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Progress {
    Pending,
    Done(u8),
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) request: Request,
    /// Own ticks since it was sent.
    pub(crate) age: u8,
    pub(crate) progress: Progress,
}

/// What the head of the queue knows; the others know nothing but their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Known {
    /// Create revision of the own candidate key; 0: not the head.
    pub(crate) own: u8,
    pub(crate) leader: Option<Seen>,
    /// Revision of `term`.
    pub(crate) term: u8,
    /// The term ended in a way that nobody need wait for.
    pub(crate) free: bool,
    /// Whose payload may live, and for how long; 0: nothing says.
    pub(crate) bound: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) create: u8,
    pub(crate) modified: u8,
    pub(crate) who: Option<(u8, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Its clock loses every fifth tick.
    pub(crate) slow: bool,
    pub(crate) process: Process,
    /// Stands for the nonce.
    pub(crate) incarnation: u8,
    pub(crate) role: Role,
    /// Own ticks since s, the sending of the last renewal that was answered.
    pub(crate) age: u8,
    pub(crate) manifest: Manifest,
    pub(crate) payload: bool,
    pub(crate) known: Known,
    /// Own ticks since it learned the newest it knows of `leader`.
    pub(crate) learned: u8,
    pub(crate) flight: Option<Flight>,
}

impl Node {
    pub(crate) fn waiting(slow: bool) -> Self {
        Self {
            slow,
            process: Process::Up,
            incarnation: 0,
            role: Role::Waiting,
            age: 0,
            manifest: Manifest::Absent,
            payload: false,
            known: Known::default(),
            learned: 0,
            flight: None,
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.manifest != Manifest::Absent || self.payload
    }

    /// Takes in what it saw at this moment.
    pub(crate) fn learn(&mut self, known: Known) {
        let leader = |k: &Known| k.leader.map(|l| (l.create, l.modified));
        // What it waits out is the newest state of `leader`; who was not the head before knows nothing older.
        if self.known.own == 0 || leader(&known) != leader(&self.known) {
            self.learned = 0;
        }
        self.known = known;
    }

    /// The transaction this candidate may send now.
    pub(crate) fn request(&self, me: u8, times: Times, bug: Bug) -> Option<Request> {
        let Self { incarnation, known, .. } = *self;
        // Where nothing says whose payload may live, the own bound has to do.
        let bound = if known.bound == 0 || bug == Bug::OwnBound { times.bound } else { known.bound };
        match self.role {
            Role::Waiting if known.own == 0 => None,
            Role::Waiting => match known.leader {
                // An acquisition went unanswered and happened: a renewal shows whether it still holds.
                Some(Seen { create, who, .. }) if who == Some((me, incarnation)) => {
                    Some(Request::Renew { node: me, incarnation, token: create })
                }
                // This very host led before it booted: nothing of it can be left.
                Some(Seen { create, who: Some((node, _)), .. }) if node == me => {
                    Some(Request::Release { token: create, bound: times.bound })
                }
                Some(Seen { modified, .. }) => (self.learned >= with_drift(bound)).then_some(Request::Take {
                    leader: modified,
                    term: known.term,
                    bound,
                }),
                None => (known.free || self.learned >= with_drift(bound)).then_some(Request::Acquire {
                    node: me,
                    incarnation,
                    create: known.own,
                    term: known.term,
                }),
            },
            Role::Leading(token) | Role::Adopting(token) => {
                let due = self.age > 0 || matches!(self.role, Role::Adopting(_));
                due.then_some(Request::Renew { node: me, incarnation, token })
            }
            Role::Releasing(token) => (!self.holds()).then_some(Request::Release { token, bound: times.bound }),
            Role::Lost => None,
        }
    }
}

impl Known {
    /// What `node` makes of a read.
    pub(crate) fn of(view: &View, node: usize) -> Self {
        let lease = LeaseId(node as i64);
        let Some((head, own)) = view.queue().first().map(|(lease, c)| (*lease, c.create)) else {
            return Self::default();
        };
        if head != lease {
            return Self::default();
        }
        let record = view.leader.as_ref().and_then(|l| l.value.as_ref());
        let term = view.term.as_ref().and_then(|t| t.value.as_ref());
        let bound = record.map(|l| l.bound).or(term.map(|t| t.bound)).unwrap_or(Duration::ZERO);
        Self {
            own: small(own),
            leader: view.leader.as_ref().map(|l| Seen {
                create: small(l.create),
                modified: small(l.modified),
                who: record.map(|l| (l.who.id.parse().unwrap(), l.who.nonce.parse().unwrap())),
            }),
            term: small(view.term_modified()),
            free: term.is_some_and(|t| t.state != TermState::Held),
            bound: u8::try_from(bound.as_secs()).unwrap(),
        }
    }
}

impl Request {
    /// The real transaction, spoilt if a bug is planted.
    pub(crate) fn txn(self, times: &[Times], bug: Bug) -> Txn {
        let record = |node: u8, incarnation| {
            store::leader(Value::Leader { node, incarnation, bound: times[node as usize].bound }).unwrap()
        };
        let term = |state, bound| store::term(Value::Term { state, bound }).unwrap();
        match self {
            Request::Acquire { node, incarnation, create, term: seen } => {
                let held = term(TermState::Held, times[node as usize].bound);
                let lease = LeaseId(node.into());
                let mut txn = txn::acquire(lease, create.into(), seen.into(), &record(node, incarnation), &held);
                if bug == Bug::Phantom {
                    txn.when.retain(|c| !matches!(c, Compare::Create(Key::Candidate(_), _)));
                }
                txn
            }
            Request::Take { leader, term: seen, bound } => {
                let mut txn = txn::take(leader.into(), seen.into(), &term(TermState::Taken, bound));
                if bug == Bug::TakeUncompared {
                    txn.when.retain(|c| !matches!(c, Compare::Modified(Key::Leader, _)));
                }
                txn
            }
            Request::Renew { node, incarnation, token } => txn::renew(token.into(), &record(node, incarnation)),
            Request::Release { token, bound } => txn::release(token.into(), &term(TermState::Released, bound), false),
        }
    }
}

fn small(revision: i64) -> u8 {
    revision.try_into().unwrap()
}
