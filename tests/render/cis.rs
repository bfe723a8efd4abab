//! The scored CIS checks that read command lines, kubelet's configuration and file modes, on profile cis.

use hamaster::spec::*;
use serde_json::Value;

use crate::samples::{Set, cis, spec, variants};

/// Checks of sections 1.2, 1.3, 1.4, 2 and 4 that fail, by id.
fn failures(set: &Set, minor: u32) -> Vec<&'static str> {
    let flag = |component: &str, name: &str| set.flag(component, name);
    let (api, kcm, sched, etcd) = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd");
    let set_ = |c: &str, names: &[&str]| names.iter().all(|n| flag(c, n).is_some_and(|v| !v.is_empty()));
    let is = |c: &str, n: &str, v: &str| flag(c, n).as_deref() == Some(v);
    let at_least = |n: &str, v: u32| flag(api, n).and_then(|f| f.parse::<u32>().ok()).is_some_and(|f| f >= v);
    let has = |n: &str, item: &str| flag(api, n).is_some_and(|v| v.split(',').any(|i| i == item));
    let loopback = |c: &str| flag(c, "bind-address").is_none_or(|v| v == "127.0.0.1");
    let kubelet: Value = serde_yaml::from_str(set.text("kubelet/config.yaml")).unwrap();
    let field = |path: &str| path.split('.').fold(&kubelet, |v, key| &v[key]).clone();
    let mode = |end: &str| set.file(end).mode;
    let strong =
        |list: &Value| list.as_array().is_some_and(|l| l.iter().all(|s| s.as_str().unwrap().starts_with("TLS_ECDHE")));

    let checks = [
        ("1.1.1", mode("kube-apiserver.yaml") == 0o600),
        ("1.1.3", mode("kube-controller-manager.yaml") == 0o600),
        ("1.1.5", mode("kube-scheduler.yaml") == 0o600),
        ("1.2.2", flag(api, "token-auth-file").is_none() && flag(api, "basic-auth-file").is_none()),
        ("1.2.3", minor < 25 || has("enable-admission-plugins", "DenyServiceExternalIPs")),
        ("1.2.3/1.24", minor >= 25 || !has("enable-admission-plugins", "DenyServiceExternalIPs")),
        ("1.2.4", set_(api, &["kubelet-client-certificate", "kubelet-client-key"])),
        ("1.2.5", set_(api, &["kubelet-certificate-authority"])),
        ("1.2.6", flag(api, "authorization-mode").is_some() && !has("authorization-mode", "AlwaysAllow")),
        ("1.2.7", has("authorization-mode", "Node")),
        ("1.2.8", has("authorization-mode", "RBAC")),
        ("1.2.9", has("enable-admission-plugins", "EventRateLimit") && set_(api, &["admission-control-config-file"])),
        ("1.2.10", !has("enable-admission-plugins", "AlwaysAdmit")),
        ("1.2.12", flag(api, "disable-admission-plugins").is_none()),
        ("1.2.14", has("enable-admission-plugins", "NodeRestriction")),
        ("1.2.15", is(api, "profiling", "false")),
        ("1.2.16", set_(api, &["audit-log-path"])),
        ("1.2.17", at_least("audit-log-maxage", 30)),
        ("1.2.18", at_least("audit-log-maxbackup", 10)),
        ("1.2.18/1.20", minor > 21 || is(api, "insecure-port", "0")),
        ("1.2.19", at_least("audit-log-maxsize", 100)),
        ("1.2.21", flag(api, "service-account-lookup").is_none_or(|v| v == "true")),
        ("1.2.22", set_(api, &["service-account-key-file"])),
        ("1.2.23", set_(api, &["etcd-certfile", "etcd-keyfile"])),
        ("1.2.24", set_(api, &["tls-cert-file", "tls-private-key-file"])),
        ("1.2.25", set_(api, &["client-ca-file"])),
        ("1.2.26", set_(api, &["etcd-cafile"])),
        ("1.2.27", set_(api, &["encryption-provider-config"])),
        ("1.2.29", flag(api, "tls-cipher-suites").is_some_and(|v| v.split(',').all(|s| s.starts_with("TLS_ECDHE")))),
        ("1.2.30", is(api, "service-account-extend-token-expiration", "false")),
        ("1.3.1", set_(kcm, &["terminated-pod-gc-threshold"])),
        ("1.3.2", is(kcm, "profiling", "false")),
        ("1.3.3", is(kcm, "use-service-account-credentials", "true")),
        ("1.3.4", set_(kcm, &["service-account-private-key-file"])),
        ("1.3.5", set_(kcm, &["root-ca-file"])),
        ("1.3.6", flag(kcm, "feature-gates").is_none()),
        ("1.3.7", loopback(kcm)),
        ("1.4.1", is(sched, "profiling", "false")),
        ("1.4.2", loopback(sched)),
        ("2.1", set_(etcd, &["cert-file", "key-file"])),
        ("2.2", is(etcd, "client-cert-auth", "true")),
        ("2.3", flag(etcd, "auto-tls").is_none()),
        ("2.4", set_(etcd, &["peer-cert-file", "peer-key-file"])),
        ("2.5", is(etcd, "peer-client-cert-auth", "true")),
        ("2.6", flag(etcd, "peer-auto-tls").is_none()),
        ("2.7", flag(etcd, "trusted-ca-file") != flag(api, "client-ca-file")),
        ("3.2.1", set_(api, &["audit-policy-file"])),
        ("4.1.1", mode("kubelet.service") == 0o600),
        ("4.1.5", mode("kubelet.conf") == 0o600),
        ("4.1.9", mode("kubelet/config.yaml") == 0o600),
        ("4.2.1", field("authentication.anonymous.enabled") == false && flag("kubelet", "anonymous-auth").is_none()),
        ("4.2.2", field("authorization.mode") == "Webhook" && flag("kubelet", "authorization-mode").is_none()),
        ("4.2.3", field("authentication.x509.clientCAFile").is_string()),
        ("4.2.4", field("readOnlyPort") == 0),
        ("4.2.5", field("streamingConnectionIdleTimeout") == "5m0s"),
        ("4.2.6", field("makeIPTablesUtilChains") == true),
        ("4.2.6/1.24", minor > 24 || field("protectKernelDefaults") == true),
        ("4.2.7", flag("kubelet", "hostname-override").is_none()),
        ("4.2.8", field("eventRecordQPS").as_u64().is_some()),
        ("4.2.9", field("tlsCertFile").is_string() && field("tlsPrivateKeyFile").is_string()),
        ("4.2.10", field("rotateCertificates") == true),
        ("4.2.12", strong(&field("tlsCipherSuites"))),
        ("4.2.13", field("podPidsLimit").as_u64().is_some_and(|n| n > 0)),
        ("4.2.14", minor < 25 || field("seccompDefault") == true),
    ];
    checks.into_iter().filter(|(_, passed)| !passed).map(|(id, _)| id).collect()
}

