//! `elect.yaml` and podmaster's flags: every bad input is refused at its place with a hint, all of them in one report,
//! and what is written out reads back to the same configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // Tests read files.

mod command_line;
mod podmaster;

use std::time::Duration;

use hamaster::elect::config::{
    Check, Config, Confirm, Payload, Unfenceable, Update, load, pod_name, source_note, to_yaml,
};
use hamaster::error::{Kind, Problem};

const ETCD: &str =
    "etcd: {endpoints: ['https://127.0.0.1:2379'], caFile: /p/ca.crt, certFile: /p/c.crt, keyFile: /p/c.key}";
const GROUP: &str = "groups: [{name: scheduler, sourceFile: /s/scheduler.yaml, destFile: /m/scheduler.yaml}]";

fn read(yaml: &str) -> Result<Config, Vec<Problem>> {
    load("elect.yaml", yaml).map_err(|e| {
        assert_eq!(e.kind(), Kind::Usage);
        e.all_problems().to_vec()
    })
}

/// A whole file whose third line is `line`.
fn with(line: &str) -> String {
    match line {
        _ if line.starts_with("etcd:") => format!("kind: Elect\n{GROUP}\n{line}\n"),
        _ if line.starts_with("groups:") => format!("kind: Elect\n{ETCD}\n{line}\n"),
        _ => format!("{ETCD}\n{GROUP}\n{line}\n"),
    }
}

fn groups(items: &str) -> String {
    format!("kind: Elect\n{ETCD}\ngroups:\n{items}\n")
}

