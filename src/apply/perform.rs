//! One arm per action. Each is idempotent: done twice it is done once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::apply::event::Sink;
use crate::apply::record::Ledger;
use crate::apply::{bindings, pods, wait};
use crate::error::{Error, Result};
use crate::etcd::client::{Client, Over};
use crate::host::{Host, fault, http};
use crate::pki::issue::{self, Issuer};
use crate::pki::{auth, kubeconfig};
use crate::plan::{Action, Run};
use crate::spec::ThisNode;
use crate::state::desired::{CaSpec, CertSpec, Placement, Readiness, SecretSpec};
use crate::state::observed::SealedMember;
use crate::state::{Digest, Owner, Secret};

/// What performing needs beside the step.
pub struct Performer<'a> {
    /// Where.
    pub host: &'a mut Host,
    /// The ownership record.
    pub ledger: &'a mut Ledger,
    /// The master being made.
    pub this: &'a ThisNode,
    /// The backup directory of this run, made when first needed.
    pub backup: PathBuf,
    /// The time certificates are issued at.
    pub now: OffsetDateTime,
    /// What the cluster's spec is registered over.
    pub over: &'a Over,
    /// Where events go.
    pub sink: Sink<'a>,
}

impl Performer<'_> {
    /// Does one step. True when it changed something.
    ///
    /// # Errors
    /// What failed, on which object, and what to do. Everything undoable is still in the host's undo log.
    pub fn perform(&mut self, action: &Action) -> Result<bool> {
        match action {
            Action::EnsureDir { path, mode, owner, scratch } => {
                let made = if *scratch {
                    self.host.ensure_scratch_dir(path, *mode, *owner)?
                } else {
                    self.host.ensure_dir(path, *mode, *owner)?
                };
                Ok(!made.is_empty())
            }
            Action::WriteFile { path, mode, owner, bytes, backup, .. } => {
                if *backup {
                    self.host.backup(path, &self.backup)?;
                }
                let changed = self.host.write(path, bytes, *mode, *owner)?;
                self.ledger.wrote(self.host, path, Digest::of(bytes))?;
                Ok(changed)
            }
            Action::SetMode { path, mode, owner } => self.host.set_mode(path, *mode, *owner),
            Action::RemoveFile { path, restore: None } => self.host.remove(path),
            Action::RemoveFile { path, restore: Some(original) } => self.host.restore(path, original),
            Action::RemoveDir { path } => self.host.remove_empty_dir(path),
            Action::RetireData { path, to } => self.host.retire(path, to.as_deref()),
            Action::IssueCa { ca } => {
                let pair = match self.host.read(&ca.key)? {
                    Some(key) => issue::ca_for(ca, Secret::new(key), self.now)?,
                    None => issue::new_ca(ca, self.now)?,
                };
                self.replace(&ca.key, pair.key_pem.expose(), 0o600, Owner::Root)?;
                self.replace(&ca.cert, pair.cert_pem.as_bytes(), 0o644, Owner::Root)
            }
            Action::IssueLeaf { cert, issuer, .. } => {
                let issuer = self.issuer(issuer)?;
                if let Some(end) = issue::capped(cert.validity, issuer.cert(), self.now) {
                    let note = format!("{} ends with its CA on {}", cert.id, end.date());
                    (self.sink)(crate::apply::event::Event::Note(&note));
                }
                let pair = issue::leaf(cert, &issuer, self.now)?;
                self.place(cert, issuer.cert_pem(), &pair)
            }
            Action::RequestLeaf { cert, key, csr } => {
                let existing = self.host.read(key)?.map(Secret::new);
                let request = issue::csr(cert, existing.as_ref().map(Secret::expose))?;
                self.host.write(key, request.key_pem.expose(), 0o600, Owner::Root)?;
                self.host.write(csr, request.csr_pem.as_bytes(), 0o644, Owner::Root)
            }
            Action::ImportLeaf { cert, issuer, from, key } => {
                let ca = self.must_read(&issuer.cert)?;
                let cert_pem = String::from_utf8_lossy(&self.must_read(from)?).into_owned();
                let key_pem = Secret::new(self.must_read(key)?);
                self.place(cert, &String::from_utf8_lossy(&ca), &issue::Pair { cert_pem, key_pem })
            }
            Action::WriteSecret { secret, .. } => self.secret(secret),
            Action::AwaitPods { programs } => pods::gone(self.host, programs, self.sink),
            Action::ReloadUnits => self.host.unit_reload().map(|()| true),
            Action::SetUnit { unit, enable, run, stamp, ready } => {
                let old = match run {
                    Run::Restart => self.host.units().state(unit)?.pid,
                    _ => None,
                };
                if matches!(ready, Some(Readiness::EtcdFormed { .. })) {
                    // From its start on the member may be one of a quorum that has accepted writes. Its data emptied,
                    // it could vote a second time and found the cluster anew: what was done stays, and a run continues.
                    self.host.commit();
                }
                let mut changed = match enable {
                    Some(on) => self.host.unit_enable(unit, *on)?,
                    None => false,
                };
                changed |= match run {
                    Run::Leave => false,
                    Run::Start => self.host.unit_start(unit)?,
                    Run::Restart => self.host.unit_restart(unit).map(|()| true)?,
                    Run::Stop => self.host.unit_stop(unit)?,
                };
                fault::point("unit.started");
                if let Some(ready) = ready {
                    wait::ready(self.host, unit, old, ready, self.sink)?;
                }
                if stamp.is_some() {
                    self.ledger.stamp(self.host, unit, *stamp)?;
                }
                Ok(changed)
            }
            Action::SealMember { unit, stamp } => {
                let status = self.etcd()?.status()?;
                let member = SealedMember { cluster_id: status.cluster_id, member_id: status.member_id };
                self.ledger.seal(self.host, unit, *stamp, member)?;
                fault::point("etcd.sealed");
                // The cluster exists: from here on a failure is finished by running again, not by putting back.
                self.host.commit();
                Ok(true)
            }
            Action::PutIfAbsent { key, value } => self.etcd()?.put_if_absent(key, value),
            Action::PutSpec { yaml } => {
                let changed = self.etcd()?.put_spec(yaml, self.over)?;
                fault::point("etcd.put");
                Ok(changed)
            }
            Action::ApplyBindings => {
                let digest = bindings::apply(self.host, self.this, self.sink)?;
                self.ledger.bound(self.host, digest)?;
                Ok(true)
            }
        }
    }

    /// A client of this host's member, with hamaster's own certificate.
    fn etcd(&self) -> Result<Client> {
        etcd_client(self.host, self.this)
    }

    fn must_read(&self, path: &Path) -> Result<Vec<u8>> {
        self.host.read(path)?.ok_or_else(|| Error::conflict(format!("{} is gone", path.display())))
    }

    fn issuer(&self, ca: &CaSpec) -> Result<Issuer> {
        let key = Secret::new(self.must_read(&ca.key)?);
        Issuer::load(&self.must_read(&ca.cert)?, key.expose())
    }

    /// Writes a secret file or a certificate; an earlier one is backed up, so that it can be rolled back.
    fn replace(&mut self, path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> Result<bool> {
        self.host.backup(path, &self.backup)?;
        self.host.write(path, bytes, mode, owner)
    }

    /// Key before certificate: killed in between, the pair is a key mismatch and is simply issued again.
    fn place(&mut self, cert: &CertSpec, ca_pem: &str, pair: &issue::Pair) -> Result<bool> {
        match &cert.placement {
            Placement::Pair { cert: file, key, owner } => {
                self.replace(key, pair.key_pem.expose(), 0o600, *owner)?;
                self.replace(file, pair.cert_pem.as_bytes(), 0o644, Owner::Root)
            }
            Placement::Kubeconfig { path, server, cluster } => {
                let file = kubeconfig::render(cluster, server, ca_pem, &cert.common_name, pair)?;
                self.replace(path, file.expose(), 0o600, Owner::Root)
            }
            Placement::Combined { path } => {
                let mut both = pair.cert_pem.clone().into_bytes();
                both.extend_from_slice(pair.key_pem.expose());
                let both = Secret::new(both);
                self.replace(path, both.expose(), 0o600, Owner::Root)
            }
        }
    }

    fn secret(&mut self, secret: &SecretSpec) -> Result<bool> {
        let existing = self.host.read(&secret.path)?.map(Secret::new);
        let mut changed = false;
        for (path, bytes) in auth::make(secret, existing.as_ref().map(Secret::expose))? {
            let mode = secret.modes().into_iter().find(|(p, ..)| *p == path).map_or(0o600, |(_, mode, _)| mode);
            changed |= self.replace(&path, bytes.expose(), mode, Owner::Root)?;
        }
        Ok(changed)
    }
}

/// A client of this host's etcd member, with hamaster's own certificate.
///
/// # Errors
/// When a certificate is missing or does not read.
pub fn etcd_client(host: &Host, this: &ThisNode) -> Result<Client> {
    member_client(host, this, this.node.ip)
}

/// A client of the member at `ip`, with this host's certificate.
///
/// # Errors
/// As [`etcd_client()`].
pub fn member_client(host: &Host, this: &ThisNode, ip: IpAddr) -> Result<Client> {
    Client::new(SocketAddr::new(ip, 2379), etcd_tls(host, this)?)
}

/// How hamaster shows itself to etcd, and which CA it trusts.
///
/// # Errors
/// When a certificate is missing or does not read.
pub fn etcd_tls(host: &Host, this: &ThisNode) -> Result<rustls::ClientConfig> {
    let dir = this.layout.etcd_pki();
    let read = |name: &str| {
        let path = dir.join(name);
        host.read(&path)?
            .ok_or_else(|| Error::conflict(format!("{} is missing", path.display())).hint("hamaster init --only pki"))
    };
    let identity = http::Identity { cert_pem: read("hamaster.crt")?, key_pem: Secret::new(read("hamaster.key")?) };
    http::tls(&read("ca.crt")?, Some(&identity))
}
