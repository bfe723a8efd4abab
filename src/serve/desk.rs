//! Who is admitted, and what it is given. A thread of its own: etcd and the bundle's files are asked without a runtime,
//! and whoever hangs there keeps nobody from being answered.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Log;
use super::names::{self, Claim};
use super::signing;
use crate::admission::{self, Refusal, Request, Welcome};
use crate::apply::join::welcome;
use crate::apply::members::Members;
use crate::error::{Error, Result};
use crate::etcd::client::{Found, Registered};
use crate::etcd::keys;
use crate::host::{Host, NoUnits, clock};
use crate::spec::file::{Overrides, load};
use crate::spec::{ClusterSpec, ThisNode};
use crate::token::{Denied, Role, Stored};

/// Requests that wait. Beyond them another master is the faster way.
const QUEUE: usize = 64;
/// How often etcd is asked whether it answers, for `/readyz`.
const LOOK: Duration = Duration::from_secs(10);
/// So often a token that others use at the same moment is tried: each time one of them was faster, and a token has not
/// more uses.
const RACES: usize = 128;

/// Why a host is not admitted.
#[derive(Debug)]
pub(super) enum Refused {
    /// Its token is no good. Only the log hears why.
    Denied(Denied),
    /// The token is good, but the name or the address is another's.
    Taken(Refusal),
    /// The token is good, and nobody could give what is asked for.
    Unable(Refusal),
    /// Nobody can be admitted now.
    Trouble(Box<Error>),
}

impl From<Denied> for Refused {
    fn from(why: Denied) -> Self {
        Self::Denied(why)
    }
}

impl From<Box<Error>> for Refused {
    fn from(error: Box<Error>) -> Self {
        Self::Trouble(error)
    }
}

/// What a request comes to.
pub(super) type Answer = Result<Welcome, Refused>;

/// Whether etcd answered when it was last asked.
type Health = Arc<Mutex<Result<(), String>>>;

struct Job {
    request: Request,
    from: IpAddr,
    reply: oneshot::Sender<Answer>,
}

/// Where requests are handed in.
#[derive(Clone)]
pub(super) struct Desk {
    jobs: SyncSender<Job>,
    health: Health,
}

impl Desk {
    /// Opens it, for the cluster of `spec` as this master knows it.
    ///
    /// # Errors
    /// When the files cannot be reached, or the system has no room for one more thread.
    pub(super) fn open(this: ThisNode, spec: &ClusterSpec, log: Log) -> Result<Self> {
        let (jobs, todo) = sync_channel(QUEUE);
        let health: Health = Arc::new(Mutex::new(Err("etcd was not asked yet".to_owned())));
        let masters = spec.masters.clone();
        let told = health.clone();
        let clerk = {
            let (told, log) = (told.clone(), log.clone());
            move || -> Result<Clerk> {
                let host = || Host::new("/", Box::new(NoUnits));
                let members = Members::new(host()?, this.clone(), &masters);
                Ok(Clerk { host: host()?, this, members, log, health: told })
            }
        };
        let work = move || match clerk() {
            Ok(clerk) => clerk.work(&todo),
            Err(e) => {
                log.say(None, &format!("admits nobody: {e}"));
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Err(e.to_string());
            }
        };
        let started = std::thread::Builder::new().name("desk".into()).spawn(work);
        started.map_err(|e| Error::apply("cannot start the desk").cause(e))?;
        Ok(Self { jobs, health })
    }