/// The third line of a file that is right otherwise, the column of its only mistake, a part of the message and of the
/// hint.
#[rustfmt::skip]
const BAD: &[(&str, usize, &str, &str)] = &[
    // The shape of the file.
    ("leaseDuraton: 10s", 1, "unknown key `leaseDuraton` at the top", "write `leaseDuration`"),
    ("colour: red", 1, "unknown key `colour`", "known keys: apiVersion"),
    ("health: {chekcs: []}", 10, "unknown key `chekcs` in `health`", "write `checks`"),
    ("health: {fall: 3, fall: 4}", 19, "duplicate key `fall`", "keep one"),
    ("apiVersion: hamaster/v2", 13, "`hamaster/v2` is not known", "hamaster/v1"),
    ("id: a/b", 5, "`a/b` is not an id", "id: m1"),
    ("priority: 100", 11, "`100` is not a priority", "from 0 to 99"),
    ("priority: -1", 11, "`-1` is not a priority", "from 0 to 99"),
    ("once: maybe", 7, "not a boolean", "`true`"),
    ("onUnfenceable: rebot", 16, "`rebot` is not one of alarm, reboot", "write `reboot`"),
    ("runtimeDir: run/elect", 13, "not an absolute path", "from the root"),
    ("listen: 7480", 9, "not an address and a port", "127.0.0.1:7480"),
    ("preemptAfter: 0s", 15, "no time at all", "2s"),
    ("minTerm: soon", 10, "`soon` is not a duration", "10s"),
    // Times.
    ("leaseDuration: 2s", 16, "cannot be safe", "or longer"),
    ("leaseDuration: 10", 16, "`10` is not a duration", "10s"),
    ("renewInterval: 4s", 16, "cannot be safe", "or a shorter renewInterval"),
    ("attemptTimeout: 0s", 17, "too short to be kept", "leave it out"),
    ("watchdog: 9s", 11, "cannot be safe", "leaseDuration: "),
    ("leaseDuration: 2d", 16, "more than a day", "leaseDuration: 10s"),
    ("stopTimeout: 0s", 14, "no time is given for the payload to die", "4500ms"),
    // The store.
    ("etcd: {}", 1, "", "endpoints: ["),
    ("etcd: {endpoints: []}", 1, "", ""),
    ("etcd: {endpoints: ['127.0.0.1:2379']}", 20, "it has no scheme", "`https://127.0.0.1:2379`"),
    ("etcd: {endpoints: ['http//127.0.0.1']}", 20, "it has no scheme", "`https://127.0.0.1:2379`"),
    ("etcd: {endpoints: ['htps://127.0.0.1:2379']}", 20, "its scheme is `htps`", "`https://127.0.0.1:2379`"),
    ("etcd: {endpoints: ['http://127.0.0.1:23790000']}", 20, "is not a port", "from 1 to 65535"),
    ("etcd: {endpoints: ['http://127.0.0.1:0']}", 20, "is not a port", "from 1 to 65535"),
    ("etcd: {endpoints: ['http://127.0.0.300:2379']}", 20, "not an IP address", ""),
    ("etcd: {endpoints: ['http://m1:2379/v2/keys']}", 20, "it has a path", "`http://m1:2379`"),
    ("etcd: {endpoints: ['http://::1:2379']}", 20, "more than one colon", "[::1]:2379"),
    ("etcd: {endpoints: ['http://m1', 'http://m1:2379/']}", 33, "is listed twice", "keep one"),
    ("etcd: {endpoints: ['http://root:secret@m1:2379']}", 20, "a user in it", "certFile"),
    ("etcd: {endpoints: ['http://m1'], caFile: /ca}", 42, "certificates for endpoints without TLS", "https://"),
    ("etcd: {endpoints: ['https://m1', 'http://m2'], caFile: /a, certFile: /b, keyFile: /c}", 34, "some endpoints are https", "write https"),
    ("etcd: {endpoints: ['http://m1'], cafile: /ca}", 34, "unknown key `cafile`", "`caFile`"),
    // Health.
    ("health: {checks: [{http: 'https://127.0.0.1:6443/readyz'}]}", 19, "https check without `caFile`", "ca.crt"),
    ("health: {checks: [{http: '127.0.0.1:6443'}]}", 26, "is not a URL", "readyz"),
    ("health: {checks: [{tcp: 127.0.0.1}]}", 25, "no port", "127.0.0.1:6443"),
    ("health: {checks: [{tcp: 127.0.0.1:1, exec: [/bin/true]}]}", 19, "this one has 2", "tcp"),
    ("health: {checks: [{}]}", 19, "this one has 0", "tcp"),
    ("health: {checks: [{exec: []}]}", 26, "names no program", "/usr/local/bin"),
    ("health: {checks: [{exec: /bin/true}]}", 26, "not a list", "[a, b]"),
    ("health: {every: 1s, timeout: 2s}", 30, "may last longer", "timeout"),
    ("health: {fall: 0}", 16, "`0` is not a number of rounds", "from 1"),
    ("health: {healthyFor: 10}", 22, "not a duration", "10s"),
    // Groups.
    ("groups: []", 1, "", "groups:"),
    ("groups: [{name: a}]", 10, "a group without a payload", "sourceFile"),
    ("groups: [{name: a, sourceFile: /s/a}]", 10, "`groups.0.destFile` is missing", "staticPodPath"),
    ("groups: [{name: a, destFile: /s/a, unit: x.service}]", 10, "`groups.0.destFile` says nothing without", "leave it out"),
    ("groups: [{name: a, exec: [/j], unit: x.service}]", 10, "this one has exec and unit", "two groups"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, exec: [/j]}]", 10, "sourceFile and exec", "two groups"),
    ("groups: [{exec: [/j]}]", 10, "`groups.0.name` is missing", ""),
    ("groups: [{name: a/b, exec: [/j]}]", 17, "it has a slash", "write `a-b`"),
    ("groups: [{name: '', exec: [/j]}]", 17, "not a group's name", "letters"),
    ("groups: [{name: .a, exec: [/j]}]", 17, "not a group's name", "begin with"),
    ("groups: [{name: a, exec: []}]", 26, "names no program", "[/usr"),
    ("groups: [{name: a, exec: ['']}]", 26, "names no program", "[/usr"),
    ("groups: [{name: a, exec: [~]}]", 26, "empty word", ""),
    ("groups: [{name: a, exec: [./job]}]", 26, "relative", "absolute"),
    ("groups: [{name: a, exec: /job}]", 26, "not a list", ""),
    ("groups: [{name: a, exec: [/j], onStart: []}]", 41, "`groups.0.onStart` names no program", ""),
    ("groups: [{name: a, exec: [/j], onStop: [x/y]}]", 40, "relative", "absolute"),
    ("groups: [{name: a, unit: keepalived}]", 26, "not a unit of systemd", "keepalived.service"),
    ("groups: [{name: a, sourceFile: s/a, destFile: /d/a}]", 32, "`s/a` is not an absolute path", "from the root"),
    ("groups: [{name: a, sourceFile: /s/../a, destFile: /d/a}]", 32, "not an absolute path", "without `..`"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/}]", 48, "is a directory", "file in it"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /s/a}]", 48, "are one file", "standby"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /s/b}]", 32, "the kubelet runs all that lies beside", "standby"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/.a.yaml}]", 48, "ignores a file named `.a.yaml`", "/d/a.yaml"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a.yaml~}]", 48, "ignores a file named `a.yaml~`", "/d/a.yaml"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, kind: pot}]", 60, "`pot` is not one of pod, file", "`pod`"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, confirm: crii}]", 63, "not one of cri, none", "port:"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, confirm: 'port:10259'}]", 63, "not an address and a port", "port:127.0.0.1:10259"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, confirm: {exec: []}}]", 70, "names no program", ""),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, kind: file, confirm: cri}]", 75, "no pod the runtime", "kind: pod"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, criSocket: run/x.sock}]", 65, "not an absolute path", "unix:///run"),
    ("groups: [{name: a, sourceFile: /s/a, destFile: /d/a, update: now}]", 62, "`now` is not one of restart, replace", ""),
    ("groups: [{name: a, exec: [/j], spread: [b]}]", 41, "there is no group `b`", "groups: a"),
    ("groups: [{name: a, exec: [/j], together: [a]}]", 43, "is the group itself", "another"),
    ("groups: [{name: a, exec: [/j], sharon: []}]", 32, "unknown key `sharon`", "known keys"),
];

