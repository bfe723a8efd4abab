//! Somebody who writes to etcd all the time: what it was told is written must be there in the end.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hamaster::etcd::client::Client;
use hamaster::host::http::{self, Identity};
use hamaster::state::Secret;

/// A client of the member at `ip`, with the certificates of the master whose files are below `prefix`.
pub fn client(prefix: &Path, ip: IpAddr) -> Client {
    let read = |name: &str| std::fs::read(prefix.join("etc/etcd/pki").join(name)).unwrap();
    let identity = Identity { cert_pem: read("hamaster.crt"), key_pem: Secret::new(read("hamaster.key")) };
    let tls = http::tls(&read("ca.crt"), Some(&identity)).unwrap();
    Client::new(SocketAddr::new(ip, 2379), tls).unwrap()
}

pub struct Writer {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<String>, Duration)>,
    prefix: std::path::PathBuf,
    ip: IpAddr,
}

impl Writer {
    /// Writes to the member at `ip` until [`Writer::end`].
    pub fn start(prefix: &Path, ip: IpAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (told, own) = (ends.clone(), client(prefix, ip));
        let thread = std::thread::spawn(move || {
            let (mut written, mut longest, mut last) = (vec![], Duration::ZERO, Instant::now());
            for n in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("/writer/{n}");
                // A write that was not answered may have happened: it is not counted on.
                if own.put_if_absent(&key, b"x").is_ok() {
                    written.push(key);
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            (written, longest.max(last.elapsed()))
        });
        Self { ends, thread, prefix: prefix.to_owned(), ip }
    }

    /// Ends it. How many writes were acknowledged, how many of them are lost, and the longest time without one.
    pub fn end(self) -> (usize, usize, Duration) {
        self.ends.store(true, Ordering::Relaxed);
        let (written, longest) = self.thread.join().unwrap();
        let there: Vec<String> =
            client(&self.prefix, self.ip).records("/writer/").unwrap().into_iter().map(|r| r.key).collect();
        let there: std::collections::HashSet<&str> = there.iter().map(String::as_str).collect();
        let lost = written.iter().filter(|key| !there.contains(key.as_str())).count();
        (written.len(), lost, longest)
    }
}

impl Writer {
    /// Ends it and says what it saw while `what` happened: nothing may be lost.
    pub fn ends(self, what: &str) {
        let (written, lost, longest) = self.end();
        println!("{what}: {written} writes, {lost} lost, longest gap {:.2} s", longest.as_secs_f64());
        assert!(written > 0);
        assert_eq!(lost, 0, "{what}");
    }
}
