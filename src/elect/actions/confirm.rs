//! Whether what ran of a manifest is dead, and how to make it so.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cri::{Doubt, Runtime};
use super::ladder::Rung;
use super::source::PodName;
use super::{Setting, descendants};
use crate::elect::config::{Confirm, FileKind, FilePayload};
use crate::elect::instant::Instant;
use crate::host::clock::boottime;
use crate::host::command;

/// For a question that is asked again.
const ASK: Duration = Duration::from_secs(1);
/// Where runtimes have their sockets.
const SOCKETS: [&str; 4] =
    ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock", "/run/dockershim.sock"];
/// A manifest that was there for less than this: the kubelet may only now be making containers of it, which the
/// runtime cannot know of yet. It must know of none for `SETTLE` after the manifest went.
const YOUNG: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(1);
/// The kubelet is told to stop at most this often.
const KUBELET_AGAIN: Duration = Duration::from_secs(10);

/// Asks the one that knows.
pub(super) struct Checker {
    how: How,
    /// K.
    stop: Duration,
    systemctl: PathBuf,
    /// When the manifest was last put there by us.
    appeared: Option<Instant>,
    /// Since when the manifest is gone.
    gone: Option<Instant>,
    /// The kubelet was stopped by us, and when.
    kubelet_stopped: Option<Instant>,
}

enum How {
    Cri {
        /// Where the file says it is.
        socket: Option<PathBuf>,
        runtime: Option<Runtime>,
        /// Otherwise K is waited for where there is none.
        required: bool,
    },
    Port(SocketAddr),
    Exec(Vec<String>),
    None,
}

impl Checker {
    pub(super) fn new(file: &FilePayload, stop: Duration, setting: &Setting) -> Self {
        let how = match &file.confirm {
            Confirm::Auto if file.kind == FileKind::File => How::None,
            Confirm::Auto | Confirm::Cri => {
                let socket = file.cri_socket.clone();
                // Looked for anew each time: at boot the runtime may come after us.
                How::Cri { socket, runtime: None, required: file.confirm == Confirm::Cri }
            }
            Confirm::Port(address) => How::Port(*address),
            Confirm::Exec(argv) => How::Exec(argv.clone()),
            Confirm::None => How::None,
        };
        Self { how, stop, systemctl: setting.systemctl.clone(), appeared: None, gone: None, kubelet_stopped: None }
    }

    /// The manifest is about to appear.
    pub(super) fn appears(&mut self) {
        self.gone = None;
        self.appeared = Some(boottime());
    }

    /// The manifest is there as it should be, and was not put there by this process.
    pub(super) fn found(&mut self) {
        self.appeared.get_or_insert_with(boottime);
    }

    /// The manifest was there, and went only now; if this process did not put it there, nobody knows how old it was.
    pub(super) fn went(&mut self) {
        let now = boottime();
        self.gone = Some(now);
        self.appeared.get_or_insert(now);
    }

    /// Notes what runs, for a runtime that does not answer when it has to be killed.
    pub(super) fn look(&mut self, pods: &BTreeSet<PodName>) {
        if let How::Cri { socket, runtime, .. } = &mut self.how
            && let Some(runtime) = find(socket.as_deref(), runtime)
        {
            let _ = runtime.dead(pods, false);
        }
    }

    /// `Ok` when none of `pods` runs any more; the manifest is gone. From [`Rung::Kill`] on it also kills.
    pub(super) fn dead(&mut self, pods: &BTreeSet<PodName>, rung: Rung) -> Result<(), String> {
        let gone = *self.gone.get_or_insert_with(boottime);
        let waited = boottime().since(gone) >= self.stop;
        let young = self.appeared.is_some_and(|at| gone.since(at) < YOUNG);
        let result = match &mut self.how {
            How::Cri { socket, runtime, required } => {
                let asked = match find(socket.as_deref(), runtime) {
                    Some(runtime) => runtime.dead(pods, rung > Rung::Ask),
                    None if !*required && waited => Ok(()),
                    None => Err(Doubt::Unknown("there is no container runtime's socket".to_owned())),
                };
                match asked {
                    Ok(()) if young && boottime().since(gone) < SETTLE => Err("the kubelet may be at it".to_owned()),
                    Ok(()) => Ok(()),
                    // Before the runtime is up nothing it could know of is: at boot nobody waits for it.
                    Err(Doubt::Unknown(_)) if !descendants::any_container() => Ok(()),
                    Err(Doubt::Unknown(why) | Doubt::Alive(why)) => Err(why),
                }
            }
            // Before it has begun it does not listen either, nor does anybody find it.
            How::Port(_) | How::Exec(_) if young && !waited => Err("it may not have begun yet".to_owned()),
            How::Port(address) => match TcpStream::connect_timeout(address, ASK) {
                Ok(_) => Err(format!("{address} still accepts connections")),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                Err(e) => Err(format!("{address}: {e}")),
            },
            How::Exec(argv) => succeeds(argv),
            How::None if waited => Ok(()),
            How::None => Err("nobody can tell whether the payload is dead: waiting for stopTimeout".to_owned()),
        };
        if result.is_ok() && self.kubelet_stopped.take().is_some() {
            let _ = command::run(&self.systemctl.to_string_lossy(), &["start", "--no-block", "kubelet.service"], ASK);
        }
        result
    }

    /// The manifest cannot be removed: stops the kubelet, or it would start the pod again, and kills.
    pub(super) fn kill_without_kubelet(&mut self, pods: &BTreeSet<PodName>) {
        let now = boottime();
        if self.kubelet_stopped.is_none_or(|at| now.since(at) >= KUBELET_AGAIN) {
            self.kubelet_stopped = Some(now);
            let _ = command::run(&self.systemctl.to_string_lossy(), &["stop", "--no-block", "kubelet.service"], ASK);
        }
        if let How::Cri { socket, runtime, .. } = &mut self.how
            && let Some(runtime) = find(socket.as_deref(), runtime)
        {
            let _ = runtime.dead(pods, true);
        }
    }
}

fn find<'a>(socket: Option<&Path>, runtime: &'a mut Option<Runtime>) -> Option<&'a mut Runtime> {
    if runtime.is_none() {
        let usual = SOCKETS.map(Path::new);
        let mut candidates = socket.map_or(usual.to_vec(), |socket| vec![socket]).into_iter();
        *runtime = candidates.find(|path| path.exists()).map(Runtime::new);
    }
    runtime.as_mut()
}

fn succeeds(argv: &[String]) -> Result<(), String> {
    let [program, arguments @ ..] = argv else { return Err("an empty command".to_owned()) };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match command::run(program, &arguments, ASK) {
        Ok(out) if out.success() => Ok(()),
        Ok(out) => Err(format!("`{}` says it is not dead: {}", argv.join(" "), out.stderr.trim())),
        Err(e) => Err(e.to_string()),
    }
}
