//! The laws of the spec: every bad input is refused at its place with a hint, all of them in one report, and what is
//! written reads back to the same cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // Tests read files.

mod arbitrary;

use std::time::Duration;

use hamaster::error::{Kind, Problem};
use hamaster::spec::file::{Overrides, decode, load, to_yaml};
use hamaster::spec::network::{Cidr, overlaps};
use hamaster::spec::version::{EtcdVersion, KubeVersion, NEWEST, OLDEST};
use hamaster::spec::*;
use hamaster::state::observed::HostNetwork;

fn read(yaml: &str) -> Result<ClusterSpec, Vec<Problem>> {
    load(Some(("cluster.yaml", yaml)), &Overrides::default()).map_err(|e| {
        assert_eq!(e.kind(), Kind::Usage);
        e.all_problems().to_vec()
    })
}

fn default() -> ClusterSpec {
    load(None, &Overrides::default()).unwrap()
}

/// Bad input, the place of its only mistake, a part of the message, a part of the hint.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str, &str)] = &[
    // The shape of the file.
    ("nmae: prod", "1:1", "unknown key `nmae` at the top", "write `name`"),
    ("colour: red", "1:1", "unknown key `colour`", "known keys: apiVersion"),
    ("kubernetes:\n  podCidr: 10.0.0.0/16", "2:3", "unknown key `podCidr` in `kubernetes`", "write `podCIDR`"),
    ("etcd: {datadir: /x}", "1:8", "unknown key `datadir`", "write `dataDir`"),
    ("name: a\nruntime: docker\nname: b", "3:1", "duplicate key `name`, first on line 1", "keep one"),
    ("etcd: {}\netcd: {}", "2:1", "duplicate key `etcd`", "keep one"),
    ("kubernetes:\n  kubeletExtraArgs: {v: 1, v: 2}", "2:28", "duplicate key `v`", "keep one"),
    ("- a\n- b", "1:1", "the file is a list, not a mapping", "key: value"),
    ("just words", "1:1", "the file is a single value", "key: value"),
    ("kubernetes: v1.34.1", "1:13", "`kubernetes` is a single value, not a mapping", "key: value"),
    ("name: [a]", "1:7", "`name` is a list, not a single value", ""),
    ("masters: one", "1:10", "`masters` is a single value, not a list", "[a, b]"),
    ("loadBalancer: {addresses: [[a]]}", "1:28", "is a list, not a single value", ""),
    ("name: a\n\truntime: docker", "1:7", "not valid YAML", "spaces"),
    ("etcd:\n\tdataDir: /x", "2:", "not valid YAML", "spaces"),
    ("name: 'a", "1:", "not valid YAML", ""),
    ("name: {", "1:", "not valid YAML", ""),
    ("a: &x [b]\nc: *x", "1:", "anchors and aliases are not taken", "write the value out"),
    ("name: *x", "1:7", "", ""),
    ("name: !secret a", "1:", "tags are not taken", "plain value"),
    ("name: a\n---\nname: b", "3:1", "a second document", "one file"),
    ("? [a, b]\n: c", "1:", "a key cannot be a list", ""),
    ("<<: {name: a}", "1:1", "unknown key `<<`", "known keys"),
    ("apiVersion: hamaster/v2", "1:13", "`hamaster/v2` is not known", "hamaster/v1"),
    ("kind: Node", "1:7", "`Node` is not known", "`Cluster`"),
    // Versions.
    ("kubernetes: {version: 1.34}", "1:23", "`1.34` lacks the patch", "`v1.34.1`"),
    ("kubernetes: {version: 1.30}", "1:23", "`1.30` lacks the patch", "`v1.30.0`"),
    ("kubernetes: {version: v1.9}", "1:23", "`v1.9` is older than v1.16.0", "v1.34.1"),
    ("kubernetes: {version: v1.15.12}", "1:23", "older than v1.16.0", "v1.34.1"),
    ("kubernetes: {version: latest}", "1:23", "`latest` is not a Kubernetes version", "major, minor and patch"),
    ("kubernetes: {version: v2.0.0}", "1:23", "not a Kubernetes version", "v1.34.1"),
    ("kubernetes: {version: v1.34.01}", "1:23", "not a Kubernetes version", "v1.34.1"),
    ("kubernetes: {version: v1.34.1+k3s1}", "1:23", "not a Kubernetes version", "v1.34.1"),
    ("kubernetes: {version: v1.34.1-}", "1:23", "not a Kubernetes version", "v1.34.1"),
    ("etcd: {version: 3.3.9}", "1:17", "etcd 3.3.9 is not one hamaster can run", "3.5.24"),
    ("etcd: {version: 3.5}", "1:17", "`3.5` is not an etcd version", "3.5.24"),
    ("etcd: {version: 'etcd 3.5.1'}", "1:17", "not an etcd version", "`3.5.1`"),
    // Addresses.
    ("loadBalancer: {addresses: [10.0.0.256]}", "1:28", "`10.0.0.256` is not an IP", "203.0.113.10"),
    ("loadBalancer: {addresses: [10.0.0]}", "1:28", "`10.0.0` is not an IP", ""),
    ("loadBalancer: {addresses: [010.0.0.1]}", "1:28", "is not an IP", ""),
    ("loadBalancer: {addresses: ['10.0.0.1:6443']}", "1:28", "is not an IP", "write `10.0.0.1`"),
    ("loadBalancer: {addresses: [10.0.0.1/24]}", "1:28", "", "write `10.0.0.1`"),
    ("loadBalancer: {addresses: ['[2001:db8::1]:6443']}", "1:28", "is not an IP", "write `2001:db8::1`"),
    ("loadBalancer: {addresses: [2001:db8::g]}", "1:28", "is not an IP", ""),
    ("loadBalancer: {addresses: ['fe80::1%eth0']}", "1:28", "is not an IP", "203.0.113.10"),
    ("loadBalancer: {addresses: ['::ffff:10.0.0.1']}", "1:28", "IPv4 address in IPv6 form", "write `10.0.0.1`"),
    ("loadBalancer: {addresses: [0.0.0.0]}", "1:28", "not the address of a host", ""),
    ("loadBalancer: {addresses: [api example.com]}", "1:28", "it has a space", "two entries"),
    ("loadBalancer: {addresses: ['api.*.com']}", "1:28", "wildcard", "`*.example.com`"),
    ("loadBalancer: {addresses: ['a*.example.com']}", "1:28", "wildcard", "`*.example.com`"),
    ("loadBalancer: {addresses: ['*']}", "1:28", "wildcard", "`*.example.com`"),
    ("loadBalancer: {addresses: ['*.com']}", "1:28", "wildcard", "`*.example.com`"),
    ("loadBalancer: {addresses: ['*.*.example.com']}", "1:28", "wildcard", "`*.example.com`"),
    ("loadBalancer: {addresses: [API.example.com]}", "1:28", "upper-case", "write `api.example.com`"),
    ("loadBalancer: {addresses: ['https://api.example.com:6443']}", "1:28", "URL", "write `api.example.com`"),
    ("loadBalancer: {addresses: ['api.example.com:6443']}", "1:28", "port", "leave the port out"),
    ("loadBalancer: {addresses: [api..com]}", "1:28", "dot", ""),
    ("loadBalancer: {addresses: [api.example.com.]}", "1:28", "dot", ""),
    ("loadBalancer: {addresses: [-api.com]}", "1:28", "`-`", ""),
    ("loadBalancer: {addresses: ['']}", "1:28", "empty", ""),
    ("loadBalancer: {addresses: [a.b, a.b]}", "1:33", "the address `a.b` is listed twice", "keep one"),
    ("loadBalancer: {port: 0}", "1:22", "`0` is not a port", "1 to 65535"),
    ("loadBalancer: {port: 65536}", "1:22", "not a port", "1 to 65535"),
    ("loadBalancer: {port: https}", "1:22", "not a port", "1 to 65535"),
    ("loadBalancer: {virtualRouterId: 256}", "1:33", "not a virtual router id", "1 to 255"),
    ("loadBalancer: {virtualRouterId: 0}", "1:33", "not a virtual router id", "1 to 255"),
    ("loadBalancer: {interface: averylongname123}", "1:27", "not an interface name", "ip -br link"),
    ("name: Prod", "1:7", "upper-case", "write `prod`"),
    ("name: my.cluster", "1:7", "it has a dot", "write `my-cluster`"),
    ("name: my_cluster", "1:7", "underscore", "write `my-cluster`"),
    ("masters: [{name: m1}]", "1:11", "`masters.0.ip` is missing", ""),
    ("masters: [{ip: 10.0.0.1}]", "1:11", "`masters.0.name` is missing", ""),
    ("masters: [{name: 10.0.0.1, ip: 10.0.0.1}]", "1:18", "not a node name", "`master-1`"),
    ("masters: [{name: m_1, ip: 10.0.0.1}]", "1:18", "underscore", "write `m-1`"),
    ("masters: [{name: m1, ip: 10.0.0.256}]", "1:26", "not an IP", "203.0.113.10"),
    ("masters: [{name: m1, ip: m1.example.com}]", "1:26", "not an IP", "203.0.113.10"),
    ("masters: [{name: m1, ip: 10.0.0.1}, {name: m1, ip: 10.0.0.2}]", "1:44", "the name `m1` is listed twice", ""),
    ("masters: [{name: m1, ip: 10.0.0.1}, {name: m2, ip: 10.0.0.1}]", "1:52", "the address `10.0.0.1` is listed", ""),
    ("masters: [{name: m1, ip: 10.0.0.1, role: x}]", "1:36", "unknown key `role` in `masters.0`", "known keys"),
    // Ranges.
    ("kubernetes: {podCIDR: 10.244.0.0}", "1:23", "not an address range", "10.244.0.0/16"),
    ("kubernetes: {podCIDR: 10.244.0.1/16}", "1:23", "host bits set", "write `10.244.0.0/16`"),
    ("kubernetes: {podCIDR: 10.244.0.0/33}", "1:23", "not an address range", "0 to 32"),
    ("kubernetes: {podCIDR: 10.300.0.0/16}", "1:23", "not an address range", "not an IP"),
    ("kubernetes: {podCIDR: 10.244.0.0/25}", "1:23", "too small", "`10.244.0.0/16`"),
    ("kubernetes: {podCIDR: 127.0.0.0/8}", "1:23", "reserved", "10.244.0.0/16"),
    ("kubernetes: {serviceCIDR: 10.0.0.0/8}", "1:27", "larger than kube-apiserver takes", "`10.0.0.0/12`"),
    ("kubernetes: {serviceCIDR: 10.96.0.0/29}", "1:27", "too small", "/28"),
    ("kubernetes: {serviceCIDR: 'fd00::/64'}", "1:27", "larger than", "`fd00::/108`"),
    ("kubernetes: {serviceCIDR: 10.240.0.0/12}", "1:27", "the pod range 10.244.0.0/16 overlaps", "free range"),
    ("kubernetes: {podCIDR: 10.96.0.0/16}", "1:23", "overlaps the service range 10.96.0.0/12", "`10.244.0.0/16`"),
    ("kubernetes: {podCIDR: 'fd00:1::/48'}", "1:23", "different families", ""),
    ("loadBalancer: {addresses: [a.b, 10.244.3.4]}", "1:33", "10.244.3.4 is inside the pod range", "another"),
    ("loadBalancer: {addresses: [10.96.0.1]}", "1:28", "inside the service range", "another"),
    ("masters: [{name: m1, ip: 10.96.0.9}]", "1:26", "master `m1` is inside the service range", "another"),
    // The rest of kubernetes.
    ("kubernetes: {imageRepository: 'https://r.io/x/'}", "1:31", "not an image repository", "write `r.io/x`"),
    ("kubernetes: {imageRepository: r.io/x/}", "1:31", "not an image repository", "host and path"),
    ("kubernetes: {dnsDomain: '*.local'}", "1:25", "wildcard", "cluster.local"),
    ("kubernetes: {dnsDomain: 10.0.0.1}", "1:25", "reads as an IP", ""),
    ("kubernetes: {apiserverExtraArgs: {--v: 1}}", "1:35", "`--v` is not a flag's name", "write `v`"),
    ("kubernetes: {apiserverExtraArgs: {Verbose: 1}}", "1:35", "not a flag's name", "kube-apiserver --help"),
    ("kubernetes: {schedulerExtraArgs: {v: }}", "1:35", "has no value", "\"\""),
    ("kubernetes: {kubeletExtraArgs: {v: [1]}}", "1:36", "is a list", ""),
    ("kubernetes: {kubeletExtraArgs: [v]}", "1:32", "is a list, not a mapping", "key: value"),
    ("kubernetes: {kubeletExtraArgs: {v: \"a\\0b\"}}", "1:36", "control character", ""),
    // etcd.
    ("etcd: {dataDir: var/lib}", "1:17", "not an absolute directory", "/var/lib/etcd"),
    ("etcd: {dataDir: /var/../lib}", "1:17", "not an absolute directory", "/var/lib/etcd"),
    ("etcd: {dataDir: /}", "1:17", "not an absolute directory", "/var/lib/etcd"),
    ("etcd: {bootstrap: static}", "1:19", "`static` needs at least two masters", "--initial-master"),
    ("etcd: {bootstrap: static}\nmasters: [{name: m1, ip: 10.0.0.1}]", "1:19", "at least two", "--initial-master"),
    ("etcd: {bootstrap: discovery}", "1:19", "where the masters find each other", "--discovery-url"),
    ("etcd: {discovery: 'srv:example.com'}", "1:19", "does nothing for bootstrap `new`", "bootstrap: discovery"),
    ("etcd: {discovery: 'ftp://h/t'}", "1:19", "`ftp://h/t` is not a discovery URL", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'https://h'}", "1:19", "ends with no token", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'https:///t'}", "1:19", "names no host", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'https://u:p@h/t'}", "1:19", "names no host", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'https://h/t?a=b'}", "1:19", "ends with no token", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'https://h/_config'}", "1:19", "ends with no token", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'https://h/a/../b/..'}", "1:19", "ends with no token", "https://HOST/TOKEN"),
    ("etcd: {discovery: 'etcd3+https://h:2379/a/b'}", "1:19", "is not a discovery URL", "etcd3+https"),
    ("etcd: {discovery: 'srv:exa mple'}", "1:19", "", ""),
    ("etcd: {discovery: 'etcd3+http://h:2379/t'}", "1:19", "would send who forms the cluster unprotected", "etcd3+https"),
    ("etcd: {bootstrap: discovery, discovery: {ca: /ca.crt}}", "1:41", "`etcd.discovery.url` is missing", ""),
    ("etcd: {bootstrap: discovery, discovery: {url: 'https://h/t', cert: /c}}", "1:68", "belong together", "`key:`"),
    ("etcd: {bootstrap: discovery, discovery: {url: 'http://h/t', ca: /c}}", "1:65", "is not asked with TLS", "https URL"),
    ("etcd: {bootstrap: discovery, discovery: {url: 'https://h/t', ca: c}}", "1:66", "`c` is not an absolute", "write"),
    ("etcd: {bootstrap: discovery, discovery: {url: 'https://h/t', crt: /c}}", "1:62", "unknown key `crt`", "`cert`"),
    ("etcd: {discovery: 'https://discovery.etcd.io/abc'}", "1:19", "no longer maintained", "static"),
    ("etcd: {bootstrap: nwe}", "1:19", "is not one of new", "write `new`"),
    ("etcd: {quotaBytes: 8GB}", "1:20", "`8GB` is not a size", "`8GiB`"),
    ("etcd: {quotaBytes: -1}", "1:20", "not a size", ""),
    ("etcd: {quotaBytes: 1MiB}", "1:20", "a quota of 1MiB", "`64MiB`"),
    ("etcd: {quotaBytes: 99999999999999999999TiB}", "1:20", "not a size", ""),
    ("etcd: {heartbeatInterval: 100}", "1:27", "`100` is not a duration", "`100ms`"),
    ("etcd: {heartbeatInterval: 0s}", "1:27", "heartbeat of 0", "`100ms`"),
    ("etcd: {heartbeatInterval: 500ms}", "1:27", "1s is below five heartbeats of 500ms", "electionTimeout: 2500ms"),
    ("etcd: {electionTimeout: 499ms}", "1:25", "below five heartbeats", "electionTimeout: 500ms"),
    ("etcd: {electionTimeout: 51s}", "1:25", "above etcd's limit", "`50s`"),
    // The default that stands in for a refused value must not cause a second mistake.
    ("etcd: {heartbeatInterval: 60, electionTimeout: 400ms}", "1:27", "`60` is not a duration", "`100ms`"),
    ("kubernetes: {podCIDR: 10.96.0.0, serviceCIDR: 10.240.0.0/12}", "1:23", "not an address range", ""),
    // Choices.
    ("runtime: dokcer", "1:10", "`dokcer` is not one of docker, containerd", "write `docker`"),
    ("runtime: rkt", "1:10", "`rkt` is not one of", ""),
    ("network: {plugin: flanel}", "1:19", "not one of flannel, none", "write `flannel`"),
    ("network: {backend: udp}", "1:20", "not one of vxlan, host-gw, wireguard", ""),
    ("network: {path: classic}", "1:17", "ended with Kubernetes 1.23", "write `path: cni`"),
    ("runtime: containerd\nkubernetes: {version: v1.23.1}\nnetwork: {path: classic}", "3:17", "is docker's bridge", "cni"),
    ("kubernetes: {version: v1.23.1}\nnetwork: {path: classic, plugin: none}", "2:17", "plugin is none", "cni"),
    ("election: {mode: natve}", "1:18", "not one of podmaster, native", "write `native`"),
    ("election: {leaseDuration: 4999ms}", "1:27", "not right for a lease", "from `5s` to `1h`"),
    ("election: {runAs: pod}", "1:19", "not one of unit, static-pod", ""),
    ("election: {image: 'a b'}", "1:19", "not an image", ""),
    ("auth: {staticTokens: yes}", "1:22", "`yes` is not a boolean", "`true` or `false`"),
    ("profile: cis\nauth: {staticTokens: true}", "2:22", "profile `cis` forbids static tokens", "staticTokens: false"),
    ("auth: {basicAuth: on}", "1:19", "not one of auto, off", ""),
    ("pki: {keyAlgorithm: ecdsa-p257}", "1:21", "not one of", "write `ecdsa-p256`"),
    ("pki: {renewAtFraction: 1}", "1:24", "not a fraction", "between 0.1 and 0.95"),
    ("pki: {renewAtFraction: NaN}", "1:24", "not a fraction", "between 0.1 and 0.95"),
    ("pki: {leafValidity: 2y, caValidity: 1y}", "1:21", "leaves of 2y outlive their CA of 1y", "leafValidity: 1y"),
    ("pki: {caValidity: 1d}", "1:19", "outlive their CA of 1d", ""),
    ("pki: {leafValidity: 1s}", "1:21", "not right for a certificate", "`1h`"),
    ("profile: cyst", "1:10", "not one of standard, cis", ""),
    ("templates: ''", "1:12", "an empty path", ""),
];

