//! etcd of a host as its operator sees it, and somebody who writes to it all the time.

use std::collections::BTreeSet;
use std::process::Child;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lab::within;
use crate::machine::Machine;

const ENDS: &str = "/srv/writer.ends";
const WRITTEN: &str = "/srv/writer.log";

fn script(words: &str) -> String {
    format!(
        "export ETCDCTL_API=3; timeout 3 etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt \
         --cert /etc/etcd/pki/hamaster.crt --key /etc/etcd/pki/hamaster.key {words}"
    )
}

/// With etcd's own client, as root of `on` may.
pub fn etcdctl(on: &Machine, words: &str) -> String {
    on.ok(&["sh", "-c", &script(words)])
}

/// Writes through the member of one host: what it was told is written must be there in the end.
pub struct Writer<'m> {
    on: &'m Machine<'m>,
    runs: Child,
}

impl<'m> Writer<'m> {
    /// Starts it; it has written by now.
    pub fn start(on: &'m Machine<'m>) -> Self {
        let _ = std::fs::remove_file(on.path(ENDS));
        // A write that was not answered may have happened: it is not counted on.
        let put = script("put /writer/$n x >/dev/null 2>&1");
        let each = format!("({put}) && echo $n $(date +%s%N) >>{WRITTEN}; n=$((n+1))");
        let loop_ = format!("n=$(date +%s)000000; : >{WRITTEN}; while [ ! -e {ENDS} ]; do {each}; done");
        let writer = Self { on, runs: on.spawn(&["sh", "-c", &loop_]) };
        within(Duration::from_secs(60), "a write", || !writer.written().is_empty());
        writer
    }

    /// Each write, and when it was answered, in nanoseconds.
    fn written(&self) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(self.on.path(WRITTEN)).unwrap_or_default();
        let line = |line: &str| {
            let (n, at) = line.split_once(' ')?;
            Some((format!("/writer/{n}"), at.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// Ends it and says what it saw while `what` happened: nothing may be lost.
    pub fn ends(mut self, what: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        std::fs::write(self.on.path(ENDS), "").unwrap();
        self.runs.wait().unwrap();
        let written = self.written();
        let keys = etcdctl(self.on, "get --prefix --keys-only /writer/");
        let there: BTreeSet<&str> = keys.lines().collect();
        let lost = written.iter().filter(|(key, _)| !there.contains(key.as_str())).count();
        // The last one, too: to where it was told to end.
        let ended = u64::try_from(now.as_nanos()).unwrap();
        let times: Vec<u64> = written.iter().map(|(_, at)| *at).chain([ended]).collect();
        let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let longest = Duration::from_nanos(gaps.max().unwrap_or_default());
        eprintln!("{what}: {} writes, {lost} lost, longest gap {:.2} s", written.len(), longest.as_secs_f64());
        assert_eq!(lost, 0, "{what}");
    }
}
