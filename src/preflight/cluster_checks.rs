//! The node in its network: names, addresses, ranges, proxies.

use std::net::IpAddr;

use super::Inspection;
use super::catalog;
use crate::spec::network::{self, Cidr};
use crate::spec::{Address, address};
use crate::state::facts::Resolution;

pub(super) fn cluster(i: &mut Inspection) {
    node_name(i);
    resolves(i);
    advertise_ip(i);
    load_balancer(i);
    overlaps(i);
    proxy(i);
}

fn node_name(i: &mut Inspection) {
    let name = &i.this.node.name;
    if let Err(mistake) = address::node_name(name) {
        i.find(&catalog::NODE_NAME, name, mistake.message, mistake.hint.unwrap_or_default());
    }
    if let Some(before) = i.observed.record.node.as_ref().filter(|before| *before != name) {
        let message = format!("this host was set up as {before}");
        i.find(&catalog::NODE_NAME, name, message, format!("--name {before}    # or first: hamaster reset"));
    }
    let host = i.facts.hostname.to_lowercase();
    if !host.is_empty() && host != *name {
        let hint = format!("hostnamectl set-hostname {name}    # or --name {host}");
        i.find(&catalog::HOSTNAME, name, format!("the host is called {host}"), hint);
    }
}

fn resolves(i: &mut Inspection) {
    let Some(Resolution { name, addresses }) = &i.facts.hostname_lookup else { return };
    let hint = format!("echo '{} {name}' >> /etc/hosts", i.this.node.ip);
    match addresses {
        Err(why) => i.find(&catalog::HOSTNAME, name, format!("does not resolve: {why}"), hint),
        Ok(found) if !found.iter().any(|ip| ip.is_loopback() || i.facts.addresses.contains(ip)) => {
            i.find(&catalog::HOSTNAME, name, format!("resolves to {}, not to this host", list(found)), hint);
        }
        Ok(_) => {}
    }
}

fn list(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn advertise_ip(i: &mut Inspection) {
    let ip = i.this.node.ip;
    let hint = match i.facts.default_ip {
        Some(default) => format!("--advertise-ip {default}"),
        None => "--advertise-ip IP    # one of: ip -brief address".to_owned(),
    };
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        i.find(&catalog::ADVERTISE_IP, ip.to_string(), "no other master can reach this address", hint);
    } else if !i.facts.addresses.contains(&ip) {
        i.find(&catalog::ADVERTISE_IP, ip.to_string(), "is not on any interface of this host", hint);
    }
}

fn load_balancer(i: &mut Inspection) {
    for address in &i.spec.load_balancer.addresses {
        let Address::Ip(ip) = address else { continue };
        if i.facts.addresses.contains(ip) {
            let message =
                "is an address of this host: right for keepalived's, else clients lose all masters with this one";
            i.find(&catalog::LOAD_BALANCER, ip.to_string(), message, "--lb-ip IP    # of a load balancer apart");
        }
    }
    for Resolution { name, addresses } in &i.facts.load_balancer_names {
        match addresses {
            Err(why) => {
                let hint = "add the name to your DNS before a worker joins";
                i.find(&catalog::LOAD_BALANCER, name, format!("does not resolve: {why}"), hint);
            }
            Ok(found) if found.iter().any(|ip| i.facts.addresses.contains(ip)) => {
                let message = format!("resolves to {}, this host: clients lose all masters with this one", list(found));
                i.find(&catalog::LOAD_BALANCER, name, message, "point the name to a load balancer apart");
            }
            Ok(_) => {}
        }
    }
}

fn overlaps(i: &mut Inspection) {
    for problem in network::overlaps(i.spec, &i.facts.networks) {
        i.find(&catalog::OVERLAP, problem.at, problem.message, problem.hint.unwrap_or_default());
    }
}

fn proxy(i: &mut Inspection) {
    let Some(variable) = i.facts.proxy_variables.first() else { return };
    let balancers = i.spec.load_balancer.addresses.iter().filter_map(|a| match a {
        Address::Ip(ip) => Some(*ip),
        Address::Dns(_) => None,
    });
    let caught: Vec<IpAddr> = std::iter::once(i.this.node.ip)
        .chain(balancers)
        .chain(i.spec.kubernetes.service_cidr.nth(1))
        .filter(|ip| !ip.is_loopback() && !passes(&i.facts.no_proxy, ip))
        .collect();
    if !caught.is_empty() {
        let message = format!("requests to {} would go through the proxy of {variable}", list(&caught));
        let kubernetes = &i.spec.kubernetes;
        let ranges = format!("{},{}", kubernetes.service_cidr, kubernetes.pod_cidr);
        let hint = format!("export NO_PROXY=\"$NO_PROXY,{},{ranges}\"", list(&caught).replace(", ", ","));
        i.find(&catalog::HTTP_PROXY, variable, message, hint);
    }
}

/// Whether `NO_PROXY` names `ip`: itself, a range it is in, or everything.
fn passes(no_proxy: &str, ip: &IpAddr) -> bool {
    no_proxy.split(',').map(str::trim).any(|entry| {
        entry == "*" || entry.parse() == Ok(*ip) || Cidr::parse(entry).is_ok_and(|range| range.contains(ip))
    })
}
