//! The laws of the list of founders.

use hamaster::error::Kind;
use hamaster::etcd::bootstrap::{even, founders};
use hamaster::spec::Node;
use proptest::prelude::*;

fn node(name: &str, last: u8) -> Node {
    Node { name: name.to_owned(), ip: [192, 0, 2, last].into() }
}

fn nodes(n: u8) -> Vec<Node> {
    (1..=n).map(|k| node(&format!("m{k}"), k)).collect()
}

proptest! {
    /// Whoever wrote the list, in whatever order, on whichever master: it is the same cluster.
    #[test]
    fn order_and_host_do_not_matter(named in (1u8..8).prop_map(nodes).prop_shuffle(), at: prop::sample::Index) {
        let this = at.get(&named).clone();
        prop_assert_eq!(founders(&named, &this).unwrap(), nodes(u8::try_from(named.len()).unwrap()));
    }
}

#[test]
fn who_is_not_named_is_refused_with_what_to_write() {
    for (this, message, hint) in [
        (node("m4", 4), "is not one of the masters that form the cluster: m1, m2, m3", "hamaster join"),
        (node("m2", 9), "is named with the address 192.0.2.2", "--advertise-ip 192.0.2.2"),
        (node("m9", 2), "has the address 192.0.2.2, which is named m2", "--name m2"),
    ] {
        let error = founders(&nodes(3), &this).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        let [problem] = error.all_problems() else { panic!("{error:?}") };
        assert_eq!(problem.at, this.name);
        assert!(problem.message.contains(message), "{problem:?}");
        assert!(problem.hint.as_ref().unwrap().contains(hint), "{problem:?}");
    }
}

#[test]
fn all_mistakes_are_in_one_report() {
    let named = [node("m1", 1), node("m1", 2), node("m3", 1)];
    let error = founders(&named, &node("m4", 4)).unwrap_err();
    let said: Vec<_> = error.all_problems().iter().map(|p| p.message.as_str()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("is named twice: 192.0.2.1 and 192.0.2.2"), "{said:?}");
    assert!(said[1].contains("has the address of m1"), "{said:?}");
}

#[test]
fn only_an_even_number_is_worth_a_word() {
    for n in [1, 3, 5, 7] {
        assert_eq!(even(n), None);
    }
    assert!(even(2).unwrap().contains("2 masters survive the loss of 0, as 1 do"));
    assert!(even(4).unwrap().contains("4 masters survive the loss of 1, as 3 do"));
}
