//! Manifests decode strictly, as what they are, and a real kubectl keeps every field of them.

use std::path::{Path, PathBuf};

use hamaster::spec::*;
use hamaster::state::desired::INPUTS_DIGEST;
use serde::Deserialize;

use crate::samples::{Set, cis, run, spec, this, variants};

type Map = std::collections::BTreeMap<String, String>;

strict! {
    Pod { api_version: String, kind: String, metadata: Metadata, spec: PodSpec }
    Metadata { name: String, namespace: String, labels: Map, annotations: Map }
    PodSpec {
        host_network: bool,
        #[serde(rename = "hostPID")]
        host_pid: Option<bool>,
        priority_class_name: String,
        priority: i32,
        termination_grace_period_seconds: Option<i64>,
        security_context: Option<PodSecurityContext>,
        containers: Vec<Container>,
        volumes: Vec<Volume>,
    }
    PodSecurityContext { seccomp_profile: SeccompProfile }
    SeccompProfile { r#type: String }
    Container {
        name: String,
        image: String,
        image_pull_policy: String,
        command: Vec<String>,
        resources: Resources,
        startup_probe: Option<Probe>,
        liveness_probe: Option<Probe>,
        readiness_probe: Option<Probe>,
        volume_mounts: Vec<VolumeMount>,
    }
    Resources { requests: Map }
    Probe {
        http_get: HttpGet,
        initial_delay_seconds: i32,
        timeout_seconds: i32,
        period_seconds: i32,
        failure_threshold: i32,
    }
    HttpGet { scheme: String, host: String, port: u16, path: String }
    VolumeMount { name: String, mount_path: PathBuf, read_only: Option<bool> }
    Volume { name: String, host_path: HostPath }
    HostPath { path: PathBuf, r#type: String }
}

pub fn decode(yaml: &str) -> Pod {
    serde_yaml::from_str(yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

fn is_manifest(path: &Path) -> bool {
    path.parent().is_some_and(|d| d.ends_with("manifests") || d.ends_with("standby"))
}

fn is_label(s: &str) -> bool {
    (1..=63).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[test]
fn every_manifest_is_a_pod_that_mounts_exactly_what_its_flags_name() {
    for minor in [16, 18, 20, 23, 24, 28, 31, 32, 34, 37] {
        for (name, spec) in variants(minor) {
            let set = Set::of(&spec);
            let manifests: Vec<_> = set.files.iter().filter(|f| is_manifest(&f.path)).collect();
            assert_eq!(manifests.len(), 3, "{name}");
            for file in manifests {
                let pod = decode(std::str::from_utf8(&file.bytes).unwrap());
                assert_eq!(file.mode, 0o600);
                assert_eq!((pod.kind.as_str(), pod.metadata.namespace.as_str()), ("Pod", "kube-system"));
                assert_eq!(pod.metadata.annotations["hamaster.io/inputs"], INPUTS_DIGEST);
                assert!(pod.spec.host_network);
                let container = &pod.spec.containers[0];
                let mounted: Vec<_> = container.volume_mounts.iter().map(|m| (&m.name, &m.mount_path)).collect();
                let volumes: Vec<_> = pod.spec.volumes.iter().map(|v| (&v.name, &v.host_path.path)).collect();
                assert_eq!(mounted, volumes, "{name}: the same path inside as outside");
                assert!(mounted.iter().all(|(name, _)| is_label(name)), "{name}: {mounted:?}");

                let mut named: Vec<PathBuf> = container.command[1..]
                    .iter()
                    .filter_map(|arg| arg.split_once('=').map(|(_, value)| PathBuf::from(value)))
                    .filter(|value| value.is_absolute())
                    .map(|path| if path.ends_with("audit.log") { path.parent().unwrap().into() } else { path })
                    .collect();
                named.sort();
                named.dedup();
                let mut mounted: Vec<_> = mounted.into_iter().map(|(_, path)| path.clone()).collect();
                mounted.sort();
                assert_eq!(named, mounted, "{name}");

                let written = |m: &&VolumeMount| m.read_only != Some(true);
                let written: Vec<_> = container.volume_mounts.iter().filter(written).map(|m| &m.mount_path).collect();
                assert!(written.iter().all(|p| p.ends_with("audit")), "{name}: {written:?} is writable");
                mounted.retain(|p| !p.ends_with("audit"));
                let mut inputs = file.inputs.clone();
                inputs.sort();
                assert_eq!(inputs, mounted, "{name}: a changed file must change the pod");
            }
        }
    }
}

#[test]
fn scheduler_and_controller_manager_wait_on_standby_unless_native() {
    let mut spec = spec(34);
    let place = |spec: &ClusterSpec, component: &str| {
        let set = Set::of(spec);
        let dir = set.file(&format!("{component}.yaml")).path.parent().unwrap().to_owned();
        dir.file_name().unwrap().to_str().unwrap().to_owned()
    };
    for component in ["kube-scheduler", "kube-controller-manager"] {
        assert_eq!(place(&spec, component), "standby");
    }
    assert_eq!(place(&spec, "kube-apiserver"), "manifests");
    spec.election.mode = ElectionMode::Native;
    for component in ["kube-scheduler", "kube-controller-manager", "kube-apiserver"] {
        assert_eq!(place(&spec, component), "manifests");
    }
}

#[test]
fn podmaster_as_a_pod_replaces_its_units() {
    let mut spec = spec(34);
    spec.election.run_as = ElectionRunAs::StaticPod;
    let set = Set::of(&spec);
    let pod = decode(set.text("manifests/podmaster.yaml"));
    let writable: Vec<_> = pod.spec.containers[0]
        .volume_mounts
        .iter()
        .filter(|m| m.read_only != Some(true))
        .map(|m| &m.mount_path)
        .collect();
    assert_eq!(writable, [Path::new("/etc/kubernetes/manifests"), Path::new("/run")]);
    // Otherwise it would see no container of the host, and take that for the payload's death.
    assert_eq!(pod.spec.host_pid, Some(true));
    assert!(hamaster::render::notes(&spec).iter().any(|n| n.contains("before the pod is there to remove it")));
    assert!(set.find("hamaster-elect.service").is_none());
    assert!(set.units.iter().all(|u| u.name != "hamaster-elect.service"));
}

#[test]
fn a_lab_master_stays_on_its_own_addresses_and_below_its_prefix() {
    let spec = spec(34);
    let mut node = this(&spec);
    node.loopback = [127, 0, 1, 1].into();
    node.layout = layout::Layout::below("/tmp/lab/m1");
    let set = Set::with(&spec, &node, &hamaster::render::assumed_tools(&spec));
    assert!(set.paths().iter().all(|p| p.starts_with("/tmp/lab/m1")), "{:?}", set.paths());
    assert_eq!(set.flag("kube-apiserver", "bind-address").unwrap(), "127.0.1.1");
    for component in ["kube-scheduler", "kube-controller-manager"] {
        assert_eq!(set.flag(component, "bind-address").unwrap(), "127.0.1.1");
        let pod = decode(set.text(&format!("{component}.yaml")));
        assert_eq!(pod.spec.containers[0].liveness_probe.as_ref().unwrap().http_get.host, "127.0.1.1");
    }
    assert_eq!(set.flag("etcd", "listen-metrics-urls").unwrap(), "http://127.0.1.1:2381");
    assert_eq!(set.flag("etcd", "data-dir").unwrap(), "/tmp/lab/m1/var/lib/etcd");
    let stray = |f: &&hamaster::state::desired::ManagedFile| {
        let text = String::from_utf8_lossy(&f.bytes).replace("/tmp/lab/m1/", "@");
        ["/etc/kubernetes", "/etc/etcd", "/etc/hamaster", "/var/lib/kubelet", "/var/lib/etcd"]
            .iter()
            .any(|p| text.contains(p))
    };
    let stray: Vec<_> = set.files.iter().filter(stray).map(|f| &f.path).collect();
    assert!(stray.is_empty(), "these name a host path: {stray:?}");
}

#[test]
fn extra_args_replace_ours_in_place_and_follow_otherwise() {
    let mut spec = spec(34);
    let extra = [("profiling", "true"), ("v", "4"), ("tls-cert-file", "/srv/own.crt")];
    spec.kubernetes.apiserver_extra_args = extra.map(|(k, v)| (k.into(), v.into())).into();
    let set = Set::of(&spec);
    let argv = set.argv("kube-apiserver");
    assert_eq!(argv.iter().filter(|a| a.starts_with("--profiling=")).collect::<Vec<_>>(), ["--profiling=true"]);
    assert_eq!(argv.last().unwrap(), "--v=4");
    let pod = decode(set.text("kube-apiserver.yaml"));
    assert!(pod.spec.volumes.iter().any(|v| v.host_path.path == Path::new("/srv/own.crt")));
    assert!(!pod.spec.volumes.iter().any(|v| v.host_path.path.ends_with("server.cert")));
}

#[test]
fn an_external_ca_never_signs_here() {
    let spec = spec(34);
    let (this, tools) = (this(&spec), hamaster::render::assumed_tools(&spec));
    let etcd = hamaster::render::EtcdStart { sealed: true, token: "t", initial_cluster: None };
    let input = hamaster::render::Input {
        spec: &spec,
        this: &this,
        role: hamaster::token::Role::Master,
        tools: &tools,
        etcd,
        external_ca: true,
    };
    assert!(Set::render(&input).files.iter().all(|f| !String::from_utf8_lossy(&f.bytes).contains("ca.key")));
}

/// kubectl decodes into the real types and drops what it does not know: a field that is gone was misspelt.
#[test]
fn kubectl_keeps_every_field() {
    let dir = tempfile::tempdir().unwrap();
    let mut pod = spec(34);
    pod.election.run_as = ElectionRunAs::StaticPod;
    for (n, spec) in [spec(20), cis(spec(37)), pod].into_iter().enumerate() {
        for file in Set::of(&spec).files.iter().filter(|f| is_manifest(&f.path)) {
            let path = dir.path().join(format!("{n}-{}", file.path.file_name().unwrap().to_str().unwrap()));
            std::fs::write(&path, &file.bytes).unwrap();
            let args = ["set", "env", "--local", "-f", path.to_str().unwrap(), "A=b", "-o", "json"];
            let Some((ok, out, err)) = run("kubectl", &args, dir.path()) else { return };
            assert!(ok, "{err}");
            let ours: serde_json::Value = serde_yaml::from_str(std::str::from_utf8(&file.bytes).unwrap()).unwrap();
            let theirs: serde_json::Value = serde_json::from_str(&out).unwrap();
            let lost = lost("", &ours, &theirs);
            assert!(lost.is_empty(), "{}: kubectl dropped {lost:?}", file.path.display());
        }
    }
}

/// Paths in `ours` that `theirs` lacks or has otherwise.
fn lost(at: &str, ours: &serde_json::Value, theirs: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .flat_map(|(k, v)| match b.get(k) {
                Some(w) => lost(&format!("{at}.{k}"), v, w),
                // `readOnly: false` and `initialDelaySeconds: 0` are the defaults and left out.
                None if v.as_bool() == Some(false) || v.as_i64() == Some(0) => vec![],
                None => vec![format!("{at}.{k}")],
            })
            .collect(),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().flat_map(|(i, (v, w))| lost(&format!("{at}[{i}]"), v, w)).collect()
        }
        (a, b) if a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a)) => vec![],
        (a, b) => vec![format!("{at}: {a} became {b}")],
    }
}
