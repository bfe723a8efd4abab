//! A container runtime on a unix socket: gRPC by hand, with the messages of k8s.io/cri-api.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sandbox {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int32, tag = "3")]
    pub(crate) state: i32,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Container {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) sandbox: String,
    #[prost(int32, tag = "6")]
    pub(crate) state: i32,
    #[prost(map = "string, string", tag = "8")]
    pub(crate) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Stop {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

/// What it knows and how it behaves.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
    /// `StopContainer x 0`, in order.
    pub(crate) calls: Vec<String>,
    /// How often it was asked for containers.
    pub(crate) lists: usize,
    /// Knows only `v1alpha2`.
    pub(crate) old: bool,
    /// Takes calls and never answers.
    pub(crate) hung: bool,
}

impl State {
    /// A pod of one running container.
    pub(crate) fn add(&mut self, namespace: &str, name: &str) {
        let label = |k: &str, v: &str| (format!("io.kubernetes.pod.{k}"), v.to_owned());
        let labels = HashMap::from([label("namespace", namespace), label("name", name)]);
        self.sandboxes.push(Sandbox { id: format!("s-{name}"), state: 0, labels: labels.clone() });
        let sandbox = format!("s-{name}");
        self.containers.push(Container { id: format!("c-{name}"), sandbox, state: 1, labels });
    }

    /// What the kubelet does to a pod whose manifest went.
    pub(crate) fn end(&mut self, name: &str) {
        self.containers.iter_mut().filter(|c| c.id == format!("c-{name}")).for_each(|c| c.state = 2);
        self.sandboxes.iter_mut().filter(|s| s.id == format!("s-{name}")).for_each(|s| s.state = 1);
    }

    fn answer(&mut self, method: &str, request: &[u8]) -> Vec<u8> {
        match method {
            "ListPodSandbox" => Sandboxes { items: self.sandboxes.clone() }.encode_to_vec(),
            "ListContainers" => {
                self.lists += 1;
                Containers { containers: self.containers.clone() }.encode_to_vec()
            }
            "StopContainer" | "StopPodSandbox" => {
                let Stop { id, timeout } = Stop::decode(request).unwrap();
                self.calls.push(format!("{method} {id} {timeout}"));
                let hit = |one: &str, of: &str| method == "StopContainer" && one == id || of == id;
                self.containers.iter_mut().filter(|c| hit(&c.id, &c.sandbox)).for_each(|c| c.state = 2);
                self.sandboxes.iter_mut().filter(|s| s.id == id).for_each(|s| s.state = 1);
                vec![]
            }
            other => panic!("{other}"),
        }
    }
}

pub(crate) type Shared = Arc<Mutex<State>>;

/// Serves `state` at `socket` for as long as the test runs.
pub(crate) fn serve(socket: &Path, state: &Shared) {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                tokio::task::spawn_local(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::task::spawn_local(reply(request, respond, Arc::clone(&state)));
                    }
                });
            }
        });
    });
}

async fn reply(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>, state: Shared) {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let mut bytes = vec![];
    while let Some(Ok(chunk)) = body.data().await {
        bytes.extend(chunk);
    }
    if state.lock().unwrap().hung {
        return std::future::pending().await;
    }
    let known =
        if state.lock().unwrap().old { "/runtime.v1alpha2.RuntimeService/" } else { "/runtime.v1.RuntimeService/" };
    let response = http::Response::builder().header("content-type", "application/grpc");
    let Some(method) = path.strip_prefix(known) else {
        let unimplemented = response.header("grpc-status", "12").body(()).unwrap();
        respond.send_response(unimplemented, true).unwrap();
        return;
    };
    let answer = state.lock().unwrap().answer(method, &bytes[5..]);
    let mut framed = vec![0];
    framed.extend(u32::try_from(answer.len()).unwrap().to_be_bytes());
    framed.extend(answer);
    let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
    stream.send_data(framed.into(), false).unwrap();
    stream.send_trailers(http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())])).unwrap();
}
