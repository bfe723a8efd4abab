//! Whose a node's name and address are. Masters are in the spec, or about to be; a worker is nowhere but here: without
//! this, whoever has a token for workers could have the certificate of a node that is there, or one that passes for the
//! API.

use std::time::Duration;

use super::desk::Refused;
use crate::admission::{Refusal, Request, Worker};
use crate::apply::members::Members;
use crate::error::{Error, Result};
use crate::etcd::client::Record;
use crate::etcd::keys;
use crate::host::clock;
use crate::pki::catalog;
use crate::spec::{Address, ClusterSpec, Node, ThisNode};
use crate::state::Digest;
use crate::token::Role;

/// What is to be noted once a host is admitted.
#[derive(Debug)]
pub(super) enum Claim {
    Nothing,
    /// A new worker.
    Create {
        key: String,
        value: Vec<u8>,
    },
    /// Another host in a worker's place, or the same one at another address.
    Replace {
        was: Box<Record>,
        value: Vec<u8>,
    },
    /// A master, until the spec names it; its name may have been a worker's.
    Reserve {
        value: Vec<u8>,
        worker: Option<String>,
    },
}

/// The place of a master that was admitted is kept so long: as long as its token might have lived.
const RESERVED: Duration = crate::token::TTL;

/// Whether the host may have the name and the address it asks for. `bound` says that its token was made for this very
/// name: who made it says that whatever had the name has it no longer.
pub(super) fn judge(
    members: &mut Members,
    spec: &ClusterSpec,
    this: &ThisNode,
    request: &Request,
    bound: bool,
) -> Result<Claim, Refused> {
    masters(spec, request)?;
    if request.role == Role::Worker {
        known_as_the_api(spec, this, request)?;
    }
    reserved(members, request, bound)?;
    let key = format!("{}{}", keys::WORKERS, request.node);
    let own = Worker {
        ip: request.ip,
        attempt_hash: Digest::of(request.attempt.0.expose()),
        admitted: clock::now().unix_timestamp(),
    };
    let mut claim = None;
    for (name, worker, record) in claims(members, keys::WORKERS)? {
        if name != request.node {
            if worker.ip == request.ip {
                let why = format!("the address {} is that of the worker {name}", worker.ip);
                let hint =
                    format!("hamaster worker remove {name}    # on a master, if it is gone; or --advertise-ip IP");
                return Err(taken(why, Some(hint)));
            }
            continue;
        }
        let again = worker.attempt_hash == own.attempt_hash;
        if !again && !bound {
            let why = format!("the name {name} is that of the worker at {}", worker.ip);
            let flag = if request.role == Role::Worker { " --worker" } else { "" };
            let hint =
                format!("hamaster token create{flag} --node {name}    # on a master, if it is gone; or --name NAME");
            return Err(taken(why, Some(hint)));
        }
        claim = Some(match request.role {
            Role::Master => Claim::Reserve { value: encode(&own)?, worker: Some(record.key) },
            Role::Worker if again && worker.ip == own.ip => Claim::Nothing,
            Role::Worker => Claim::Replace { was: Box::new(record), value: encode(&own)? },
        });
    }
    match (claim, request.role) {
        (Some(claim), _) => Ok(claim),
        (None, Role::Master) => Ok(Claim::Reserve { value: encode(&own)?, worker: None }),
        (None, Role::Worker) => Ok(Claim::Create { key, value: encode(&own)? }),
    }
}

impl Claim {
    /// Notes it for whoever asked by `request`. False when another host was faster.
    ///
    /// # Errors
    /// When etcd does not answer; when the place was given to another meanwhile.
    pub(super) fn make(&self, members: &mut Members, request: &Request, bound: bool) -> Result<bool, Refused> {
        let admitted = format!("{}{}", keys::ADMITTED, request.node);
        if request.role == Role::Worker && bound {
            members.ask(|c| c.delete(&admitted))?;
        }
        let mut lease = None;
        let made = match self {
            Claim::Nothing => true,
            Claim::Create { key, value } => {
                members.ask(|c| c.put_if_absent(key, value))? || holds(members, key, value)?
            }
            Claim::Replace { was, value } => {
                members.ask(|c| c.replace(was, value))? || holds(members, &was.key, value)?
            }
            Claim::Reserve { value, worker } => {
                if let Some(worker) = worker {
                    members.ask(|c| c.delete(worker))?;
                }
                let granted = *lease.insert(members.ask(|c| c.grant(RESERVED))?);
                members.ask(|c| c.put_on(&admitted, value, granted))?;
                true
            }
        };
        // Of two at once each is noted before it looks: one of them at least sees the other.
        if let (true, Err(crossed)) = (made, crossed(members, request, bound)) {
            match (self, lease) {
                (Claim::Create { key, .. }, _) => drop(members.ask(|c| c.delete(key))?),
                // The other's note of the same name is on a lease of its own.
                (_, Some(lease)) => members.ask(|c| c.revoke(lease))?,
                _ => {}
            }
            return Err(crossed);
        }
        Ok(made)
    }
}

