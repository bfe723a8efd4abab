//! SRV records: who the founders are, as the domain's owner wrote it down.

use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::etcd::discovery::Target;

/// Deadline of all questions together: records, then the address of each target.
const ALL: Duration = Duration::from_secs(20);

/// The targets of `_etcd-server-ssl._tcp.DOMAIN` with their addresses, as the resolver of this host finds them.
///
/// # Errors
/// In words: no such records, no answer, a target that does not resolve.
pub fn targets(domain: &str) -> Result<Vec<Target>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        tokio::time::timeout(ALL, ask(domain))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ALL.as_secs())))
    })
}

async fn ask(domain: &str) -> Result<Vec<Target>, String> {
    let resolver =
        TokioResolver::builder_tokio().and_then(|b| b.build()).map_err(|e| format!("/etc/resolv.conf: {e}"))?;
    // With a dot at its end, lest the search list of this host is tried.
    let name = format!("_etcd-server-ssl._tcp.{domain}.");
    let found = resolver.srv_lookup(name.as_str()).await.map_err(|e| format!("no SRV records of {name}: {e}"))?;
    let mut targets = vec![];
    for record in found.answers() {
        let RData::SRV(srv) = &record.data else { continue };
        let host = srv.target.to_utf8().to_lowercase();
        let addresses = resolver.lookup_ip(host.as_str()).await.map_err(|e| format!("no address of {host}: {e}"))?;
        let mut addresses: Vec<_> = addresses.iter().collect();
        addresses.sort();
        addresses.dedup();
        targets.push(Target { host: host.trim_end_matches('.').to_owned(), port: srv.port, addresses });
    }
    targets.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(targets)
}
