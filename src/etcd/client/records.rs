//! Keys that are changed by whoever saw them last, and keys that end by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, WatchOptions};

use super::Client;
use crate::error::{Error, Result};
use crate::etcd::keys;
use crate::state::report::Report;

/// How often whoever waits for a change looks whether it shall stop.
const STOPS: Duration = Duration::from_millis(250);

/// A key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// For the next change: etcd's `mod_revision`.
    pub revision: i64,
    /// The lease it ends with, 0 for none.
    pub lease: i64,
}

impl Client {
    /// The key `key`, if there is one.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum.
    pub fn record(&self, key: &str) -> Result<Option<Record>> {
        Ok(self.read(key)?.kvs().first().map(record))
    }

    /// Every key below `prefix`.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum.
    pub fn records(&self, prefix: &str) -> Result<Vec<Record>> {
        let all = Some(GetOptions::new().with_prefix());
        let found = self.call(&format!("read {prefix}"), async |mut c| c.get(prefix, all).await)?;
        Ok(found.kvs().iter().map(record).collect())
    }

    /// Waits until `key` is changed after `revision`, for as long as `within`, and not longer than until `stop` says so.
    ///
    /// # Errors
    /// When the member does not answer, or cannot tell any more what came after that.
    pub fn await_change(&self, key: &str, revision: i64, within: Duration, stop: impl Fn() -> bool) -> Result<()> {
        let failed = || Error::apply(format!("etcd at {}: cannot watch {key}", self.member));
        let options = WatchOptions::new().with_start_revision(revision + 1);
        let watched = async {
            let mut stream = self.inner.clone().watch(key, Some(options)).await.map_err(|e| failed().cause(e))?;
            while let Some(answer) = stream.message().await.map_err(|e| failed().cause(e))? {
                if answer.canceled() {
                    return Err(failed().cause(answer.cancel_reason()));
                }
                if !answer.events().is_empty() {
                    return Ok(());
                }
            }
            Err(failed().cause("it ended the watch"))
        };
        let stopped = async {
            while !stop() {
                tokio::time::sleep(STOPS).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                seen = watched => seen,
                () = stopped => Ok(()),
                () = tokio::time::sleep(within) => Ok(()),
            }
        })
    }

    /// What the masters' keepers say, by the master's name. What does not read is left out.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum.
    pub fn reports(&self) -> Result<BTreeMap<String, Report>> {
        let read =
            |r: Record| Some((r.key.strip_prefix(keys::MASTERS)?.to_owned(), serde_json::from_slice(&r.value).ok()?));
        Ok(self.records(keys::MASTERS)?.into_iter().filter_map(read).collect())
    }

    /// Replaces what was `seen` by `value`, which ends with the same lease. False when it was changed meanwhile.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same.
    pub fn replace(&self, seen: &Record, value: &[u8]) -> Result<bool> {
        let lease = (seen.lease != 0).then(|| PutOptions::new().with_lease(seen.lease));
        let txn = Txn::new()
            .when([Compare::mod_revision(seen.key.as_str(), CompareOp::Equal, seen.revision)])
            .and_then([TxnOp::put(seen.key.as_str(), value, lease)]);
        let answer = self.call(&format!("change {}", seen.key), async |mut c| c.txn(txn).await)?;
        Ok(answer.succeeded())
    }

    /// As [`Client::replace`], and deletes the key `gone`; all of it only as long as the turn is on `lease`.
    ///
    /// # Errors
    /// As [`Client::replace`].
    pub fn replace_in_turn(&self, lease: i64, seen: &Record, value: &[u8], gone: Option<&str>) -> Result<bool> {
        let unchanged = Compare::mod_revision(seen.key.as_str(), CompareOp::Equal, seen.revision);
        let put = TxnOp::put(seen.key.as_str(), value, None);
        let delete = gone.map(|key| TxnOp::delete(key, None));
        let txn = Txn::new()
            .when([Compare::lease(keys::TURN, CompareOp::Equal, lease), unchanged])
            .and_then(std::iter::once(put).chain(delete).collect::<Vec<_>>());
        let answer = self.call(&format!("change {}", seen.key), async |mut c| c.txn(txn).await)?;
        Ok(answer.succeeded())
    }

    /// Creates `key`, which ends by itself after `life`.
    ///
    /// # Errors
    /// When the member does not answer, or the key is there.
    pub fn create_for(&self, key: &str, value: &[u8], life: Duration) -> Result<()> {
        let lease = self.grant(life)?;
        match self.create_on(key, value, lease)? {
            true => Ok(()),
            false => {
                Err(Error::conflict(format!("etcd key {key} is there already")).hint(format!("etcdctl get {key}")))
            }
        }
    }

    /// Deletes `key`. False when it was not there.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same.
    pub fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.call(&format!("delete {key}"), async |mut c| c.delete(key, None).await)?.deleted() > 0)
    }
}

fn record(kv: &etcd_client::KeyValue) -> Record {
    Record {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        value: kv.value().to_vec(),
        revision: kv.mod_revision(),
        lease: kv.lease(),
    }
}
