//! Three candidates: one leads, whatever happens to it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use hamaster::lab::Leadership;
use rustix::process::Signal;

use crate::fleet::Fleet;
use crate::supervised::{HAMASTER, eventually, signal};

const ELECTED: [&str; 2] = ["kube-scheduler.yaml", "kube-controller-manager.yaml"];

impl Fleet {
    fn has(&self, master: usize, manifest: &str) -> bool {
        self.path(master, "etc/kubernetes/manifests").join(manifest).exists()
    }

    /// Waits for a leader of every group that `fits`, and sees on the way that no two masters of those that run have a
    /// manifest at once.
    fn leaders(&self, what: &str, fits: impl Fn(&Leadership) -> bool) -> Vec<Leadership> {
        eventually(what, || {
            let status = self.status();
            let runs = |master: &usize| status.masters[master - 1].supervisor.is_some();
            for manifest in ELECTED {
                let at: Vec<usize> = (1..=3).filter(runs).filter(|&m| self.has(m, manifest)).collect();
                assert!(at.len() <= 1, "{manifest} is at {at:?}");
            }
            let all = status.leaders.len() == 2;
            (all && status.leaders.iter().all(|l| l.leader.is_some() && fits(l))).then_some(status.leaders)
        })
    }
}

fn number(leader: &Leadership) -> usize {
    leader.leader.as_ref().unwrap().trim_start_matches('m').parse().unwrap()
}

#[test]
fn one_leads_and_another_takes_over() {
    let fleet = Fleet::up();
    let mut watch =
        Command::new(HAMASTER).args(["lab", "watch", "--dir"]).arg(fleet.dir()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let watched = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<String>>());

    let installed = |l: &Leadership| l.manifests == [l.leader.clone().unwrap()];
    let first = fleet.leaders("there is a leader and its manifest", installed);
    assert!(fleet.hamaster("up", &[]).contains("nothing to do"), "what is elected is no drift");
    let scheduler = first.iter().find(|l| l.group == "scheduler").unwrap();
    let (old, name) = (number(scheduler), scheduler.leader.clone().unwrap());

    // A frozen daemon is ended by its watchdog and goes on leading: nobody else does.
    fleet.hamaster("pause", &[&name]);
    let elect =
        |fleet: &Fleet| fleet.report(old).units.into_iter().find(|u| u.name == "hamaster-elect.service").unwrap();
    eventually("the watchdog bites", || (elect(&fleet).restarts > 0).then_some(()));
    fleet.hamaster("resume", &[&name]);
    let token = |l: &Leadership| l.group != "scheduler" || l.token == scheduler.token;
    fleet.leaders("it goes on under its token", |l| installed(l) && token(l));

    // Cut off, it lets go before anybody else begins.
    fleet.hamaster("partition", &[&name]);
    let other = |l: &Leadership| installed(l) && l.leader.as_ref() != Some(&name);
    let second = fleet.leaders("another leads while it is cut off", other);
    assert!(ELECTED.iter().all(|manifest| !fleet.has(old, manifest)));
    fleet.hamaster("heal", &[&name]);

    // After a power cut its manifest lies on its disk; the boot fence removes it before any pod.
    let scheduler = second.iter().find(|l| l.group == "scheduler").unwrap();
    let (dead, name) = (number(scheduler), scheduler.leader.clone().unwrap());
    fleet.hamaster("kill", &[&name]);
    assert!(fleet.has(dead, "kube-scheduler.yaml"));
    let third = fleet.leaders("another leads after the power cut", |l| {
        installed(l) && (l.group != "scheduler" || l.leader.as_ref() != Some(&name))
    });
    let took = third.iter().find(|l| l.group == "scheduler").unwrap().handover_ms.unwrap();
    assert!(took < 15_500, "B(1+ρ) is 14.8 s: {took} ms");
    fleet.hamaster("start", &[&name]);
    assert!(!fleet.has(dead, "kube-scheduler.yaml"));

    fleet.hamaster("down", &[]);
    for (master, manifest) in (1..=3).flat_map(|m| ELECTED.map(|manifest| (m, manifest))) {
        assert!(!fleet.has(master, manifest), "{manifest} of m{master} outlives its leader");
    }
    signal(watch.id(), Signal::INT);
    assert!(watch.wait().unwrap().success());
    let lines = watched.join().unwrap();
    let of = |text: String| lines.iter().filter(|l| l.contains(&text)).count();
    for leader in [&first, &second, &third].map(|all| all.iter().find(|l| l.group == "scheduler").unwrap()) {
        let (name, token) = (leader.leader.as_ref().unwrap(), leader.token.as_ref().unwrap());
        assert!(of(format!("scheduler: {name} leads, token {token}, handover ")) > 0, "{lines:#?}");
    }
    assert!(lines.len() < 60, "a line for each change, not for each look: {lines:#?}");
}
