//! podmaster's flags as they were.

use std::path::Path;
use std::time::Duration;

use hamaster::elect::config::{Config, Confirm, Payload, Podmaster};

fn flags() -> Podmaster {
    Podmaster {
        etcd_servers: "http://127.0.0.1:4001,http://m2".to_owned(),
        key: "/podmaster/scheduler".to_owned(),
        source_file: "/src/manifests/kube-scheduler.manifest".to_owned(),
        dest_file: "/manifests/kube-scheduler.manifest".to_owned(),
        ..Podmaster::default()
    }
}

#[test]
fn they_mean_what_they_meant() {
    let config = Config::from_podmaster(&flags()).unwrap();
    let endpoints: Vec<_> = config.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["http://127.0.0.1:4001", "http://m2:2379"]);
    assert_eq!((config.tls.as_ref(), config.id.as_deref()), (None, None));
    let [group] = &config.groups[..] else { panic!("{config:?}") };
    assert_eq!(group.name, "podmaster-scheduler");
    assert_eq!(group.timing.lease(), Duration::from_secs(30));
    let Payload::File(file) = &group.payload else { panic!() };
    assert_eq!(file.dest, Path::new("/manifests/kube-scheduler.manifest"));
    assert_eq!(file.confirm, Confirm::Auto);
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn the_sleep_is_taken_and_said_to_be_ignored() {
    let config = Config::from_podmaster(&Podmaster { sleep: Some("5s".to_owned()), ..flags() }).unwrap();
    assert_eq!(config.notes, ["--sleep 5s is ignored: changes are watched for"]);
}

#[test]
fn the_name_and_the_files_of_a_tls_store_are_taken() {
    let text = |t: &str| Some(t.to_owned());
    let tls = Podmaster {
        etcd_servers: "https://m1:2379".to_owned(),
        whoami: text("m1"),
        ttl_secs: text("10"),
        etcd_cafile: text("/p/ca.crt"),
        etcd_certfile: text("/p/c.crt"),
        etcd_keyfile: text("/p/c.key"),
        ..flags()
    };
    let config = Config::from_podmaster(&tls).unwrap();
    assert_eq!(config.id.as_deref(), Some("m1"));
    assert_eq!(config.tls.unwrap().key, Path::new("/p/c.key"));
    assert_eq!(config.groups[0].timing.fence(), Duration::from_secs(8));
}

#[test]
fn each_mistake_is_at_its_flag() {
    let bad = |flags: Podmaster| {
        let error = Config::from_podmaster(&flags).unwrap_err();
        let problems: Vec<_> = error.all_problems().iter().map(|p| (p.at.clone(), p.message.clone())).collect();
        (error.message().to_owned(), problems)
    };
    let text = |t: &str| Some(t.to_owned());
    let (message, problems) = bad(Podmaster {
        etcd_servers: "http://m1:2379,m2:2379,htp://m3:2379".to_owned(),
        ttl_secs: text("2"),
        whoami: text(""),
        dest_file: "manifests/x".to_owned(),
        ..flags()
    });
    assert_eq!(message, "the command line has 5 mistakes", "{problems:?}");
    let at: Vec<_> = problems.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(at, ["--dest-file", "--etcd-servers", "--etcd-servers", "--ttl-secs", "--whoami"]);
    assert!(problems[3].1.contains("cannot be safe"), "{problems:?}");

    let (_, problems) = bad(Podmaster { etcd_servers: "https://m1".to_owned(), etcd_cafile: text("/ca"), ..flags() });
    assert_eq!(problems.len(), 2, "{problems:?}");
    let (_, problems) = bad(Podmaster { etcd_servers: String::new(), ..flags() });
    assert_eq!(problems[0].0, "--etcd-servers");
    let (_, problems) = bad(Podmaster { ttl_secs: text("soon"), ..flags() });
    assert!(problems[0].1.contains("not a number of seconds"), "{problems:?}");
}
