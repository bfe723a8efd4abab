//! The laws of what is registered under a token, and of what is written in DNS.

use hamaster::error::Kind;
use hamaster::etcd::discovery::{Entry, Listing, Seeker, Standing, Target};
use hamaster::spec::Node;
use hamaster::spec::discovery::Place;
use hamaster::state::Digest;
use proptest::prelude::*;

fn node(n: u8) -> Node {
    Node { name: format!("m{n}"), ip: [192, 0, 2, n].into() }
}

fn seeker(this: Node) -> Seeker {
    let place = Place::parse("https://disco.example.com/0123").unwrap();
    Seeker { named: vec![this.clone()], this, ca: Some(Digest::of(b"ca")), place }
}

/// What masters of one cluster register, in the order in which they came.
fn entries(masters: &[Node]) -> Vec<Entry> {
    let entry = |(order, node): (u64, &Node)| {
        let (id, value) = seeker(node.clone()).entry(&Digest::of(b"ca"));
        Entry { id, value, order }
    };
    (10..).zip(masters).map(entry).collect()
}

fn of(size: usize, entries: Vec<Entry>) -> Listing {
    Listing { size: Some(size.to_string()), entries }
}

/// One message and its hint, of a refusal that touches nothing.
fn refusal(seeker: &Seeker, listing: &Listing) -> String {
    let error = seeker.standing(listing).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let problems = error.all_problems().iter().map(|p| {
        let hint = p.hint.as_ref().expect("each mistake has a hint");
        format!("{}: {} ({hint})", p.at, p.message)
    });
    let problems: Vec<_> = problems.collect();
    assert!(!problems.is_empty() || !error.hints().is_empty(), "{error}");
    format!("{} {} {}", error.message(), problems.join("; "), error.hints().join("; "))
}

proptest! {
    /// Whoever looks, in whatever order the list is: the first that came are the cluster, and who is not among them is
    /// late or has no place.
    #[test]
    fn the_first_that_came_are_the_cluster(
        size in 1usize..8,
        came in (1u8..10).prop_flat_map(|n| Just((1..=n).map(node).collect::<Vec<_>>()).prop_shuffle()),
        listed in any::<prop::sample::Index>(),
    ) {
        let mut list = entries(&came);
        list.rotate_left(listed.index(came.len()));
        let listing = of(size, list);
        let mut first: Vec<Node> = came.iter().take(size).cloned().collect();
        for this in &came {
            let standing = seeker(this.clone()).standing(&listing).unwrap();
            match came.len() < size {
                true => prop_assert_eq!(
                    standing,
                    Standing::Incomplete { size, there: first.clone(), registered: true }
                ),
                false if first.contains(this) => {
                    let mut sorted = first.clone();
                    sorted.sort_by(|a, b| a.name.cmp(&b.name));
                    prop_assert_eq!(standing, Standing::Complete(sorted));
                }
                false => prop_assert_eq!(standing, Standing::Late(first.clone())),
            }
        }
        let stranger = seeker(node(99)).standing(&listing);
        match came.len() < size {
            true => {
                let there = std::mem::take(&mut first);
                prop_assert_eq!(stranger.unwrap(), Standing::Incomplete { size, there, registered: false });
            }
            false => prop_assert!(stranger.unwrap_err().message().contains("m99 is none of them")),
        }
    }

    /// Nothing that somebody writes there makes it panic.
    #[test]
    fn garbage_is_refused(size in ".{0,4}", value in ".{0,40}", id in ".{0,20}") {
        let listing = Listing { size: Some(size), entries: vec![Entry { id, value, order: 1 }] };
        prop_assert!(seeker(node(1)).standing(&listing).is_err());
    }
}

#[test]
fn a_token_without_a_sound_size_is_none() {
    let this = seeker(node(1));
    for (size, says) in [
        (None, "is not known there"),
        (Some("0"), "is for 0 masters"),
        (Some("30"), "is for 30 masters; etcd clusters have 1 to 9"),
        (Some("three"), "has `three` for its size"),
        (Some("-3"), "has `-3` for its size"),
    ] {
        let said = refusal(&this, &Listing { size: size.map(str::to_owned), entries: vec![] });
        assert!(said.contains(says) && said.contains("curl 'https://disco.example.com/new?size=3'"), "{said}");
    }
}

