//! The command as its user meets it: flags, words, exit codes; against a real etcd where it needs one.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Generous: whatever is awaited comes within seconds, or never.
const PATIENCE: Duration = Duration::from_secs(60);

fn hamaster(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hamaster")).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn ends(args: &[&str], code: i32, words: &[&str]) {
    let output = hamaster(args);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{args:?}: no `{word}` in {said}"));
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An etcd of its own and the configuration of a candidate of it.
struct Stage {
    dir: tempfile::TempDir,
    endpoint: String,
    _etcd: Killed,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let [client, peer] = [port(), port()].map(|p| format!("http://127.0.0.1:{p}"));
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(dir.path().join("etcd"));
        for (flag, url) in [("client", &client), ("peer", &peer)] {
            etcd.arg(format!("--listen-{flag}-urls={url}"));
        }
        etcd.arg(format!("--advertise-client-urls={client}")).arg(format!("--initial-advertise-peer-urls={peer}"));
        etcd.arg(format!("--initial-cluster=default={peer}"));
        let etcd = Killed(etcd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcd is installed"));
        Self { dir, endpoint: client, _etcd: etcd }
    }

    fn config(&self, id: &str) -> String {
        let path = self.dir.path().join(format!("{id}.yaml"));
        let text = format!(
            "id: {id}\netcd: {{endpoints: ['{}']}}\nleaseDuration: 3s\nstopTimeout: 1s\nruntimeDir: {}\n\
             groups: [{{name: job, exec: [sleep, '1000']}}]\n",
            self.endpoint,
            self.dir.path().join(id).display(),
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn daemon(&self, id: &str) -> Killed {
        let log = std::fs::File::create(self.dir.path().join(format!("{id}.log"))).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_hamaster"));
        daemon.args(["elect", "-c", &self.config(id)]).stdout(Stdio::null()).stderr(log);
        Killed(daemon.spawn().unwrap())
    }

    fn log(&self, id: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{id}.log"))).unwrap_or_default()
    }
}

fn json(args: &[&str]) -> Value {
    let output = hamaster(&[args, &["-o", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said(&output)))
}

#[test]
fn an_operator_asks_and_is_obeyed() {
    let stage = Stage::new();
    let (m1, m2) = (stage.config("m1"), stage.config("m2"));
    ends(&["elect", "check", "job", "-c", &m1], 8, &["no daemon of this host takes part"]);
    let _first = stage.daemon("m1");
    let elect = |verb: &[&str], code, words: &[&str]| ends(&[&["elect", "-c", &m1], verb].concat(), code, words);
    let leads = |config: &str| hamaster(&["elect", "-q", "check", "job", "-c", config]).status.code() == Some(0);
    eventually("m1 to lead", || leads(&m1).then_some(()));
    let check = json(&["elect", "check", "job", "-c", &m1]);
    assert_eq!((&check["schema"], &check["isLeader"]), (&"hamaster/v1/elect-check".into(), &true.into()));

    elect(&["resign", "job"], 3, &["nobody else waits to lead job"]);
    elect(&["transfer", "job", "--to", "m2"], 3, &["nobody else waits"]);
    let _second = stage.daemon("m2");
    let status = || json(&["elect", "status", "-c", &m2])["groups"][0].clone();
    eventually("m2 to wait", || (status()["queue"] == serde_json::json!(["m2"])).then_some(()));
    assert_eq!(status()["leader"], "m1");
    ends(&["elect", "check", "job", "-c", &m2], 8, &["m1 leads"]);
    elect(&["status"], 0, &["GROUP", "job", "m1", "m2", "leading"]);

    elect(&["transfer", "job", "--to", "m3"], 3, &["m3 is no candidate of job", "candidates: m2"]);
    elect(&["transfer", "job", "--to", "m1"], 0, &["m1 leads job already"]);
    elect(&["pause", "job", "--for", "1h"], 0, &["paused for 1h"]);
    elect(&["transfer", "job", "--to", "m2"], 3, &["job is paused", "elect resume job"]);
    elect(&["status"], 0, &["paused by m1"]);
    elect(&["resume", "job"], 0, &["goes on"]);
    elect(&["resume", "job"], 0, &["was not paused"]);
    elect(&["transfer", "job", "--to", "m2"], 0, &["m2 leads job in place of m1, token "]);
    eventually("m2 to say that it leads", || leads(&m2).then_some(()));
    assert!(!leads(&m1), "{}{}", stage.log("m1"), stage.log("m2"));
    eventually("m1 to wait", || (status()["queue"] == serde_json::json!(["m1"])).then_some(()));
    let resigned = json(&["elect", "resign", "job", "-c", &m2]);
    assert_eq!((&resigned["from"], &resigned["to"]), (&"m2".into(), &"m1".into()));

    elect(&["break", "job", "--token", "1"], 3, &["with another token", "only if m1 is dead"]);
    let token = status()["token"].as_str().unwrap().to_owned();
    elect(&["break", "job", "--token", &token], 3, &["m1 is alive"]);
    elect(&["fence"], 7, &["job"]);
}

#[test]
fn a_dead_holder_is_broken_by_its_token() {
    let stage = Stage::new();
    let m1 = stage.config("m1");
    let mut first = stage.daemon("m1");
    let check = || hamaster(&["elect", "-q", "check", "job", "-c", &m1]).status.code();
    eventually("m1 to lead", || (check() == Some(0)).then_some(()));
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let token = json(&["elect", "status", "-c", &m1])["groups"][0]["token"].as_str().unwrap().to_owned();
    ends(&["elect", "break", "job", "--token", &token, "-c", &m1], 0, &["job is free: m1 does not hold it"]);
    eventually("its time to be over", || (check() == Some(8)).then_some(()));
    ends(&["elect", "fence", "--unless-adoptable", "-c", &m1], 0, &["job: fenced"]);
    ends(&["elect", "transfer", "job", "--to", "m1", "-c", &m1], 3, &["nobody leads job"]);
}

#[test]
fn each_failure_has_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let here = |path: &str| dir.path().join(path).display().to_string();
    let job = |run: &str| format!("runtimeDir: {}\ngroups: [{{name: job, exec: [sleep, '1']}}]", here(run));
    let nobody =
        write("a.yaml", &format!("etcd: {{endpoints: ['http://127.0.0.1:1']}}\nstoreTimeout: 1s\n{}", job("a")));
    ends(&["elect", "-c", &nobody], 4, &["127.0.0.1:1"]);
    ends(&["elect", "status", "-c", &nobody], 4, &["GROUP", "job", "hint:"]);
    ends(&["elect", "pause", "job", "-c", &nobody], 4, &["hint:"]);
    ends(&["elect", "pause", "job", "--for", "long", "-c", &nobody], 2, &["not a duration"]);
    ends(&["elect", "check", "jobb", "-c", &nobody], 2, &["there is no group `jobb`", "write `job`"]);
    ends(&["elect", "-c", &here("missing.yaml")], 2, &["cannot read"]);
    ends(&["elect", "--once", "--no-such-flag"], 2, &[]);
    let unsafe_file =
        write("b.yaml", &format!("etcd: {{endpoints: ['http://127.0.0.1:1']}}\nleaseDuration: 1s\n{}", job("b")));
    for verb in [&["elect"][..], &["elect", "status"], &["elect", "fence"], &["elect", "config"]] {
        ends(&[verb, &["-c", &unsafe_file]].concat(), 3, &["b.yaml:2:16", "cannot be safe", "hint:"]);
    }
    let error = json(&["elect", "config", "-c", &unsafe_file]);
    assert_eq!((&error["schema"], &error["exitCode"]), (&"hamaster/v1/error".into(), &3.into()));
    let no_ca =
        "etcd: {endpoints: ['https://127.0.0.1:1'], caFile: /nowhere/ca, certFile: /nowhere/c, keyFile: /nowhere/k}";
    let no_ca = write("c.yaml", &format!("{no_ca}\n{}", job("c")));
    ends(&["elect", "-c", &no_ca], 3, &["/nowhere/"]);
    assert!(!Path::new(&here("b")).exists() && !Path::new(&here("c/job.json")).exists(), "it began");
}

#[test]
fn podmasters_flags_are_taken_with_one_dash_and_two() {
    let flags =
        ["-etcd-servers=http://127.0.0.1:1", "--key", "scheduler", "-source-file", "/src/a", "--dest-file=/dst/a"];
    let config = |more: &[&'static str]| [&["elect"], &flags[..], more, &["config"]].concat();
    ends(&config(&[]), 0, &["name: scheduler", "leaseDuration: 30s", "# scheduler: rides out an etcd outage of"]);
    ends(&config(&["-sleep=5s", "-ttl-secs=10"]), 0, &["leaseDuration: 10s", "--sleep 5s is ignored"]);
    ends(&config(&["-ttl-secs=2"]), 3, &["--ttl-secs: a lease of 2s cannot be safe"]);
    ends(
        &["elect", "--key=scheduler", "--dest-file=/d"],
        2,
        &["--etcd-servers: it is missing", "--source-file: it is"],
    );
    ends(&["elect", "--key=scheduler", "-c", "elect.yaml"], 2, &["cannot be used with"]);
}

#[test]
fn the_configuration_is_shown_with_what_follows_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, source) = (dir.path().join("elect.yaml"), dir.path().join("pod.yaml"));
    std::fs::write(&source, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n")
        .unwrap();
    let text = format!(
        "etcd: {{endpoints: ['http://127.0.0.1']}}\nleaseDuration: 5s\n\
         groups: [{{name: a, sourceFile: {}, destFile: /m/a.yaml}}]\n",
        source.display(),
    );
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let words = ["renewInterval: 1s", "rides out an etcd outage of 2.2s", "an etcd leader election", "30, the default"];
    ends(&["elect", "config", "-c", path], 0, &words);
    let shown = json(&["elect", "config", "-c", path]);
    assert_eq!(shown["schema"], "hamaster/v1/elect-config");
    let timing = &shown["timing"]["a"];
    let numbers =
        ["leaseMs", "renewMs", "fenceMs", "stopMs", "boundMs", "outageMs"].map(|key| timing[key].as_u64().unwrap());
    assert_eq!(numbers, [5000, 1000, 3750, 4500, 9500, 2250]);
    assert_eq!(shown["config"]["groups"][0]["update"], "restart");
}
