//! What an operator gets wrong on a host: in `elect.yaml`, in the manifest, in its directory, in a name. Each is refused
//! or, where it may be put right under a running daemon, survived until it is; with words and a hint; and meanwhile
//! nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::elector::{Elector, Profile, hamaster};
use crate::group::{Cluster, Group};
use crate::network::{awaited, quiet, skipped, tool, within};
use crate::node::Node;
use crate::oracle::{MANIFEST, Oracle};

/// Far beyond what anything here takes; a busy machine is no mistake of an operator's.
const SOON: Duration = Duration::from_secs(120);

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n";

fn cluster() -> Cluster {
    Cluster::new(Duration::from_millis(500))
}

/// The election of a pod, in which the first to come leads at once.
fn pods<'a>(cluster: &'a Cluster, profile: &str) -> Group<'a> {
    let group = cluster.group(Elector::Hamaster, Profile::named(profile));
    group.skip_first_wait();
    for node in &group.nodes {
        node.rewrite(|yaml| yaml.replace("kind: file", "kind: pod"));
        fs::write(node.plan.source(), POD).unwrap();
    }
    group
}

/// The names in a node's destination directory, dot files too.
fn names(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.plan.destination()).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until the daemon says in one line what is wrong, with what, and what may help.
fn told(node: &Node, words: &[&str]) {
    let has = |line: &str| words.iter().all(|word| line.contains(word)) && line.contains("hint: ");
    let told = awaited(SOON, || node.plan.log().lines().any(has));
    assert!(told, "it does not say {words:?}, with a hint\n{}", node.plan.log());
}

/// The daemon never ended by itself; on a slow machine the watchdog may have killed it.
fn lives(node: &Node) -> bool {
    node.exits().iter().all(|status| status.code().is_none())
}

/// Runs the daemon, which must end by itself with exit code 3.
fn refused(node: &Node) -> String {
    let config = node.plan.place.join("elect.yaml").display().to_string();
    let log = node.plan.place.join("refused");
    let mut daemon = hamaster(&node.plan, &["elect", "-c", &config]);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut daemon = daemon.spawn().unwrap();
    let mut status = None;
    let ended = awaited(SOON, || {
        status = daemon.try_wait().unwrap();
        status.is_some()
    });
    let said = fs::read_to_string(log).unwrap();
    println!("{said}");
    assert!(ended, "it goes on\n{said}");
    assert_eq!(status.unwrap().code(), Some(3), "{said}");
    said
}

/// What is wrong; what is written in place of what; where that is, what is said of it, and the hint.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    ("unknown key", "leaseDuration:", "leaseDuraton:", ":9:1", "unknown key `leaseDuraton` at the top", "write `leaseDuration`"),
    ("unknown key of etcd", "caFile:", "cafile:", ":6:3", "unknown key `cafile` in `etcd`", "write `caFile`"),
    ("unknown key of a group", "destFile:", "destfile:", ":15:3", "unknown key `destfile` in `groups.0`", "write `destFile`"),
    ("key twice", "stopTimeout:", "leaseDuration:", ":10:1", "duplicate key `leaseDuration`", "keep one"),
    ("lease too short", "leaseDuration: 5000ms", "leaseDuration: 2s", ":9:16", "cannot be safe", "or longer"),
    ("no unit of time", "leaseDuration: 5000ms", "leaseDuration: 5", ":9:16", "`5` is not a duration", "`10s`"),
    ("renewed too seldom", "leaseDuration:", "renewInterval: 4s\nleaseDuration:", ":10:16", "cannot be safe", "or a shorter renewInterval"),
    ("watched too loosely", "leaseDuration:", "watchdog: 4s\nleaseDuration:", ":10:16", "cannot be safe", "leaseDuration: "),
    ("no time to die", "kind: file", "kind: pod", ":10:14", "no time is given for the payload to die", "stopTimeout: 4500ms"),
    ("no source", "sourceFile:", "# sourceFile:", ":13:3", "a group without a payload", "write sourceFile and destFile"),
    ("no destination", "destFile:", "# destFile:", ":13:3", "`groups.0.destFile` is missing", "the kubelet's staticPodPath"),
    ("misspelt endpoint", "https://10.77.0.12", "htps://10.77.0.12", ":5:40", "its scheme is `htps`", "write `https://10.77.0.12:2379`"),
    ("endpoint twice", "10.77.0.12", "10.77.0.11", ":5:40", "is listed twice", "keep one"),
    ("plain text beside TLS", "https://10.77.0.12", "http://10.77.0.12", ":5:40", "some endpoints are https", "write https"),
];

