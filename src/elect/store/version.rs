//! Which etcd answers. Safety does not hang on it, the queue does: the servers' lease bugs can keep the key of a dead
//! candidate alive, or drop that of a living one.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Credentials, Store};

/// First releases without the known ones (etcd issues 15247 and 12528), by minor version; later minors have none.
const MENDED: [(u32, u32, u32); 2] = [(3, 4, 31), (3, 5, 13)];

impl Store {
    /// Whether the member last asked is free of the known lease bugs; `None`: not known yet.
    pub fn lease_safe(&self) -> Option<bool> {
        let version = self.0.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.as_deref().and_then(lease_safe)
    }

    /// Asks the preferred member for its version, for as long as `within`. Who refuses to tell is not asked twice.
    pub(super) async fn learn_version(&self, within: Duration) {
        let member = &self.0.members[self.preferred()];
        let ask = async {
            let link = member.link(self.0.credentials.as_ref().map(Credentials::current)).await.ok()?;
            Some(link.client.clone().status().await.ok()?.version().to_owned())
        };
        if let Ok(Some(version)) = tokio::time::timeout(within, ask).await {
            *self.0.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        }
    }
}

fn lease_safe(version: &str) -> Option<bool> {
    let release = version.split('-').next().unwrap_or_default();
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let [major, minor, patch] = [numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?];
    let of_minor = MENDED.iter().find(|(a, b, _)| (*a, *b) == (major, minor));
    Some(of_minor.map_or((major, minor) >= (3, 6), |(_, _, mended)| patch >= *mended))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_mended_release_of_each_minor_counts() {
        let safe = ["3.4.31", "3.5.13", "3.5.30", "3.6.0", "3.7.1", "4.0.0", "3.6.0-rc.1"];
        let unsafe_ = ["3.3.27", "3.4.23", "3.4.30", "3.5.12"];
        assert!(safe.iter().all(|v| super::lease_safe(v) == Some(true)));
        assert!(unsafe_.iter().all(|v| super::lease_safe(v) == Some(false)));
        assert!(["", "3.4", "x.y.z"].iter().all(|v| super::lease_safe(v).is_none()));
    }
}
