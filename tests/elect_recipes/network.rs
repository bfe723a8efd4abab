//! A network namespace of the test's own, with devices to put addresses on. It ends with the process that holds it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

pub(crate) struct Network {
    holder: Child,
    enter: Vec<String>,
}

impl Network {
    /// With loopback and a device of each name, all up. As root, or where users may have namespaces.
    pub(crate) fn new(devices: &[&str]) -> Self {
        let root = rustix::process::geteuid().is_root();
        let mut script = "ip link set lo up".to_owned();
        for device in devices {
            script += &format!(" && ip link add {device} type bridge && ip link set {device} up");
        }
        let mut holder = Command::new("unshare")
            .args([if root { "-n" } else { "-rn" }, "sh", "-c", &format!("{script} && echo ready && exec cat")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "a network namespace needs root or user namespaces");
        let target = format!("--target={}", holder.id());
        let user = ["--user", "--preserve-credentials"].map(str::to_owned);
        let mut enter = vec![target, "--net".to_owned()];
        enter.extend(user.into_iter().filter(|_| !root));
        Self { holder, enter }
    }

    /// What makes a command line run in it.
    pub(crate) fn wrap(&self) -> impl Fn(&str) -> Command + 'static {
        let enter = self.enter.clone();
        move |program| {
            let mut command = Command::new("nsenter");
            command.args(&enter).arg(program);
            command
        }
    }

    /// What `ip addr show` says of a device.
    pub(crate) fn addresses(&self, device: &str) -> String {
        let output = self.wrap()("ip").args(["-o", "addr", "show", "dev", device]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