#[test]
fn each_mistake_is_named_with_what_to_do() {
    let came = [node(1), node(2)];
    let with = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut list = entries(&came);
        change(&mut list);
        of(3, list)
    };
    let other_ca = |n: u8| Entry { order: 20, value: seeker(node(n)).entry(&Digest::of(b"ca")).1, id: "0123".into() };
    let this = seeker(node(3));
    for (seeker, listing, says) in [
        (&this, with(&|l| l[0].value = "m1=http://192.0.2.1:2380".into()), "not as NAME=https://IP:2380"),
        (&this, with(&|l| l[0].value = "m1=https://192.0.2.1:2379".into()), "not as NAME=https://IP:2380"),
        (&this, with(&|l| l[1] = other_ca(2)), "m2: has registered with another etcd CA"),
        (
            &this,
            with(&|l| l.push(other_ca(3))),
            "m3: this host has registered with another etcd CA: the token was used",
        ),
        (&seeker_at("m1", 9), with(&|_| {}), "m1: has registered at 192.0.2.1; this host would be m1 at 192.0.2.9"),
        (&seeker_at("m9", 2), with(&|_| {}), "m2: has registered at 192.0.2.2; this host would be m9 at 192.0.2.2"),
        (&named(&[1, 2, 3, 4, 5], 3), with(&|_| {}), "has 3 masters, 5 are named"),
        (
            &named(&[1, 3, 4], 3),
            with(&|_| {}),
            "m2: has registered at 192.0.2.2, and is not one of those that are named",
        ),
    ] {
        let said = refusal(seeker, &listing);
        assert!(said.contains(says), "{said}\n{says}");
    }
    let twice = with(&|l| {
        let (id, value) = seeker_at("m1", 7).entry(&Digest::of(b"ca"));
        l.push(Entry { id, value, order: 30 });
    });
    assert!(refusal(&seeker(node(4)), &twice).contains("m1: is named twice"));
}

fn seeker_at(name: &str, last: u8) -> Seeker {
    seeker(Node { name: name.to_owned(), ip: [192, 0, 2, last].into() })
}

fn named(masters: &[u8], this: u8) -> Seeker {
    Seeker { named: masters.iter().copied().map(node).collect(), ..seeker(node(this)) }
}

#[test]
fn all_mistakes_are_in_one_report() {
    let mut list = entries(&[node(1), node(2)]);
    list[0].value = "garbage".to_owned();
    list[1].id = "0123".to_owned();
    let error = named(&[1, 2, 3, 4, 5], 3).standing(&of(3, list)).unwrap_err();
    assert_eq!(error.all_problems().len(), 3, "{error}");
}

#[test]
fn the_same_host_registers_the_same() {
    let (one, two) = (seeker(node(1)).entry(&Digest::of(b"ca")), seeker(node(1)).entry(&Digest::of(b"ca")));
    assert_eq!(one, two);
    assert_ne!(one.0, seeker(node(1)).entry(&Digest::of(b"another")).0);
    let ipv6 = seeker(Node { name: "m1".into(), ip: "2001:db8::1".parse().unwrap() });
    assert_eq!(ipv6.entry(&Digest::of(b"ca")).1, "m1=https://[2001:db8::1]:2380");
}

#[test]
fn records_name_all_founders_or_none() {
    let target = |n: u8| Target { host: format!("m{n}.example.com"), port: 2380, addresses: vec![node(n).ip] };
    let this = seeker(node(2));
    let found = |targets: &[Target]| this.in_records("example.com", targets);
    let all = vec![node(1), node(2), node(3)];
    assert_eq!(found(&[target(3), target(1), target(2)]).unwrap(), Standing::Complete(all.clone()));
    let dual = Target { addresses: vec![node(3).ip, "2001:db8::3".parse().unwrap()], ..target(3) };
    assert_eq!(found(&[target(1), target(2), dual]).unwrap(), Standing::Complete(all));
    let two = Target { addresses: vec![node(3).ip, node(9).ip], ..target(3) };
    let none = Target { addresses: vec![], ..target(3) };
    let port = Target { port: 2379, ..target(3) };
    let other_name = Target { host: "x.example.com".into(), ..target(2) };
    for (targets, says) in [
        ([target(1), target(2), two], "has 2 addresses of the family of 192.0.2.2"),
        ([target(1), target(2), none], "has 0 addresses of the family"),
        ([target(1), target(2), port], "is named with the port 2379, members listen at 2380"),
        ([target(1), target(3), target(4)], "is not one of the masters that form the cluster: m1, m3, m4"),
        ([target(1), other_name, target(3)], "has the address 192.0.2.2, which is named x"),
    ] {
        let error = found(&targets).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        let [problem] = error.all_problems() else { panic!("{error}") };
        assert!(problem.message.contains(says), "{problem:?}");
    }
}
