//! Load balancers before the apiservers. hamaster runs none: every master holds the configuration, which follows the spec,
//! to be copied or fetched from any of them, or used where it is.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::{Input, Rendered, Templates};
use crate::error::{Error, Result};
use crate::pki::catalog::APISERVER_PORT;
use crate::spec::{Address, ClusterSpec};
use crate::state::desired::ManagedFile;
use crate::state::{Owner, PhaseId};

/// haproxy.cfg and nginx.conf
#[derive(Serialize)]
struct Balancer {
    port: u16,
    masters: Vec<Backend>,
}

#[derive(Serialize)]
struct Backend {
    name: String,
    /// `ip:port`, an IPv6 address in brackets.
    address: String,
}

/// keepalived.conf
#[derive(Serialize)]
struct Keepalived {
    interface: String,
    virtual_router_id: u8,
    virtual_ip: String,
    port: u16,
}

/// The same for every master of the cluster.
pub(super) fn files(input: &Input, out: &mut Rendered) -> Result<()> {
    let dir = input.this.layout.load_balancer();
    let file = |(name, bytes): (PathBuf, Vec<u8>)| ManagedFile {
        phase: PhaseId::ControlPlane,
        path: dir.join(name),
        mode: 0o644,
        owner: Owner::Root,
        bytes,
        inputs: vec![],
    };
    out.files.extend(load_balancer(input.spec, out.templates)?.into_iter().map(file));
    Ok(())
}

/// `haproxy.cfg`, `nginx.conf` and, when the first address of the load balancer is an IP to share, `keepalived.conf`.
///
/// # Errors
/// When no master is known to send clients to, or a template does not render.
pub fn load_balancer(spec: &ClusterSpec, templates: &Templates) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    if spec.masters.is_empty() {
        return Err(Error::usage("there is no master to balance between")
            .hint("list them in cluster.yaml: masters: [{ name: m1, ip: 10.0.0.1 }]"));
    }
    let port = spec.load_balancer.port;
    let backend = |name: &str, ip: IpAddr| Backend {
        name: name.to_owned(),
        address: std::net::SocketAddr::new(ip, APISERVER_PORT).to_string(),
    };
    let balancer = Balancer { port, masters: spec.masters.iter().map(|m| backend(&m.name, m.ip)).collect() };
    let mut out = vec![
        (PathBuf::from("haproxy.cfg"), templates.render("lb/haproxy.cfg.hbs", &balancer)?.into_bytes()),
        (PathBuf::from("nginx.conf"), templates.render("lb/nginx.conf.hbs", &balancer)?.into_bytes()),
    ];
    let first_ip = spec.load_balancer.addresses.iter().find_map(|a| match a {
        Address::Ip(ip) => Some(ip.to_string()),
        Address::Dns(_) => None,
    });
    if let Some(virtual_ip) = first_ip {
        let keepalived = Keepalived {
            interface: spec.load_balancer.interface.clone(),
            virtual_router_id: spec.load_balancer.virtual_router_id,
            virtual_ip,
            port,
        };
        let text = templates.render("lb/keepalived.conf.hbs", &keepalived)?;
        out.push((PathBuf::from("keepalived.conf"), text.into_bytes()));
    }
    Ok(out)
}
