//! Everything that can happen to three candidates and their store, for the checker to try in every order.

mod steps;

use hamaster::elect::record::TermState;
use stateright::{Model, Property};

use crate::node::{Flight, Known, Manifest, Node, Process, Progress, Request, Role, Times};
use crate::store::{Entry, NODES, Store, Value};

/// A mistake planted on purpose, to see that the checker would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The deadline counts from the answer of a renewal in place of its sending.
    FenceFromReceipt,
    /// A successor waits its own B in place of its predecessor's.
    OwnBound,
    /// A takeover does not compare the leader's revision.
    TakeUncompared,
    /// An acquisition does not compare the own candidate key.
    Phantom,
}

/// What is being checked.
#[derive(Debug, Clone)]
pub(crate) struct Election {
    pub(crate) bug: Bug,
    pub(crate) times: [Times; NODES],
    /// How many faults of any kind may happen.
    pub(crate) faults: u8,
    /// The operator may delete or overwrite keys: each time is a fault.
    pub(crate) operator: bool,
    /// Begin only with a leader whose clock is slow and with successors whose clocks are not.
    pub(crate) slow_leader: bool,
    /// Whether recovery is tried out from every state.
    pub(crate) recovery: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) nodes: [Node; NODES],
    /// Given up by their senders, and yet they may happen.
    pub(crate) orphans: [Option<Request>; 2],
    /// Ticks modulo five: at the fifth the slow clocks stand still.
    pub(crate) phase: u8,
    pub(crate) faults: u8,
    /// Someone became leader that was not in the queue.
    pub(crate) phantom: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    Enqueue(usize),
    Observe(usize),
    Send(usize),
    Execute(usize),
    Deliver(usize),
    Install(usize),
    Rename(usize),
    Remove(usize),
    Die(usize),
    Cleaned(usize),
    Restart(usize),
    Resume(usize),
    /// A given-up transaction happens after all.
    Late(usize),
    // Faults.
    GiveUp(usize),
    Crash(usize),
    Reboot(usize),
    Pause(usize),
    Resign(usize),
    LeaseLost(usize),
    /// Every connection breaks; nothing that was committed is lost.
    EtcdRestart,
    DeleteLeader,
    DeleteTerm,
    OverwriteLeader,
    OverwriteTerm,
}

impl Action {
    fn fault(self) -> bool {
        use Action::*;
        matches!(
            self,
            GiveUp(_)
                | Crash(_)
                | Reboot(_)
                | Pause(_)
                | Resign(_)
                | LeaseLost(_)
                | EtcdRestart
                | DeleteLeader
                | DeleteTerm
                | OverwriteLeader
                | OverwriteTerm
        )
    }
}

impl State {
    /// Nobody leads yet, or node 0 has just begun to.
    fn start(slow: [bool; NODES], leading: Option<&Times>) -> Self {
        let mut state = Self {
            store: Store::default(),
            nodes: slow.map(Node::waiting),
            orphans: [None; 2],
            phase: 0,
            faults: 0,
            phantom: false,
        };
        if let Some(times) = leading {
            let entry = |value, revision| Some(Entry { value, create: revision, modified: revision });
            let bound = times.bound;
            state.store.revision = 3;
            state.store.leader = entry(Value::Leader { node: 0, incarnation: 0, bound }, 1);
            state.store.term = entry(Value::Term { state: TermState::Held, bound }, 1);
            state.store.candidates = [None, entry(Value::Candidate, 2), entry(Value::Candidate, 3)];
            let leader = &mut state.nodes[0];
            (leader.role, leader.manifest, leader.payload) = (Role::Leading(1), Manifest::Visible, true);
        }
        state
    }

    fn known(&self, n: usize) -> Known {
        Known::of(&self.store.view(), n)
    }

    /// The store no longer has the leader key this node holds.
    fn deposed(&self, n: usize) -> bool {
        matches!(self.nodes[n].role, Role::Leading(token) | Role::Releasing(token)
            if self.store.leader.map_or(0, |l| l.create) != token)
    }