/// It was this very call that noted it: its first answer was lost.
fn holds(members: &mut Members, key: &str, value: &[u8]) -> Result<bool> {
    Ok(members.ask(|c| c.record(key))?.is_some_and(|there| there.value == value))
}

/// Names, whose they are, and the keys that say so.
fn claims(members: &mut Members, prefix: &str) -> Result<Vec<(String, Worker, Record)>> {
    let claim = |record: Record| {
        let whose = serde_json::from_slice(&record.value)
            .map_err(|e| Error::conflict(format!("etcd key {} does not read", record.key)).cause(e))?;
        Ok((record.key.strip_prefix(prefix).unwrap_or_default().to_owned(), whose, record))
    };
    members.ask(|c| c.records(prefix))?.into_iter().map(claim).collect()
}

/// What is given to a master that joins is given to nobody else meanwhile.
fn reserved(members: &mut Members, request: &Request, bound: bool) -> Result<(), Refused> {
    let attempt = Digest::of(request.attempt.0.expose());
    for (name, there, _) in claims(members, keys::ADMITTED)? {
        let (named, at) = (name == request.node, there.ip == request.ip);
        let taken_from = match request.role {
            // The same host again, as after a new installation: it is where it was.
            Role::Master if named => !(at || bound || there.attempt_hash == attempt),
            Role::Worker if named => !bound,
            _ => at,
        };
        if taken_from {
            let hint = format!("hamaster master remove {name}    # on a master, if it does not join any more");
            return Err(taken(format!("the master that joins {name} is at {}", there.ip), Some(hint)));
        }
    }
    Ok(())
}

/// Whether somebody else was given the place while it was noted.
fn crossed(members: &mut Members, request: &Request, bound: bool) -> Result<(), Refused> {
    reserved(members, request, bound)?;
    if request.role == Role::Worker {
        return Ok(());
    }
    for (name, there, _) in claims(members, keys::WORKERS)? {
        if name == request.node || there.ip == request.ip {
            let hint = format!("hamaster worker remove {name}    # on a master, if it is gone");
            return Err(taken(format!("the worker {name} is at {}", there.ip), Some(hint)));
        }
    }
    Ok(())
}

/// A master that joins again keeps its name and its address; anyone else needs others.
fn masters(spec: &ClusterSpec, request: &Request) -> Result<(), Refused> {
    for Node { name, ip } in &spec.masters {
        let (named, there) = (*name == request.node, *ip == request.ip);
        let why = match request.role {
            Role::Master if named == there => continue,
            _ if named => format!("the name {name} is that of the master at {ip}"),
            _ if there => format!("the address {ip} is that of the master {name}"),
            _ => continue,
        };
        return Err(taken(why, None));
    }
    Ok(())
}

/// A worker is given a certificate for a server of its name and address, by the CA that clients of the API trust: for
/// neither may anyone ever ask for the API.
fn known_as_the_api(spec: &ClusterSpec, this: &ThisNode, request: &Request) -> Result<(), Refused> {
    let sans = spec.masters.iter().flat_map(|master| {
        let there = ThisNode { node: master.clone(), ..this.clone() };
        catalog::certs(spec, &there).into_iter().filter(|cert| cert.id == "server").flat_map(|cert| cert.sans)
    });
    let mine = |san: &Address| match san {
        Address::Ip(ip) => *ip == request.ip,
        Address::Dns(name) => match name.strip_prefix("*.") {
            Some(domain) => request.node.split_once('.').is_some_and(|(_, rest)| rest == domain),
            None => *name == request.node,
        },
    };
    if let Some(san) = sans.into_iter().find(mine) {
        return Err(taken(format!("the API is known as {san}: no worker can be"), None));
    }
    let ranges = [("services", spec.kubernetes.service_cidr), ("pods", spec.kubernetes.pod_cidr)];
    match ranges.into_iter().find(|(_, range)| range.contains(&request.ip)) {
        Some((what, range)) => {
            Err(taken(format!("the address {} is in {range}, the range of {what}", request.ip), None))
        }
        None => Ok(()),
    }
}

fn taken(error: String, hint: Option<String>) -> Refused {
    Refused::Taken(Refusal { error, hint })
}

fn encode(worker: &Worker) -> Result<Vec<u8>> {
    serde_json::to_vec(worker).map_err(|e| Error::apply("cannot encode what is noted of a worker").cause(e))
}
