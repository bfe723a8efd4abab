//! Membership as decisions: every row of what a joiner may find, the quorum rules for every cluster up to five, and
//! hosts that join at once and are killed anywhere, against a cluster that keeps etcd's own rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use hamaster::etcd::membership::{Disk, Joiner, Member, Next, Refusal, join, promote, quorum, remove, tolerated};
use proptest::prelude::*;
use world::World;

const M3: Joiner<'_> = Joiner { name: "m3", peer_url: "https://10.0.0.3:2380", replace: false };

fn voter(n: u64) -> Member {
    Member {
        id: n,
        name: format!("m{n}"),
        peer_urls: vec![format!("https://10.0.0.{n}:2380")],
        client_urls: vec![format!("https://10.0.0.{n}:2379")],
        is_learner: false,
    }
}

fn unstarted(n: u64) -> Member {
    Member { name: String::new(), client_urls: vec![], is_learner: true, ..voter(n) }
}

/// Two voters and `more`.
fn listed(more: &[Member]) -> Vec<Member> {
    [&[voter(1), voter(2)], more].concat()
}

fn next(more: &[Member], disk: Disk) -> Next {
    join(M3, &listed(more), disk, &[1, 2])
}

fn data(id: u64) -> Disk {
    Disk::Data { member: Some(id) }
}

#[test]
fn who_is_not_listed_begins_with_an_empty_disk() {
    assert_eq!(next(&[], data(3)), Next::SetAside);
    assert_eq!(next(&[], Disk::Data { member: None }), Next::SetAside);
    assert_eq!(next(&[], Disk::Remains), Next::Clear);
    assert_eq!(next(&[], Disk::Empty), Next::Add);
}

#[test]
fn one_learner_at_a_time_and_no_voter_that_never_came() {
    assert_eq!(next(&[unstarted(4)], Disk::Empty), Next::Await(unstarted(4)));
    let running = Member { is_learner: true, ..voter(4) };
    assert_eq!(next(std::slice::from_ref(&running), Disk::Empty), Next::Await(running));
    let never_came = Member { is_learner: false, ..unstarted(4) };
    let refused = Next::Refuse(Refusal::UnstartedVoter(never_came.clone()));
    assert_eq!(next(&[never_came], Disk::Empty), refused);
}

#[test]
fn a_name_belongs_to_one_member() {
    let other = Member { name: "m3".to_owned(), ..voter(9) };
    let at = "https://10.0.0.9:2380".to_owned();
    assert_eq!(next(&[other], Disk::Empty), Next::Refuse(Refusal::NameTaken { at }));
}

/// Not even to be replaced: it is alive, and another host's.
#[test]
fn an_address_belongs_to_one_member() {
    let other = Member { name: "m2".to_owned(), ..voter(3) };
    for (joiner, disk) in [(M3, Disk::Empty), (Joiner { replace: true, ..M3 }, data(3))] {
        let next = join(joiner, &listed(std::slice::from_ref(&other)), disk, &[3, 9]);
        assert_eq!(next, Next::Refuse(Refusal::AddressTaken { by: "m2".to_owned() }));
    }
}

#[test]
fn who_was_killed_while_joining_goes_on() {
    let start = |disk| match next(&[unstarted(3)], disk) {
        Next::Start { id: 3, initial_cluster } => initial_cluster,
        other => panic!("{other:?}"),
    };
    let all = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380";
    assert_eq!(start(Disk::Empty), all, "after the add");
    assert_eq!(start(data(3)), all, "in the middle of the first start");
    assert_eq!(next(&[unstarted(3)], Disk::Remains), Next::Clear, "after a first start that failed");
    assert!(matches!(next(&[voter(3)], data(3)), Next::Start { id: 3, .. }), "it is a member already");
}

#[test]
fn names_in_the_initial_cluster_are_never_merged() {
    let nameless = Member { is_learner: false, ..unstarted(0xa4) };
    let twins = [Member { name: "m9".to_owned(), ..voter(8) }, voter(9)];
    let members = listed(&[unstarted(3), nameless, twins[0].clone(), twins[1].clone()]);
    let Next::Start { initial_cluster, .. } = join(M3, &members, Disk::Empty, &[1, 2]) else { panic!() };
    let names: Vec<&str> = initial_cluster.split(',').map(|e| e.split('=').next().unwrap()).collect();
    assert_eq!(names, ["8", "9", "a4", "m1", "m2", "m3"]);
}

