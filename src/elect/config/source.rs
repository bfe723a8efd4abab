//! What a source says of itself: only what is asked of it is read, and nothing is ever written back.

use std::time::Duration;

use serde::Deserialize;

use super::{FileKind, Group, Payload};
use crate::spec::address;
use crate::spec::mistake::Mistake;
use crate::spec::units::show_duration;

/// Kubernetes' default of `terminationGracePeriodSeconds`.
const GRACE: u64 = 30;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<Metadata>,
    spec: Option<PodSpec>,
}

#[derive(Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    termination_grace_period_seconds: Option<u64>,
    #[serde(default)]
    containers: Vec<serde::de::IgnoredAny>,
}

/// Namespace and name of the pod a source describes.
///
/// # Errors
/// It is not YAML, not one document, or not a Pod of `v1` with a name and a container.
pub fn pod_name(source: &[u8]) -> Result<(String, String), Mistake> {
    let pod = read(source)?;
    let not = |what: &str, found: Option<&str>| match found {
        Some(found) => Mistake::new(format!("{what} is `{}`", found.escape_debug())),
        None => Mistake::new(format!("{what} is missing")),
    };
    if pod.kind.as_deref() != Some("Pod") {
        return Err(not("kind", pod.kind.as_deref())
            .hint("the kubelet runs `kind: Pod`; for any other file write `kind: file` in the group"));
    }
    if pod.api_version.as_deref() != Some("v1") {
        return Err(not("apiVersion", pod.api_version.as_deref()).hint("write `apiVersion: v1`"));
    }
    let Metadata { name, namespace } = pod.metadata.unwrap_or(Metadata { name: None, namespace: None });
    let name = name.ok_or_else(|| not("metadata.name", None).hint("write e.g. `name: kube-scheduler`"))?;
    let name = address::node_name(&name).map_err(|_| not("metadata.name", Some(&name)).hint("write a DNS name"))?;
    if pod.spec.is_none_or(|s| s.containers.is_empty()) {
        return Err(Mistake::new("the pod has no containers").hint("write `spec.containers`"));
    }
    Ok((namespace.unwrap_or_else(|| "default".to_owned()), name))
}

/// What the operator should know of a group's source: a pod that may take longer to stop than the group allows.
pub fn source_note(group: &Group, source: &[u8]) -> Option<String> {
    let Payload::File(file) = &group.payload else { return None };
    let pod = (file.kind == FileKind::Pod).then(|| read(source).ok()).flatten()?;
    let given = pod.spec.and_then(|s| s.termination_grace_period_seconds);
    let grace = Duration::from_secs(given.unwrap_or(GRACE));
    let stop = group.timing.stop();
    (grace > stop).then(|| {
        let said = if given.is_some() { "" } else { ", the default," };
        format!(
            "{}: terminationGracePeriodSeconds {}{said} is more than the stop bound of {}: a pod that uses it is \
             killed at half the bound; write a shorter one, or `stopTimeout: {}`",
            file.source.display(),
            grace.as_secs(),
            show_duration(stop),
            show_duration(grace + Duration::from_secs(2)),
        )
    })
}

fn read(source: &[u8]) -> Result<Pod, Mistake> {
    let other = "write a Pod into it; for any other file write `kind: file` in the group";
    let text = std::str::from_utf8(source).map_err(|_| Mistake::new("it is not UTF-8").hint(other))?;
    let mut pods: Vec<Pod> = serde_yaml::from_multiple(text).map_err(|e| {
        // The reader's own message quotes the lines around, which may hold a secret.
        let mistake = match e.location() {
            Some(at) => Mistake::new(format!("line {}, column {}: not the YAML of a pod", at.line(), at.column())),
            None => Mistake::new("not the YAML of a pod"),
        };
        mistake.hint(other)
    })?;
    match (pods.pop(), pods.len()) {
        (Some(pod), 0) => Ok(pod),
        (None, _) => Err(Mistake::new("it is empty").hint("write a Pod into it")),
        (_, more) => {
            Err(Mistake::new(format!("it has {} documents", more + 1)).hint("the kubelet reads one: keep one"))
        }
    }
}
