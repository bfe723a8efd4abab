//! Files that no offline schema covers decode strictly into the fields that upstream documents.

use hamaster::spec::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::samples::{Set, cis, run, spec, variants};

strict! {
    KubeletConfiguration {
        api_version: String,
        kind: String,
        static_pod_path: String,
        authentication: KubeletAuthentication,
        authorization: KubeletAuthorization,
        read_only_port: u16,
        healthz_bind_address: String,
        healthz_port: u16,
        tls_cert_file: String,
        tls_private_key_file: String,
        tls_min_version: String,
        tls_cipher_suites: Vec<String>,
        rotate_certificates: bool,
        #[serde(rename = "clusterDNS")] cluster_dns: Vec<String>,
        cluster_domain: String,
        cgroup_driver: String,
        container_runtime_endpoint: Option<String>,
        register_with_taints: Option<Vec<Taint>>,
        seccomp_default: Option<bool>,
        protect_kernel_defaults: bool,
        #[serde(rename = "makeIPTablesUtilChains")] make_iptables_util_chains: bool,
        #[serde(rename = "eventRecordQPS")] event_record_qps: u32,
        pod_pids_limit: i64,
        streaming_connection_idle_timeout: String,
        resolv_conf: Option<String>,
    }
    KubeletAuthentication { anonymous: Enabled, webhook: Enabled, x509: X509 }
    KubeletAuthorization { mode: String }
    Enabled { enabled: bool }
    X509 { #[serde(rename = "clientCAFile")] client_ca_file: String }
    Taint { key: String, effect: String }

    AuditPolicy { api_version: String, kind: String, omit_stages: Vec<String>, rules: Vec<AuditRule> }
    AuditRule {
        level: String,
        users: Option<Vec<String>>,
        verbs: Option<Vec<String>>,
        #[serde(rename = "nonResourceURLs")] non_resource_urls: Option<Vec<String>>,
        resources: Option<Vec<GroupResources>>,
    }
    GroupResources { group: String, resources: Option<Vec<String>> }

    AdmissionConfiguration { api_version: String, kind: String, plugins: Vec<AdmissionPlugin> }
    AdmissionPlugin { name: String, configuration: Value }
    EventRateLimit { api_version: String, kind: String, limits: Vec<Limit> }
    Limit { r#type: String, qps: u32, burst: u32, cache_size: u32 }
    PodSecurity { api_version: String, kind: String, defaults: PodSecurityDefaults, exemptions: Exemptions }
    Exemptions { namespaces: Vec<String> }

    AuthenticationConfiguration { api_version: String, kind: String, anonymous: Anonymous }
    Anonymous { enabled: bool, conditions: Vec<AnonymousPath> }
    AnonymousPath { path: String }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code, reason = "decoding is the test")]
pub struct PodSecurityDefaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

fn decode<T: DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::from_str(yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

#[test]
fn every_configuration_has_only_fields_of_its_kind() {
    for minor in [16, 18, 20, 22, 23, 24, 25, 27, 31, 32, 33, 34, 37] {
        for (name, spec) in variants(minor) {
            let set = Set::of(&spec);
            let kubelet: KubeletConfiguration = decode(set.text("kubelet/config.yaml"));
            assert_eq!(kubelet.api_version, "kubelet.config.k8s.io/v1beta1");
            let levels = ["None", "Metadata", "Request", "RequestResponse"];
            let audit: AuditPolicy = decode(set.text("policy/audit.yaml"));
            assert!(audit.rules.iter().all(|r| levels.contains(&r.level.as_str())), "{name}");
            assert!(spec.profile == Profile::Cis || set.find("policy/admission.yaml").is_none());
        }
        let set = Set::of(&cis(spec(minor)));
        let admission: AdmissionConfiguration = decode(set.text("policy/admission.yaml"));
        for plugin in &admission.plugins {
            let json = plugin.configuration.clone();
            match plugin.name.as_str() {
                "EventRateLimit" => drop(serde_json::from_value::<EventRateLimit>(json).unwrap()),
                "PodSecurity" => drop(serde_json::from_value::<PodSecurity>(json).unwrap()),
                other => panic!("{other}"),
            }
        }
        assert_eq!(admission.plugins.len(), if minor >= 23 { 2 } else { 1 }, "1.{minor}");
        if let Some(file) = set.find("policy/authentication.yaml") {
            let config: AuthenticationConfiguration = decode(std::str::from_utf8(&file.bytes).unwrap());
            let version = if minor >= 34 { "apiserver.config.k8s.io/v1" } else { "apiserver.config.k8s.io/v1beta1" };
            assert_eq!(config.api_version, version);
        }
    }
}

/// No audit rule may write what is in a secret: the first rule that matches one says Metadata.
#[test]
fn secrets_are_never_in_the_audit_log() {
    let audit: AuditPolicy = decode(Set::of(&spec(34)).text("policy/audit.yaml"));
    for resource in ["secrets", "configmaps", "serviceaccounts/token"] {
        let names = |r: &GroupResources| {
            r.group.is_empty() && r.resources.as_ref().is_none_or(|l| l.iter().any(|name| name == resource))
        };
        let takes = |rule: &&AuditRule| match (&rule.resources, &rule.non_resource_urls, &rule.users) {
            (Some(resources), ..) => resources.iter().any(names),
            (None, urls, users) => urls.is_none() && users.is_none(),
        };
        let first = audit.rules.iter().find(takes).unwrap();
        assert_eq!((first.level.as_str(), &first.verbs), ("Metadata", &None), "{resource}");
    }
}

#[test]
fn kubectl_reads_the_kubeconfig_and_the_bindings() {
    let dir = tempfile::tempdir().unwrap();
    let set = Set::of(&spec(34));
    std::fs::write(dir.path().join("kubelet.conf"), set.text("kubelet.conf")).unwrap();
    std::fs::write(dir.path().join("rbac.yaml"), set.text("rbac.yaml")).unwrap();
    let args = ["--kubeconfig=kubelet.conf", "config", "view", "--minify", "-o", "json"];
    let Some((ok, out, err)) = run("kubectl", &args, dir.path()) else { return };
    assert!(ok, "{err}");
    let view: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(view["clusters"][0]["cluster"]["server"], "https://10.0.0.1:6443");
    let user = &view["users"][0]["user"];
    assert_eq!(user["client-certificate"], "/var/lib/kubelet/pki/kubelet-client-current.pem");
    assert_eq!(user["client-key"], user["client-certificate"]);

    let args = ["set", "subject", "--local", "-f", "rbac.yaml", "--user=x", "-o", "json"];
    let (ok, out, err) = run("kubectl", &args, dir.path()).unwrap();
    assert!(ok, "{err}");
    let bindings: Vec<Value> = serde_json::Deserializer::from_str(&out).into_iter().map(Result::unwrap).collect();
    let granted: Vec<_> =
        bindings.iter().map(|b| (b["subjects"][0]["name"].as_str(), b["roleRef"]["name"].as_str())).collect();
    let wanted = [
        (Some("kubeadm:cluster-admins"), Some("cluster-admin")),
        (Some("kube-apiserver-kubelet-client"), Some("system:kubelet-api-admin")),
        (Some("system:nodes"), Some("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient")),
    ];
    assert_eq!(granted, wanted);
}
