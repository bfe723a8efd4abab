//! What can go wrong, and how it is made to.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::elector::{Elector, Profile};
use crate::etcd::MEMBERS;
use crate::group::{Group, NODES};
use crate::network::{Cut, tool};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL to the daemon.
    Kill,
    /// The daemon is stopped by a signal.
    Freeze,
    /// The whole host loses power.
    Crash,
    /// `systemctl stop`
    Terminate,
    /// SIGUSR1
    Resign,
    /// The host's network.
    Cut(Cut),
    /// SIGKILL to the member that leads etcd.
    EtcdKill,
    /// That member is stopped by a signal.
    EtcdFreeze,
    /// That member's cable is out.
    EtcdCut,
    /// That member's disk takes no writes.
    EtcdDisk,
    /// Two members are down.
    Quorum,
    /// The candidate's host and the member that leads etcd die in the same instant.
    BothLeaders,
    /// Every lease is revoked.
    Revoke,
    /// A key is deleted.
    Delete(Target),
    /// A key is overwritten.
    Junk(Target),
    /// The source changes.
    EditSource,
    /// The source is no manifest any more; it is put right again with the next edit.
    EmptySource,
    /// The manifest is deleted by hand.
    DeleteManifest,
    /// The manifest is edited by hand.
    EditManifest,
    /// The manifest's directory takes no changes.
    Unwritable,
    /// The same, and the daemon is told to end: it must not let go.
    UnwritableTerminate,
    /// `hamaster elect transfer`
    Transfer,
    /// The wall clock jumps by up to an hour, either way. Only in a group whose clocks are steppable.
    StepClock,
}

/// Keys of hamaster's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// `leader`
    Leader,
    /// `term`
    Term,
    /// All of `c/`.
    Queue,
    /// All of the group's.
    Everything,
}

/// What any elector must survive.
const COMMON: [Fault; 16] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Crash,
    Fault::Terminate,
    Fault::Cut(Cut::Drop),
    Fault::Cut(Cut::Reject),
    Fault::Cut(Cut::DropIn),
    Fault::Cut(Cut::DropOut),
    Fault::Cut(Cut::Loss),
    Fault::Cut(Cut::Slow),
    Fault::Cut(Cut::Cable),
    Fault::EtcdKill,
    Fault::EtcdFreeze,
    Fault::EtcdCut,
    Fault::EtcdDisk,
    Fault::Quorum,
];

/// What makes sense for hamaster only.
const OWN: [Fault; 18] = [
    Fault::BothLeaders,
    Fault::Resign,
    Fault::Revoke,
    Fault::Delete(Target::Leader),
    Fault::Delete(Target::Term),
    Fault::Delete(Target::Queue),
    Fault::Delete(Target::Everything),
    Fault::Junk(Target::Leader),
    Fault::Junk(Target::Term),
    Fault::Junk(Target::Queue),
    Fault::EditSource,
    Fault::EmptySource,
    Fault::DeleteManifest,
    Fault::EditManifest,
    Fault::Unwritable,
    Fault::UnwritableTerminate,
    Fault::Transfer,
    Fault::StepClock,
];

impl Fault {
    /// All that can be done to an elector.
    pub(crate) fn all(elector: Elector) -> Vec<Self> {
        let own = OWN.iter().filter(|_| elector == Elector::Hamaster);
        COMMON.iter().chain(own).copied().collect()
    }

    /// Its name in the report.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    /// It must not cost the leader its office, even when it lasts.
    pub(crate) fn is_harmless(self, elector: Elector, profile: Profile) -> bool {
        let rides_out_an_election = profile.lease >= Duration::from_secs(10);
        match self {
            Self::Kill
            | Self::Revoke
            | Self::StepClock
            | Self::Delete(Target::Queue)
            | Self::Junk(Target::Leader | Target::Queue) => elector == Elector::Hamaster,
            // Frozen, it is killed and adopted; with shorter times a busy machine may be too slow for that.
            Self::EtcdKill | Self::EtcdCut | Self::Freeze => elector == Elector::Hamaster && rides_out_an_election,
            _ => false,
        }
    }

    /// Whether it can be timed: until it is healed, it goes on.
    pub(crate) fn lasts(self) -> bool {
        matches!(
            self,
            Self::Freeze
                | Self::Cut(_)
                | Self::EtcdKill
                | Self::EtcdFreeze
                | Self::EtcdCut
                | Self::EtcdDisk
                | Self::Quorum
                | Self::Crash
                | Self::BothLeaders
                | Self::Unwritable
                | Self::UnwritableTerminate
        )
    }