    fn orphan(&mut self, n: usize) {
        if let Some(Flight { request, progress: Progress::Pending, .. }) = self.nodes[n].flight.take()
            && let Some(free) = self.orphans.iter_mut().find(|o| o.is_none())
        {
            *free = Some(request);
        }
    }

    /// Runs a request against the store, and notes when one becomes leader that is not in the queue.
    fn execute(&mut self, election: &Election, request: Request) -> Progress {
        let queued = match request {
            Request::Acquire { node, create, .. } => {
                self.store.candidates[node as usize].is_some_and(|c| c.create == create)
            }
            _ => true,
        };
        if self.store.run(&request.txn(&election.times, election.bug)) {
            self.phantom |= !queued;
            Progress::Done(self.store.revision)
        } else {
            Progress::Refused
        }
    }

    fn tick(&mut self, times: &[Times]) {
        self.phase = (self.phase + 1) % 5;
        for (node, times) in self.nodes.iter_mut().zip(times) {
            if node.slow && self.phase == 0 {
                continue;
            }
            node.age = (node.age + 1).min(times.bound);
            node.learned = (node.learned + 1).min(LONGEST_WAIT);
            if let Some(flight) = &mut node.flight {
                flight.age = (flight.age + 1).min(times.bound);
            }
        }
    }

    /// A host keeps what the specification assumes of it: by L the manifest is gone and by B the payload is dead,
    /// whether the process does it, the watchdog and systemd after a kill, or the last resort.
    pub(crate) fn may_tick(&self, times: &[Times]) -> bool {
        self.nodes.iter().zip(times).all(|(node, times)| {
            let next = if node.slow && self.phase == 4 { node.age } else { node.age + 1 };
            (node.manifest == Manifest::Absent || next < times.lease) && (!node.payload || next < times.bound)
        })
    }

    /// Revisions are compared only, so that any numbers in the same order are the same state; and what nobody will
    /// read again is forgotten.
    fn normal(mut self, times: &[Times]) -> Self {
        for (node, times) in self.nodes.iter_mut().zip(times) {
            if node.role == Role::Waiting {
                node.age = times.bound;
            }
            if node.known.own == 0 {
                node.learned = 0;
            }
            if node.role != Role::Waiting || node.process == Process::Down {
                (node.known, node.learned) = (Known::default(), 0);
            }
        }
        let mut numbers: Vec<u8> = self.revisions().into_iter().map(|r| *r).filter(|r| *r > 0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for revision in self.revisions() {
            if *revision > 0 {
                *revision = 1 + u8::try_from(numbers.binary_search(revision).unwrap()).unwrap();
            }
        }
        self.store.revision = numbers.len().try_into().unwrap();
        self.orphans.sort_unstable();
        self
    }

    fn revisions(&mut self) -> Vec<&mut u8> {
        let Self { store: Store { leader, term, candidates, .. }, nodes, orphans, .. } = self;
        let mut all: Vec<&mut u8> = vec![];
        for entry in [leader, term].into_iter().chain(candidates).flatten() {
            all.extend([&mut entry.create, &mut entry.modified]);
        }
        for node in nodes {
            all.extend([&mut node.known.own, &mut node.known.term]);
            if let Some(seen) = &mut node.known.leader {
                all.extend([&mut seen.create, &mut seen.modified]);
            }
            if let Role::Leading(token) | Role::Adopting(token) | Role::Releasing(token) = &mut node.role {
                all.push(token);
            }
            if let Some(flight) = &mut node.flight {
                if let Progress::Done(revision) = &mut flight.progress {
                    all.push(revision);
                }
                all.extend(flight.request.revisions());
            }
        }
        orphans.iter_mut().flatten().for_each(|request| all.extend(request.revisions()));
        all
    }
}

impl Request {
    fn revisions(&mut self) -> Vec<&mut u8> {
        match self {
            Request::Acquire { create, term, .. } => vec![create, term],
            Request::Take { leader, term, .. } => vec![leader, term],
            Request::Renew { token, .. } | Request::Release { token, .. } => vec![token],
        }
    }
}

/// Longer than any wait: a clock beyond it need not be told from one at it.
pub(crate) const LONGEST_WAIT: u8 = 8;

impl Model for Election {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        if self.slow_leader {
            return vec![State::start([true, false, false], Some(&self.times[0])).normal(&self.times)];
        }
        let drifts = [[false; 3], [true, false, false], [false, true, true], [true; 3]];
        let starts = [None, Some(&self.times[0])];
        starts.iter().flat_map(|l| drifts.map(|slow| State::start(slow, *l).normal(&self.times))).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
        if state.faults < self.faults {
            self.mishaps(state, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        Some(self.after(last, action)).filter(|s| s != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S1: one manifest", |_, s: &State| {
                s.nodes.iter().filter(|n| n.manifest == Manifest::Visible).count() <= 1
            }),
            Property::always("S2: one payload", |_, s: &State| s.nodes.iter().filter(|n| n.payload).count() <= 1),
            Property::always("who leads was in the queue", |_, s: &State| !s.phantom),
            Property::always("one leads again soon after the last fault", |m: &Self, s| !m.recovery || m.recovers(s)),
            Property::sometimes("another one leads", |_, s: &State| {
                s.nodes.iter().skip(1).any(|n| n.manifest == Manifest::Visible)
            }),
        ]
    }
}