#[test]
fn every_bad_input_is_one_mistake_at_its_place_with_its_hint() {
    let mut wrong = vec![];
    for (yaml, place, message, hint) in BAD {
        match read(yaml) {
            Ok(_) => wrong.push(format!("accepted: {yaml}")),
            Err(found) => {
                let here = |p: &Problem| {
                    p.at.starts_with(&format!("cluster.yaml:{place}"))
                        && p.message.contains(message)
                        && p.hint.as_deref().unwrap_or_default().contains(hint)
                };
                if found.len() != 1 || !here(&found[0]) {
                    wrong.push(format!("{yaml}\n  wanted {place} {message} | {hint}\n  found {found:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_of_the_file_and_the_flags_are_in_one_report_in_order() {
    let yaml = "nmae: prod\nkubernetes:\n  version: 1.34\n  podCIDR: 10.244.0.1/16\nruntime: dokcer\nruntime: docker\n\
                loadBalancer:\n  addresses: [10.0.0.256, api.example.com]\netcd: {electionTimeout: 200ms}\n";
    let flags = Overrides { lb_ips: vec!["10.0.0".into()], profile: Some("cs".into()), ..Overrides::default() };
    let error = load(Some(("my.yaml", yaml)), &flags).unwrap_err();
    let places: Vec<_> = error.all_problems().iter().map(|p| p.at.as_str()).collect();
    assert_eq!(
        places,
        [
            "my.yaml:1:1",
            "my.yaml:3:12",
            "my.yaml:4:12",
            "my.yaml:5:10",
            "my.yaml:6:1",
            "my.yaml:8:15",
            "my.yaml:9:25",
            "--lb-ip",
            "--profile",
        ]
    );
    assert_eq!(error.message(), "my.yaml and the command line have 9 mistakes");
}

#[test]
fn files_that_say_nothing_or_are_no_text_are_refused() {
    for empty in ["", "\n", "# only a comment\n", "---\n", "null", "~"] {
        let error = load(Some(("c.yaml", empty)), &Overrides::default()).unwrap_err();
        assert_eq!((error.message(), error.hints().len()), ("c.yaml is empty", 1), "{empty:?}");
    }
    assert!(decode("c.yaml", b"name: a\n\xff\xfe").unwrap_err().message().contains("not UTF-8: first at line 2"));
    let large = format!("# {}", "x".repeat(256 << 10));
    assert!(load(Some(("c.yaml", &large)), &Overrides::default()).unwrap_err().message().contains("262146 bytes"));
    // Deep nesting ends in an error, not in a blown stack.
    let deep = "[".repeat(100_000);
    assert_eq!(read(&deep).unwrap_err().len(), 1);
    let deep = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>();
    assert_eq!(read(&deep).unwrap_err().len(), 1);
}

#[test]
fn absent_null_and_empty_sections_are_the_default() {
    for yaml in ["{}", "name:", "kubernetes:\netcd: {}\nmasters: []\nloadBalancer: ~", "\u{feff}kind: Cluster"] {
        assert_eq!(read(yaml).unwrap(), default(), "{yaml:?}");
    }
    let d = default();
    assert_eq!(d.kubernetes.version.to_string(), "v1.34.1");
    assert_eq!(d.kubernetes.service_cidr.to_string(), "10.96.0.0/12");
    assert_eq!((d.etcd.quota_bytes, d.etcd.election_timeout), (8 << 30, Duration::from_secs(1)));
    assert_eq!((d.pki.ca_validity, d.auth.static_tokens), (Duration::from_secs(315_360_000), true));
}

#[test]
fn values_keep_their_spelling() {
    let spec =
        read("kubernetes:\n  apiserverExtraArgs: {a: 1.10, b: yes, c: 0755, d: 1_000, e: '', f: '~', g: 1e3}").unwrap();
    let args: Vec<_> = spec.kubernetes.apiserver_extra_args.values().map(String::as_str).collect();
    assert_eq!(args, ["1.10", "yes", "0755", "1_000", "", "~", "1e3"]);
}

#[test]
fn where_masters_find_each_other_reads_back() {
    let bare = "etcd: {bootstrap: discovery, discovery: 'https://h/t'}";
    let keyed = "etcd: {bootstrap: discovery, discovery: {url: 'etcd3+https://h:2379/t', ca: /ca, cert: /c, key: /k}}";
    for yaml in [bare, keyed] {
        let spec = read(yaml).unwrap();
        assert_eq!(read(&to_yaml(&spec)).unwrap(), spec, "{}", to_yaml(&spec));
    }
    let flags = Overrides { discovery_url: Some("etcd3+https://h/u".into()), ..Overrides::default() };
    let spec = load(Some(("cluster.yaml", keyed)), &flags).unwrap();
    let discovery = spec.etcd.discovery.unwrap();
    assert_eq!(discovery.place.to_string(), "etcd3+https://h/u");
    assert_eq!(discovery.tls.ca.unwrap().to_str(), Some("/ca"), "a flag names another place, for the same server");
}

#[test]
fn flags_replace_values_and_add_addresses() {
    let flags = Overrides {
        cluster_name: Some("other".into()),
        kubernetes_version: Some("1.20.4".into()),
        lb_ips: vec!["203.0.113.10".into(), "203.0.113.11".into()],
        lb_names: vec!["b.example.com".into(), "*.example.com".into()],
        runtime: Some("containerd".into()),
        profile: Some("cis".into()),
        election: Some("native".into()),
        etcd_bootstrap: Some("static".into()),
        initial_masters: vec!["m1=10.0.0.1".into(), "m2=10.0.0.2".into()],
        discovery_url: None,
        templates: Some("my/templates".into()),
    };
    let yaml = "name: prod\nruntime: docker\nloadBalancer: {addresses: [a.example.com, 203.0.113.10]}";
    let spec = load(Some(("cluster.yaml", yaml)), &flags).unwrap();
    let addresses: Vec<_> = spec.load_balancer.addresses.iter().map(Address::to_string).collect();
    assert_eq!(addresses, ["a.example.com", "203.0.113.10", "203.0.113.11", "b.example.com", "*.example.com"]);
    assert_eq!(
        (spec.name.as_str(), spec.runtime, spec.election.mode),
        ("other", Runtime::Containerd, ElectionMode::Native)
    );
    assert_eq!(spec.kubernetes.version.to_string(), "v1.20.4");
    assert!(!spec.auth.static_tokens, "profile cis from a flag leaves static tokens out");
    assert_eq!(spec.templates.unwrap().to_str(), Some("my/templates"));

    let flags = Overrides {
        lb_ips: vec!["api.example.com".into()],
        lb_names: vec!["10.0.0.1".into(), "a b".into()],
        kubernetes_version: Some("latest".into()),
        etcd_bootstrap: Some("statik".into()),
        ..Overrides::default()
    };
    let error = load(None, &flags).unwrap_err();
    let places: Vec<_> = error.all_problems().iter().map(|p| p.at.as_str()).collect();
    assert_eq!(places, ["--etcd-bootstrap", "--kubernetes-version", "--lb-ip", "--lb-name", "--lb-name"]);
    assert_eq!(error.message(), "the command line has 5 mistakes");

    // Masters of the command line take the place of the file's, and each is checked.
    let masters = ["m1=10.0.0.1", "m1=10.0.0.2", "m3=10.0.0.1", "m4", "M5=10.0.0.5", "m6=x"].map(String::from);
    let flags = Overrides {
        etcd_bootstrap: Some("static".into()),
        initial_masters: masters.into(),
        discovery_url: Some("https://discovery.etcd.io/abc".into()),
        ..Overrides::default()
    };
    let error = load(Some(("cluster.yaml", "masters: [{name: z, ip: 10.0.0.9}]")), &flags).unwrap_err();
    let said: Vec<_> = error.all_problems().iter().map(|p| (p.at.as_str(), p.message.as_str())).collect();
    assert_eq!(said.iter().filter(|(at, _)| *at == "--initial-master").count(), 5, "{said:#?}");
    assert_eq!(said.len(), 6, "the sixth is the URL, and nothing is said about their number: {said:#?}");

    // A flag is a place for mistakes across values, too.
    let error = load(None, &Overrides { lb_ips: vec!["10.96.0.1".into()], ..Overrides::default() }).unwrap_err();
    assert_eq!(error.all_problems()[0].at, "--lb-ip");
}

#[test]
fn the_examples_load_and_every_example_key_is_what_the_resolved_form_shows() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("cluster") {
            let spec = read(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e:?}"));
            assert_eq!(read(&to_yaml(&spec)).unwrap(), spec);
        }
    }
}

#[test]
fn versions_say_what_they_take() {
    let v = |s: &str| KubeVersion::parse(s).unwrap();
    assert_eq!((v("v1.40.2").render_minor(), v("v1.40.2").warnings().len()), (NEWEST, 1));
    assert_eq!((v("1.19.0").render_minor(), v("1.19.0").warnings().len()), (19, 1));
    assert!(v("v1.20.0").warnings().is_empty() && v("v1.37.0-rc.0").warnings().is_empty());
    assert!(v("v1.37.0-rc.0") < v("v1.37.0") && v("v1.36.9") < v("v1.37.0-rc.0"));
    assert!(v("v1.18.20").accepts_basic_auth() && !v("v1.19.0").accepts_basic_auth());
    for minor in OLDEST..=NEWEST + 3 {
        let version = KubeVersion { minor, patch: 0, pre: String::new() };
        let etcd = version.default_etcd();
        assert!(etcd.supported(), "{version}");
        let lossy = EtcdVersion { major: 3, minor: 5, patch: 0 }..=EtcdVersion { major: 3, minor: 5, patch: 2 };
        assert!(!lossy.contains(&etcd), "{version} would run etcd {etcd}, which loses data");
        assert!(version.pause_image_tag().starts_with("3."));
    }
    assert_eq!(v("v1.34.1").default_etcd().to_string(), "3.6.5");
    assert_eq!((v("v1.21.0").pause_image_tag(), v("v1.37.0").pause_image_tag()), ("3.4.1", "3.10.2"));

    let output =
        "etcd Version: 3.4.23\nGit SHA: Not provided (use ./build instead of go build)\nGo Version: go1.19.8\n";
    let etcd = EtcdVersion::parse(output).unwrap();
    assert_eq!((etcd.to_string(), etcd.supported()), ("3.4.23".to_owned(), true));
    assert_eq!(EtcdVersion::parse("v3.7.0-rc.0").unwrap().to_string(), "3.7.0");
    assert!(!EtcdVersion::parse("3.3.27").unwrap().supported());
    assert_eq!(EtcdVersion::parse("etcd: command not found"), None);
}

fn network(name: &str, cidr: &str) -> HostNetwork {
    HostNetwork { name: name.into(), cidr: Cidr::parse(cidr).unwrap() }
}

#[test]
fn host_networks_that_break_the_cluster_are_found_and_others_are_not() {
    let clash = |yaml: &str, host: &[HostNetwork]| {
        overlaps(&read(yaml).unwrap(), host).into_iter().map(|p| format!("{}: {}", p.at, p.message)).collect::<Vec<_>>()
    };
    let home = network("eth0", "192.168.1.0/24");
    // A usual host, with a default route, docker's bridge and what flannel made on an earlier run.
    let fine = [
        home.clone(),
        network("route via 192.168.1.1 dev eth0", "0.0.0.0/0"),
        network("docker0", "172.17.0.0/16"),
        network("flannel.1", "10.244.0.0/32"),
        network("route via 10.244.1.0 dev flannel.1", "10.244.1.0/24"),
        network("cni0", "10.244.0.0/24"),
    ];
    assert_eq!(clash("{}", &fine), [] as [&str; 0]);

    let found = clash("{}", &[network("eth0", "10.0.0.0/8")]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("kubernetes.podCIDR: the pod range 10.244.0.0/16 overlaps eth0, 10.0.0.0/8 on this host")
    );
    let found = clash("{}", &[network("flannel.9", "10.192.0.0/10")]);
    assert_eq!(found.len(), 1, "what covers more than our range is not ours, whatever its name: {found:?}");
    let found = clash("{}", &[home.clone(), network("route via 192.168.1.7 dev eth0", "10.244.9.0/24")]);
    assert_eq!(found.len(), 1, "a foreign route into the pod range: {found:?}");
    assert!(
        clash("network: {backend: host-gw}", &[network("route via 192.168.1.7 dev eth0", "10.244.9.0/24")]).is_empty()
    );

    // docker0 is counted before it exists, unless it exists elsewhere, or docker is not the runtime.
    let pods = "kubernetes: {podCIDR: 172.17.0.0/16}";
    assert!(clash(pods, std::slice::from_ref(&home))[0].contains("docker's default bridge"));
    assert!(clash(pods, &[home.clone(), network("docker0", "10.9.0.0/16")]).is_empty());
    assert!(clash(&format!("{pods}\nruntime: containerd"), std::slice::from_ref(&home)).is_empty());
    assert_eq!(clash(pods, &[home, network("docker0", "172.17.0.0/16")]).len(), 1);

    // The proposal is free.
    let problem = &overlaps(&default(), &[network("eth0", "10.244.0.0/16"), network("eth1", "10.200.0.0/16")])[0];
    assert!(problem.hint.as_ref().unwrap().contains("`172.29.0.0/16`"), "{problem:?}");
}
