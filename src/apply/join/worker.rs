//! `hamaster join --worker`: this host becomes a worker.
//!
//! It has no CA's key, as a master has none whose CA is elsewhere, so the way is the same: it makes keys and signing
//! requests, somebody signs, and what comes back is judged before it is taken. Only that here a master signs at once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Choice, Marker, Preview, options};
use crate::admission::Pem;
use crate::apply::event::{Event, Sink};
use crate::apply::record::Ledger;
use crate::apply::{Master, Outcome, Run, unsigned};
use crate::error::{Error, Result};
use crate::host::{Host, clock, fault, observe};
use crate::pki::catalog;
use crate::plan::Conflict;
use crate::state::observed::FileRecord;
use crate::state::{Digest, Owner, PhaseId};

/// How a worker's requests come to be signed: a master is asked, or none can be. It may give less than was asked for.
pub type Sign<'a> = &'a mut dyn FnMut(Vec<Pem>) -> Result<Vec<Pem>>;

/// Makes this host a worker of the cluster whose CA is here.
///
/// # Errors
/// What failed, or what must yet be signed elsewhere; run again it goes on.
pub fn join(
    host: &mut Host,
    master: &Master,
    choice: &Choice,
    seen: Preview,
    sign: Sign<'_>,
    sink: Sink<'_>,
) -> Result<Outcome> {
    let options = options(choice);
    let mut outcome = Outcome { changed: vec![], notes: seen.notes };
    let seen = crate::apply::Preview { phases: seen.phases, notes: vec![], observed: seen.observed };
    let mut run = Run { master, options: &options, seen: &seen, started: clock::now(), written: BTreeSet::new() };
    for id in [PhaseId::Pki, PhaseId::Kubeconfig] {
        let awaited = run.phase(id, host, &mut outcome, sink)?;
        fault::point("join.requested");
        if !awaited.is_empty() {
            let signed = sign(requests(host, master, &awaited)?)?;
            arrive(host, master, signed)?;
            fault::point("join.signed");
            let left = run.phase(id, host, &mut outcome, sink)?;
            if !left.is_empty() {
                return Err(unsigned(host, left));
            }
        }
    }
    tidy(host, master)?;
    run.phases(host, &mut outcome, sink)?;
    Marker::clear(host, &master.this.layout)?;
    fault::point("join.done");
    sink(Event::Finished);
    Ok(outcome)
}

/// The requests whose certificates are awaited.
fn requests(host: &Host, master: &Master, awaited: &[Conflict]) -> Result<Vec<Pem>> {
    let mut requests = vec![];
    for id in ids(master) {
        let [csr, crt, _] = files(master, id);
        if awaited.iter().any(|a| a.path == crt)
            && let Some(pem) = host.read(&csr)?
        {
            requests.push(Pem { id: id.to_owned(), pem: String::from_utf8_lossy(&pem).into_owned() });
        }
    }
    Ok(requests)
}

/// Puts what was signed beside its request, where the next plan finds and judges it.
fn arrive(host: &mut Host, master: &Master, signed: Vec<Pem>) -> Result<()> {
    let layout = &master.this.layout;
    let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
    let known = ids(master);
    for Pem { id, pem } in signed {
        // Only what was asked for: the id makes a path.
        let Some(id) = known.iter().find(|known| **known == id) else {
            return Err(Error::conflict("the master sent a certificate that nobody asked for"));
        };
        let [_, crt, _] = files(master, id);
        ledger
            .record
            .files
            .insert(crt.clone(), FileRecord { digest: Some(Digest::of(pem.as_bytes())), ..FileRecord::default() });
        ledger.save(host)?;
        host.write(&crt, pem.as_bytes(), 0o644, Owner::Root)?;
    }
    Ok(())
}

/// The requests are answered, and the keys have their places: nothing is left of a second copy.
fn tidy(host: &mut Host, master: &Master) -> Result<()> {
    let layout = &master.this.layout;
    let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
    let before = ledger.record.files.len();
    for path in ids(master).into_iter().flat_map(|id| files(master, id)) {
        if ledger.record.files.remove(&path).is_some() {
            host.remove(&path)?;
        }
    }
    if ledger.record.files.len() == before { Ok(()) } else { ledger.save(host) }
}

fn ids(master: &Master) -> Vec<&'static str> {
    catalog::worker_certs(&master.spec, &master.this).into_iter().map(|cert| cert.id).collect()
}

/// Request, certificate and key.
fn files(master: &Master, id: &str) -> [PathBuf; 3] {
    let dir = master.this.layout.pki().join("csr");
    ["csr", "crt", "key"].map(|extension| dir.join(format!("{id}.{extension}")))
}
