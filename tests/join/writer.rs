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

/// At once: a request that etcd drops while its lead changes hands is answered after five seconds, and hides nothing that
/// way.
const HANDS: usize = 4;
/// Between two writes of a hand: whoever joins needs a processor, too.
const PACE: Duration = Duration::from_millis(2);

pub struct Writer {
    ends: Arc<AtomicBool>,
    hands: Vec<JoinHandle<Vec<(String, Instant)>>>,
    prefix: std::path::PathBuf,
    ip: IpAddr,
}

impl Writer {
    /// Writes to the member at `ip` until [`Writer::end`].
    pub fn start(prefix: &Path, ip: IpAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let hand = |hand: usize| {
            let (told, own) = (ends.clone(), client(prefix, ip));
            std::thread::spawn(move || {
                let mut written = vec![];
                for n in 0.. {
                    if told.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("/writer/{hand}/{n}");
                    // A write that was not answered may have happened: it is not counted on.
                    if own.put_if_absent(&key, b"x").is_ok() {
                        written.push((key, Instant::now()));
                    }
                    std::thread::sleep(PACE);
                }
                written
            })
        };
        let hands = (0..HANDS).map(hand).collect();
        Self { ends, hands, prefix: prefix.to_owned(), ip }
    }

    /// Ends it. How many writes were acknowledged, how many of them are lost, and the longest time without one.
    pub fn end(self) -> (usize, usize, Duration) {
        let ended = Instant::now();
        self.ends.store(true, Ordering::Relaxed);
        let written: Vec<(String, Instant)> = self.hands.into_iter().flat_map(|h| h.join().unwrap()).collect();
        let mut times: Vec<Instant> = written.iter().map(|(_, at)| *at).chain([ended]).collect();
        times.sort_unstable();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let there: Vec<String> =
            client(&self.prefix, self.ip).records("/writer/").unwrap().into_iter().map(|r| r.key).collect();
        let there: std::collections::HashSet<&str> = there.iter().map(String::as_str).collect();
        let lost = written.iter().filter(|(key, _)| !there.contains(key.as_str())).count();
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
