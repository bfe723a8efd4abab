//! No flag is ever rendered that the version lacks.

use std::collections::BTreeMap;

use hamaster::render;
use hamaster::spec::*;

use crate::samples::{Set, etcd_version, run, spec, this, variants};

const COMPONENTS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];

/// First minor and first minor without, by component and flag. Where the table is unsure (`1.22-1.23`), the flag must
/// be gone at the earlier one.
fn table() -> BTreeMap<(String, String), (u32, u32)> {
    let minor = |text: &str| {
        let first = text.trim_start_matches("<=").split('-').next().unwrap();
        first.strip_prefix("1.").unwrap().parse::<u32>().unwrap()
    };
    let rows = include_str!("kube-flags.tsv").lines().skip(1).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let since = if columns[2].starts_with("<=") { 0 } else { minor(columns[2]) };
        let removed = if columns[3] == "-" { u32::MAX } else { minor(columns[3]) };
        ((columns[0].to_owned(), columns[1].to_owned()), (since, removed))
    });
    rows.collect()
}

#[test]
fn every_flag_exists_in_its_version() {
    let mut table = table();
    assert!(table.len() > 200);
    // klog's verbosity is in every version and not in the table.
    table.insert(("kubelet".into(), "--v".into()), (0, u32::MAX));
    let mut wrong = vec![];
    for minor in 20..=37 {
        for (name, spec) in variants(minor) {
            let set = Set::of(&spec);
            for component in COMPONENTS {
                for arg in set.argv(component) {
                    let flag = arg.split('=').next().unwrap().to_owned();
                    match table.get(&(component.to_owned(), flag.clone())) {
                        Some((since, removed)) if (*since..*removed).contains(&minor) => {}
                        known => wrong.push(format!("{name}: {component} {flag} ({known:?})")),
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_each_version_needs_is_there() {
    for minor in 20..=37 {
        let mut spec = spec(minor);
        spec.runtime = Runtime::Containerd;
        let set = Set::of(&spec);
        let kubelet = |flag: &str| set.flag("kubelet", flag);
        let config = set.text("kubelet/config.yaml");
        let socket = "unix:///run/containerd/containerd.sock";
        assert_eq!(kubelet("container-runtime").as_deref(), (minor <= 23).then_some("remote"), "1.{minor}");
        assert_eq!(kubelet("container-runtime-endpoint").as_deref(), (minor <= 26).then_some(socket), "1.{minor}");
        assert_eq!(config.contains("containerRuntimeEndpoint"), minor >= 27, "1.{minor}");
        assert_eq!(kubelet("register-with-taints").is_some(), minor <= 22, "1.{minor}");
        assert_eq!(config.contains("registerWithTaints"), minor >= 23, "1.{minor}");
        assert_eq!(config.contains("seccompDefault"), minor >= 25, "1.{minor}");
        assert_eq!(set.flag("kube-apiserver", "insecure-port").as_deref(), (minor <= 21).then_some("0"));
        for component in ["kube-scheduler", "kube-controller-manager"] {
            assert_eq!(set.flag(component, "port").as_deref(), (minor <= 22).then_some("0"), "1.{minor}");
        }
        let scheduler = set.text("kube-scheduler.yaml");
        assert_eq!(scheduler.contains("path: /livez"), minor >= 32, "1.{minor}");
        assert_eq!(scheduler.contains("path: /healthz"), minor < 32, "1.{minor}");
    }
}

#[test]
fn basic_auth_only_where_it_is_accepted() {
    for minor in 16..=37 {
        let flag = |spec: &ClusterSpec| Set::of(spec).flag("kube-apiserver", "basic-auth-file");
        let mut spec = spec(minor);
        assert_eq!(flag(&spec).is_some(), minor <= 18, "1.{minor}");
        spec.auth.basic_auth = BasicAuth::Off;
        assert_eq!(flag(&spec), None);
    }
}

#[test]
fn a_newer_version_is_rendered_as_the_newest_known() {
    let (mut known, mut newer) = (Set::of(&spec(37)), Set::of(&spec(99)));
    for set in [&mut known, &mut newer] {
        set.files
            .iter_mut()
            .for_each(|f| f.bytes = String::from_utf8_lossy(&f.bytes).replace("v1.99.1", "v1.37.1").into());
    }
    assert_eq!(known.files, newer.files);
}

/// since, first minor without, flag: what changes between etcd 3.4 and 3.7 among the flags we use.
const ETCD: &[(u32, u32, &str)] = &[
    (4, 7, "--experimental-initial-corrupt-check"),
    (4, 7, "--experimental-watch-progress-notify-interval"),
    (6, 99, "--watch-progress-notify-interval"),
    (6, 99, "--feature-gates"),
];

fn etcd_argv(minor: u32, patch: u32) -> Vec<String> {
    let spec = spec(34);
    let mut tools = render::assumed_tools(&spec);
    tools.etcd_version = etcd_version(minor, patch);
    Set::with(&spec, &this(&spec), &tools).argv("etcd")
}

#[test]
fn etcd_gets_only_flags_of_its_line() {
    for (minor, patch) in [(4, 0), (4, 23), (4, 25), (5, 0), (5, 8), (5, 24), (6, 4), (7, 0), (8, 0)] {
        let argv = etcd_argv(minor, patch);
        let has = |flag: &str| argv.iter().any(|a| a.starts_with(&format!("{flag}=")));
        for (since, removed, flag) in ETCD {
            assert!(!has(flag) || (*since..*removed).contains(&minor), "3.{minor}.{patch} has no {flag}");
        }
        assert_eq!(
            has("--tls-min-version"),
            (minor, patch) >= (4, 25) && ((minor, patch) < (5, 0) || (minor, patch) >= (5, 8))
        );
        assert!(has("--experimental-initial-corrupt-check") || has("--feature-gates"), "corruption check is on");
        let unique: std::collections::BTreeSet<_> = argv.iter().map(|a| a.split('=').next()).collect();
        assert_eq!(unique.len(), argv.len(), "a flag twice: {argv:?}");
    }
}

/// The etcd on PATH, whatever its version, knows every flag rendered for it.
#[test]
fn the_real_etcd_knows_its_flags() {
    let Some((_, version, _)) = run("etcd", &["--version"], std::path::Path::new("/")) else { return };
    let version = version.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let parts: Vec<u32> = version.split('.').map(|p| p.parse().unwrap()).collect();
    let (_, out, err) = run("etcd", &["--help"], std::path::Path::new("/")).unwrap();
    let help = out + &err;
    let known: std::collections::BTreeSet<_> =
        help.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-')).collect();
    let unknown: Vec<_> = etcd_argv(parts[1], parts[2])
        .into_iter()
        .filter(|arg| !known.contains(arg.split('=').next().unwrap()))
        .collect();
    assert!(unknown.is_empty(), "etcd {version} does not know {unknown:?}");
}
