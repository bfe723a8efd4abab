//! What a master's keeper decides: one at a time, never past a failure, never over a person's edit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use hamaster::plan::keeping::{Duty, Look, duty, standing};
use hamaster::state::report::{Report, Standing};

fn report(generation: u64, standing: Standing) -> Report {
    Report { generation, standing, why: vec![], since: String::new(), hamaster: String::new() }
}

fn look(generation: u64, steps: usize) -> Look {
    Look { generation, steps, ..Look::default() }
}

#[test]
fn an_empty_plan_is_no_work() {
    assert_eq!(duty(&look(3, 0)), Duty::Rest);
    assert_eq!(duty(&look(3, 1)), Duty::Apply);
}

#[test]
fn a_person_s_edit_is_never_undone() {
    let edited = Look { edited: true, ..look(3, 5) };
    assert!(matches!(duty(&edited), Duty::Stay(why) if why[0].contains("hamaster init")));
}

#[test]
fn what_is_in_the_way_is_for_a_person_and_nothing_else_is_done_meanwhile() {
    let conflict = Look { conflicts: vec!["/etc/x exists".to_owned()], ..look(3, 5) };
    assert_eq!(duty(&conflict), Duty::Stay(vec!["/etc/x exists".to_owned()]));
}

#[test]
fn a_spec_that_failed_at_one_master_is_not_tried_at_the_next() {
    let at = |generation| {
        let others = BTreeMap::from([("m1".to_owned(), report(generation, Standing::Failed))]);
        duty(&Look { others, ..look(3, 5) })
    };
    assert!(matches!(at(3), Duty::Wait(why) if why.contains("m1")));
    // The next join makes another spec, which cures nothing.
    assert!(matches!(at(2), Duty::Wait(why) if why.contains("m1 failed") && why.contains("goes first")));
}

/// It may have died of it: nobody finds out by dying, too.
#[test]
fn a_spec_that_another_master_is_not_done_with_is_not_tried_at_the_next() {
    let others = BTreeMap::from([("m1".to_owned(), report(3, Standing::Applying))]);
    assert!(matches!(duty(&Look { others, ..look(3, 5) }), Duty::Wait(why) if why.contains("m1")));
}

/// Others go on by what it says.
#[test]
fn what_failed_is_not_talked_over() {
    for last in [Standing::Failed, Standing::Applying] {
        for now in [Standing::Waiting, Standing::Blocked] {
            assert_eq!(standing(Some(&report(3, last)), 3, now), (3, last));
            assert_eq!(standing(Some(&report(2, last)), 3, now), (2, last), "the next spec was not tried yet");
        }
        for now in [Standing::Current, Standing::Applying, Standing::Failed] {
            assert_eq!(standing(Some(&report(2, last)), 3, now), (3, now));
        }
    }
    assert_eq!(standing(None, 3, Standing::Waiting), (3, Standing::Waiting));
}

#[test]
fn a_change_that_never_ends_needs_a_person() {
    let began = time::OffsetDateTime::UNIX_EPOCH;
    let applying = Report { since: "1970-01-01T00:00:00Z".to_owned(), ..report(3, Standing::Applying) };
    assert!(applying.is_well(began + Duration::from_secs(600)));
    assert!(!applying.is_well(began + Duration::from_secs(1_000)));
}

#[test]
fn etcd_is_restarted_only_while_the_others_are_a_majority() {
    for (voters, others_well, goes) in
        [(1, 0, true), (2, 0, false), (2, 1, true), (3, 1, false), (3, 2, true), (5, 2, false), (5, 3, true)]
    {
        let at = duty(&Look { restarts_etcd: true, voters, others_well, ..look(1, 1) });
        assert_eq!(at == Duty::Apply, goes, "{voters} voters, {others_well} others: {at:?}");
    }
}

/// Masters that look in any order while others join and leave: at most one has applied a spec that broke one, and once it
/// is good again all come to have it.
#[test]
fn a_bad_spec_breaks_one_master_at_most() {
    for seed in 0..2_000_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let names = ["m1", "m2", "m3", "m4", "m5"];
        let mut reports: BTreeMap<&str, Report> = names.iter().map(|n| (*n, report(1, Standing::Current))).collect();
        let mut turn: Option<(&str, u64)> = None;
        let (mut generation, mut broken) = (2, std::collections::BTreeSet::new());
        for step in 0..160 {
            let bad = step < 80;
            if next(8) == 0 || step == 80 {
                generation += 1;
            }
            let me = names[usize::try_from(next(5)).unwrap()];
            let last = reports[me].clone();
            if let Some((_, at)) = turn.filter(|(who, _)| *who == me) {
                // Said before the turn is given back.
                let done = if bad { Standing::Failed } else { Standing::Current };
                reports.insert(me, report(at, done));
                turn = None;
                if bad {
                    broken.insert(me);
                }
                continue;
            }
            let others = reports.iter().filter(|(n, _)| **n != me).map(|(n, r)| ((*n).to_owned(), r.clone())).collect();
            let unfinished = last.standing.is_unfinished();
            let steps = usize::from((last.generation, last.standing) != (generation, Standing::Current));
            let may = duty(&Look { others, unfinished, ..look(generation, steps) });
            let now = match may {
                Duty::Apply if turn.is_none() => {
                    turn = Some((me, generation));
                    Standing::Applying
                }
                Duty::Rest => Standing::Current,
                _ => Standing::Waiting,
            };
            let (of, now) = standing(Some(&last), generation, now);
            reports.insert(me, report(of, now));
        }
        assert!(broken.len() <= 1, "seed {seed}: {broken:?}");
        // Whoever looks as long as there is something to do.
        for _ in 0..40 {
            for me in names {
                let last = reports[me].clone();
                let others =
                    reports.iter().filter(|(n, _)| **n != me).map(|(n, r)| ((*n).to_owned(), r.clone())).collect();
                let mine = turn.is_none_or(|(who, _)| who == me);
                let look = Look { others, unfinished: last.standing.is_unfinished(), ..look(generation, 1) };
                if mine && duty(&look) == Duty::Apply {
                    turn = None;
                    reports.insert(me, report(generation, Standing::Current));
                }
            }
        }
        assert!(reports.values().all(|r| (r.generation, r.standing) == (generation, Standing::Current)), "seed {seed}");
    }
}

#[test]
fn a_report_of_a_newer_hamaster_reads() {
    let text = r#"{"generation":4,"standing":"hibernating","why":["x"],"since":"y","hamaster":"9.0.0","more":1}"#;
    let read: Report = serde_json::from_str(text).unwrap();
    assert_eq!(read.standing, Standing::Unknown);
    assert!(!read.standing.is_well());
}
