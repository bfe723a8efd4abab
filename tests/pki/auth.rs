//! Static auth files, the encryption configuration and kubeconfigs as their readers take them.

use std::net::IpAddr;

use hamaster::pki::{auth, catalog, inspect, kubeconfig, table};
use hamaster::spec::layout::Layout;
use hamaster::spec::network::Cidr;
use hamaster::spec::{Address, AuthSpec, BasicAuth, KeyAlgorithm, NetworkPlugin};
use hamaster::state::desired::{SecretKind, SecretSpec, StaticUser};
use hamaster::state::{PhaseId, observed::ContentFact};

use crate::common::{node, run, spec, text};

fn csv(users: Vec<StaticUser>) -> String {
    let want =
        SecretSpec { phase: PhaseId::Pki, path: "/known_tokens.csv".into(), kind: SecretKind::KnownTokens { users } };
    String::from_utf8(auth::make(&want, None).unwrap()[0].1.expose().to_vec()).unwrap()
}

#[test]
fn groups_are_one_quoted_field_and_tokens_are_long_and_new() {
    let user = |name: &str, groups: &[&str]| StaticUser {
        name: name.into(),
        uid: "7".into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
    };
    let users = vec![user("a", &["g1", "g2"]), user("b,\"c", &[]), user("d", &["one"])];
    let text = csv(users.clone());
    let rows: Vec<_> = text.lines().map(|l| l.split_once(',').unwrap()).collect();
    assert_eq!(rows.iter().map(|r| r.1).collect::<Vec<_>>(), ["a,7,\"g1,g2\"", "\"b,\"\"c\",7", "d,7,\"one\""]);
    // 256 bits in base64 without padding.
    assert!(rows.iter().all(|r| r.0.len() == 43));
    assert_ne!(rows[0].0, rows[1].0);
    assert_ne!(text, csv(users));
    auth::read_csv(text.as_bytes()).unwrap();
}

#[test]
fn a_file_the_apiserver_would_exit_on_is_corrupt() {
    for (bad, why) in [
        ("", "empty"),
        ("t,u\n", "line 1: 2 columns"),
        ("t,u,1\n\nt,\"u,1\n", "line 3: a quote"),
        ("t,u\"x,1\n", "line 1: a quote"),
        ("t,\"u\"x,1\n", "line 1: a quote"),
        (",u,1\n", "line 1: the first column"),
    ] {
        let found = auth::read_csv(bad.as_bytes()).unwrap_err();
        assert!(found.starts_with(why), "{bad:?}: {found}");
    }
    auth::read_csv(b"t,u,1\r\nt,u,1,\"a,b\",more\n").unwrap();
}

#[test]
fn nobody_but_super_admin_is_in_system_masters() {
    let mut spec = spec(KeyAlgorithm::EcdsaP256);
    spec.kubernetes.version.minor = 18;
    let this = node(Layout::host());
    for cert in catalog::certs(&spec, &this) {
        assert_eq!(cert.organization.as_deref() == Some("system:masters"), cert.id == "super-admin");
    }
    let secrets = catalog::secrets(&spec, &this);
    assert_eq!(secrets.iter().filter(|s| matches!(s.kind, SecretKind::BasicAuth { .. })).count(), 1);
    assert!(!format!("{secrets:?}").contains("system:masters"));
}

#[test]
fn the_catalogue_follows_the_spec() {
    let mut spec = spec(KeyAlgorithm::EcdsaP256);
    let this = node(Layout::host());
    let ids = |s: &_| catalog::certs(s, &this).iter().map(|c| c.id).collect::<Vec<_>>();
    assert!(ids(&spec).contains(&"flannel-etcd-client"));
    spec.network.plugin = NetworkPlugin::None;
    assert!(!ids(&spec).contains(&"flannel-etcd-client"));

    let files = |s: &_| catalog::secrets(s, &this).iter().map(|s| text(&s.path).to_owned()).collect::<Vec<_>>();
    assert!(!files(&spec).iter().any(|f| f.ends_with("basic_auth.csv")), "1.34 would not start with it");
    spec.auth = AuthSpec { static_tokens: false, basic_auth: BasicAuth::Off };
    assert_eq!(files(&spec), ["/etc/kubernetes/pki/sa.key", "/etc/kubernetes/pki/encryption-config.yaml"]);

    let server = |s: &_| catalog::shared_server(s, &this);
    assert_eq!(server(&spec), "https://api.example.com:8443");
    spec.load_balancer.addresses =
        vec![Address::Dns("*.example.com".into()), Address::Ip("2001:db8::10".parse().unwrap())];
    assert_eq!(server(&spec), "https://[2001:db8::10]:8443");
    spec.load_balancer.addresses.clear();
    assert_eq!(server(&spec), "https://10.0.0.11:6443");
    let mut six = this.clone();
    six.node.ip = "2001:db8::11".parse().unwrap();
    assert_eq!(catalog::local_server(&six), "https://[2001:db8::11]:6443");

    spec.kubernetes.service_cidr = Cidr { base: "fd00:10:96::".parse().unwrap(), prefix: 112 };
    let first: IpAddr = "fd00:10:96::1".parse().unwrap();
    let server = catalog::certs(&spec, &this).into_iter().find(|c| c.id == "server").unwrap();
    assert!(server.sans.contains(&Address::Ip(first)));
    let unique: std::collections::BTreeSet<_> = server.sans.iter().collect();
    assert_eq!(unique.len(), server.sans.len());
}

#[test]
fn ids_and_places_are_unique() {
    let certs = catalog::certs(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::host()));
    let ids: std::collections::BTreeSet<_> = certs.iter().map(|c| c.id).collect();
    let places: std::collections::BTreeSet<_> = certs.iter().map(|c| format!("{:?}", c.placement)).collect();
    assert_eq!((ids.len(), places.len()), (certs.len(), certs.len()));
    assert!(table::LEAVES.iter().all(|row| !row.id.is_empty() && !row.what.is_empty()));
}

#[test]
fn a_referring_kubeconfig_is_public_and_kubectl_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubelet.conf");
    let user = "system:node:yes";
    let text_of = |cluster: &str| {
        kubeconfig::referring(cluster, "https://10.0.0.11:6443", "/pki/ca.crt".as_ref(), user, "/k/c.pem".as_ref())
            .unwrap()
    };
    for hostile in ["prod", "yes", "1_000", "a: b", "0x1f", "null", "#", "'\"", "*x"] {
        let yaml = text_of(hostile);
        std::fs::write(&path, &yaml).unwrap();
        let view: serde_json::Value =
            serde_json::from_str(&run("kubectl", &["config", "view", "-o", "json", "--kubeconfig", text(&path)]))
                .unwrap();
        assert_eq!(view["clusters"][0]["name"], hostile);
        assert_eq!(view["users"][0]["user"]["client-key"], "/k/c.pem");
        assert_eq!(inspect::content(&path, yaml.as_bytes()), ContentFact::Public(yaml.into_bytes()));
    }
    let read = kubeconfig::read(text_of("prod").as_bytes()).unwrap();
    assert!(!read.secret);
    assert_eq!(read.fact.client_file.as_deref(), Some("/k/c.pem".as_ref()));
    assert_eq!(read.fact.server, "https://10.0.0.11:6443");
}
