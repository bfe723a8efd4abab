//! Founders that are written down in DNS, asked through the resolver of the host.

use std::path::Path;
use std::process::Command;

use crate::image::{self, carry, flag, run};
use crate::servers::Server;

const DNS: &str = "127.0.101.53";
const MASTERS: [(&str, &str); 3] = [("m1", "127.0.101.1"), ("m2", "127.0.101.2"), ("m3", "127.0.101.3")];

fn dns(records: &[String]) -> Server {
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args(["--pid-file=", "--user=root", "--log-facility=-", "--listen-address", DNS]).args(records);
    Server::start(&mut command, &format!("{DNS}:53"))
}

fn records(targets: &[(&str, &str, u16)]) -> Vec<String> {
    let record = |(name, ip, port): &(&str, &str, u16)| {
        let srv = format!("--srv-host=_etcd-server-ssl._tcp.example.test,{name}.example.test,{port}");
        [srv, format!("--host-record={name}.example.test,{ip}")]
    };
    targets.iter().flat_map(record).collect()
}

/// `hamaster init` where the resolver of the host is ours.
fn seek(dir: &Path, master: (&str, &str), more: &[&str]) -> Command {
    let init = image::command(dir, master);
    let conf = dir.join("resolv.conf");
    std::fs::write(&conf, format!("nameserver {DNS}\n")).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(conf).arg(init.get_program()).args(init.get_args());
    command.args(["--etcd-bootstrap", "discovery", "--discovery-url", "srv:example.test", "--ignore-preflight", "all"]);
    command.args(more);
    command
}

#[test]
fn three_are_found_in_dns_and_what_dns_says_wrong_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (code, said) = run(&mut seek(dir, MASTERS[0], &["--only", "pki"]));
    assert_eq!(code, 0, "nobody is asked for the bundle: {said}");
    MASTERS[1..].iter().for_each(|(name, _)| carry(dir, "m1", name));
    let right = MASTERS.map(|(name, ip)| (name, ip, 2380));

    let server = dns(&[]);
    let (code, said) = run(&mut seek(dir, MASTERS[0], &[]));
    assert!(
        code == 3 && said.contains("no SRV records of _etcd-server-ssl._tcp.example.test") && said.contains("dig"),
        "{said}"
    );
    drop(server);

    let server = dns(&records(&[right[0], right[1], ("m3", "127.0.101.3", 2379)]));
    let (code, said) = run(&mut seek(dir, MASTERS[0], &[]));
    assert!(code == 3 && said.contains("is named with the port 2379"), "{said}");
    drop(server);

    let _server = dns(&records(&right));
    let (code, said) = run(&mut seek(dir, ("m4", "127.0.101.4"), &[]));
    assert!(code == 3 && said.contains("m4: is not one of the masters") && said.contains("m1, m2, m3"), "{said}");
    let (code, said) = run(&mut seek(dir, ("master-1", "127.0.101.1"), &[]));
    assert!(code == 3 && said.contains("--name m1"), "{said}");
    let (code, said) =
        run(&mut seek(dir, MASTERS[0], &["--initial-master=m1=127.0.101.1", "--initial-master=m2=127.0.101.2"]));
    assert!(code == 3 && said.contains("has 3 masters, 2 are named"), "{said}");
    for master in MASTERS {
        let (code, said) = run(&mut seek(dir, master, &[]));
        assert_eq!(code, 0, "{said}");
    }
    let wanted = MASTERS.map(|(name, ip)| format!("{name}=https://{ip}:2380")).join(",");
    for (name, _) in MASTERS {
        assert!(flag(dir, name, "--initial-cluster=").contains(&wanted));
    }
    drop(_server);
    let (code, said) = run(&mut seek(dir, MASTERS[0], &[]));
    assert!(code == 0 && said.contains("nothing to do"), "nobody is asked again: {said}");
}
