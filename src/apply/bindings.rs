//! The RBAC roles and bindings a cluster needs from its first minute (kubernetes/kubeadm#3310: without them logs and exec break).

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::wait;
use crate::error::{Error, Result};
use crate::host::clock::{self, Waited};
use crate::host::{Host, http};
use crate::pki::kubeconfig;
use crate::spec::ThisNode;
use crate::state::Digest;

/// How long the apiserver may take: image, container and its own start. An operator waits for it once, at `init`.
const DEADLINE: Duration = Duration::from_secs(300);

/// Waits for the local apiserver and creates the bindings of `rbac.yaml` with the break-glass identity.
///
/// # Errors
/// When the apiserver does not become ready, or refuses.
pub(super) fn apply(host: &Host, this: &ThisNode, sink: Sink<'_>) -> Result<Digest> {
    let file = this.layout.config().join("rbac.yaml");
    let conf = this.layout.kubeconfig("super-admin");
    let missing = |path: &std::path::Path| {
        Error::conflict(format!("{} is missing", path.display())).hint("run hamaster init again")
    };
    let yaml = host.read(&file)?.ok_or_else(|| missing(&file))?;
    let identity = host.read(&conf)?.ok_or_else(|| missing(&conf))?;
    let credentials = kubeconfig::credentials(&identity)
        .map_err(|why| Error::conflict(format!("{} cannot be used", conf.display())).cause(why))?;
    let tls = http::tls(
        &credentials.ca_pem,
        Some(&http::Identity { cert_pem: credentials.cert_pem, key_pem: credentials.key_pem }),
    )?;
    let at = SocketAddr::new(this.node.ip, 6443);
    let mut says = String::new();
    let label = format!("the apiserver at {at} to be ready");
    let outcome = clock::poll(
        DEADLINE,
        Duration::from_millis(500),
        || match http::apiserver_ready(at.ip(), at.port(), tls.clone()) {
            Ok(()) => Poll::Ready(()),
            Err(why) => {
                says = why;
                Poll::Pending
            }
        },
        |since| sink(Event::Waiting { condition: &label, since }),
    );
    match outcome {
        Waited::Ready(()) => {}
        Waited::TimedOut => {
            return Err(Error::apply(format!("waited {} s for {label}", DEADLINE.as_secs()))
                .cause(says)
                .hint("crictl ps -a --name kube-apiserver; journalctl -u kubelet -n 50 --no-pager"));
        }
        Waited::Interrupted => return Err(wait::interrupted(&format!("waiting for {label}"))),
    }
    let text = String::from_utf8_lossy(&yaml);
    let objects: Vec<serde_json::Value> = serde_yaml::from_multiple(&text)
        .map_err(|e| Error::conflict(format!("{} does not read", file.display())).cause(e))?;
    for object in objects.iter().filter(|o| o.is_object()) {
        let name = object.pointer("/metadata/name").and_then(|n| n.as_str()).unwrap_or_default();
        let kind = object.pointer("/kind").and_then(|k| k.as_str()).unwrap_or_default();
        let collection = format!("/apis/rbac.authorization.k8s.io/v1/{}s", kind.to_lowercase());
        http::apply_object(at, &tls, &collection, name, &object.to_string())
            .map_err(|why| Error::apply(format!("the API refused {kind} {name}")).cause(why))?;
    }
    Ok(Digest::of(&yaml))
}
