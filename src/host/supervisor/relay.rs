//! The network of a master that has neighbours: what anybody sends to its address comes through here, and is held
//! back while either end is partitioned.
//!
//! An ordinary user cannot drop packets. So a master of a lab that was made with several listens behind its address, and its supervisor
//! carries every connection there, in both directions, for as long as nothing is cut. What is cut is neither refused
//! nor closed: it is silent, as behind a network that drops, and goes on when that is over. Two things differ from
//! packets that are dropped: a connection made meanwhile is accepted, and then silent; and one to a port where nobody
//! listens is closed, not refused.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::home::Home;
use super::orphans;
use crate::error::{Error, Result};

/// What others reach a master at: etcd's clients and peers, the apiserver, the door for joiners.
const PORTS: [u16; 4] = [2379, 2380, 6443, 7443];

/// Names of masters that are cut off from all others.
type Cut = BTreeSet<String>;

/// A master's relay. It ends with its process.
#[derive(Debug)]
pub(super) struct Relay {
    home: Home,
    cut: watch::Sender<Cut>,
}

impl Relay {
    /// Listens at the address of `home` for what is meant for its processes; `None` where there is none.
    pub(super) fn start(home: &Home) -> Result<Option<Self>> {
        let (own, behind) = (home.node()?.ip, home.loopback()?);
        if own == behind {
            return Ok(None);
        }
        let (cut, _) = watch::channel(Cut::new());
        let relay = Self { home: home.clone(), cut };
        relay.look();
        let failed = |e: io::Error| Error::apply(format!("cannot relay to {own}")).cause(e);
        let bound = |port| {
            let listener = TcpListener::bind((own, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>((listener, SocketAddr::new(behind, port)))
        };
        let listeners = PORTS.into_iter().map(bound).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let end = End { home: home.clone(), cut: relay.cut.subscribe() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let run = move || {
            runtime.block_on(async {
                for (listener, target) in listeners {
                    tokio::spawn(accept(listener, target, end.clone()));
                }
                std::future::pending::<()>().await;
            });
        };
        std::thread::Builder::new().name("relay".to_owned()).spawn(run).map_err(failed)?;
        Ok(Some(relay))
    }

    /// Looks who is cut off now.
    pub(super) fn look(&self) {
        // Masters come and go.
        let Ok(masters) = self.home.masters() else { return };
        let now: Cut = masters.iter().filter(|home| home.is_partitioned()).map(Home::name).collect();
        self.cut.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
    }

    /// Who is cut off, as this relay knows it.
    pub(super) fn partitioned(&self) -> Vec<String> {
        self.cut.borrow().iter().cloned().collect()
    }
}

/// The master that connections are carried to.
#[derive(Debug, Clone)]
struct End {
    home: Home,
    cut: watch::Receiver<Cut>,
}

async fn accept(listener: TcpListener, target: SocketAddr, end: End) {
    // Cannot fail in a runtime; without it nobody is served, which `lab status` then shows.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        // A connection that was gone before it was accepted is not worth a word.
        let Ok((stream, client)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let masters = end.home.masters().unwrap_or_default();
        let from = stream.local_addr().ok().and_then(|own| master_of(&masters, client, own));
        let name = end.home.name();
        let gate = Gate { between: from.filter(|from| *from != name).map(|from| [from, name]), cut: end.cut.clone() };
        // How it ends is told to both sides, and concerns nobody else.
        tokio::spawn(async move { carry(stream, target, gate).await });
    }
}

async fn carry(near: TcpStream, target: SocketAddr, gate: Gate) -> io::Result<()> {
    gate.clone().open().await;
    let far = TcpStream::connect(target).await?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::try_join!(pump(near_in, far_out, gate.clone()), pump(far_in, near_out, gate)).map(|_| ())
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: Gate) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        // The end of a connection is held back like everything else.
        gate.open().await;
        match read? {
            0 => return to.shutdown().await,
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

/// Closed while one of two masters is cut off.
#[derive(Debug, Clone)]
struct Gate {
    /// `None` for a master and itself, and for whoever is no master: an operator.
    between: Option<[String; 2]>,
    cut: watch::Receiver<Cut>,
}

impl Gate {
    async fn open(&mut self) {
        if let Some(between) = &self.between {
            // Fails only when the supervisor is ending.
            let _ = self.cut.wait_for(|cut| !between.iter().any(|name| cut.contains(name))).await;
        }
    }
}

/// The master one of whose processes has the connection from `client` to `own`. All processes of a master are in the
/// session of its supervisor; which has a socket, only the kernel's lists tell.
fn master_of(masters: &[Home], client: SocketAddr, own: SocketAddr) -> Option<String> {
    let socket = format!("socket:[{}]", inode(client, own)?);
    let sessions: Vec<(u32, &Home)> = masters.iter().filter_map(|h| Some((orphans::supervisor(h)?, h))).collect();
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let session = orphans::session(pid)?;
        Some((pid, sessions.iter().find(|(leader, _)| *leader == session)?.1))
    })
    .find(|(pid, _)| has(*pid, &socket))
    .map(|(_, home)| home.name())
}

fn has(pid: u32, socket: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to == Path::new(socket))
}

/// The inode of the client's end of a connection in `/proc/net/tcp`.
fn inode(client: SocketAddr, own: SocketAddr) -> Option<String> {
    let shown = |at: SocketAddr| match at.ip() {
        IpAddr::V4(ip) => Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), at.port())),
        IpAddr::V6(_) => None,
    };
    let (client, own) = (shown(client)?, shown(own)?);
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (*fields.get(1)? == client && *fields.get(2)? == own).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}
