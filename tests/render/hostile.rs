//! Whatever a string says, the reader of the file gets exactly that string back.

use std::collections::BTreeMap;

use hamaster::render::{self, EtcdStart, Input};
use hamaster::spec::*;
use proptest::prelude::*;
use serde_json::Value;

use crate::samples::{Set, exec, run, spec, templates, this};

/// Strings that some reader takes for something else.
const CHOSEN: &[&str] = &[
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "null",
    "~",
    "true",
    "1_000",
    "0644",
    "1e3",
    ".inf",
    "0x1f",
    "1:30",
    "2001-01-01",
    "",
    " ",
    "  lead",
    "trail ",
    "- x",
    "? x",
    ": x",
    "a: b",
    "a #b",
    "#c",
    "&a",
    "*a",
    "!t",
    "|",
    ">",
    "%TAG",
    "@x",
    "`x`",
    "{a: b}",
    "[a]",
    "'",
    "\"",
    "\\",
    "\\n",
    "a\nb",
    "a\r\nb",
    "\t",
    "\u{7f}",
    "\u{1b}[31m",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "ünïcødé",
    "日本",
    "😀",
    "%i",
    "%%",
    "$HOME",
    "${HOME}",
    "$$",
    ";",
    "; rm",
    "a b",
    "\"a\" b",
    "a\\",
    "{{x}}",
    "{{{x}}}",
    "</script>",
    "@INPUTS-DIGEST@x",
    "---",
    "...",
    "a\n---\nb",
    "-----BEGIN CERTIFICATE-----\nMII\n",
];

fn any_string() -> impl Strategy<Value = String> {
    let nasty = "[ -~\u{80}-\u{a0}\u{2028}\u{feff}\n\r\t\u{1}-\u{1f}😀é%$\"'\\\\]{0,24}";
    prop_oneof![proptest::sample::select(CHOSEN).prop_map(str::to_owned), nasty, "[^\0]{0,12}"]
}

/// A spec with `s` wherever a string can come from the operator.
fn hostile(s: &str, minor: u32) -> ClusterSpec {
    let mut spec = spec(minor);
    spec.name = s.into();
    spec.kubernetes.image_repository = s.into();
    spec.kubernetes.dns_domain = s.into();
    spec.kubernetes.apiserver_extra_args = BTreeMap::from([("audit-log-format".into(), s.into())]);
    spec.kubernetes.kubelet_extra_args = BTreeMap::from([("node-labels".into(), s.into())]);
    spec.election.image = s.into();
    spec
}