#[test]
fn profile_cis_passes_on_every_minor() {
    for minor in 20..=37 {
        for (name, spec) in variants(minor).into_iter().filter(|(_, spec)| spec.profile == Profile::Cis) {
            assert_eq!(failures(&Set::of(&spec), minor), Vec::<&str>::new(), "{name}");
        }
    }
}

/// The evaluator can fail, and standard costs exactly what is documented.
#[test]
fn standard_fails_only_what_it_trades() {
    assert_eq!(failures(&Set::of(&spec(34)), 34), ["1.2.2", "1.2.3", "1.2.9"]);
    let mut worse = cis(spec(34));
    worse.kubernetes.apiserver_extra_args = [("profiling".into(), "true".into())].into();
    worse.kubernetes.scheduler_extra_args = [("bind-address".into(), "0.0.0.0".into())].into();
    assert_eq!(failures(&Set::of(&worse), 34), ["1.2.15", "1.4.2"]);
}

#[test]
fn kernel_settings_are_made_where_the_kubelet_demands_them() {
    for minor in 20..=37 {
        let set = Set::of(&cis(spec(minor)));
        let demanded = set.text("kubelet/config.yaml").contains("protectKernelDefaults: true");
        assert_eq!(set.text("90-hamaster.conf").contains("vm.overcommit_memory = 1"), demanded, "1.{minor}");
    }
}

#[test]
fn anonymous_requests_are_narrowed_where_the_version_can() {
    for minor in 20..=37 {
        let set = Set::of(&cis(spec(minor)));
        assert_eq!(set.flag("kube-apiserver", "authentication-config").is_some(), minor >= 32, "1.{minor}");
        assert_eq!(set.flag("kube-apiserver", "anonymous-auth"), None, "it would fail the probes");
    }
    let mut own = cis(spec(34));
    own.kubernetes.apiserver_extra_args = [("oidc-issuer-url".into(), "https://id.example.com".into())].into();
    assert_eq!(Set::of(&own).flag("kube-apiserver", "authentication-config"), None);
}
