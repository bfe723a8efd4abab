//! The laws on arbitrary clusters, bytes and texts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hamaster::spec::file::{decode, to_yaml};
use hamaster::spec::network::Cidr;
use hamaster::spec::version::{EtcdVersion, KubeVersion};
use hamaster::spec::*;
use proptest::prelude::*;

use super::{default, read};

fn cidr() -> impl Strategy<Value = Cidr> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, prefix)| Cidr::around(ip.into(), prefix)),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(ip, prefix)| Cidr::around(ip.into(), prefix)),
    ]
}

/// Strings that YAML, units and shells take for something else, beside arbitrary ones.
fn hostile() -> impl Strategy<Value = String> {
    let words = vec![
        "",
        "~",
        "null",
        "yes",
        "on",
        "off",
        "true",
        "1_000",
        "0x1F",
        "1e3",
        ".nan",
        "-",
        "- a",
        "? a",
        "a: b",
        "a #b",
        "#a",
        "\"",
        "'",
        "\\",
        "%n",
        "%%",
        "@a",
        "`a`",
        "!a",
        "&a",
        "*a",
        "|",
        ">",
        "{a}",
        "[a]",
        "{{a}}",
        "--- a",
        "...",
        " a",
        "a ",
        "2001-01-01",
        "1:30",
        "=",
        "<<",
        "\u{2028}",
        "\u{feff}",
        "ä🦀",
        "$HOME",
        "a,b",
        "\u{a0}",
    ];
    prop_oneof![prop::sample::select(words).prop_map(str::to_owned), "\\PC{0,100}", "[ -~]{80,200}"]
        .prop_map(|s| s.chars().filter(|c| !c.is_control()).collect())
}

fn args() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z0-9][a-z0-9_-]{0,20}", hostile(), 0..4)
}

