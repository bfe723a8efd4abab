//! A worker killed anywhere goes on where it was, with the token it had.

use crate::host::Host;
use crate::master::Master;

/// Where it is killed, in the order it comes there.
const POINTS: [&str; 10] = [
    "join.imported:1",
    "join.bundle:1",
    "step:1",
    "step:2",
    "join.requested:1",
    "join.requested:2",
    "join.signed:1",
    "step:3",
    "step:7",
    "join.done:1",
];

#[test]
fn killed_at_every_step_it_is_a_worker_in_the_end() {
    let m1 = Master::new();
    let (token, w1) = (m1.token(&["--worker"]), Host::new("w1", 21));
    for point in POINTS {
        assert!(w1.killed_at(point, &m1, &token), "not come by: {point}");
    }
    // The last one came after everything was done.
    let again = w1.join(&m1, &token).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{again:#?}");

    // As if it had not been killed: the same files, but for what is random.
    let uncut = Host::new("w1", 21);
    uncut.join(&Master::new(), &m1.token(&["--worker"])).expect(3);
    let m2 = Master::new();
    uncut.join(&m2, &m2.token(&["--worker"])).expect(0);
    let paths = |host: &Host| -> Vec<_> {
        let random = |path: &std::path::PathBuf| path.starts_with("/var/lib/hamaster/backup");
        host.tree().into_iter().filter(|(path, _)| !random(path)).map(|(path, (mode, _))| (path, mode)).collect()
    };
    assert_eq!(paths(&w1), paths(&uncut));
    let used = m1.tokens().into_iter().find(|t| t["id"] == token.id.to_string()).unwrap();
    assert_eq!((&used["usesLeft"], &used["usedBy"]), (&0.into(), &serde_json::json!(["w1"])));
}

/// One after the other, from the first to where there is nothing left to kill: the Nth point of all.
#[test]
fn killed_at_any_point_at_all_it_goes_on() {
    let m1 = Master::new();
    let (token, w1) = (m1.token(&["--worker"]), Host::new("w1", 21));
    let mut killed = 0;
    for at in (1..).step_by(7) {
        if !w1.killed_at(&at.to_string(), &m1, &token) {
            break;
        }
        killed += 1;
    }
    assert!(killed > 3, "{killed}");
    let again = w1.join(&m1, &token).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{again:#?}");
}
