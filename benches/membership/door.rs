//! The door: the daemon with a real etcd behind it.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hamaster::token::{Role, Stored, Token};
use rustix::time::{ClockId, clock_gettime};

use crate::master::{Master, request};
use crate::wire::{HERE, post};

const WINDOW: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 4;
const ASKED: usize = 300;
const TOKENS: u16 = 1000;

/// Tokens checked, and what a flood of bad ones does to a good one.
pub(crate) fn door() {
    let m1 = Master::new();
    let good = serde_json::to_vec(&request(&m1.token(&[]), "m2")).unwrap();
    let bad = serde_json::to_vec(&request(&Token::new(&[9; 40], m1.pin()), "m9")).unwrap();
    checks(&m1);
    visits(&m1, &good);
    let alone = answers(&m1, &good);
    println!("  a good one's answer, alone:                   {}", spread(alone));
    let (flooded, rate) = beside(&m1, &good, |_| bad_from(&m1, 66, 0, &bad));
    println!("  beside {rate:>5.0} bad ones a second, one source:      {}", spread(flooded));
    // None of them sends so many that it is told to wait.
    let (flooded, rate) = beside(&m1, &good, |n| bad_from(&m1, (n / 200 % 200) as u8, (n % 200) as u8, &bad));
    println!("  beside {rate:>5.0} bad ones a second, 40,000 sources:  {}", spread(flooded));
}

fn bad_from(m1: &Master, a: u8, b: u8, bad: &[u8]) {
    // Most of a single source's are closed at once.
    let _ = post(m1, Ipv4Addr::new(127, 99, a, b + 1), bad);
}

/// A good one's answers while others ask, and how often these did in a second.
fn beside(m1: &Master, good: &[u8], ask: impl Fn(usize) + Sync) -> (Vec<Duration>, f64) {
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    ask(sent.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let flooded = answers(m1, good);
        done.store(true, Ordering::Relaxed);
        (flooded, sent.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
    })
}

/// What a thousand valid joins ask of their tokens: each is read from etcd, its secret compared, its use counted down.
fn checks(m1: &Master) {
    let client = m1.client();
    let new = |n: u16| {
        let mut random = [7; 40];
        // Of five bits each: they make the id.
        (random[38], random[39]) = ((n / 32 % 32) as u8, (n % 32) as u8);
        let token = Token::new(&random, m1.pin());
        let (secret_hash, role) = (token.secret_hash(), Role::Master);
        let stored = Stored { secret_hash, role, node: None, uses: 1, bearers: vec![], expires: i64::MAX };
        assert!(client.create_token(&token.id, &stored, Duration::from_secs(3600)).unwrap());
        token
    };
    let tokens: Vec<Token> = (0..TOKENS).map(new).collect();
    let own = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let (begin, before) = (Instant::now(), own());
    for token in &tokens {
        let found = client.token(&token.id).unwrap().unwrap();
        let used = found.stored.admit(token.secret().expose(), b"an attempt", "m2", Role::Master, 0).unwrap();
        assert!(client.use_token(&found, &used.unwrap()).unwrap());
    }
    let rate = |time: Duration| f64::from(TOKENS) / time.as_secs_f64();
    println!(
        "  {:.0} tokens checked and used per second of a core (aim: 1000), {:.0} one after the other",
        rate(own() - before),
        rate(begin.elapsed())
    );
}

/// Whole visits: TLS, the token, the spec and the status from etcd, the files.
fn visits(m1: &Master, good: &[u8]) {
    let pid = daemon(m1);
    let (begin, before, counted) = (Instant::now(), cpu(pid), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let counted = &counted;
            scope.spawn(move || {
                while begin.elapsed() < WINDOW {
                    let (status, text) = post(m1, Ipv4Addr::new(127, 0, 1, n + 1), good).unwrap();
                    assert_eq!(status, 200, "{text}");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (count, used) = (counted.into_inner() as f64, (cpu(pid) - before).as_secs_f64());
    let (per_core, per_second) = (count / used, count / begin.elapsed().as_secs_f64());
    println!("  {per_second:.0} good joins answered a second; the daemon alone would do {per_core:.0} per core");
}

fn answers(m1: &Master, good: &[u8]) -> Vec<Duration> {
    let one = |_| {
        let asked = Instant::now();
        assert_eq!(post(m1, HERE, good).unwrap().0, 200);
        asked.elapsed()
    };
    (0..ASKED).map(one).collect()
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms, {} times", at(50), at(99), times.len())
}

fn daemon(m1: &Master) -> u32 {
    let prefix = m1.dir.path().display().to_string();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let is = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("\0serve\0") && line.contains(&prefix)
    };
    pids.into_iter().find(is).expect("the daemon")
}

/// What a process used so far: utime and stime are the 12th and 13th after the name in brackets, in hundredths.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum::<u64>();
    Duration::from_millis(ticks * 10)
}
