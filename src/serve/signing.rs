//! What a worker is given: its own certificates. It made their keys and keeps them; whose they are, for what and for how
//! long is decided here, from the spec, and of a request nothing counts but its key.

use super::desk::Refused;
use crate::admission::{Pem, Refusal, Request};
use crate::error::{Error, Kind, Result};
use crate::host::{Host, clock};
use crate::pki::catalog;
use crate::pki::issue::{self, Issuer};
use crate::spec::layout::Layout;
use crate::spec::{ClusterSpec, FlannelLeases, NetworkPlugin, Node, ThisNode};
use crate::state::Secret;

/// Signs what `request` asks for with the CA of `this` master. Nothing where the CA's key is elsewhere: the worker then
/// says what its operator must have signed, as a master does.
pub(super) fn sign(host: &Host, spec: &ClusterSpec, this: &ThisNode, request: &Request) -> Result<Vec<Pem>, Refused> {
    takes_workers(spec)?;
    let Some(issuer) = issuer(host, &this.layout)? else { return Ok(vec![]) };
    let node = Node { name: request.node.clone(), ip: request.ip };
    let worker = ThisNode { node, loopback: [127, 0, 0, 1].into(), layout: Layout::host() };
    let wanted = catalog::worker_certs(spec, &worker);
    let sign = |asked: &Pem| {
        let Some(cert) = wanted.iter().find(|cert| cert.id == asked.id) else {
            let id: String = asked.id.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(unable(format!("no worker has a certificate `{id}`"), None));
        };
        match issue::certify(cert, asked.pem.as_bytes(), &issuer, clock::now()) {
            Ok(pem) => Ok(Pem { id: asked.id.clone(), pem }),
            Err(e) if e.kind() == Kind::Refused => {
                Err(unable(format!("the request for {} is not good", cert.id), None))
            }
            Err(e) => Err(e.into()),
        }
    };
    request.requests.iter().map(sign).collect()
}

/// flannel finds nodes in one place only. Where that is etcd, a worker would need to write there, and who can do that
/// rules the cluster: etcd here asks for a certificate and then allows everything.
fn takes_workers(spec: &ClusterSpec) -> Result<(), Refused> {
    if spec.network.plugin == NetworkPlugin::Flannel && spec.network.leases == FlannelLeases::Etcd {
        let why = "flannel keeps its leases in etcd here, and no worker is let there";
        let hint = "network.leases: kubernetes    # in cluster.yaml on the masters, then hamaster init";
        return Err(unable(why.to_owned(), Some(hint.to_owned())));
    }
    Ok(())
}

fn issuer(host: &Host, layout: &Layout) -> Result<Option<Issuer>> {
    let [cert_at, key_at] = ["ca.crt", "ca.key"].map(|name| layout.pki().join(name));
    let gone = || Error::conflict(format!("{} is gone", cert_at.display())).hint("hamaster init --only pki");
    let cert = host.read(&cert_at)?.ok_or_else(gone)?;
    let Some(key) = host.read(&key_at)?.map(Secret::new) else { return Ok(None) };
    Issuer::load(&cert, key.expose()).map(Some)
}

fn unable(error: String, hint: Option<String>) -> Refused {
    Refused::Unable(Refusal { error, hint })
}
