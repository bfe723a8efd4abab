//! A TCP proxy that can swallow what the server says, or hold back what the client says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hamaster::elect::config::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// In front of one member. Runs on a `LocalSet`.
pub(crate) struct Proxy {
    pub(crate) endpoint: Endpoint,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    swallow: Cell<bool>,
    accepted: Cell<u32>,
    /// Once the server said this, the client is held back.
    cue: RefCell<Option<Vec<u8>>>,
    held: Cell<bool>,
    change: Notify,
}

impl Proxy {
    pub(crate) async fn before(member: Endpoint) -> Self {
        let listener = TcpListener::bind((member.host.as_str(), 0)).await.unwrap();
        let endpoint = Endpoint { port: listener.local_addr().unwrap().port(), ..member.clone() };
        let state = Rc::<State>::default();
        let shared = state.clone();
        tokio::task::spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.accepted.set(shared.accepted.get() + 1);
                let server = TcpStream::connect((member.host.as_str(), member.port)).await.unwrap();
                tokio::task::spawn_local(relay(client, server, shared.clone()));
            }
        });
        Self { endpoint, state }
    }

    /// From now on nothing the server says arrives.
    pub(crate) fn swallow(&self, on: bool) {
        self.state.swallow.set(on);
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> u32 {
        self.state.accepted.get()
    }

    /// Once the server says `cue`, what the client says is held back until [`Self::release`].
    pub(crate) fn hold_after(&self, cue: &str) {
        *self.state.cue.borrow_mut() = Some(cue.as_bytes().to_vec());
    }

    pub(crate) async fn holding(&self) {
        while !self.state.held.get() {
            self.state.change.notified().await;
        }
    }

    pub(crate) fn release(&self) {
        self.state.held.set(false);
        self.state.change.notify_waiters();
    }
}

async fn relay(client: TcpStream, server: TcpStream, state: Rc<State>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            while state.held.get() {
                state.change.notified().await;
            }
            if to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            let said = |cue: &Vec<u8>| buffer[..n].windows(cue.len()).any(|w| w == cue.as_slice());
            let cued = state.cue.borrow().as_ref().is_some_and(said);
            if cued {
                *state.cue.borrow_mut() = None;
                state.held.set(true);
                state.change.notify_waiters();
                state.change.notify_one();
            }
            if !state.swallow.get() && to_client.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = up => (), () = down => () }
}