#[test]
fn a_lost_or_foreign_disk_is_never_started_on() {
    let learner = Member { is_learner: true, ..voter(3) };
    for disk in [Disk::Empty, Disk::Remains, data(77)] {
        assert!(matches!(next(std::slice::from_ref(&learner), disk), Next::Remove { id: 3, .. }), "{disk:?}");
    }
    assert!(matches!(next(&[unstarted(3)], data(77)), Next::Remove { id: 3, .. }));
    for disk in [Disk::Empty, Disk::Remains] {
        assert_eq!(next(&[voter(3)], disk), Next::Refuse(Refusal::DiskLost { id: 3 }));
    }
    assert_eq!(next(&[voter(3)], data(77)), Next::Refuse(Refusal::ForeignData { id: 3 }));
    let never_came = Member { is_learner: false, ..unstarted(3) };
    assert_eq!(next(&[never_came], data(77)), Next::Refuse(Refusal::ForeignData { id: 3 }));
}

#[test]
fn a_voter_with_a_lost_disk_is_replaced_only_if_the_others_can_do_without() {
    let replaced = |healthy: &[u64]| join(Joiner { replace: true, ..M3 }, &listed(&[voter(3)]), Disk::Empty, healthy);
    assert!(matches!(replaced(&[1, 2]), Next::Remove { id: 3, .. }));
    assert_eq!(replaced(&[1]), Next::Refuse(Refusal::NoQuorum { voters: 3, healthy: 1 }));
    let two = [voter(1), voter(3)];
    let refused = Next::Refuse(Refusal::NoQuorum { voters: 2, healthy: 1 });
    assert_eq!(join(Joiner { replace: true, ..M3 }, &two, Disk::Empty, &[1]), refused, "it would fire when m3 returns");
}

/// A disk that was turned back to an older day votes as if it had not voted since: asked to, a join starts anew.
#[test]
fn a_voter_s_data_is_replaced_when_it_is_asked_for() {
    let replace = Joiner { replace: true, ..M3 };
    for disk in [Disk::Data { member: None }, data(77)] {
        assert!(matches!(join(replace, &listed(&[voter(3)]), disk, &[1, 2]), Next::Remove { id: 3, .. }), "{disk:?}");
        let refused = Next::Refuse(Refusal::NoQuorum { voters: 3, healthy: 1 });
        assert_eq!(join(replace, &listed(&[voter(3)]), disk, &[1]), refused);
    }
    // The replacement itself, when the same command goes on.
    assert!(matches!(
        join(replace, &listed(&[Member { is_learner: true, ..voter(3) }]), data(3), &[1, 2]),
        Next::Start { id: 3, .. }
    ));
    assert!(matches!(join(replace, &listed(&[voter(3)]), data(3), &[1, 2]), Next::Start { id: 3, .. }));
}

#[test]
fn quorums() {
    assert_eq!([1, 2, 3, 4, 5].map(quorum), [1, 2, 2, 3, 3]);
    assert_eq!([0, 1, 2, 3, 4, 5].map(tolerated), [0, 0, 0, 1, 1, 2]);
}

/// Every cluster of up to five voters, every set of them that is well: what is allowed can be decided now, and
/// everything can be decided after it; what is refused could not.
#[test]
fn no_change_that_is_allowed_loses_the_majority() {
    for voters in 1..=5u64 {
        let members: Vec<Member> = (1..=voters).map(voter).collect();
        for set in 0..1u32 << voters {
            let healthy: Vec<u64> = (1..=voters).filter(|n| set & 1 << (n - 1) != 0).collect();
            let (n, well) = (members.len(), healthy.len());
            assert_eq!(promote(&members, &healthy).is_ok(), well + 1 >= quorum(n + 1), "{members:?} {healthy:?}");
            for id in 1..=voters {
                let after = well - usize::from(healthy.contains(&id));
                let fine = n > 1 && well >= quorum(n) && after >= quorum(n - 1);
                assert_eq!(remove(id, &members, &healthy).is_ok(), fine, "{id} of {members:?}, {healthy:?}");
            }
        }
    }
    let learner = Member { is_learner: true, ..voter(3) };
    assert_eq!(remove(3, &listed(&[learner]), &[1]), Ok(()), "a learner has no part in any majority");
    assert_eq!(remove(9, &listed(&[]), &[]), Ok(()), "it is not listed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Up to four hosts join one master, in any order of steps, each killed, and some with their disks wiped, anywhere.
    #[test]
    fn whoever_joins_is_a_member_in_the_end_and_the_majority_is_never_lost(
        steps in prop::collection::vec((0..4usize, 0..12u8), 0..120),
    ) {
        let mut world = World::new(4);
        for (host, what) in steps {
            match what {
                0 => world.kill(host),
                1 => world.wipe(host),
                2 => world.swallow(host),
                _ => world.step(host),
            }
            world.check();
        }
        world.finish();
    }
}
