//! What goes wrong twice, what an operator lets slip, what would come true too late.

use std::time::Duration;

use hamaster::elect::event::{Effect, Event, Exit};
use hamaster::elect::instant::Instant;
use hamaster::elect::timing::with_drift;
use hamaster::elect::txn::Op;
use hamaster::elect::view::Key;

use crate::script::{RIVAL, Script, Store, at, candidate, ms, timing};
use crate::{leading, waiting};

#[test]
fn a_crash_in_the_middle_of_a_stop_does_not_begin_its_bounds_anew() {
    let t = timing();
    let (removal, stop) = (t.removal(), t.stop());
    // Nothing was left unfinished: f and K from now.
    let mut s = Script::new("a");
    s.payload_hangs = true;
    s.boot();
    assert_eq!(s.ordered_stop(), (at(0) + removal, at(0) + removal + stop));

    // The deadline passed W and f ago: the file should be gone now, and K runs.
    let mut s = Script::unfinished("a", at(0).before(t.watchdog() + removal));
    s.payload_hangs = true;
    s.boot();
    assert_eq!(s.ordered_stop(), (at(0), at(0) + removal + stop));

    // Long overdue: no grace, but all of K, for nobody may be there to be asked.
    let mut s = Script::unfinished("a", at(0).before(Duration::from_secs(60)));
    s.payload_hangs = true;
    s.boot();
    let (gone, dead) = s.ordered_stop();
    assert_eq!(dead, at(0) + removal + stop);
    assert!(dead.before(dead.since(gone) / 2) < at(0), "it is to be killed at once");
    // And a third process hears of it as well.
    assert_eq!(s.status().deadline_ns.map(Instant::from_nanos), Some(at(0).before(Duration::from_secs(60))));
    assert!(!s.status().is_leader);
    s.step(Event::Stopped(Ok(())));
    assert_eq!(s.status().deadline_ns, None);
}

#[test]
fn who_was_told_to_resign_during_a_pause_does_not_when_it_ends() {
    let mut s = leading();
    s.store.put(Key::Pause, br#"{"by":"me"}"#);
    s.store.put_candidate(7, &candidate("c"));
    s.deliver();
    s.step(Event::Resign);
    s.settle();
    s.store.delete(Key::Pause);
    s.deliver();
    s.until(s.now + Duration::from_secs(60));
    assert_eq!(s.status().state, "leading");
}

#[test]
fn a_rival_that_left_has_not_waited_meanwhile() {
    let mut s = leading();
    let mut rival = candidate("c");
    rival.priority = 9;
    s.store.put_candidate(7, &rival);
    s.deliver();
    s.until(s.now + RIVAL * 3 / 5);
    s.store.delete(Key::Candidate(hamaster::elect::record::LeaseId(7)));
    s.deliver();
    s.settle();
    s.store.put_candidate(7, &rival);
    s.deliver();
    s.until(s.now + RIVAL * 3 / 5);
    assert_eq!(s.status().state, "leading");
    s.until(s.now + RIVAL * 3 / 5);
    assert_eq!(s.store.term().heir.as_deref(), Some("c"));
}

#[test]
fn who_ends_in_the_queue_leaves_it_before_its_process_does() {
    let mut s = waiting();
    let own = s.store.own();
    s.step(Event::Terminate);
    assert_eq!(s.exit(), Some(Exit::Clean));
    assert!(!s.store.view().candidates.contains_key(&own));
    let last = s.effects.iter().rev().find_map(|e| match e {
        Effect::Send { txn, .. } => Some(&txn.then[0]),
        _ => None,
    });
    assert!(matches!(last, Some(Op::Delete(Key::Candidate(lease))) if *lease == own));
}

#[test]
fn a_bound_that_nobody_can_have_does_not_stop_a_group_for_ever() {
    let mut s = Script::new("b");
    s.store.lead_with_bound("a", 50, Duration::from_millis(u64::MAX));
    s.boot();
    let longest = Duration::from_secs(2 * 86_400);
    s.until(at(0) + longest);
    assert_eq!(s.status().state, "head");
    s.until(at(0) + longest + longest / 10);
    assert_eq!(s.status().state, "leading");
}

/// What is not there has no revision: only a mark tells a vacancy from another one.
#[test]
fn who_did_not_see_a_leader_come_and_go_waits_anew() {
    let wait = with_drift(timing().bound());
    let mut s = Script::new("b");
    s.boot();
    s.until((at(0) + wait).before(ms(100)));
    assert_eq!(s.status().state, "head");
    // The watch is deaf: another led, and everything was deleted.
    s.store.lead("a", 70);
    s.store.delete(Key::Leader);
    s.store.delete(Key::Term);
    s.until(at(0) + wait + ms(200));
    assert_eq!(s.status().state, "head", "it led while the other may still run");
    s.until(s.now + wait + ms(200));
    assert_eq!(s.status().state, "leading");
}

/// It would count itself behind another that waits for it, for ever.
#[test]
fn a_rank_that_changes_while_another_is_being_written_is_written_after_it() {
    let mut s = Script::new("b");
    s.store.lead("a", 50);
    s.step(Event::Tick);
    s.step(Event::Lease(Some(s.store.own())));
    for (asks, bias) in [(Event::Fitness(Ok(())), -1), (Event::Bias(-2), 0), (Event::Bias(-3), -1)] {
        let asked = s.machine.step(s.now, asks);
        let sent = asked.iter().find_map(|e| match e {
            Effect::Send { id, txn, .. } => Some((*id, txn.clone())),
            _ => None,
        });
        let (id, txn) = sent.unwrap();
        let answer = s.store.run(&txn);
        s.step(Event::Bias(bias));
        s.step(Event::Answered(id, answer));
        s.settle();
        assert_eq!(s.store.candidate(s.store.own()).bias, bias);
    }
}

/// A read that is answered after a restore says more than what is there: it would look old for ever.
#[test]
fn a_store_that_went_back_unnoticed_is_found_out() {
    let mut s = Script::new("b");
    s.store.lead("a", 50);
    s.boot();
    assert_eq!(s.status().state, "head");
    s.store = Store::new();
    s.step(Event::Seen(s.store.view()));
    s.until(s.now + with_drift(timing().bound()) * 2);
    assert_eq!(s.status().state, "leading");
}
