//! The RBAC roles and bindings a cluster needs from its first minute (kubernetes/kubeadm#3310: without them logs and exec break).

use crate::apply::apiserver;
use crate::apply::event::Sink;
use crate::error::{Error, Result};
use crate::host::{Host, http};
use crate::spec::ThisNode;
use crate::state::Digest;

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
    let (at, tls) = apiserver::ready(this, &conf, &identity, sink)?;
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
