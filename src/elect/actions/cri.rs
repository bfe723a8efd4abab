//! The container runtime, asked and told through CRI. It answers when the kubelet is down, and it is the one that
//! knows.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use rustix::process::{Signal, kill_process};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::descendants;
use super::source::PodName;

/// Bound on one call, connecting included.
const CALL: Duration = Duration::from_secs(1);
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// A runtime behind its socket.
pub(super) struct Runtime {
    socket: PathBuf,
    /// Of the API, `v1` until it says that it does not know it: containerd before 1.6, Kubernetes before 1.20.
    version: &'static str,
    executor: Option<tokio::runtime::Runtime>,
    /// At the last answer.
    seen: Running,
    /// What the kubelet last said its node is called: it may be down when it matters.
    node: Option<String>,
}

/// Why a pod is not known to be dead.
pub(super) enum Doubt {
    Alive(String),
    /// The runtime does not say.
    Unknown(String),
}

/// What runs of the pods.
#[derive(Debug, Clone, Default)]
struct Running {
    containers: Vec<String>,
    sandboxes: Vec<String>,
}

impl Runtime {
    pub(super) fn new(socket: &Path) -> Self {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
        Self { socket: socket.to_owned(), version: "v1", executor, seen: Running::default(), node: None }
    }

    /// `Ok` when nothing of `pods` runs. What does is killed, if `kill`; that counts at the next question.
    pub(super) fn dead(&mut self, pods: &BTreeSet<PodName>, kill: bool) -> Result<(), Doubt> {
        match self.running(pods) {
            Ok(running) => self.seen = running,
            Err(why) => {
                if kill {
                    self.seen.containers.iter().for_each(|id| kill_cgroup(id));
                }
                return Err(Doubt::Unknown(why));
            }
        }
        let why = match (self.seen.containers.len(), self.seen.sandboxes.len()) {
            (0, 0) => return Ok(()),
            // A sandbox without containers: the kubelet may be about to start one in it.
            (0, _) => "the pod's sandbox is still up".to_owned(),
            (n, _) => format!("{n} of the pod's containers still run"),
        };
        if kill {
            self.kill();
        }
        Err(Doubt::Alive(why))
    }

    /// Stops what was seen without grace; what the runtime does not stop gets SIGKILL.
    fn kill(&mut self) {
        let Running { containers, sandboxes } = self.seen.clone();
        for id in containers {
            let request = StopContainer { container_id: id.clone(), timeout: 0 };
            if self.call::<_, Empty>("StopContainer", request).is_err() {
                kill_cgroup(&id);
            }
        }
        for id in sandboxes {
            if self.call::<_, Empty>("StopPodSandbox", StopPodSandbox { pod_sandbox_id: id.clone() }).is_err() {
                kill_cgroup(&id);
            }
        }
    }

    fn running(&mut self, pods: &BTreeSet<PodName>) -> Result<Running, String> {
        let mut running = Running::default();
        self.node = descendants::arguments_of("kubelet").find_map(|a| hostname_override(&a)).or(self.node.take());
        let namespaces: BTreeSet<&str> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
        for namespace in namespaces {
            let label_selector = HashMap::from([(POD_NAMESPACE.to_owned(), namespace.to_owned())]);
            let filter = Some(SandboxFilter { label_selector: label_selector.clone() });
            let sandboxes: SandboxList = self.call("ListPodSandbox", ListSandboxes { filter })?;
            let filter = Some(ContainerFilter { label_selector });
            let containers: ContainerList = self.call("ListContainers", ListContainers { filter })?;
            let node = node_name(self.node.as_deref(), &sandboxes.items);
            let ours = |labels: &HashMap<String, String>| {
                let label = |name| labels.get(name).map_or("", String::as_str);
                let is = |pod: &PodName| {
                    label(POD_NAMESPACE) == pod.namespace && is_static(label(POD_NAME), &pod.name, node.as_deref())
                };
                pods.iter().any(is)
            };
            let up = sandboxes.items.into_iter().filter(|s| s.state == SANDBOX_READY && ours(&s.labels));
            running.sandboxes.extend(up.map(|s| s.id));
            let up = containers.containers.into_iter().filter(|c| c.state != CONTAINER_EXITED && ours(&c.labels));
            running.containers.extend(up.map(|c| c.id));
        }
        Ok(running)
    }

