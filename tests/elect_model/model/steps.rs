//! What an action does to the world.

use super::*;

impl Election {
    pub(super) fn mishaps(&self, state: &State, actions: &mut Vec<Action>) {
        let room = state.orphans.iter().any(Option::is_none);
        for (n, node) in state.nodes.iter().enumerate() {
            let holding = node.holds() || !matches!(node.role, Role::Waiting);
            if node.process == Process::Up {
                if node.flight.is_some() && room {
                    actions.push(Action::GiveUp(n));
                }
                if matches!(node.role, Role::Leading(_)) {
                    actions.push(Action::Resign(n));
                }
                // A pause matters where a deadline runs or a request is about to be sent.
                if holding || node.known.own > 0 {
                    actions.push(Action::Pause(n));
                }
            }
            if node.process != Process::Down && room {
                actions.push(Action::Crash(n));
            }
            if room && holding {
                actions.push(Action::Reboot(n));
            }
            if state.store.candidates[n].is_some() {
                actions.push(Action::LeaseLost(n));
            }
        }
        if state.nodes.iter().any(|n| n.flight.is_some()) {
            actions.push(Action::EtcdRestart);
        }
        if self.operator {
            let junk = |e: &Option<Entry>| e.is_some_and(|e| e.value == Value::Junk);
            let Store { leader, term, .. } = &state.store;
            if leader.is_some() {
                actions.push(Action::DeleteLeader);
            }
            if term.is_some() {
                actions.push(Action::DeleteTerm);
            }
            if !junk(leader) {
                actions.push(Action::OverwriteLeader);
            }
            if !junk(term) {
                actions.push(Action::OverwriteTerm);
            }
        }
    }

    pub(super) fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => state.tick(&self.times),
            Action::Enqueue(n) => {
                state.store.revision += 1;
                let revision = state.store.revision;
                state.store.candidates[n] =
                    Some(Entry { value: Value::Candidate, create: revision, modified: revision });
            }
            Action::Observe(n) if state.nodes[n].role == Role::Waiting => {
                let known = state.known(n);
                state.nodes[n].learn(known);
            }
            Action::Observe(n) => state.nodes[n].role = Role::Lost,
            Action::Send(n) => {
                let request = state.nodes[n].request(n as u8, self.times[n], self.bug);
                state.nodes[n].flight = request.map(|request| Flight { request, age: 0, progress: Progress::Pending });
            }
            Action::Execute(n) => {
                let Some(mut flight) = state.nodes[n].flight else { return };
                flight.progress = state.execute(self, flight.request);
                state.nodes[n].flight = Some(flight);
            }
            Action::Late(o) => {
                if let Some(request) = state.orphans[o].take() {
                    state.execute(self, request);
                }
            }
            Action::Deliver(n) => self.deliver(state, n),
            Action::Install(n) => state.nodes[n].manifest = Manifest::Renaming,
            Action::Rename(n) => {
                (state.nodes[n].manifest, state.nodes[n].payload) = (Manifest::Visible, true);
            }
            Action::Remove(n) => state.nodes[n].manifest = Manifest::Absent,
            Action::Die(n) => state.nodes[n].payload = false,
            Action::Cleaned(n) => state.nodes[n].role = Role::Waiting,
            Action::GiveUp(n) => state.orphan(n),
            Action::Crash(n) => {
                state.orphan(n);
                let node = &mut state.nodes[n];
                node.process = Process::Down;
                if node.manifest == Manifest::Renaming {
                    node.manifest = Manifest::Absent;
                }
            }
            Action::Restart(n) => self.restart(&mut state.nodes[n], n),
            Action::Reboot(n) => {
                state.orphan(n);
                let node = &mut state.nodes[n];
                (node.manifest, node.payload) = (Manifest::Absent, false);
                (node.process, node.role) = (Process::Down, Role::Waiting);
            }
            Action::Pause(n) => state.nodes[n].process = Process::Paused,
            // Past the deadline the watchdog has been faster.
            Action::Resume(n) if state.nodes[n].holds() && state.nodes[n].age >= self.times[n].fence => {
                self.apply(state, Action::Crash(n));
            }
            Action::Resume(n) => state.nodes[n].process = Process::Up,
            Action::Resign(n) => {
                if let Role::Leading(token) = state.nodes[n].role {
                    state.nodes[n].role = Role::Releasing(token);
                }
            }
            Action::LeaseLost(n) => state.store.candidates[n] = None,
            Action::EtcdRestart => state.nodes.iter_mut().for_each(|node| node.flight = None),
            Action::DeleteLeader => state.store.leader = None,
            Action::DeleteTerm => state.store.term = None,
            Action::OverwriteLeader => overwrite(&mut state.store, |s| &mut s.leader),
            Action::OverwriteTerm => overwrite(&mut state.store, |s| &mut s.term),
        }
    }

    fn deliver(&self, state: &mut State, n: usize) {
        let known = state.known(n);
        let deposed = state.store.leader.map_or(0, |l| l.create);
        let node = &mut state.nodes[n];
        let Some(Flight { request, age, progress }) = node.flight.take() else { return };
        let age = if self.bug == Bug::FenceFromReceipt { 0 } else { age };
        match (node.role, request, progress) {
            (Role::Waiting, Request::Acquire { .. }, Progress::Done(token)) => {
                (node.role, node.age) = (Role::Leading(token), age);
            }
            (Role::Waiting, Request::Renew { token, .. }, Progress::Done(_)) => {
                (node.role, node.age) = (Role::Leading(token), age);
            }
            (Role::Leading(held) | Role::Adopting(held), Request::Renew { token, .. }, Progress::Done(_))
                if held == token =>
            {
                (node.role, node.age) = (Role::Leading(token), age.min(node.age));
            }
            (Role::Leading(_) | Role::Adopting(_), Request::Renew { .. }, Progress::Refused) => node.role = Role::Lost,
            (Role::Releasing(_), Request::Release { .. }, _) => node.role = Role::Lost,
            (Role::Releasing(held), _, Progress::Refused) if held != deposed => node.role = Role::Lost,
            (Role::Waiting, ..) => node.learn(known),
            _ => {}
        }
    }

    /// The state file says what was led and until when; with time left, a renewal decides whether it still is.
    fn restart(&self, node: &mut Node, n: usize) {
        node.process = Process::Up;
        node.role = match node.role {
            Role::Leading(token) | Role::Adopting(token) if node.age < self.times[n].fence => Role::Adopting(token),
            Role::Waiting if !node.holds() => Role::Waiting,
            _ => Role::Lost,
        };
        if !matches!(node.role, Role::Adopting(_)) {
            node.incarnation = (node.incarnation + 1) % 4;
        }
    }
}

fn overwrite(store: &mut Store, entry: impl Fn(&mut Store) -> &mut Option<Entry>) {
    store.revision += 1;
    let revision = store.revision;
    let create = entry(store).map_or(revision, |e| e.create);
    *entry(store) = Some(Entry { value: Value::Junk, create, modified: revision });
}
