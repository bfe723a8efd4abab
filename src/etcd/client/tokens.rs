//! Join tokens in etcd: each under its id, on a lease that is its expiry.

use std::time::Duration;

use super::{Client, Record};
use crate::error::{Error, Kind, Result};
use crate::etcd::keys;
use crate::token::{Stored, TokenId};

/// A token as it was read.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which one.
    pub id: TokenId,
    /// What the store has of it.
    pub stored: Stored,
    /// For a change of it.
    pub record: Record,
}

impl Client {
    /// The token `id`; `None` if it was never made, has expired or was revoked.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum, or the key holds something else.
    pub fn token(&self, id: &TokenId) -> Result<Option<Found>> {
        self.record(&key(id))?.map(|record| found(id.clone(), record)).transpose()
    }

    /// Every token, by its id.
    ///
    /// # Errors
    /// As [`Client::token`].
    pub fn tokens(&self) -> Result<Vec<Found>> {
        let read = |record: Record| {
            let id = record.key.strip_prefix(keys::TOKENS).and_then(|id| TokenId::try_from(id.to_owned()).ok());
            id.map(|id| found(id, record))
        };
        self.records(keys::TOKENS)?.into_iter().filter_map(read).collect()
    }

    /// Stores a token that ends by itself after `life`. False when there is one of this id: another id must be drawn.
    ///
    /// # Errors
    /// When the member does not answer.
    pub fn create_token(&self, id: &TokenId, stored: &Stored, life: Duration) -> Result<bool> {
        match self.create_for(&key(id), &encode(stored)?, life) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == Kind::Conflict => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes what is left of a token once a host was admitted. False when it was changed meanwhile.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same: reading again tells.
    pub fn use_token(&self, seen: &Found, used: &Stored) -> Result<bool> {
        self.replace(&seen.record, &encode(used)?)
    }

    /// Takes a token back. False when there was none.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same.
    pub fn revoke_token(&self, id: &TokenId) -> Result<bool> {
        self.delete(&key(id))
    }

    /// How long a token still lives: what its lease has left. `None` when it is over.
    ///
    /// # Errors
    /// When the member does not answer.
    pub fn token_life(&self, token: &Found) -> Result<Option<Duration>> {
        let lease = token.record.lease;
        let asked = async |mut c: etcd_client::Client| c.lease_time_to_live(lease, None).await;
        let left = self.call(&format!("read the lease of token {}", token.id), asked)?.ttl();
        Ok(u64::try_from(left).ok().map(Duration::from_secs))
    }
}

fn key(id: &TokenId) -> String {
    format!("{}{id}", keys::TOKENS)
}

fn encode(stored: &Stored) -> Result<Vec<u8>> {
    serde_json::to_vec(stored).map_err(|e| Error::apply("cannot encode a token").cause(e))
}

fn found(id: TokenId, record: Record) -> Result<Found> {
    let stored = serde_json::from_slice(&record.value).map_err(|e| {
        let what = format!("etcd key {} does not hold a join token of this version", record.key);
        Error::conflict(what).cause(e).hint(format!("hamaster token revoke {id}"))
    })?;
    Ok(Found { id, stored, record })
}
