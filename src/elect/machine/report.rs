//! What a machine tells of itself.

use super::Machine;
use super::state::{Phase, State};
use crate::elect::event::Unfit;
use crate::elect::instant::Instant;
use crate::elect::record::Token;
use crate::elect::status::Status;
use crate::elect::view::View;

impl Machine {
    /// What is to be told of it.
    pub fn status(&self) -> Status {
        let view = self.view.as_ref();
        let held = match &self.state {
            State::Leading { held, .. }
            | State::Fencing { held, .. }
            | State::Fenced { held }
            | State::Releasing { held, .. } => Some(held),
            _ => None,
        };
        let unfinished = match &self.state {
            State::New { unfinished, .. } | State::Cleaning { unfinished, .. } | State::Ended { unfinished } => {
                *unfinished
            }
            _ => None,
        };
        let queue = view.map(View::queue).unwrap_or_default();
        let position = match &self.state {
            State::Queued { lease, .. } => queue.iter().position(|(l, _)| l == lease).map(|n| n + 1),
            _ => None,
        };
        let is_leader = matches!(&self.state, State::Leading { .. });
        let state = match &self.state {
            State::New { .. } | State::Cleaning { .. } => "cleaning",
            State::Idle { .. } => "idle",
            State::Queued { .. } if position == Some(1) => "head",
            State::Queued { .. } => "queued",
            State::Leading { phase: Phase::Adopting, .. } => "adopting",
            State::Leading { phase: Phase::Installing, .. } => "installing",
            State::Leading { phase: Phase::Active, .. } => "leading",
            State::Fencing { .. } => "fencing",
            State::Fenced { .. } => "fenced",
            State::Releasing { .. } => "releasing",
            State::Ended { .. } => "ended",
        };
        let held_back = matches!(&self.state, State::Idle { .. }) && self.embargo > self.since;
        let reason = match (&self.unfenced, &self.fitness, self.lease) {
            (Some(why), _, _) => Some(format!("cannot stop the payload: {why}")),
            (None, Some(Err(Unfit::Health(why) | Unfit::Payload(why))), _) => Some(why.clone()),
            (None, _, None) => Some("no lease of etcd yet".to_owned()),
            (None, Some(Ok(())), _) if held_back => Some("holds back after leaderships that failed".to_owned()),
            (None, None, _) => Some("not known yet whether it is fit".to_owned()),
            _ => None,
        };
        Status {
            schema: Status::SCHEMA.to_owned(),
            group: self.me.group.clone(),
            id: self.me.who.id.clone(),
            state: state.to_owned(),
            is_leader,
            token: held.map(|h| Token { cluster_id: self.cluster_id, revision: h.token }),
            term: held.map(|h| h.term),
            boot_id: self.me.who.boot_id.clone(),
            nonce: self.me.who.nonce.clone(),
            lease: self.lease.map(|l| l.to_string()),
            renewed_at_ns: held.map(|h| h.s.as_nanos()),
            deadline_ns: held.map(|h| h.deadline).or(unfinished).map(Instant::as_nanos),
            leader: self.leader_now().map(|l| l.who.id.clone()),
            candidates: queue.len(),
            position,
            since_ns: self.since.as_nanos(),
            eligible: self.fitness == Some(Ok(())),
            reason,
            held_back_until_ns: held_back.then(|| self.embargo.as_nanos()),
            paused: self.paused(),
            unfenced: self.unfenced.is_some(),
            last: self.last.clone(),
        }
    }
}
