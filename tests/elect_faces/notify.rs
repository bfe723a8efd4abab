//! A service manager of our own.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use hamaster::host::notify::Notify;

const W: Duration = Duration::from_millis(1500);

fn received(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let n = manager.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..n].to_vec()).unwrap()
}

#[test]
fn the_manager_hears_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let notify = Notify::new(path.as_os_str(), Some(W)).unwrap();
    notify.ready();
    notify.status("leads vip\nsince now");
    notify.ping();
    notify.stopping();
    let heard = [0; 4].map(|_: u8| received(&manager));
    assert_eq!(heard, ["READY=1", "STATUS=leads vip; since now", "WATCHDOG=1", "STOPPING=1"]);
    assert_eq!(notify.every(), Some(Duration::from_millis(750)));
}

#[test]
fn an_abstract_socket_is_one_too() {
    let name = format!("hamaster-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    Notify::new(OsStr::new(&format!("@{name}")), None).unwrap().ready();
    assert_eq!(received(&manager), "READY=1");
}

#[test]
fn a_manager_that_does_not_read_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let notify = Notify::new(path.as_os_str(), Some(W)).unwrap();
    (0..10_000).for_each(|_| notify.ping());
}

#[test]
fn a_gap_in_the_watch_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let with = |watchdog| Notify::new(path.as_os_str(), watchdog).unwrap();
    assert_eq!(with(Some(W)).gap(W), None);
    assert!(with(None).gap(W).unwrap().contains("no service manager watches"));
    assert!(Notify::default().gap(W).unwrap().contains("no service manager watches"));
    let late = with(Some(W * 20)).gap(W).unwrap();
    assert!(late.contains("30s") && late.contains("WatchdogSec=1500ms"), "{late}");
}
