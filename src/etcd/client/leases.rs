//! Leases, and keys that end with them.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::Client;
use crate::error::Result;

impl Client {
    /// A new lease that ends `life` after it was last kept alive, to the second. Its id.
    ///
    /// # Errors
    /// When the member does not answer.
    pub fn grant(&self, life: Duration) -> Result<i64> {
        let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        Ok(self.call("grant a lease", async |mut c| c.lease_grant(seconds, None).await)?.id())
    }

    /// Keeps `lease` alive once. False when it has ended.
    ///
    /// # Errors
    /// When the member does not answer.
    pub fn keep_alive(&self, lease: i64) -> Result<bool> {
        let answer = self.call("keep a lease alive", async |mut c| {
            let (mut keeper, mut answers) = c.lease_keep_alive(lease).await?;
            keeper.keep_alive().await?;
            answers.message().await
        });
        match answer {
            // A lease that has ended is answered with no time left.
            Ok(answer) => Ok(answer.is_some_and(|a| a.ttl() > 0)),
            Err(e) if e.causes().iter().any(|c| c.contains("lease not found")) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Ends `lease`, and every key on it.
    ///
    /// # Errors
    /// When the member does not answer, or there is no such lease.
    pub fn revoke(&self, lease: i64) -> Result<()> {
        self.call("revoke a lease", async |mut c| c.lease_revoke(lease).await).map(drop)
    }

    /// Creates `key` on `lease`; false when it is there.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same.
    pub fn create_on(&self, key: &str, value: &[u8], lease: i64) -> Result<bool> {
        let options = PutOptions::new().with_lease(lease);
        let txn = Txn::new().when([Compare::create_revision(key, CompareOp::Equal, 0)]).and_then([TxnOp::put(
            key,
            value,
            Some(options),
        )]);
        Ok(self.call(&format!("create {key}"), async |mut c| c.txn(txn).await)?.succeeded())
    }

    /// Puts `key` on `lease`, whatever was there.
    ///
    /// # Errors
    /// When the member does not answer, or the lease has ended.
    pub fn put_on(&self, key: &str, value: &[u8], lease: i64) -> Result<()> {
        let options = PutOptions::new().with_lease(lease);
        self.call(&format!("put {key}"), async |mut c| c.put(key, value, Some(options)).await).map(drop)
    }
}
