//! The machine alone, one law at a time; the simulation and the model look for what nobody thought of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod script;
mod slips;

use std::time::Duration;

use hamaster::elect::event::{Effect, Event, Exit, Unfit};
use hamaster::elect::record::TermState;
use hamaster::elect::status::Stored;
use hamaster::elect::timing::with_drift;
use hamaster::elect::txn::Op;
use hamaster::elect::view::Key;
use script::{Script, at, candidate, ms, timing};

/// A group in which another leads: `renewed` at revision 50.
fn waiting() -> Script {
    let mut s = Script::new("b");
    s.store.lead("a", 50);
    s.boot();
    s
}

#[test]
fn a_virgin_group_may_be_a_wiped_one_so_its_first_leader_waits() {
    let mut s = Script::new("a");
    s.boot();
    s.until((at(0) + with_drift(timing().bound())).before(ms(100)));
    assert_eq!(s.status().state, "head");
    s.until(at(0) + with_drift(timing().bound()) + ms(200));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn after_a_release_nobody_waits() {
    let mut s = waiting();
    assert_eq!(s.status().state, "head");
    s.store.release();
    s.deliver();
    assert_eq!(s.status().state, "leading");
}

#[test]
fn a_silent_leader_is_taken_over_after_its_own_bound_and_not_before() {
    let mut s = Script::new("b");
    s.store.lead_with_bound("a", 50, Duration::from_secs(40));
    s.boot();
    s.until((at(0) + with_drift(Duration::from_secs(40))).before(ms(100)));
    assert_eq!(s.status().state, "head", "b's own bound is shorter and does not matter");
    s.until(at(0) + with_drift(Duration::from_secs(40)) + ms(200));
    assert_eq!(s.status().state, "leading");
    assert_eq!(s.store.term().cause, "silence");
}

#[test]
fn a_renewal_nobody_told_of_makes_the_takeover_fail() {
    let mut s = waiting();
    s.until(at(14_000));
    // The watch is deaf: the renewal is in the store only.
    s.store.renew();
    s.until(at(15_000));
    assert_eq!(s.status().state, "head");
    assert_eq!(s.store.leader().unwrap().who.id, "a");
}

#[test]
fn a_deleted_leader_may_still_run_so_its_bound_is_waited() {
    let mut s = waiting();
    s.until(at(3_000));
    s.store.delete(Key::Leader);
    s.deliver();
    s.until((at(3_000) + with_drift(timing().bound())).before(ms(100)));
    assert_eq!(s.status().state, "head");
    s.until(at(3_000) + with_drift(timing().bound()) + ms(200));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn junk_in_the_leader_key_is_judged_by_the_term() {
    let mut s = waiting();
    s.until(at(1_000));
    s.store.put(Key::Leader, b"junk");
    s.deliver();
    s.until(at(1_000) + timing().bound());
    assert_eq!(s.status().state, "head");
    s.until(at(1_000) + with_drift(timing().bound()) + ms(200));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn another_store_voids_what_was_known() {
    let mut s = waiting();
    s.step(Event::Replaced);
    s.store.release();
    let view = s.store.view();
    s.step(Event::Seen(view));
    s.until(at(0) + timing().bound());
    assert_eq!(s.status().state, "head", "an old snapshot says released; the leader of yesterday may live");
}

#[test]
fn pause_keeps_everyone_from_leading() {
    let mut s = waiting();
    s.store.put(Key::Pause, br#"{"by":"me"}"#);
    s.store.release();
    s.deliver();
    s.until(at(60_000));
    assert_eq!(s.status().state, "head");
    s.store.delete(Key::Pause);
    s.deliver();
    assert_eq!(s.status().state, "leading");
}

#[test]
fn others_hold_back_for_the_heir_but_not_for_ever() {
    let mut s = waiting();
    s.store.put_candidate(7, &candidate("heir"));
    s.store.release_to("heir");
    s.deliver();
    assert_eq!(s.status().state, "head");
    s.until(at(1_900));
    assert_eq!(s.status().state, "head");
    s.until(at(2_200));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn a_leader_fences_when_renewals_stay_unanswered_and_counts_from_the_send_time() {
    let mut s = leading();
    let sent = s.last_renewal();
    s.store.silent = true;
    s.until((sent + timing().fence()).before(ms(10)));
    assert_eq!(s.status().state, "leading");
    s.payload_hangs = true;
    s.until(sent + timing().fence() + ms(1));
    assert_eq!(s.status().state, "fencing");
    assert_eq!(s.ordered_stop(), (sent + timing().lease(), sent + timing().bound()));
}

#[test]
fn an_outage_that_nobody_used_ends_with_the_same_token() {
    let mut s = leading();
    let token = s.status().token;
    s.store.silent = true;
    s.until(s.now + Duration::from_secs(10));
    assert_eq!(s.status().state, "fenced");
    s.store.silent = false;
    s.until(s.now + Duration::from_secs(3));
    assert_eq!(s.status().state, "leading");
    assert_eq!(s.status().token, token);
}

#[test]
fn who_finds_its_key_gone_stops_at_once() {
    let mut s = leading();
    s.store.delete(Key::Leader);
    s.payload_hangs = true;
    s.deliver();
    assert_eq!(s.status().state, "fencing");
}

#[test]
fn nothing_is_released_before_it_is_dead() {
    let mut s = leading();
    s.payload_hangs = true;
    s.step(Event::Terminate);
    s.until(s.now + Duration::from_secs(5));
    assert_eq!(s.status().state, "releasing");
    assert!(s.store.leader().is_some());
    s.step(Event::Stopped(Ok(())));
    s.settle();
    assert!(s.store.leader().is_none());
    assert_eq!(s.store.term().state, TermState::Released);
    assert_eq!(s.exit(), Some(Exit::Clean));
}

#[test]
fn a_payload_that_cannot_be_stopped_keeps_the_key() {
    let mut s = leading();
    s.payload_hangs = true;
    s.step(Event::Terminate);
    s.store.silent = true;
    s.until(s.now + timing().bound() + Duration::from_secs(1));
    s.step(Event::Stopped(Err("read-only".into())));
    assert_eq!(s.exit(), Some(Exit::Unfenced));
    assert!(s.store.leader().is_some());
    assert!(s.status().deadline_ns.is_some(), "whoever comes after it must know of it");
}

#[test]
fn adoption_starts_nothing_before_a_renewal_succeeded() {
    let stored = Stored { token: 50, term: 1, nonce: "nonce-a".into(), deadline: at(5_000) };
    let mut s = Script::adopting("a", stored.clone());
    s.store.lead("a", 50);
    s.store.silent = true;
    s.boot();
    assert_eq!(s.status().state, "adopting");
    assert!(!s.effects.iter().any(|e| matches!(e, Effect::Start { .. } | Effect::Stop { .. })));
    s.store.silent = false;
    s.until(at(2_000));
    assert_eq!(s.status().state, "leading");
    assert_eq!(s.status().token.unwrap().revision, 50);

    let mut late = Script::adopting("a", stored);
    late.store.silent = true;
    late.boot();
    late.payload_hangs = true;
    late.until(at(5_001));
    assert_eq!(late.status().state, "fencing");
}

#[test]
fn an_unanswered_acquisition_that_went_through_counts_from_its_first_sending() {
    let mut s = waiting();
    s.store.swallow = 1;
    s.store.release();
    s.deliver();
    let first = s.now;
    s.until(first + Duration::from_secs(2));
    assert_eq!(s.status().state, "leading");
    let began = s.effects.iter().find_map(|e| match e {
        Effect::Start { until, .. } => Some(*until),
        _ => None,
    });
    assert_eq!(began, Some((first + timing().fence()).before(timing().removal())));
}

#[test]
fn a_phantom_does_not_lead() {
    let mut s = waiting();
    let own = s.store.own();
    s.store.delete(Key::Candidate(own));
    s.store.release();
    // Only the release is heard of; that the lease is gone is not.
    s.deliver_only(&[Key::Leader, Key::Term]);
    let joined =
        |e: &&Effect| matches!(e, Effect::Send { txn, .. } if matches!(txn.then[0], Op::Put(Key::Candidate(_), ..)));
    assert_eq!(s.effects.iter().filter(joined).count(), 2, "it joined the queue again before it led");
}

#[test]
fn a_sick_leader_hands_over_only_if_another_is_fit() {
    let mut s = leading();
    s.until(s.now + Duration::from_secs(40));
    s.step(Event::Fitness(Err(Unfit::Health("503".into()))));
    s.settle();
    assert_eq!(s.status().state, "leading", "all sick must not mean no leader");
    s.store.put_candidate(7, &candidate("c"));
    s.deliver();
    s.settle();
    assert_eq!(s.store.term().heir.as_deref(), Some("c"));
    assert_eq!(s.store.term().cause, "health");
}

#[test]
fn two_processes_of_one_identity_the_later_ends() {
    let mut s = Script::new("a");
    s.store.put_candidate(7, &candidate("a"));
    s.boot();
    s.until(at(40_000));
    assert_eq!(s.exit(), Some(Exit::Duplicate));

    let mut s = Script::new("a");
    s.store.lead("a", 50);
    s.boot();
    s.until(at(2_000));
    s.store.renew();
    s.deliver();
    assert_eq!(s.exit(), Some(Exit::Duplicate));
}

fn leading() -> Script {
    let mut s = Script::new("a");
    s.store.released();
    s.boot();
    assert_eq!(s.status().state, "leading");
    s
}

#[test]
fn a_head_whose_own_key_is_deleted_joins_again() {
    let mut s = waiting();
    let own = s.store.own();
    s.store.delete(Key::Candidate(own));
    s.deliver();
    s.until(s.now + Duration::from_secs(3));
    s.store.release();
    s.deliver();
    s.until(s.now + Duration::from_secs(120));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn an_acquisition_that_only_the_watch_tells_of_is_led() {
    let mut s = waiting();
    let own = s.store.own();
    s.store.swallow = 1;
    s.store.release();
    s.deliver();
    let first = s.now;
    // The watch tells of the own acquisition before the attempt is repeated.
    let view = s.store.view();
    let l = view.leader.clone().unwrap();
    let t = view.term.clone().unwrap();
    let ch =
        |key, bytes, create, modified| Event::Changed(hamaster::elect::view::Change { key, bytes, create, modified });
    s.now = first + ms(10);
    s.step(ch(Key::Leader, Some(serde_json::to_vec(&l.value.unwrap()).unwrap()), l.create, l.modified));
    s.step(ch(Key::Term, Some(serde_json::to_vec(&t.value.unwrap()).unwrap()), t.create, t.modified));
    s.step(ch(Key::Candidate(own), None, 0, l.modified));
    s.until(first + Duration::from_secs(2));
    s.until(first + Duration::from_secs(60));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn a_release_that_never_ends_is_given_up_by_the_bound_that_was_ordered() {
    let mut s = leading();
    s.payload_hangs = true;
    s.until(at(20_000));
    s.step(Event::Terminate);
    let (_, dead) = s.ordered_stop();
    s.until(dead);
    // The last rung, told once.
    s.step(Event::Stopped(Err("immortal".into())));
    s.until(dead + Duration::from_secs(600));
    assert_eq!(s.exit(), Some(Exit::Unfenced));
}
