//! Lines: transitions always, trouble within bounds, and never at the price of the election.

use std::io::{Result, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use hamaster::elect::instant::Instant;
use hamaster::host::journal::Journal;

/// Takes lines and tells them.
struct Reader(Sender<String>);

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let _ = self.0.send(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn journal() -> (Journal, Receiver<String>) {
    let (tell, heard) = channel();
    (Journal::new("elect", Reader(tell)).unwrap(), heard)
}

#[test]
fn one_line_for_each_transition_whatever_is_in_it() {
    let (journal, heard) = journal();
    (0..100).for_each(|n| journal.say("vip", &format!("leads, term {n}")));
    journal.say("", "no status on the unix socket:\n  in use\n");
    drop(journal);
    let lines: Vec<_> = heard.iter().collect();
    assert_eq!(lines.len(), 101);
    assert_eq!(lines[99], "elect: vip: leads, term 99\n");
    assert_eq!(lines[100], "elect: no status on the unix socket:;   in use\n");
}

#[test]
fn an_outage_of_an_hour_is_ten_lines_a_minute_at_most() {
    let (mut journal, heard) = journal();
    let mut last = 0;
    for tick in 0..3600 * 5 {
        let now = Instant::from_nanos(tick * 200_000_000);
        journal.trouble(now, "vip", &format!("renewal {tick} went unanswered"));
        journal.trouble(now, "vip", "etcd is unreachable");
        last = tick;
    }
    drop(journal);
    let lines: Vec<_> = heard.iter().collect();
    assert!(lines.len() <= 600, "{} lines", lines.len());
    assert!(lines.len() >= 60, "not silent either: {} lines", lines.len());
    assert!(lines.last().unwrap().contains("more lines were withheld"), "{:?} after tick {last}", lines.last());
}

#[test]
fn the_same_trouble_is_said_once_a_minute() {
    let (mut journal, heard) = journal();
    for second in 0..120 {
        journal.trouble(Instant::from_nanos(second * 1_000_000_000), "vip", "etcd is unreachable");
    }
    drop(journal);
    let lines: Vec<_> = heard.iter().collect();
    let again = "elect: vip: etcd is unreachable (59 more lines were withheld)\n";
    assert_eq!(lines, ["elect: vip: etcd is unreachable\n", again]);
}

/// A reader that took one line and hangs.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, _: &[u8]) -> Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_hangs_stops_nobody() {
    let (release, hung) = channel();
    let (done, ended) = channel();
    std::thread::spawn(move || {
        let journal = Journal::new("elect", Stuck(hung)).unwrap();
        (0..10_000).for_each(|n| journal.say("vip", &format!("line {n}")));
        drop(journal);
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(30)).expect("the election waits for its log");
    drop(release);
}
