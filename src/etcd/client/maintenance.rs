//! What is asked of a member that may have lost its quorum: a snapshot, and whom it remembers.

use std::io::Write;
use std::time::Duration;

use super::Client;
use crate::error::{Error, Result};
use crate::etcd::membership::Member;

/// Longest silence of a snapshot's stream: a member reads its disk before the first byte.
const SILENCE: Duration = Duration::from_secs(30);

impl Client {
    /// Whom the member remembers as members, without asking the others: the answer may be old.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn remembered_members(&self) -> Result<Vec<Member>> {
        let list = self.call("list its members", async |mut c| c.member_list().await)?;
        let member = |m: &etcd_client::Member| Member {
            id: m.id(),
            name: m.name().to_owned(),
            peer_urls: m.peer_urls().to_vec(),
            client_urls: m.client_urls().to_vec(),
            is_learner: m.is_learner(),
        };
        Ok(list.members().iter().map(member).collect())
    }

    /// The revision of its newest write, as far as this member has it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn revision(&self) -> Result<i64> {
        let status = self.call("read its status", async |mut c| c.status().await)?;
        Ok(status.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Streams the member's whole database into `out`, with etcd's checksum behind it. Needs no quorum.
    ///
    /// # Errors
    /// When the member does not answer, falls silent or ends early, or `out` takes no more.
    pub fn snapshot(&self, out: &mut dyn Write) -> Result<()> {
        let failed =
            || Error::apply(format!("etcd at {}: cannot take a snapshot", self.member)).hint("hamaster status");
        let silent = |_| failed().cause(format!("nothing came for {} s", SILENCE.as_secs()));
        let mut client = self.inner.clone();
        self.runtime.block_on(async {
            let asked = tokio::time::timeout(SILENCE, client.snapshot()).await.map_err(silent)?;
            let mut stream = asked.map_err(|e| failed().cause(e))?;
            // 3.4 says how much is left in every message; it is the only sign of a stream that ended early.
            let mut left = None;
            while let Some(part) =
                tokio::time::timeout(SILENCE, stream.message()).await.map_err(silent)?.map_err(|e| failed().cause(e))?
            {
                out.write_all(part.blob())
                    .map_err(|e| Error::apply("cannot keep the snapshot").cause(e).hint("df -h"))?;
                left = Some(part.remaining_bytes());
            }
            match left {
                Some(0) => Ok(()),
                _ => Err(failed().cause("it ended early")),
            }
        })
    }
}
