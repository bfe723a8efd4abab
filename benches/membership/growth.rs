//! Masters that join.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hamaster::etcd::membership::Member;

use crate::lab::{Lab, until};

/// What a learner has to catch up with.
const MEGABYTES: usize = 400;

/// Three masters from nothing, without images. After each promotion etcd adds nobody for five seconds: the time from the
/// second's vote to the third's being listed is shown apart.
pub(crate) fn masters() {
    let lab = Lab::new(3);
    let begin = Instant::now();
    let up = lab.spawn(&["up", "--masters", "3"]);
    let seen = |what: &str, look: &dyn Fn(&[Member]) -> bool| {
        until(what, || {
            let certified = ["crt", "key"].map(|end| lab.file("m1", &format!("etc/etcd/pki/hamaster.{end}")));
            let members = certified.iter().all(Option::is_some).then(|| lab.client().members().ok()).flatten();
            members.is_some_and(|all| look(&all))
        });
        begin.elapsed().as_secs_f64()
    };
    let second = seen("a second voter", &|all| all.iter().filter(|m| !m.is_learner).count() == 2);
    let third = seen("a third member", &|all| all.len() == 3);
    up.succeeds();
    let all = begin.elapsed().as_secs_f64();
    let pause = third - second;
    println!(
        "  three masters from nothing (aim: 20 s): {all:.1} s, of which etcd paused for {pause:.1} s after a promotion"
    );
}

/// The longest time without a write while a learner catches up: promoted by our gate, and as soon as etcd allows.
pub(crate) fn gate() {
    let lab = Lab::new(1);
    lab.up();
    let client = lab.client();
    for n in 0..MEGABYTES {
        // Not to be compressed or recognised.
        let block: Vec<u8> =
            (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n as u8).collect();
        assert!(client.put_if_absent(&format!("/filler/{n}"), &block).unwrap());
    }
    println!("  {:.0} MB in etcd's database", client.lag().unwrap().db_size as f64 / 1e6);
    let writer = lab.writer();
    let begin = Instant::now();
    lab.lab(&["add"]);
    let (written, lost, gap) = writer.end();
    say("our gate (aim: 0.3 s)", begin, written, lost, gap);
    lab.lab(&["remove", "m2"]);
    let (writer, begin) = (lab.writer(), Instant::now());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody who promotes whoever may be, as kubeadm does.
        scope.spawn(|| {
            let own = lab.client();
            while !done.load(Ordering::Relaxed) {
                let learners = own.members().unwrap_or_default().into_iter().filter(|m| m.is_learner);
                for learner in learners {
                    if own.promote(learner.id).is_ok() {
                        println!(
                            "  etcd allowed the promotion {:.1} s after the command",
                            begin.elapsed().as_secs_f64()
                        );
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        lab.lab(&["add"]);
        done.store(true, Ordering::Relaxed);
    });
    let (written, lost, gap) = writer.end();
    say("etcd's own gate (about 3 s)", begin, written, lost, gap);
}

fn say(what: &str, begin: Instant, written: usize, lost: usize, gap: Duration) {
    let (took, gap) = (begin.elapsed().as_secs_f64(), gap.as_secs_f64());
    println!("  {what:<28} longest gap {gap:.2} s, {written} writes, {lost} lost, the join took {took:.1} s");
}
