//! What an election costs while nothing happens, while etcd is away, and among a thousand.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::elector::{Elector, Profile};
use crate::etcd::MEMBERS;
use crate::group::{Cluster, Group, NODES};
use crate::network::within;
use crate::say;
use crate::takeover::{begun, holder};

const WINDOW: Duration = Duration::from_secs(60);

/// What the processes of one node used so far.
#[derive(Default)]
struct Used {
    resident_kib: u64,
    /// Of it, what is no page of the binary.
    own_kib: u64,
    cpu: Duration,
    wakeups: u64,
}

/// The daemon of a node: the process that was told its configuration.
fn used(group: &Group<'_>, node: usize) -> Used {
    let place = group.nodes[node].plan.place.join("elect.yaml").display().to_string();
    let mut used = Used::default();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|e| e.path()) {
        let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
        let line = read("cmdline");
        if !line.contains(&place) || !line.contains("hamaster\0elect\0") {
            continue;
        }
        let field = |text: &str, name: &str| -> u64 {
            let value = text.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
            value.unwrap_or(0)
        };
        used.resident_kib += field(&read("status"), "VmRSS:");
        used.own_kib += field(&read("status"), "RssAnon:");
        // After the name in brackets: utime and stime are the 12th and 13th, in hundredths of a second.
        let stat = read("stat");
        let ticks: u64 =
            stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum();
        used.cpu += Duration::from_millis(ticks * 10);
        for task in fs::read_dir(process.join("task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            used.wakeups += field(&status, "voluntary_ctxt_switches:");
        }
    }
    used
}

/// What etcd counted so far: requests by method, and writes that went through raft.
#[derive(Default, Clone, Copy)]
struct Counted {
    requests: f64,
    transactions: f64,
    writes: f64,
}