#[test]
fn a_mistake_in_the_file_is_refused_where_it_is() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let group = cluster.group(Elector::Hamaster, Profile::named("plain"));
    group.skip_first_wait();
    let node = &group.nodes[0];
    let file = node.plan.place.join("elect.yaml");
    let right = fs::read_to_string(&file).unwrap();
    for (what, from, to, at, words, hint) in MISTAKES {
        println!("--- {what}");
        assert!(right.contains(from), "{right}");
        fs::write(&file, right.replacen(from, to, 1)).unwrap();
        let said = refused(node);
        let line = said.lines().find(|line| line.contains(&format!("{}{at}", file.display())));
        let line = line.unwrap_or_else(|| panic!("{what}: nothing is said of {at}\n{said}"));
        assert!(line.contains(words), "{what}: not `{words}`\n{said}");
        assert!(said.lines().any(|l| l.contains("hint: ") && l.contains(hint)), "{what}: not `{hint}`\n{said}");
    }
    assert!(!node.plan.place.join("run").exists(), "a refused daemon left something");
    assert_eq!(names(node), [""; 0]);
    let history = group.oracle.history();
    assert!(history.is_clean() && history.changes.is_empty(), "{history:#?}");
    // It was the mistakes.
    fs::write(&file, right).unwrap();
    node.start();
    within(SOON, "it leads without them", || group.oracle.holder() == Some(0));
}

/// Of two candidates the one that has nothing to install stays away, whoever leaves, until it is put right.
#[test]
fn a_source_that_is_no_pod_is_not_installed() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let deployment = POD.replace("kind: Pod", "kind: Deployment");
    let empty = POD.replace("[{name: c, image: i}]", "[]");
    let cases: [(&str, Option<&str>, &str); 7] = [
        ("missing", None, "No such file"),
        ("empty", Some(""), "it is empty"),
        ("another kind", Some(&deployment), "kind is `Deployment`"),
        ("two pods", Some(&format!("{POD}---\n{POD}")), "it has 2 documents"),
        ("a pod without containers", Some(&empty), "the pod has no containers"),
        ("no YAML", Some("kind: [Pod\n"), "not the YAML of a pod"),
        ("a list", Some("- kind: Pod\n"), "not the YAML of a pod"),
    ];
    for (what, content, words) in cases {
        println!("--- {what}");
        let group = pods(&cluster, "fast");
        let (node, other) = (&group.nodes[0], &group.nodes[1]);
        let source = node.plan.source();
        match content {
            Some(text) => fs::write(&source, text).unwrap(),
            None => fs::remove_file(&source).unwrap(),
        }
        node.start();
        told(node, &["is not fit to lead: ", &source.display().to_string(), words]);
        stays_away(&group, &group.oracle, node, other);
        fs::write(&source, POD).unwrap();
        within(SOON, &format!("{what}: put right, it leads"), || group.oracle.holder() == Some(0));
        assert!(lives(node) && group.oracle.history().is_clean(), "{}", group.logs());
    }
}

/// `node` lets `other` lead and does not even follow when that one goes.
fn stays_away(group: &Group<'_>, oracle: &Oracle, node: &Node, other: &Node) {
    other.start();
    within(SOON, "the other leads", || oracle.holder() == Some(1));
    other.stop();
    within(SOON, "the other is gone", || !other.is_running() && oracle.holder().is_none());
    let term = || group.cluster.etcd.ctl(&["get", "--print-value-only", &group.key("term")]);
    assert!(term().contains("released"), "nobody needs to wait: {}", term());
    let queue = || group.cluster.etcd.ctl(&["get", "--keys-only", "--prefix", &group.key("c/")]);
    within(SOON, "nobody is in the queue", || queue().trim().is_empty());
    assert_eq!(node.status("eligible"), "false", "{}", group.logs());
    let history = oracle.history();
    assert!(history.is_clean() && history.changes.iter().all(|c| c.node == 1), "{history:#?}");
}

