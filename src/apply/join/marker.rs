//! What a joiner notes before it does anything else: a host that was killed in the middle of its join goes on with it,
//! and can never become a cluster of its own (k0s#5149).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::admission::{Bytes, Host as Master, Pem, Request, Welcome};
use crate::apply::record::Ledger;
use crate::error::{Error, Result};
use crate::host::{Host, identity, observe};
use crate::spec::Node;
use crate::spec::layout::Layout;
use crate::state::observed::FileRecord;
use crate::state::{Owner, Secret};
use crate::token::{Role, Token};

/// The note. Kept 0600: whoever knows the attempt can come again with the token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    /// What this host is to be.
    #[serde(default = "master")]
    pub role: Role,
    /// What a master knows this attempt by.
    pub attempt: Bytes,
    /// The cluster, once its bundle is on this host: from then on no token is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// The cluster that is being joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// etcd's id of it, hex.
    pub id: String,
    /// Its masters when this host was admitted.
    pub masters: Vec<Master>,
    /// Its spec then.
    pub spec: String,
}

fn master() -> Role {
    Role::Master
}

impl From<&Welcome> for Cluster {
    fn from(welcome: &Welcome) -> Self {
        Self { id: welcome.cluster_id.clone(), masters: welcome.masters.clone(), spec: welcome.spec.clone() }
    }
}

impl Marker {
    /// Where it is kept.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.state().join("joining.json")
    }

    /// A new attempt of `node` to become `role`, on disk before anybody hears of it. `cluster` where no bundle is needed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(host: &mut Host, layout: &Layout, node: &Node, role: Role, cluster: Option<Cluster>) -> Result<Self> {
        let marker = Self { role, attempt: Bytes(Secret::new(identity::random::<32>()?.to_vec())), cluster };
        marker.save(host, layout, &node.name)?;
        Ok(marker)
    }

    /// What `node` asks a master for by `token`: to be admitted, and to have `requests` signed.
    pub fn request(&self, token: &Token, node: &Node, requests: Vec<Pem>) -> Request {
        Request {
            token: token.id.clone(),
            secret: Bytes(token.secret().clone()),
            attempt: self.attempt.clone(),
            node: node.name.clone(),
            ip: node.ip,
            role: self.role,
            requests,
        }
    }

    /// The marker on this host, if it is in the middle of a join.
    ///
    /// # Errors
    /// When it is there and does not read.
    pub fn find(host: &Host, layout: &Layout) -> Result<Option<Self>> {
        let path = Self::path(layout);
        let Some(bytes) = host.read(&path)? else { return Ok(None) };
        // Not the parser's words: they may show what it stumbled on, the attempt.
        serde_json::from_slice(&bytes).map(Some).map_err(|_| {
            let path = host.shown(&path).display().to_string();
            Error::conflict(format!("{path} does not say what this host was joining")).hint("hamaster reset")
        })
    }

    /// Writes it. The record names it first, so that `reset` takes it away.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, host: &mut Host, layout: &Layout, node: &str) -> Result<()> {
        let path = Self::path(layout);
        let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
        ledger.record.node = Some(node.to_owned());
        if ledger.record.files.insert(path.clone(), FileRecord::default()).is_none() {
            ledger.save(host)?;
        }
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::apply("cannot encode the marker").cause(e))?;
        let json = zeroize::Zeroizing::new(json);
        host.write(&path, &json, 0o600, Owner::Root).map(drop)
    }

    /// The join is done.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(host: &mut Host, layout: &Layout) -> Result<()> {
        let path = Self::path(layout);
        host.remove(&path)?;
        let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
        match ledger.record.files.remove(&path) {
            Some(_) => ledger.save(host),
            None => Ok(()),
        }
    }
}
