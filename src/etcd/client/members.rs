//! The members of a cluster: asked for, added, promoted, removed.

use etcd_client::{AlarmAction, AlarmType, MemberAddOptions};

use super::Client;
use crate::error::{Error, Result};
use crate::etcd::membership::Member;
use crate::etcd::reply::Reply;
use crate::etcd::{Lag, keys};

impl Client {
    /// Every member, as a majority knows it: etcd 3.4 answers from its own memory, so a read that needs a majority
    /// goes before, on the same endpoint.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum.
    pub fn members(&self) -> Result<Vec<Member>> {
        self.get(keys::SPEC)?;
        self.remembered_members()
    }

    /// How far the member is, and who leads as it knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn lag(&self) -> Result<Lag> {
        let status = self.call("read its status", async |mut c| c.status().await)?;
        let header = status.header();
        Ok(Lag {
            cluster_id: format!("{:x}", header.map_or(0, etcd_client::ResponseHeader::cluster_id)),
            member_id: header.map_or(0, etcd_client::ResponseHeader::member_id),
            leader: status.leader(),
            is_learner: status.is_learner(),
            index: status.raft_index(),
            applied: status.raft_applied_index(),
            db_size: status.db_size(),
            errors: status.errors().to_vec(),
        })
    }

    /// Alarms that are on: `NOSPACE` or `CORRUPT`, with the id of the member.
    ///
    /// # Errors
    /// When the member does not answer.
    pub fn alarms(&self) -> Result<Vec<String>> {
        let asked = async |mut c: etcd_client::Client| c.alarm(AlarmAction::Get, AlarmType::None, None).await;
        let answer = self.call("read its alarms", asked)?;
        let word = |kind| match kind {
            AlarmType::None => "unknown alarm",
            AlarmType::Nospace => "NOSPACE",
            AlarmType::Corrupt => "CORRUPT",
        };
        Ok(answer.alarms().iter().map(|a| format!("{} on member {:x}", word(a.alarm()), a.member_id())).collect())
    }

    /// Adds a learner that its peers will reach at `url`. Its id.
    ///
    /// # Errors
    /// What etcd says, or that it is not known whether it happened.
    pub fn add_learner(&self, url: &str) -> Result<u64, Reply> {
        let urls = [url.to_owned()];
        let answer =
            self.change(async |mut c| c.member_add(urls, Some(MemberAddOptions::new().with_is_learner())).await)?;
        answer.member().map(etcd_client::Member::id).ok_or_else(|| Reply::Unknown("an answer without a member".into()))
    }

    /// Makes the learner `id` a voter.
    ///
    /// # Errors
    /// As [`Client::add_learner`].
    pub fn promote(&self, id: u64) -> Result<(), Reply> {
        self.change(async |mut c| c.member_promote(id).await).map(drop)
    }

    /// Removes the member `id`. A voter's removal must be sent to another one.
    ///
    /// # Errors
    /// As [`Client::add_learner`].
    pub fn remove(&self, id: u64) -> Result<(), Reply> {
        self.change(async |mut c| c.member_remove(id).await).map(drop)
    }

    /// Hands the lead over from this member, which must lead, to `id`.
    ///
    /// # Errors
    /// When it does not lead, or `id` cannot.
    pub fn move_leader(&self, id: u64) -> Result<()> {
        self.call("hand its lead over", async |mut c| c.move_leader(id).await).map(drop)
    }

    fn change<T>(
        &self,
        call: impl AsyncFnOnce(etcd_client::Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Reply> {
        match self.block_on(call(self.inner.clone())) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(e)) => Err(Reply::of(&e.to_string())),
            None => Err(Reply::Unknown(format!("no answer within {} s", self.patience.as_secs()))),
        }
    }
}

impl Reply {
    /// As an error about `what`, where nothing else can be made of it.
    pub fn error(&self, what: &str) -> Box<Error> {
        let why = match self {
            Reply::Unknown(why) => why.clone(),
            known => format!("{known:?}"),
        };
        Error::apply(format!("etcd does not {what}")).cause(why).hint("hamaster master list")
    }
}
