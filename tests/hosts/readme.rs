//! What README.md shows to be run on several hosts, in order, on hosts of these names.

use std::collections::BTreeMap;
use std::fs;

use crate::join::host;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::worker::{bare_host, master};

const README: &str = include_str!("../../README.md");

/// Host and command, for every line of the blocks that are marked so.
fn commands() -> Vec<(&'static str, &'static str)> {
    let (mut on, mut open, mut all) = (None, false, vec![]);
    for line in README.lines() {
        match line.strip_prefix("<!-- runs: on ").and_then(|rest| rest.strip_suffix(" -->")) {
            Some(host) => on = Some(host),
            None if line.starts_with("```") => {
                open = !open;
                on = on.filter(|_| open);
            }
            None => all.extend(on.filter(|_| open).map(|host| (host, line))),
        }
    }
    all
}

/// What a host of the test must be told besides: it has more than one network, and neither all programs nor all resources.
fn with_flags(command: &str, name: &str, host: &Machine) -> String {
    let rest = command.strip_prefix("sudo ").unwrap_or_else(|| panic!("not as root: {command}"));
    let flags = format!(" --name {name} --advertise-ip {} --adopt --ignore-preflight all", host.ip());
    let flags = if rest.starts_with("hamaster join") { &flags } else { "" };
    match rest.split_once(" > ") {
        Some((command, file)) => format!("cd /srv && {command}{flags} > {file}"),
        None => format!("cd /srv && {rest}{flags}"),
    }
}

#[test]
fn every_command_that_is_shown_for_several_hosts_is_run() {
    let Some(lab) = Lab::new() else { return };
    let m1 = master(&lab);
    let (m2, m3, w1) = (host(&lab, "m2", 12), host(&lab, "m3", 13), bare_host(&lab));
    let hosts = BTreeMap::from([("m1", m1), ("m2", m2), ("m3", m3), ("w1", w1)]);
    hosts.values().for_each(|host| fs::create_dir_all(host.path("/srv")).unwrap());
    let commands = commands();
    assert!(commands.len() >= 13, "{commands:?}");
    for (name, command) in commands {
        let host = hosts.get(name).unwrap_or_else(|| panic!("no host {name}"));
        eprintln!("{name}: {command}");
        eprintln!("{}", host.ok(&["sh", "-c", &with_flags(command, name, host)]));
        if let Some((_, file)) = command.split_once(" > ") {
            // As the operator carries it.
            for other in hosts.values().filter(|other| other.ip() != host.ip()) {
                for carried in [file, "bundle"].map(|file| format!("/srv/{file}")) {
                    let _ = fs::copy(host.path(&carried), other.path(&carried));
                }
            }
        }
    }
}
