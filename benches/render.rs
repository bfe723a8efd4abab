//! Everything `hamaster render` makes, for a thousand nodes. The aim is below one second.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use hamaster::plan::compose::{self, Given};
use hamaster::render::{self, Templates};
use hamaster::spec::file::{Overrides, load};
use hamaster::spec::layout::Layout;
use hamaster::spec::{Node, ThisNode};

fn main() {
    divan::main();
}

/// Files, units, certificates wanted and load balancers; the templates are compiled once, as one process does.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn a_thousand_nodes() -> usize {
    let mut spec = load(None, &Overrides::default()).unwrap();
    spec.masters = vec![Node { name: "m1".to_owned(), ip: Ipv4Addr::new(10, 1, 0, 1).into() }];
    let templates = Templates::embedded().unwrap();
    let tools = render::assumed_tools(&spec);
    let given = Given { sealed: false, token: "token".to_owned(), initial_cluster: None, external_ca: false };
    let bytes = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let node = Node { name: format!("m{n}"), ip: IpAddr::V4(Ipv4Addr::new(10, 1, high, low)) };
        let this = ThisNode { node, loopback: Ipv4Addr::LOCALHOST.into(), layout: Layout::host() };
        let desired = compose::desired(&spec, &this, &tools, &templates, &given).unwrap();
        let balancers = render::load_balancer(&spec, &templates).unwrap();
        desired.files.iter().map(|f| f.bytes.len()).sum::<usize>()
            + balancers.iter().map(|(_, b)| b.len()).sum::<usize>()
    };
    (1..=1000).map(bytes).sum()
}