/// For a node that is named like the cluster. Where the masters are listed, only words can stand: see below.
fn rendered(spec: &ClusterSpec, token: &str) -> Set {
    let (mut this, mut tools) = (this(spec), render::assumed_tools(spec));
    this.node.name.clone_from(&spec.name);
    tools.resolv_conf = Some(spec.name.clone().into());
    let etcd = EtcdStart { sealed: false, token, initial_cluster: None };
    Set::render(&Input {
        spec,
        this: &this,
        role: hamaster::token::Role::Master,
        tools: &tools,
        etcd,
        external_ca: false,
    })
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yaml_and_units_give_the_string_back(s in any_string()) {
        let set = rendered(&hostile(&s, 34), &s);

        let apiserver = crate::pods::decode(set.text("kube-apiserver.yaml"));
        let container = &apiserver.spec.containers[0];
        prop_assert_eq!(&container.image, &format!("{s}/kube-apiserver:v1.34.1"));
        prop_assert_eq!(container.command.last().unwrap(), &format!("--audit-log-format={s}"));
        let config = yaml(set.text("kubelet/config.yaml"));
        prop_assert_eq!(&config["clusterDomain"], &Value::from(s.clone()));
        let kubeconfig = yaml(set.text("kubelet.conf"));
        prop_assert_eq!(&kubeconfig["clusters"][0]["name"], &Value::from(s.clone()));
        prop_assert_eq!(&yaml(set.text("elect.yaml"))["id"], &Value::from(s.clone()));

        let etcd = exec(set.text("etcd.service"), "ExecStart");
        prop_assert!(etcd.contains(&format!("--name={s}")), "{etcd:?}");
        prop_assert!(etcd.contains(&format!("--initial-cluster-token={s}")), "{etcd:?}");
        let kubelet = exec(set.text("kubelet.service"), "ExecStart");
        prop_assert_eq!(kubelet.last().unwrap(), &format!("--node-labels={s}"));

    }

    #[test]
    fn a_balancer_takes_words_or_nothing(s in any_string()) {
        let mut spec = spec(34);
        spec.masters[0].name = s.clone();
        let word = !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:[]/*-".contains(&b));
        match render::load_balancer(&spec, templates()) {
            Ok(files) => {
                prop_assert!(word, "{s:?} was written");
                let haproxy = String::from_utf8(files[0].1.clone()).unwrap();
                prop_assert!(haproxy.contains(&format!("server {s} 10.0.0.1:6443\n")), "{haproxy}");
            }
            Err(e) => prop_assert!(!word && e.to_string().contains("lb/haproxy.cfg.hbs"), "{s:?}: {e}"),
        }
    }
}

/// Read by PyYAML, by Python's TOML and by kubectl: parsers that share nothing with ours.
#[test]
fn other_parsers_agree() {
    let dir = tempfile::tempdir().unwrap();
    for (n, s) in CHOSEN.iter().enumerate() {
        let mut spec = hostile(s, 34);
        spec.runtime = Runtime::Containerd;
        let set = rendered(&spec, s);
        std::fs::write(dir.path().join(format!("{n}.yaml")), set.text("kubelet/config.yaml")).unwrap();
        std::fs::write(dir.path().join(format!("{n}.toml")), set.text("containerd/config.toml")).unwrap();
        std::fs::write(dir.path().join(format!("{n}.json")), serde_json::to_vec(s).unwrap()).unwrap();
    }
    let count = CHOSEN.len().to_string();
    for (module, read) in [
        ("yaml", "yaml.safe_load(open(f'{n}.yaml', encoding='utf-8'))['clusterDomain'] == want"),
        ("tomllib", "want + '/pause:3.10.1' in str_values(tomllib.load(open(f'{n}.toml', 'rb')))"),
    ] {
        if run("python3", &["-c", &format!("import {module}")], dir.path()).is_none_or(|(ok, ..)| !ok) {
            eprintln!("python3 has no {module}: not checked");
            continue;
        }
        let script = format!(
            "import {module}, json, sys\n\
             def str_values(v): return sum(map(str_values, v.values()), []) if isinstance(v, dict) else [v]\n\
             for n in range(int(sys.argv[1])):\n\
             \x20   want = json.load(open(f'{{n}}.json', encoding='utf-8'))\n\
             \x20   assert {read}, want\n"
        );
        let (ok, _, err) = run("python3", &["-c", &script, &count], dir.path()).unwrap();
        assert!(ok, "{err}");
    }

    let pods: Vec<_> =
        CHOSEN.iter().map(|s| rendered(&hostile(s, 34), s).text("kube-apiserver.yaml").to_owned()).collect();
    std::fs::write(dir.path().join("pods.yaml"), pods.join("---\n")).unwrap();
    let args = ["label", "--local", "-f", "pods.yaml", "a=b", "-o", "json"];
    let Some((ok, out, err)) = run("kubectl", &args, dir.path()) else { return };
    assert!(ok, "{err}");
    let pods: Vec<Value> = serde_json::Deserializer::from_str(&out).into_iter().map(Result::unwrap).collect();
    assert_eq!(pods.len(), CHOSEN.len());
    for (pod, s) in pods.iter().zip(CHOSEN) {
        let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
        assert_eq!(command.last().unwrap().as_str().unwrap(), format!("--audit-log-format={s}"));
    }
}

#[test]
fn flannels_key_and_the_cni_list_are_json() {
    let mut spec = spec(34);
    let config: Value = serde_json::from_str(&render::flannel_config(&spec)).unwrap();
    assert_eq!(config, serde_json::json!({"Network": "10.244.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan"}}));
    let conflist: Value = serde_json::from_str(Set::of(&spec).text("10-flannel.conflist")).unwrap();
    assert_eq!(conflist["plugins"][0]["subnetFile"], "/run/flannel/subnet.env");
    spec.kubernetes.pod_cidr = crate::samples::cidr("10.244.0.0", 23);
    spec.network.backend = FlannelBackend::HostGw;
    let config: Value = serde_json::from_str(&render::flannel_config(&spec)).unwrap();
    assert_eq!(config["SubnetLen"], 25, "at least four subnets");
    spec.kubernetes.pod_cidr = crate::samples::cidr("fd00:10:244::", 56);
    let config: Value = serde_json::from_str(&render::flannel_config(&spec)).unwrap();
    assert_eq!((&config["EnableIPv4"], &config["IPv6SubnetLen"]), (&Value::from(false), &Value::from(64)));
}
