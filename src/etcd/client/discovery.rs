//! A registry of founders: keys in an etcd that is there already, laid out as etcd 3.6 has them.

use etcd_client::GetOptions;

use super::Client;
use crate::error::Result;
use crate::etcd::discovery::{Entry, Listing};

impl Client {
    /// All that is registered under `token`.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum.
    pub fn listing(&self, token: &str) -> Result<Listing> {
        let size = self.get(&format!("{}/_config/size", top(token)))?;
        let members = format!("{}/members/", top(token));
        let all = Some(GetOptions::new().with_prefix());
        let found = self.call(&format!("read {members}"), async |mut c| c.get(members.as_str(), all).await)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let entry = |kv: &etcd_client::KeyValue| Entry {
            id: text(kv.key().strip_prefix(members.as_bytes()).unwrap_or(kv.key())),
            value: text(kv.value()),
            order: u64::try_from(kv.create_revision()).unwrap_or(0),
        };
        Ok(Listing { size: size.map(|s| text(&s)), entries: found.kvs().iter().map(entry).collect() })
    }

    /// Registers `value` under `id`; one that is there stays.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same; again is safe.
    pub fn enrol(&self, token: &str, id: &str, value: &str) -> Result<()> {
        self.put_if_absent(&format!("{}/members/{id}", top(token)), value.as_bytes()).map(drop)
    }

    /// Takes back a registration.
    ///
    /// # Errors
    /// When the member does not answer. It may have happened all the same.
    pub fn withdraw(&self, token: &str, id: &str) -> Result<()> {
        self.delete(&format!("{}/members/{id}", top(token))).map(drop)
    }
}

fn top(token: &str) -> String {
    format!("/_etcd/registry/{token}")
}