    /// Hands a request in and waits. `None`: too many wait already.
    pub(super) async fn ask(&self, request: Request, from: IpAddr) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(Job { request, from, reply }) {
            Ok(()) => answer.await.ok(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }

    /// Whether a host could be admitted now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Clerk {
    host: Host,
    this: ThisNode,
    members: Members,
    log: Log,
    health: Health,
}

impl Clerk {
    fn work(mut self, jobs: &Receiver<Job>) {
        self.look();
        loop {
            match jobs.recv_timeout(LOOK) {
                // Whoever went away meanwhile must not keep the others waiting.
                Ok(job) if job.reply.is_closed() => {}
                Ok(job) => {
                    let answer = self.answer(&job.request, job.from);
                    let _ = job.reply.send(answer);
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Is etcd there?
    fn look(&mut self) {
        let seen = self.members.ask(|c| c.spec());
        if let Ok(Some(registered)) = &seen
            && let Ok(spec) = read(registered)
        {
            self.members.follow(&spec.masters);
        }
        self.found(seen.map(drop).as_ref().map_err(|e| e.as_ref()));
    }

    fn found(&self, seen: Result<&(), &Error>) {
        let now = seen.copied().map_err(|_| "etcd does not answer".to_owned());
        if let Err(e) = seen {
            self.log.trouble(None, &e.to_string());
        }
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn answer(&mut self, request: &Request, from: IpAddr) -> Answer {
        let answer = self.admit(request);
        let Request { token, node, ip, .. } = request;
        let role = match request.role {
            Role::Master => "master",
            Role::Worker => "worker",
        };
        match &answer {
            Ok(welcome) => {
                let (files, signed) = (welcome.files.len(), welcome.certificates.len());
                let given = match request.role {
                    Role::Master => format!("{files} files"),
                    Role::Worker => format!("{files} files, {signed} certificates"),
                };
                self.log.say(Some(from), &format!("admitted {node} at {ip} as a {role} by token {token}: {given}"));
            }
            Err(Refused::Trouble(_)) => {}
            Err(refused) => {
                let why = match refused {
                    Refused::Denied(denied) => denied.to_string(),
                    Refused::Taken(why) | Refused::Unable(why) => why.error.clone(),
                    Refused::Trouble(e) => e.to_string(),
                };
                self.log.trouble(Some(from), &format!("refused {node} at {ip} as a {role}, token {token}: {why}"));
            }
        }
        // Whoever was told no was told so by what etcd holds.
        self.found(match &answer {
            Err(Refused::Trouble(e)) => Err(e),
            _ => Ok(&()),
        });
        answer
    }

    fn admit(&mut self, request: &Request) -> Answer {
        let mut known = self.judge(request)?;
        // All that can go wrong goes wrong before the token is used.
        let bound = known.0.stored.node.is_some();
        let (welcome, claim) = self.welcome(request, bound)?;
        for _ in 0..RACES {
            let used = match &known {
                (_, None) => true,
                (seen, Some(used)) => self.members.ask(|c| c.use_token(seen, used))?,
            };
            if used {
                let error = format!("another host is admitted as {} at this moment", request.node);
                let race = || Refused::Taken(Refusal { error, hint: None });
                return claim.make(&mut self.members, request, bound)?.then_some(welcome).ok_or_else(race);
            }
            known = self.judge(request)?;
        }
        Err(Error::apply("the token is changed by others all the time").into())
    }

    /// The token, and what must be stored of it once this host has used it.
    fn judge(&mut self, request: &Request) -> Result<(Found, Option<Stored>), Refused> {
        let found = self.members.ask(|c| c.token(&request.token))?.ok_or(Denied::Unknown)?;
        let (secret, attempt) = (request.secret.0.expose(), request.attempt.0.expose());
        let now = clock::now().unix_timestamp();
        let used = found.stored.admit(secret, attempt, &request.node, request.role, now)?;
        Ok((found, used))
    }

    fn welcome(&mut self, request: &Request, bound: bool) -> Result<(Welcome, Claim), Refused> {
        let unfinished = || Error::apply("etcd holds no cluster spec yet").hint("hamaster init    # finish it");
        let registered = self.members.ask(|c| c.spec())?.ok_or_else(unfinished)?;
        let spec = read(&registered)?;
        self.members.follow(&spec.masters);
        let claim = names::judge(&mut self.members, &spec, &self.this, request, bound)?;
        let (shared, certificates) = match request.role {
            Role::Master => (admission::shared(&spec), vec![]),
            Role::Worker => {
                (admission::shared_with_workers(&spec), signing::sign(&self.host, &spec, &self.this, request)?)
            }
        };
        let cluster_id = self.members.ask(|c| c.status())?.cluster_id;
        let given = welcome(&self.host, &self.this, registered, &spec, shared, cluster_id)?;
        Ok((Welcome { certificates, ..given }, claim))
    }
}

fn read(registered: &Registered) -> Result<ClusterSpec> {
    load(Some((keys::SPEC, &registered.spec)), &Overrides::default())
}