    fn call<Q, A>(&mut self, method: &str, request: Q) -> Result<A, String>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        loop {
            match self.call_version(self.version, method, request.clone()) {
                Err(status) if status.code() == Code::Unimplemented && self.version == "v1" => {
                    self.version = "v1alpha2";
                }
                Err(status) => {
                    // Perhaps it was upgraded while it was away.
                    self.version = "v1";
                    return Err(format!("{}: {method}: {}", self.socket.display(), status.message()));
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    fn call_version<Q, A>(&self, version: &str, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let executor = self.executor.as_ref().ok_or_else(|| Status::internal("no async runtime"))?;
        let path = PathAndQuery::try_from(format!("/runtime.{version}.RuntimeService/{method}"));
        let path = path.map_err(|e| Status::internal(e.to_string()))?;
        let call = async {
            let channel = connect(&self.socket).await?;
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let codec = tonic_prost::ProstCodec::default();
            grpc.unary(Request::new(request), path, codec).await.map(tonic::Response::into_inner)
        };
        let late = |_| Status::deadline_exceeded(format!("no answer within {} s", CALL.as_secs()));
        executor.block_on(async { tokio::time::timeout(CALL, call).await }).map_err(late)?
    }
}

async fn connect(socket: &Path) -> Result<Channel, Status> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    // The address is for the headers only.
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.map_err(|e| {
        let cause = std::error::Error::source(&e).map(ToString::to_string);
        Status::unavailable(cause.unwrap_or_else(|| e.to_string()))
    })
}

/// A static pod's name is the manifest's and the node's. The node's is what the kubelet was told, or the host name,
/// unless no static pod bears it: then a kubelet that is gone was given another one.
fn node_name(told: Option<&str>, sandboxes: &[Sandbox]) -> Option<String> {
    let node = told.map_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned(), str::to_owned);
    let node = node.trim().to_lowercase();
    let suffix = format!("-{node}");
    let bears = |s: &&Sandbox| s.labels.get(POD_NAME).is_some_and(|name| name.ends_with(&suffix));
    sandboxes.iter().find(bears).map(|_| node)
}

fn hostname_override(arguments: &[String]) -> Option<String> {
    let (at, name) = arguments.iter().enumerate().find_map(|(at, argument)| {
        let rest = argument.trim_start_matches('-').strip_prefix("hostname-override")?;
        Some((at, rest.strip_prefix('=').map(str::to_owned)))
    })?;
    name.or_else(|| arguments.get(at + 1).cloned())
}

fn is_static(label: &str, pod: &str, node: Option<&str>) -> bool {
    match label.strip_prefix(pod) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(|rest| node.is_none_or(|node| rest == node)),
        None => false,
    }
}

/// The runtime does not do it: its processes have its id in the path of their cgroup, whatever the cgroup driver.
fn kill_cgroup(id: &str) {
    // A short id would be a substring of others.
    if id.len() < 32 {
        return;
    }
    for pid in descendants::in_cgroup(|path| path.contains(id)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// `SANDBOX_READY` and `CONTAINER_EXITED` of `api.proto`.
const SANDBOX_READY: i32 = 0;
const CONTAINER_EXITED: i32 = 2;

// The fields that are used here, numbered as in k8s.io/cri-api `api.proto`; v1 and v1alpha2 agree on them.

#[derive(Clone, PartialEq, Message)]
struct ListSandboxes {
    #[prost(message, optional, tag = "1")]
    filter: Option<SandboxFilter>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxFilter {
    #[prost(map = "string, string", tag = "3")]
    label_selector: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxList {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(map = "string, string", tag = "5")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct ListContainers {
    #[prost(message, optional, tag = "1")]
    filter: Option<ContainerFilter>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerFilter {
    #[prost(map = "string, string", tag = "4")]
    label_selector: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerList {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int32, tag = "6")]
    state: i32,
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct StopContainer {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StopPodSandbox {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[cfg(test)]
mod tests {
    use super::{hostname_override, is_static};

    #[test]
    fn the_kubelet_says_what_its_node_is_called() {
        let told = |line: &str| hostname_override(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(told("/usr/bin/kubelet --v=2 --hostname-override=dc1-m1").as_deref(), Some("dc1-m1"));
        assert_eq!(told("kubelet -hostname-override m1 --v=2").as_deref(), Some("m1"));
        assert_eq!(told("kubelet --hostname-override-not=m1"), None);
        assert_eq!(told("kubelet --hostname-override"), None);
    }

    #[test]
    fn a_node_called_like_the_host_with_a_prefix_is_told_from_another_pod() {
        assert!(is_static("kcm-dc1-m1", "kcm", Some("dc1-m1")));
        assert!(!is_static("kcm-dc1-m1", "kcm", Some("m1")));
        assert!(is_static("kcm-dc1-m1", "kcm", None));
        assert!(!is_static("kcmx-m1", "kcm", None));
    }
}
