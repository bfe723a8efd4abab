//! Refusals by source, without a clock.

use std::net::IpAddr;
use std::time::Duration;

use hamaster::serve::refusals::{Refusals, source};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_ipv6_host_is_its_64_and_a_mapped_address_is_what_it_maps() {
    assert_eq!(source(ip("2001:db8:1:2:3:4:5:6")), source(ip("2001:db8:1:2:ffff::1")));
    assert_ne!(source(ip("2001:db8:1:2::1")), source(ip("2001:db8:1:3::1")));
    assert_eq!(source(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    assert_ne!(source(ip("192.0.2.1")), source(ip("192.0.2.2")));
}

#[test]
fn what_is_forgiven_costs_nothing_and_time_gives_back() {
    let mut refusals = Refusals::default();
    let me = ip("192.0.2.1");
    for _ in 0..1000 {
        assert!(refusals.charge(me, NOW));
        refusals.forgive(me, NOW);
    }
    (0..100).for_each(|_| _ = refusals.charge(me, NOW));
    assert!(!refusals.charge(me, NOW));
    assert!(refusals.charge(ip("192.0.2.2"), NOW), "nobody pays for another");
    assert!(refusals.charge(me, NOW + Duration::from_secs(1)));
    assert!(!refusals.charge(me, NOW + Duration::from_secs(1)));
}

/// More sources than are remembered: those that were refused most are.
#[test]
fn a_crowd_does_not_wash_a_flood_away() {
    let mut refusals = Refusals::default();
    let flood = ip("192.0.2.1");
    (0..100).for_each(|_| _ = refusals.charge(flood, NOW));
    for n in 0..10_000_u32 {
        refusals.charge(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), NOW);
    }
    assert!(!refusals.charge(flood, NOW));
}

proptest! {
    /// In any stretch of time no source is refused more often than the burst and what the time gave back.
    #[test]
    fn nobody_is_refused_more_often_than_the_limit(gaps in proptest::collection::vec(0_u64..3000, 1..200)) {
        let mut refusals = Refusals::default();
        let (mut now, mut let_in) = (NOW, 0_u32);
        for gap in gaps {
            now += Duration::from_millis(gap);
            let_in += u32::from(refusals.charge(ip("192.0.2.1"), now));
            prop_assert!(f64::from(let_in) <= 20.0 + (now - NOW).as_secs_f64() + 1e-6);
        }
    }
}
