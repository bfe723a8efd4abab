//! A host that follows a recipe: the recipe's files below a directory of its own, and the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use hamaster::elect::config::{Config, load};

use crate::awaited;
use crate::etcd::Etcd;

pub(crate) const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");
/// Where a recipe's paths begin. On a host of ours they are below its directory.
const TOPS: [&str; 4] = ["/etc/", "/run/", "/usr/local/", "/var/lib/"];

pub(crate) struct Host {
    pub(crate) root: PathBuf,
    arguments: Vec<String>,
    wrap: Box<dyn Fn(&str) -> Command>,
    daemon: Option<Child>,
}

/// A file of `examples/elect`.
pub(crate) fn example(path: &str) -> String {
    fs::read_to_string(Path::new("examples/elect").join(path)).unwrap()
}

impl Host {
    /// A host below `root` that starts the daemon with `arguments`; each command line goes through `wrap`.
    pub(crate) fn new(root: &Path, arguments: Vec<String>, wrap: impl Fn(&str) -> Command + 'static) -> Self {
        fs::create_dir_all(root).unwrap();
        Self { root: root.to_owned(), arguments, wrap: Box::new(wrap), daemon: None }
    }

    /// A host that follows `<recipe>/elect.yaml`, with the etcd that is here and a short lease.
    pub(crate) fn of_recipe(recipe: &str, root: &Path, etcd: &Etcd, wrap: impl Fn(&str) -> Command + 'static) -> Self {
        let path = format!("{recipe}/elect.yaml");
        let text = example(&path);
        load(&path, &text).unwrap_or_else(|e| panic!("as it stands: {e:?}"));
        let host = Self::new(root, vec!["-c".into(), root.join("elect.yaml").display().to_string()], wrap);
        let name = root.file_name().unwrap().to_str().unwrap();
        let mut text = below(&text, root);
        let hosts = "[https://10.0.0.11:2379, https://10.0.0.12:2379, https://10.0.0.13:2379]";
        assert!(text.contains(hosts), "endpoints as everywhere");
        text = text.replace(hosts, &format!("[{}]", etcd.url)).replace("leaseDuration: 10s", "leaseDuration: 5s");
        text += &format!("id: {name}\nruntimeDir: {}\n", root.join("run/hamaster/elect").display());
        let config = host.config(&text);
        let tls = config.tls.as_ref().expect("recipes use TLS");
        etcd.give(&tls.ca, &tls.cert, &tls.key);
        fs::write(root.join("elect.yaml"), text).unwrap();
        host
    }

    fn config(&self, text: &str) -> Config {
        load("elect.yaml", text).unwrap_or_else(|e| panic!("as the test has it: {e:?}\n{text}"))
    }

    /// Writes a file to where a recipe has it.
    pub(crate) fn install(&self, path: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, below(content, &self.root)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Where a path of a recipe is here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::options().append(true).create(true).open(self.root.join("log")).unwrap();
        let mut command = (self.wrap)(HAMASTER);
        command.arg("elect").args(&self.arguments).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Sends the daemon `signal` and waits for its end.
    pub(crate) fn end(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(pid, signal).unwrap();
        awaited("the daemon's end", || daemon.try_wait().unwrap())
    }

    /// What `ExecStopPost=` of hamaster-elect.service runs after the daemon's end, whatever it was.
    pub(crate) fn fence(&self) {
        let output = (self.wrap)(HAMASTER).args(["elect", "fence"]).args(&self.arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// The state in the status file of `group`.
    pub(crate) fn state(&self, group: &str) -> Option<String> {
        let usual = self.path("/run/hamaster/elect");
        // In place of podmaster each process has a directory of its own.
        let directory = if usual.join(group).is_dir() { usual.join(group) } else { usual };
        let file = directory.join(format!("{group}.json"));
        let status: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        Some(status["state"].as_str()?.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Gently: its payload must not outlive the test.
            let _ =
                rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM);
            let ended = (0..500).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                !matches!(daemon.try_wait(), Ok(None))
            });
            if !ended {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.root.display(), self.log());
        }
    }
}

/// The text with every path of a recipe below `root`.
pub(crate) fn below(text: &str, root: &Path) -> String {
    let mut text = text.to_owned();
    for top in TOPS {
        for before in [" ", "[", "=", "\""] {
            text = text.replace(&format!("{before}{top}"), &format!("{before}{}{top}", root.display()));
        }
    }
    text
}
