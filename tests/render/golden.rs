//! The whole rendered set of chosen versions, byte for byte. `UPDATE_GOLDEN=1` writes them anew.

use std::fmt::Write;

use hamaster::render;
use hamaster::spec::*;

use crate::samples::{Set, cis, here, spec};

fn check(name: &str, spec: &ClusterSpec) {
    check_set(name, spec, &Set::of(spec));
}

fn check_set(name: &str, spec: &ClusterSpec, set: &Set) {
    let mut text = String::new();
    for file in &set.files {
        writeln!(text, "=== {} {} {:04o}", file.phase, file.path.display(), file.mode).unwrap();
        text.push_str(std::str::from_utf8(&file.bytes).unwrap());
    }
    text.push_str("=== units\n");
    for unit in &set.units {
        writeln!(text, "{} {} enable={} run={}", unit.phase, unit.name, unit.enable, unit.run).unwrap();
        unit.inputs.iter().for_each(|path| writeln!(text, "  reads {}", path.display()).unwrap());
        unit.ready.iter().for_each(|ready| writeln!(text, "  ready {ready:?}").unwrap());
    }
    writeln!(text, "=== flannel\n{}\n=== notes", render::flannel_config(spec)).unwrap();
    render::notes(spec).iter().for_each(|note| writeln!(text, "{note}").unwrap());

    let path = here("golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden != text {
        let diff = similar::TextDiff::from_lines(&golden, &text);
        panic!("{}\n{}", path.display(), diff.unified_diff().context_radius(3).header("golden", "rendered"));
    }
}

/// docker and containerd in profile standard, and the other half of the choices in profile cis.
#[test]
fn rendered_sets_are_as_recorded() {
    for minor in [18, 20, 22, 24, 27, 31, 34, 37] {
        let mut spec = spec(minor);
        check(&format!("1.{minor}/docker"), &spec);
        spec.runtime = Runtime::Containerd;
        check(&format!("1.{minor}/containerd"), &spec);
        spec.election.mode = ElectionMode::Native;
        spec.network.plugin = NetworkPlugin::None;
        check(&format!("1.{minor}/containerd-native-cis"), &cis(spec));
    }
}

#[test]
fn classic_docker_is_as_recorded() {
    let mut spec = spec(20);
    spec.network.path = NetworkPath::Classic;
    spec.election.run_as = ElectionRunAs::StaticPod;
    check("1.20/docker-classic-podmaster-pod", &spec);
}

/// flannel's leases in the API, on a master and on workers: one with a name before its API, one with none at all.
#[test]
fn workers_are_as_recorded() {
    let mut spec = spec(34);
    spec.network.leases = FlannelLeases::Kubernetes;
    spec.runtime = Runtime::Containerd;
    check("1.34/containerd-leases-in-the-api", &spec);
    check_set("1.34/worker-containerd", &spec, &Set::worker(&spec));
    let mut old = crate::samples::spec(22);
    old.network.leases = FlannelLeases::Kubernetes;
    old.load_balancer.addresses.clear();
    check_set("1.22/worker-docker", &old, &Set::worker(&old));
}