/// A file system of its own over a node's destination directory.
struct Mounted(PathBuf);

impl Mounted {
    fn over(node: &Node) -> Self {
        let dir = node.plan.destination();
        tool("mount", &["-t", "tmpfs", "none", &dir.display().to_string()]);
        Self(dir)
    }

    /// The daemon sees it too: the whole file system, whatever a mount of it says.
    fn remount(&self, how: &str) {
        let dir = self.0.display().to_string();
        tool("mount", &["-o", &format!("remount,{how}"), &dir]);
        tool("mount", &["-o", "remount,bind,rw", &dir]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        quiet("umount", &["--lazy", &self.0.display().to_string()]);
    }
}

/// An oracle on what is mounted now: the group's own sees what is below.
fn above(group: &Group<'_>) -> Oracle {
    let dirs: Vec<PathBuf> = group.nodes.iter().map(|n| n.plan.destination()).collect();
    let marks = dirs[0].parent().and_then(Path::parent).unwrap().join("marks above");
    fs::create_dir(&marks).unwrap();
    Oracle::new(&dirs, &marks)
}

/// A rename from beside the directory is not possible then: the file is made under a name that the kubelet skips.
#[test]
fn a_destination_on_another_file_system_is_none_the_worse() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let group = pods(&cluster, "fast");
    let mounts: Vec<Mounted> = group.nodes.iter().map(Mounted::over).collect();
    let oracle = above(&group);
    group.start();
    for _ in 0..3 {
        let mut leader = None;
        within(SOON, "one leads, and has its manifest and nothing else", || {
            leader = oracle.holder().map(|n| &group.nodes[n]);
            leader.is_some_and(|l| {
                names(l) == [MANIFEST] && fs::read_to_string(l.plan.manifest()).is_ok_and(|text| text == POD)
            })
        });
        let leader = leader.unwrap();
        leader.stop();
        within(SOON, "it is gone", || !leader.is_running());
        assert_eq!(names(leader), [""; 0], "{}", leader.plan.log());
    }
    let history = oracle.history();
    assert!(history.is_clean() && history.changes.len() >= 6, "{history:#?}");
    // Nothing ended up below either.
    drop(mounts);
    assert!(group.nodes.iter().all(|n| names(n).is_empty()));
}

#[test]
fn a_destination_that_is_read_only_is_not_led_on() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let group = pods(&cluster, "fast");
    let (node, other) = (&group.nodes[0], &group.nodes[1]);
    let mount = Mounted::over(node);
    let oracle = above(&group);
    mount.remount("ro");
    node.start();
    let dir = node.plan.destination().display().to_string();
    told(node, &["is not fit to lead: ", &dir, "Read-only file system"]);
    stays_away(&group, &oracle, node, other);
    mount.remount("rw");
    within(SOON, "put right, it leads", || oracle.holder() == Some(0));
    assert!(lives(node) && oracle.history().is_clean(), "{}", group.logs());
}

/// A second host with the name of one that leads, or of one that waits: the second goes, and nothing else happens.
#[test]
fn a_name_that_another_host_has_is_refused() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let group = pods(&cluster, "default");
    let [leader, waiting, twin] = &group.nodes[..] else { panic!("three nodes") };
    leader.start();
    within(SOON, "the first leads", || group.oracle.holder() == Some(0));
    waiting.start();
    within(SOON, "the second waits", || waiting.status("state") == "head");
    for named in [leader, waiting] {
        println!("--- the name of {}", named.plan.id);
        let own = twin.plan.place.join("elect.yaml");
        let right = fs::read_to_string(&own).unwrap();
        let id = |node: &Node| format!("id: {}\n", node.plan.id);
        twin.rewrite(|yaml| yaml.replace(&id(twin), &id(named)));
        let said = refused(twin);
        assert!(said.contains("another process uses the identity") && said.contains("hint: "), "{said}");
        assert!(said.contains(&format!("`{}`", named.plan.id)), "whose name?\n{said}");
        fs::write(&own, right).unwrap();
    }
    assert_eq!(names(twin), [""; 0]);
    assert!(lives(leader) && lives(waiting), "{}", group.logs());
    let history = group.oracle.history();
    assert!(history.is_clean() && history.changes.iter().all(|c| c.node != 2), "{history:#?}");
}