impl Election {
    pub(crate) fn after(&self, last: &State, action: Action) -> State {
        let mut state = *last;
        if action.fault() {
            state.faults += 1;
        }
        self.apply(&mut state, action);
        state.normal(&self.times)
    }

    /// What the protocol and its hosts do of themselves.
    pub(crate) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for (n, node) in state.nodes.iter().enumerate() {
            let times = self.times[n];
            match node.process {
                Process::Up => self.node_steps(state, n, actions),
                Process::Paused => actions.push(Action::Resume(n)),
                Process::Down => actions.push(Action::Restart(n)),
            }
            let pending = node.flight.is_some_and(|f| f.progress == Progress::Pending);
            if pending {
                actions.push(Action::Execute(n));
            }
            // Who removes: the process, or systemd and the last resort once it is dead and cannot adopt.
            let over = match node.role {
                Role::Leading(_) | Role::Adopting(_) => node.age >= times.fence,
                Role::Lost | Role::Releasing(_) => true,
                Role::Waiting => false,
            };
            if over && node.manifest != Manifest::Absent && node.process != Process::Paused {
                actions.push(Action::Remove(n));
            }
            if node.payload && node.manifest == Manifest::Absent {
                actions.push(Action::Die(n));
            }
        }
        actions.extend((0..2).filter(|o| state.orphans[*o].is_some()).map(Action::Late));
        if state.may_tick(&self.times) {
            actions.push(Action::Tick);
        }
    }

    fn node_steps(&self, state: &State, n: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[n];
        match node.role {
            Role::Waiting => {
                if state.store.candidates[n].is_none() && node.flight.is_none() {
                    actions.push(Action::Enqueue(n));
                }
                if state.known(n) != node.known {
                    actions.push(Action::Observe(n));
                }
            }
            Role::Leading(_) | Role::Releasing(_) if state.deposed(n) => actions.push(Action::Observe(n)),
            Role::Leading(_) if node.manifest == Manifest::Absent && node.age < self.times[n].fence => {
                actions.push(Action::Install(n));
            }
            Role::Lost if !node.holds() => actions.push(Action::Cleaned(n)),
            _ => {}
        }
        if node.manifest == Manifest::Renaming {
            actions.push(Action::Rename(n));
        }
        match node.flight {
            Some(Flight { progress: Progress::Pending, .. }) => {}
            Some(_) => actions.push(Action::Deliver(n)),
            None if node.request(n as u8, self.times[n], self.bug).is_some() => actions.push(Action::Send(n)),
            None => {}
        }
    }
}