    /// It is about one node, so it can happen to one that waits.
    pub(crate) fn is_about_a_node(self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::Freeze
                | Self::Crash
                | Self::Terminate
                | Self::Cut(_)
                | Self::StepClock
                | Self::EditSource
                | Self::EmptySource
                | Self::Unwritable
                | Self::UnwritableTerminate
        )
    }

    /// It is about etcd's members: one of these at a time.
    pub(crate) fn is_about_etcd(self) -> bool {
        matches!(
            self,
            Self::EtcdKill | Self::EtcdFreeze | Self::EtcdCut | Self::EtcdDisk | Self::Quorum | Self::BothLeaders
        )
    }

    /// Two of these at once are still covered by what hamaster promises: the manifest can be removed.
    pub(crate) fn combines(self) -> bool {
        !matches!(self, Self::Unwritable | Self::UnwritableTerminate | Self::Transfer)
    }

    /// Does it to `node`, or to the part of etcd that it is about. `group.heal()` takes it back.
    pub(crate) fn inject(self, group: &Group<'_>, node: usize, draw: u64) {
        let (etcd, victim) = (&group.cluster.etcd, &group.nodes[node]);
        let plan = &victim.plan;
        match self {
            Self::Kill => victim.signal(Signal::KILL),
            Self::Freeze => victim.signal(Signal::STOP),
            Self::Crash => {
                plan.host.cut(Cut::Cable);
                victim.crash();
            }
            Self::Terminate => victim.stop(),
            Self::Resign => victim.signal(Signal::USR1),
            Self::Cut(cut) => plan.host.cut(cut),
            Self::EtcdKill => etcd.signal(etcd.leader(), Signal::KILL),
            Self::EtcdFreeze => etcd.signal(etcd.leader(), Signal::STOP),
            Self::EtcdCut => etcd.host(etcd.leader()).cut(Cut::Cable),
            Self::EtcdDisk => etcd.stall_disk(etcd.leader()),
            Self::Quorum => {
                let leader = etcd.leader();
                [leader, (leader + 1) % MEMBERS].iter().for_each(|m| etcd.signal(*m, Signal::KILL));
            }
            Self::BothLeaders => {
                let leader = etcd.leader();
                etcd.signal(leader, Signal::KILL);
                plan.host.cut(Cut::Cable);
                victim.crash();
            }
            Self::Revoke => {
                let leases = etcd.ctl(&["lease", "list"]);
                for lease in leases.lines().filter(|l| l.len() == 16) {
                    // It may expire since it was listed.
                    let _ = etcd.etcdctl(&["lease", "revoke", lease]);
                }
            }
            Self::Delete(target) => _ = etcd.ctl(&["del", "--prefix", &group.key(target.path())]),
            Self::Junk(target) => {
                let found: Value = serde_json::from_str(&etcd.ctl(&[
                    "get",
                    "--keys-only",
                    "--prefix",
                    &group.key(target.path()),
                    "-w",
                    "json",
                ]))
                .unwrap();
                let keys = found["kvs"].as_array().cloned().unwrap_or_default();
                for key in keys.iter().filter_map(|k| k["key"].as_str()) {
                    let name = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).unwrap();
                    etcd.ctl(&["put", &String::from_utf8(name).unwrap(), "{\"junk\": [1, 2"]);
                }
            }
            Self::EditSource => fs::write(plan.source(), format!("apiVersion: v1\nedited: {draw}\n")).unwrap(),
            Self::EmptySource => fs::write(plan.source(), "").unwrap(),
            Self::DeleteManifest => _ = fs::remove_file(plan.manifest()),
            // Only if there is one: an operator's own file in a standby's directory would be a second manifest.
            Self::EditManifest => {
                if let Ok(mut file) = fs::File::options().append(true).open(plan.manifest()) {
                    std::io::Write::write_all(&mut file, b"edited: by hand\n").unwrap();
                }
            }
            Self::Unwritable => _ = tool("chattr", &["+i", &plan.destination().display().to_string()]),
            Self::UnwritableTerminate => {
                tool("chattr", &["+i", &plan.destination().display().to_string()]);
                victim.stop();
            }
            Self::StepClock => {
                let seconds = (draw % 7200) as i64 - 3600;
                fs::write(plan.clock(), format!("{seconds:+}\n")).unwrap();
            }
            Self::Transfer => {
                let heir = &group.nodes[(node + 1 + draw as usize % (NODES - 1)) % NODES];
                heir.ask(&["transfer", &group.name, "--to", &heir.plan.id]);
            }
        }
    }
}

impl Target {
    /// Below the group's prefix.
    fn path(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Term => "term",
            Self::Queue => "c/",
            Self::Everything => "",
        }
    }
}