prop_compose! {
    fn spec()(
        name in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?",
        version in (16..45u32, 0..99u32, prop_oneof![Just(String::new()), Just("rc.0".to_owned()), Just("alpha.3".to_owned())]),
        args in (args(), args(), args(), args()),
        addresses in prop::collection::btree_set(prop_oneof![
            any::<[u8; 3]>().prop_map(|[a, b, c]| Address::Ip([203, a, b, c].into())),
            any::<[u8; 8]>().prop_map(|t| Address::Ip(IpAddr::from([&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0], &t[..]].concat().try_into().map(|b: [u8; 16]| b).unwrap()))),
            "(\\*\\.)?[a-z][a-z0-9]{0,9}\\.[a-z]{2,5}".prop_map(Address::Dns),
        ], 0..5),
        path in hostile(),
        templates in prop::option::of(hostile()),
        heartbeat in 1..5_000u64, election in 5..=10u64,
        quota in (64u64 << 20)..=(1 << 40),
        etcd in prop::option::of((4..=7u32, 0..99u32)),
        choice in any::<[u8; 8]>(),
        lease in 5_000..3_600_000u64,
        validity in (3_600_000..36_500 * 86_400_000u64, 3_600_000..36_500 * 86_400_000u64),
        fraction in 0.1..=0.95f64,
        port in 1..=u16::MAX, router in 1..=u8::MAX,
        masters in prop::collection::btree_map("[a-z][a-z0-9]{0,9}(\\.[a-z]{1,5})?", any::<[u8; 2]>(), 0..4),
    ) -> ClusterSpec {
        let pick = |i: usize, n: usize| usize::from(choice[i]) % n;
        let mut spec = default();
        spec.name = name;
        let k = &mut spec.kubernetes;
        k.version = KubeVersion { minor: version.0, patch: version.1, pre: version.2 };
        (k.apiserver_extra_args, k.controller_manager_extra_args, k.scheduler_extra_args, k.kubelet_extra_args) = args;
        spec.load_balancer.addresses = addresses.into_iter().collect();
        (spec.load_balancer.port, spec.load_balancer.virtual_router_id) = (port, router);
        spec.etcd.data_dir = format!("/data/{}/x", path.replace('/', "").replace("..", "")).into();
        spec.etcd.quota_bytes = quota;
        spec.etcd.heartbeat_interval = Duration::from_millis(heartbeat);
        spec.etcd.election_timeout = Duration::from_millis(heartbeat * election);
        spec.etcd.version = etcd.map(|(minor, patch)| EtcdVersion { major: 3, minor, patch });
        spec.runtime = [Runtime::Docker, Runtime::Containerd][pick(0, 2)];
        spec.network.plugin = [NetworkPlugin::Flannel, NetworkPlugin::None][pick(1, 2)];
        spec.network.backend = [FlannelBackend::Vxlan, FlannelBackend::HostGw, FlannelBackend::Wireguard][pick(2, 3)];
        spec.network.leases = [FlannelLeases::Kubernetes, FlannelLeases::Etcd][pick(2, 2)];
        spec.election.mode = [ElectionMode::Podmaster, ElectionMode::Native][pick(3, 2)];
        spec.election.run_as = [ElectionRunAs::Unit, ElectionRunAs::StaticPod][pick(4, 2)];
        spec.election.lease_duration = Duration::from_millis(lease);
        spec.auth.basic_auth = [BasicAuth::Auto, BasicAuth::Off][pick(5, 2)];
        spec.profile = [Profile::Standard, Profile::Cis][pick(6, 2)];
        spec.auth.static_tokens = spec.profile == Profile::Standard && pick(7, 3) > 0;
        spec.pki.key_algorithm = KeyAlgorithm::parse(KeyAlgorithm::WORDS[pick(7, KeyAlgorithm::WORDS.len())]).unwrap();
        spec.pki.ca_validity = Duration::from_millis(validity.0.max(validity.1));
        spec.pki.leaf_validity = Duration::from_millis(validity.0.min(validity.1));
        spec.pki.renew_at_fraction = fraction;
        spec.masters = masters.into_iter().enumerate()
            .map(|(i, (name, [a, b]))| Node { name, ip: [198, 51 + i as u8, a, b].into() }).collect();
        spec.templates = templates.filter(|t| !t.is_empty()).map(Into::into);
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(spec in spec()) {
        let yaml = to_yaml(&spec);
        match read(&yaml) {
            Ok(read) => prop_assert_eq!(read, spec),
            Err(problems) => prop_assert!(false, "{:?}\n{}", problems, yaml),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(text) = decode("c.yaml", &bytes) {
            _ = read(text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(name|etcd|masters|[a-z]|\\PC)?[:\\[\\]{},&*!|>#%@`\"' \n\t-]{0,3}(\\PC{0,5}[:\\[\\]{},&*!|>#'\" \n\t-]{0,3}){0,20}") {
        _ = read(&text);
        _ = KubeVersion::parse(&text);
        _ = EtcdVersion::parse(&text);
        _ = Cidr::parse(&text);
        _ = Address::parse(&text);
        _ = address::node_name(&text);
    }

    #[test]
    fn ranges_are_sets(a in cidr(), b in cidr(), n in any::<u32>()) {
        prop_assert_eq!(Cidr::parse(&a.to_string()).unwrap(), a);
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        prop_assert!(a.overlaps(&a) && a.contains(&a.base));
        prop_assert_eq!(a.nth(0), Some(a.base));
        prop_assert_eq!(a.nth(n).is_some(), a.host_bits() >= 32 || n < 1 << a.host_bits());
        if let Some(ip) = a.nth(n) {
            prop_assert!(a.contains(&ip));
            prop_assert!(!b.contains(&ip) || a.overlaps(&b));
        }
    }

    #[test]
    fn quantities_read_back(ms in any::<u32>(), n in any::<u64>()) {
        let d = Duration::from_millis(ms.into());
        prop_assert_eq!(units::duration(&units::show_duration(d)).unwrap(), d);
        prop_assert_eq!(units::bytes(&units::show_bytes(n)).unwrap(), n);
    }

    #[test]
    fn what_an_address_parses_to_is_an_ip_or_a_name_that_is_none(text in "[0-9a-fx.:*-]{1,20}") {
        match Address::parse(&text) {
            Ok(Address::Dns(name)) => prop_assert!(name.rsplit('.').next().unwrap().parse::<u64>().is_err()),
            Ok(Address::Ip(ip)) => prop_assert_eq!(text.parse::<IpAddr>().unwrap(), ip),
            Err(_) => {}
        }
    }
}
