//! podmaster's flags as they were, for those who replace the one with the other.

use std::time::Duration;

use super::draft::{Draft, DraftGroup, Etcd};
use super::{Config, checks};
use crate::error::Result;
use crate::spec::mistake::Mistake;
use crate::spec::report::{Report, unique};

/// The flags, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Podmaster {
    /// `--etcd-servers`, separated by commas.
    pub etcd_servers: String,
    /// `--key`
    pub key: String,
    /// `--whoami`
    pub whoami: Option<String>,
    /// `--source-file`
    pub source_file: String,
    /// `--dest-file`
    pub dest_file: String,
    /// `--ttl-secs`
    pub ttl_secs: Option<String>,
    /// `--sleep`
    pub sleep: Option<String>,
    /// `--etcd-cafile`
    pub etcd_cafile: Option<String>,
    /// `--etcd-certfile`
    pub etcd_certfile: Option<String>,
    /// `--etcd-keyfile`
    pub etcd_keyfile: Option<String>,
}

impl Config {
    /// What podmaster's flags mean here. The key is a group's name, and nothing podmaster wrote under it is read.
    ///
    /// # Errors
    /// Every mistake, each at its flag.
    pub fn from_podmaster(flags: &Podmaster) -> Result<Self> {
        let mut report = Report::new("the command line");
        let r = &mut report;
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut file = |flag, key, text: &Option<String>| match text {
            Some(text) => r.flag(flag, key, text, checks::file),
            None => None,
        };
        let ca = file("--etcd-cafile", "etcd.caFile", &flags.etcd_cafile);
        let cert = file("--etcd-certfile", "etcd.certFile", &flags.etcd_certfile);
        let key = file("--etcd-keyfile", "etcd.keyFile", &flags.etcd_keyfile);
        let mut seen = vec![];
        let endpoints = flags.etcd_servers.split(',').enumerate().filter_map(|(at, text)| {
            let parse = |text: &str| unique(&mut seen, checks::endpoint(text.trim())?, "the endpoint");
            r.flag("--etcd-servers", format!("etcd.endpoints.{at}"), text, parse)
        });
        let etcd = Etcd { endpoints: endpoints.collect(), ca, cert, key };
        // etcd v2 had directories: `--key=/podmaster/scheduler` was usual.
        let name = |text: &str| checks::name(&text.trim_matches('/').replace('/', "-"));
        let group = DraftGroup {
            name: r.flag("--key", "groups.0.name", &flags.key, name),
            source: r.flag("--source-file", "groups.0.sourceFile", &flags.source_file, checks::file),
            dest: r.flag("--dest-file", "groups.0.destFile", &flags.dest_file, checks::file),
            ..DraftGroup::default()
        };
        let ttl = flags.ttl_secs.as_deref().unwrap_or("30");
        // A host has one podmaster for each key, and each its own socket.
        let runtime_dir = Draft::default().runtime_dir.join(group.name.as_deref().unwrap_or_default());
        let lease = r.flag("--ttl-secs", "leaseDuration", ttl, seconds);
        let mut notes = vec![];
        if flags.sleep.is_some() {
            notes.push(format!("--sleep {} is ignored: changes are watched for", optional(&flags.sleep)));
        }
        let d = Draft::default();
        let id = flags.whoami.as_ref().and_then(|text| r.flag("--whoami", "id", text, checks::id));
        let lease = lease.unwrap_or(d.lease);
        let draft = Draft { id, etcd, lease, groups: vec![group], notes, runtime_dir, ..d };
        let config = draft.resolve(&mut report);
        report.finish()?;
        Ok(config)
    }
}

fn seconds(text: &str) -> Result<Duration, Mistake> {
    let bare = text.strip_suffix('s').unwrap_or(text);
    bare.parse().map(Duration::from_secs).map_err(|_| {
        Mistake::new(format!("`{}` is not a number of seconds", text.escape_debug())).hint("write e.g. `30`")
    })
}
