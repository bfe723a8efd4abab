//! What the apiserver enforces and records: audit policy, admission, anonymous access, and the bindings every cluster
//! needs.

use std::path::PathBuf;

use serde::Serialize;

use super::{Input, Rendered};
use crate::error::Result;
use crate::state::PhaseId;

/// The audit policy.
#[derive(Serialize)]
struct Audit {}

/// Roles and bindings applied once the API answers.
#[derive(Serialize)]
struct Rbac {
    /// flanneld keeps its leases in the API.
    flannel: bool,
}

/// AdmissionConfiguration, profile cis.
#[derive(Serialize)]
struct Admission {
    /// API version of PodSecurityConfiguration; `None` where there is no such plugin on by default.
    pod_security: Option<&'static str>,
}

/// AuthenticationConfiguration, profile cis.
#[derive(Serialize)]
struct Authentication {
    api_version: &'static str,
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let phase = PhaseId::ControlPlane;
    out.add(phase, audit_policy(i), 0o600, "policy/audit.yaml.hbs", &Audit {})?;
    if i.cis() {
        let pod_security = match i.minor() {
            ..=22 => None,
            23 | 24 => Some("pod-security.admission.config.k8s.io/v1beta1"),
            _ => Some("pod-security.admission.config.k8s.io/v1"),
        };
        out.add(phase, admission_config(i), 0o600, "policy/admission.yaml.hbs", &Admission { pod_security })?;
    }
    if let Some(path) = authentication_config(i) {
        let api_version =
            if i.minor() >= 34 { "apiserver.config.k8s.io/v1" } else { "apiserver.config.k8s.io/v1beta1" };
        out.add(phase, path, 0o600, "policy/authentication.yaml.hbs", &Authentication { api_version })?;
    }
    let rbac = Rbac { flannel: i.flannel_in_api() };
    out.add(PhaseId::Register, i.this.layout.config().join("rbac.yaml"), 0o644, "policy/rbac.yaml.hbs", &rbac)
}

pub(super) fn audit_policy(i: &Input) -> PathBuf {
    i.this.layout.policy().join("audit.yaml")
}

pub(super) fn admission_config(i: &Input) -> PathBuf {
    i.this.layout.policy().join("admission.yaml")
}

/// From 1.32 on anonymous requests can be narrowed to the health endpoints, which the kubelet's probes and load
/// balancers need; `--anonymous-auth=false` would fail the probes and restart the apiserver for ever. The flag excludes
/// others of the same subject, so the operator's own win.
pub(super) fn authentication_config(i: &Input) -> Option<PathBuf> {
    let excluded =
        |name: &String| name == "anonymous-auth" || name == "authentication-config" || name.starts_with("oidc-");
    let own = i.spec.kubernetes.apiserver_extra_args.keys().any(excluded);
    (i.cis() && i.minor() >= 32 && !own).then(|| i.this.layout.policy().join("authentication.yaml"))
}