#[test]
fn every_bad_line_is_refused_at_its_place_with_a_hint() {
    let mut wrong = vec![];
    for (line, column, message, hint) in BAD {
        let Err(problems) = read(&with(line)) else {
            wrong.push(format!("{line}: taken"));
            continue;
        };
        let place = if message.is_empty() { String::new() } else { format!("elect.yaml:3:{column}") };
        let is_right = |p: &Problem| {
            p.at.starts_with(&place)
                && p.message.contains(message)
                && p.hint.as_deref().unwrap_or_default().contains(hint)
        };
        if problems.len() != 1 || !is_right(&problems[0]) || format!("{problems:?}").contains("secret") {
            wrong.push(format!("{line}: {problems:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_groups_must_be_to_each_other() {
    let two = |a: &str, b: &str| {
        let problems = read(&groups(&format!("  - {{{a}}}\n  - {{{b}}}"))).expect_err(a);
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems[0].at.clone(), problems[0].message.clone())
    };
    let a = "name: a, sourceFile: /s/a, destFile: /d/a";
    let (at, message) = two(a, "name: a, exec: [/j]");
    assert_eq!((at.as_str(), message.as_str()), ("elect.yaml:5:12", "two groups are named `a`"));
    let (at, message) = two(a, "name: b, sourceFile: /s/b, destFile: /d/./a");
    assert_eq!((at.as_str(), message.as_str()), ("elect.yaml:5:43", "/d/a is the destination of group `a` too"));
    let (_, message) = two(a, "name: b, sourceFile: /x/b, destFile: /s/a");
    assert_eq!(message, "/s/a is the source of group `a`");
    let (_, message) = two(a, "name: b, exec: [/j], spread: [a], together: [a]");
    assert_eq!(message, "`a` is in `spread` too");
    let near = read(&groups("  - {name: scheduler, exec: [/j]}\n  - {name: b, exec: [/j], spread: [schedular]}"));
    assert_eq!(near.unwrap_err()[0].hint.as_deref(), Some("write `scheduler`"));
}

#[test]
fn all_mistakes_come_in_one_report_in_the_order_of_the_file() {
    let text = "id: a b\nleaseDuration: 2s\netcd: {endpoints: [m1], caFile: x}\ngroups:\n- {name: a/b, sourceFile: a, destFile: /b, bogus: 1}\n";
    let at: Vec<_> = read(text).unwrap_err().into_iter().map(|p| p.at).collect();
    let expected = ["1:5", "2:16", "3:20", "3:33", "5:10", "5:27", "5:44"];
    assert_eq!(at, expected.map(|p| format!("elect.yaml:{p}")));
}

#[test]
fn https_needs_all_three_files_each_missed_once() {
    let problems = read(&with("etcd: {endpoints: ['https://m1'], caFile: /ca}")).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|p| p.at.as_str()).collect();
    assert_eq!(keys, ["etcd.certFile", "etcd.keyFile"]);
}

#[test]
fn a_file_that_is_no_configuration_is_one_mistake() {
    for (text, message) in
        [("", "empty"), ("- a", "has 3 mistakes"), ("a: [", "has 1 mistake"), ("a: 1\n---\nb: 1", "1 mistake")]
    {
        let error = load("elect.yaml", text).unwrap_err();
        assert!(error.message().contains(message), "{text:?}: {}", error.message());
    }
}

const WHOLE: &str = "
apiVersion: hamaster/v1
kind: Elect
id: m1
etcd:
  endpoints: [https://m1, 'https://[::1]:12379/', https://192.0.2.1:2379]
  caFile: /p/ca.crt
  certFile: /p/c.crt
  keyFile: /p/c.key
leaseDuration: 12s
renewInterval: 1s
attemptTimeout: 500ms
watchdog: 2s
removal: 300ms
stopTimeout: 6s
priority: 7
preemptAfter: 5m
minTerm: 1m
runtimeDir: /run/elect/
listen: 127.0.0.1:7480
storeTimeout: 30s
once: true
health:
  checks:
    - {http: 'https://127.0.0.1:6443/readyz?verbose', caFile: /p/ca.crt}
    - tcp: '[::1]:6443'
    - exec: [/bin/true, '']
  every: 5s
  timeout: 2s
  fall: 4
  rise: 6
  healthyFor: 0s
onUnfenceable: reboot
groups:
  - name: scheduler
    sourceFile: /s/kube-scheduler.yaml
    destFile: /m/kube-scheduler.yaml
    confirm: port:127.0.0.1:10259
    criSocket: unix:///run/containerd/containerd.sock
    annotateToken: true
    update: replace
    onStart: [/bin/announce, on]
    onStop: [/bin/announce, off]
    spread: [vip]
    together: [job]
  - {name: flag, sourceFile: /s/flag, destFile: /s/.flag, kind: file, stopTimeout: 0s}
  - {name: other, sourceFile: /s/other, destFile: /m/other, confirm: {exec: [/bin/gone]}}
  - {name: job, exec: [/j, --x]}
  - {name: vip, unit: keepalived.service}
";

#[test]
fn every_key_is_taken_and_written_out_to_the_same() {
    let config = read(WHOLE).unwrap();
    let endpoints: Vec<_> = config.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["https://m1:2379", "https://[::1]:12379", "https://192.0.2.1:2379"]);
    let Payload::File(file) = &config.groups[0].payload else { panic!() };
    assert_eq!(file.confirm, Confirm::Port("127.0.0.1:10259".parse().unwrap()));
    assert_eq!(file.cri_socket.as_deref().unwrap().to_str(), Some("/run/containerd/containerd.sock"));
    assert_eq!((file.update, file.annotate_token), (Update::Replace, true));
    assert_eq!(config.on_unfenceable, Unfenceable::Reboot);
    assert!(matches!(&config.health.checks[1], Check::Tcp(at) if at == "[::1]:6443"));
    let timing = config.timing(&config.groups[0]);
    assert_eq!(timing.bound(), Duration::from_secs(18));
    assert_eq!(timing.fence(), Duration::from_millis(9700));

    let written = to_yaml(&config);
    let again = read(&written).unwrap_or_else(|p| panic!("{written}\n{p:?}"));
    assert_eq!(again, config, "{written}");
}

#[test]
fn the_stop_bound_follows_from_what_has_to_die() {
    let stop = |group: &str| {
        let config = read(&groups(&format!("  - {{name: a, {group}}}"))).unwrap();
        config.groups[0].timing.stop()
    };
    let (none, some) = (Duration::ZERO, Duration::from_millis(4500));
    assert_eq!(stop("sourceFile: /s/a, destFile: /d/a"), some);
    assert_eq!(stop("sourceFile: /s/a, destFile: /d/a, kind: file"), none);
    assert_eq!(stop("sourceFile: /s/a, destFile: /d/a, kind: file, onStop: [/x]"), some);
    assert_eq!(stop("sourceFile: /s/a, destFile: /d/a, kind: file, confirm: 'port:127.0.0.1:1'"), some);
    assert_eq!(stop("exec: [/j]"), some);
    assert_eq!(stop("unit: a.service"), some);
    assert_eq!(stop("unit: a.service, stopTimeout: 20s"), Duration::from_secs(20));
}

#[test]
fn a_source_is_one_pod() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-scheduler, namespace: kube-system}\nspec: {containers: [{name: a}]}\n";
    let named = |ns: &str| Ok((ns.to_owned(), "kube-scheduler".to_owned()));
    assert_eq!(pod_name(pod.as_bytes()), named("kube-system"));
    assert_eq!(pod_name(pod.replace(", namespace: kube-system", "").as_bytes()), named("default"));
    assert_eq!(pod_name(format!("---\n{pod}").as_bytes()), named("kube-system"));
    for (text, message) in [
        ("", "empty"),
        ("a: [", "not the YAML"),
        ("just words", "not the YAML"),
        (&pod.replace("kind: Pod", "kind: Deployment"), "kind is `Deployment`"),
        (&pod.replace("kind: Pod\n", ""), "kind is missing"),
        (&pod.replace("v1", "v2"), "apiVersion is `v2`"),
        (&pod.replace("name: kube-scheduler,", ""), "metadata.name is missing"),
        (&pod.replace("name: kube-scheduler,", "name: Kube_Scheduler,"), "metadata.name is `Kube_Scheduler`"),
        (&pod.replace("[{name: a}]", "[]"), "no containers"),
        (&format!("{pod}---\n{pod}"), "2 documents"),
        (&pod[..40], "not the YAML"),
    ] {
        let mistake = pod_name(text.as_bytes()).expect_err(text);
        assert!(mistake.message.contains(message), "{text:?}: {mistake}");
    }
    assert!(pod_name(b"\xff\xfe").unwrap_err().message.contains("UTF-8"));
}

#[test]
fn a_pod_that_may_outlive_the_stop_bound_is_spoken_of() {
    let config = read(&with("stopTimeout: 6s")).unwrap();
    let pod = |grace: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{{grace}containers: [{{}}]}}\n")
    };
    let note = |grace: &str| source_note(&config.groups[0], pod(grace).as_bytes());
    assert!(note("").unwrap().contains("30, the default, is more than the stop bound of 6s"));
    assert!(note("terminationGracePeriodSeconds: 20, ").unwrap().contains("`stopTimeout: 22s`"));
    assert_eq!(note("terminationGracePeriodSeconds: 6, "), None);
}