fn counted(cluster: &Cluster) -> Counted {
    let mut counted = Counted::default();
    for member in 0..MEMBERS {
        let etcd = &cluster.etcd;
        let mut curl = etcd.network.command("curl");
        curl.args(["-s", "--cacert"]).arg(etcd.certs.ca()).arg("--cert").arg(&etcd.client.cert).arg("--key");
        curl.arg(&etcd.client.key).arg(format!("https://{}:2379/metrics", etcd.host(member).ip));
        let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        let sum = |prefix: &str, with: &str| -> f64 {
            let lines = text.lines().filter(|l| l.starts_with(prefix) && l.contains(with));
            lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        // A message of a stream is a request as well: keep-alives are.
        counted.requests += sum("grpc_server_msg_received_total", "");
        counted.transactions += sum("grpc_server_msg_received_total", "\"Txn\"");
        // Every member applies every write.
        counted.writes = counted.writes.max(sum("etcd_debugging_mvcc_put_total", ""));
    }
    counted
}

/// Per second, over a window.
fn rates(cluster: &Cluster, window: Duration) -> Counted {
    let (begin, before) = (Instant::now(), counted(cluster));
    std::thread::sleep(window);
    let (after, seconds) = (counted(cluster), begin.elapsed().as_secs_f64());
    Counted {
        requests: (after.requests - before.requests) / seconds,
        transactions: (after.transactions - before.transactions) / seconds,
        writes: (after.writes - before.writes) / seconds,
    }
}

/// Nothing happens.
pub(crate) fn idle(cluster: &Cluster) {
    let profile = Profile::named("default");
    let group = begun(cluster, Elector::Hamaster, profile);
    let leader = holder(&group);
    let before: Vec<Used> = (0..NODES).map(|n| used(&group, n)).collect();
    let begin = Instant::now();
    let all = rates(cluster, WINDOW);
    let seconds = begin.elapsed().as_secs_f64();
    for (node, before) in before.iter().enumerate() {
        let after = used(&group, node);
        let role = if node == leader { "leader " } else { "standby" };
        let what = format!(
            "{role}: {:.1} MiB resident, {:.1} of it its own and not the binary's (aim: 12), {:.2} % CPU (aim: 0.1), {:.1} wakeups/s (aim: 3)",
            after.resident_kib as f64 / 1024.0,
            after.own_kib as f64 / 1024.0,
            after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds * 100.0,
            after.wakeups.saturating_sub(before.wakeups) as f64 / seconds,
        );
        say(Elector::Hamaster, profile, &what);
    }
    (0..NODES).filter(|n| *n != leader).for_each(|n| group.nodes[n].stop());
    within(Duration::from_secs(60), "the standbys are gone", || {
        group.nodes.iter().filter(|n| n.is_running()).count() == 1
    });
    let one = rates(cluster, WINDOW / 2);
    let others = (NODES - 1) as f64;
    let what = format!(
        "leader: {:.2} requests/s to etcd, {:.2} of them writes (aim: one each {:.0} s and 0.25 beside)",
        one.requests,
        one.writes,
        (profile.lease / 5).as_secs_f64()
    );
    say(Elector::Hamaster, profile, &what);
    let what = format!(
        "standby: {:.2} requests/s to etcd (aim: 0.25), {:.2} writes (aim: 0)",
        (all.requests - one.requests) / others,
        (all.writes - one.writes) / others
    );
    say(Elector::Hamaster, profile, &what);
    drop(group);
    for elector in [Elector::Naive, Elector::Etcdctl] {
        let _group = begun(cluster, elector, Profile::named("plain"));
        let rates = rates(cluster, WINDOW / 2);
        let what = format!("three nodes: {:.2} requests/s to etcd, {:.2} of them writes", rates.requests, rates.writes);
        say(elector, profile, &what);
    }
}

/// Connections tried by a node's host, and lines its daemon wrote, so far.
fn noise(group: &Group<'_>, node: usize) -> (u64, usize) {
    let plan = &group.nodes[node].plan;
    let text = String::from_utf8(plan.host.command("cat").arg("/proc/net/snmp").output().unwrap().stdout).unwrap();
    let mut tcp = text.lines().filter_map(|l| l.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let opens = names.split(' ').position(|n| n == "ActiveOpens").unwrap();
    (values.split(' ').nth(opens).unwrap().parse().unwrap(), plan.log().lines().count())
}

/// etcd is away for a minute.
pub(crate) fn outage(cluster: &Cluster) {
    for (elector, profile) in [(Elector::Hamaster, "default"), (Elector::Naive, "plain"), (Elector::Etcdctl, "plain")] {
        let profile = Profile::named(profile);
        let group = begun(cluster, elector, profile);
        let leader = holder(&group);
        let before: Vec<_> = (0..NODES).map(|n| noise(&group, n)).collect();
        (0..MEMBERS).for_each(|member| cluster.etcd.signal(member, Signal::KILL));
        std::thread::sleep(WINDOW);
        for (node, before) in before.iter().enumerate() {
            let after = noise(&group, node);
            let role = if node == leader { "leader " } else { "standby" };
            let mut what = format!(
                "{role}: {:.1} attempts/s, {} lines/min",
                (after.0 - before.0) as f64 / WINDOW.as_secs_f64(),
                after.1 - before.1
            );
            if elector == Elector::Hamaster {
                what += " (aims: 5, 10)";
            }
            say(elector, profile, &what);
        }
        let back = Instant::now();
        cluster.etcd.heal();
        if elector == Elector::Hamaster {
            let same = group.settle() == Some(leader);
            let changes = group.oracle.history().changes;
            let took = changes.iter().find(|c| c.present && c.at > back).map(|c| (c.at - back).as_secs_f64());
            say(
                elector,
                profile,
                &format!("etcd is started again → a manifest: {took:.1?} s, the same leader: {same}"),
            );
        }
    }
}

/// A thousand wait: what one failover costs etcd. All but three of them are keys on one lease, as no machine holds a
/// thousand hosts; they watch nothing, and nobody who waits behind another watches more than that one.
pub(crate) fn thousand(cluster: &Cluster) {
    let profile = Profile::named("plain");
    let group = begun(cluster, Elector::Hamaster, profile);
    let etcd = &cluster.etcd;
    let granted = etcd.ctl(&["lease", "grant", "3600"]);
    let lease = granted.split(' ').nth(1).unwrap();
    let fakes: Vec<usize> = (NODES..1000).collect();
    for some in fakes.chunks(100) {
        let mut input = String::from("\n");
        for n in some {
            let value = format!(r#"{{"id":"f{n}","machineId":"m","bootId":"b","nonce":"{n}","priority":0}}"#);
            input += &format!("put {} '{value}' --lease={lease}\n", group.key(&format!("c/{:016x}", 0x1000 + n)));
        }
        input += "\n\n";
        let file = group.nodes[0].plan.place.join("fakes");
        fs::write(&file, input).unwrap();
        let mut txn = etcd.network.command("etcdctl");
        etcd.client_environment(&mut txn);
        let made = txn.arg("txn").stdin(fs::File::open(&file).unwrap()).output().unwrap();
        assert!(made.status.success() && String::from_utf8_lossy(&made.stdout).contains("SUCCESS"), "{made:?}");
    }
    let leader = holder(&group);
    group.nodes[leader].crash();
    let (asked, before) = (Instant::now(), counted(cluster));
    within(Duration::from_secs(60), "a successor", || group.oracle.holder().is_some_and(|h| h != leader));
    let (took, after) = (asked.elapsed().as_secs_f64(), counted(cluster));
    let what = format!(
        "one of 1000 lost → next manifest: {took:.1} s, {} transactions (take over, acquire, perhaps a renewal), {} requests",
        after.transactions - before.transactions,
        after.requests - before.requests
    );
    say(Elector::Hamaster, profile, &what);
    etcd.ctl(&["lease", "revoke", lease]);
}
