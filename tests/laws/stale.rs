//! Laws 6 and 7, and one hamaster at a time.

use std::fs;
use std::net::IpAddr;

use hamaster::apply::{self, Master, Options};
use hamaster::error::Kind;
use hamaster::host::Host;
use hamaster::host::systemd;
use hamaster::render::Templates;
use hamaster::spec::file::{Overrides, load};
use hamaster::spec::layout::Layout;
use hamaster::spec::{Node, ThisNode};
use hamaster::state::facts::HostFacts;

use crate::common::Image;

/// The library's way to the same master.
pub fn master() -> Master {
    let mut spec = load(None, &Overrides::default()).unwrap();
    let node = Node { name: "m1".to_owned(), ip: IpAddr::from([192, 0, 2, 10]) };
    spec.masters = vec![node.clone()];
    Master {
        role: hamaster::token::Role::Master,
        tools: hamaster::preflight::tools(&HostFacts::default(), &spec),
        spec,
        this: ThisNode { node, loopback: IpAddr::from([127, 0, 0, 1]), layout: Layout::host() },
        templates: Templates::embedded().unwrap(),
        programs: Default::default(),
        over: hamaster::etcd::client::Over::Nothing,
        adapt: Box::new(|_| {}),
    }
}

pub fn open(image: &Image) -> Host {
    Host::new(image.root(), Box::new(systemd::Image::new(image.root()))).unwrap()
}

/// Plans, lets `meddle` change the host, applies.
fn meddled(image: &Image, options: &Options, meddle: impl FnOnce()) -> Kind {
    let (mut host, master) = (open(image), master());
    let seen = apply::preview(&host, &master, options).unwrap();
    meddle();
    let before = image.tree();
    let error = apply::init(&mut host, &master, options, seen, &mut |_| {}).unwrap_err();
    image.tree().assert_is(&before, &format!("a stale plan: {error}"));
    error.kind()
}

#[test]
fn a_file_that_appears_after_the_plan_was_shown_stops_it() {
    for options in [Options::default(), Options { adopt: true, ..Options::default() }] {
        let image = Image::new();
        let path = "/etc/hamaster/elect.yaml";
        assert_eq!(meddled(&image, &options, || image.put(path, "mine\n", 0o644)), Kind::Conflict);
    }
}

#[test]
fn a_file_of_ours_that_changes_after_the_plan_was_shown_stops_it() {
    let image = Image::new();
    let (mut host, master) = (open(&image), master());
    let options = Options::default();
    let seen = apply::preview(&host, &master, &options).unwrap();
    apply::init(&mut host, &master, &options, seen, &mut |_| {}).unwrap();
    drop(host);
    let path = "/etc/hamaster/elect.yaml";
    image.put(path, "one edit\n", 0o644);
    assert_eq!(meddled(&image, &options, || image.put(path, "another edit\n", 0o644)), Kind::Conflict);
}

#[test]
fn a_broken_template_is_found_before_anything_is_touched() {
    let templates = tempfile::tempdir().unwrap();
    // The last phase's: every other one could have been applied by then.
    fs::create_dir(templates.path().join("systemd")).unwrap();
    let image = Image::new();
    let before = image.tree();
    for broken in ["{{#if", "{{ no.such.value }}"] {
        fs::write(templates.path().join("systemd/hamaster-serve.service.hbs"), broken).unwrap();
        let said = image.init(&["--templates", templates.path().to_str().unwrap()]);
        assert!(matches!(said.code, Some(2 | 4)) && said.err.contains("hamaster-serve.service.hbs"), "{said}");
        image.tree().assert_is(&before, &said.to_string());
    }
}

#[test]
fn a_second_hamaster_is_turned_away() {
    let image = Image::new();
    let before = image.tree();
    let host = open(&image);
    let lock = host.lock().unwrap();
    for command in [&["init", "--yes", "--name=m1", "--advertise-ip=192.0.2.10"][..], &["reset", "--yes"]] {
        let said = image.run(command).expect(4);
        assert!(said.err.contains("another hamaster") && said.err.contains(&std::process::id().to_string()), "{said}");
        image.tree().assert_is(&before, &said.to_string());
    }
    drop(lock);
    image.init(&[]).expect(0);
}
