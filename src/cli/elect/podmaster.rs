//! podmaster's flags on our command line.

use std::ffi::OsString;

use clap::Args;

use crate::elect::config::Podmaster;
use crate::error::{Error, Problem, Result};

/// podmaster's flags. Ours, those that are new, follow the names Kubernetes gives them elsewhere.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "As podmaster, in place of --config")]
pub(super) struct Flags {
    /// Members of etcd, separated by commas
    #[arg(long, value_name = "URLS", conflicts_with = "config")]
    etcd_servers: Option<String>,
    /// The election's name
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    key: Option<String>,
    /// This candidate [default: the host name]
    #[arg(long, value_name = "ID", conflicts_with = "config")]
    whoami: Option<String>,
    /// Where the manifest waits
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    source_file: Option<String>,
    /// Where the leader's kubelet finds it
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    dest_file: Option<String>,
    /// The manifest is gone this long after the last renewal [default: 30]
    #[arg(long, value_name = "SECONDS", conflicts_with = "config")]
    ttl_secs: Option<String>,
    /// Taken and ignored: changes are watched for
    #[arg(long, value_name = "DURATION", conflicts_with = "config")]
    sleep: Option<String>,
    /// CA of etcd's certificates
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    etcd_cafile: Option<String>,
    /// Client certificate for etcd
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    etcd_certfile: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    etcd_keyfile: Option<String>,
}

impl Flags {
    /// The flags together; `None` if none was given.
    ///
    /// # Errors
    /// Those that are missing, all of them.
    pub(super) fn meant(&self) -> Result<Option<Podmaster>> {
        let f = self.clone();
        let optional = [&f.whoami, &f.ttl_secs, &f.sleep, &f.etcd_cafile, &f.etcd_certfile, &f.etcd_keyfile];
        let required = [
            ("--etcd-servers", &f.etcd_servers),
            ("--key", &f.key),
            ("--source-file", &f.source_file),
            ("--dest-file", &f.dest_file),
        ];
        if required.iter().all(|(_, text)| text.is_none()) && optional.iter().all(|text| text.is_none()) {
            return Ok(None);
        }
        let missing: Vec<_> = required.iter().filter(|(_, text)| text.is_none()).map(|(flag, _)| *flag).collect();
        match (f.etcd_servers, f.key, f.source_file, f.dest_file) {
            (Some(etcd_servers), Some(key), Some(source_file), Some(dest_file)) => Ok(Some(Podmaster {
                etcd_servers,
                key,
                whoami: f.whoami,
                source_file,
                dest_file,
                ttl_secs: f.ttl_secs,
                sleep: f.sleep,
                etcd_cafile: f.etcd_cafile,
                etcd_certfile: f.etcd_certfile,
                etcd_keyfile: f.etcd_keyfile,
            })),
            _ => {
                let problem = |flag: &str| Problem { at: flag.to_owned(), message: "it is missing".into(), hint: None };
                Err(Error::usage("podmaster's flags are not complete")
                    .problems(missing.into_iter().map(problem).collect())
                    .hint("hamaster elect --help"))
            }
        }
    }
}

/// The command line with podmaster's flags behind `elect` written with two dashes: Go takes them with one as well.
pub(in crate::cli) fn as_typed_today(argv: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const NAMES: [&str; 10] = [
        "etcd-servers",
        "key",
        "whoami",
        "source-file",
        "dest-file",
        "ttl-secs",
        "sleep",
        "etcd-cafile",
        "etcd-certfile",
        "etcd-keyfile",
    ];
    let mut elect = false;
    argv.map(|word| {
        elect |= word == "elect";
        let long = word.to_str().filter(|_| elect).and_then(|text| {
            let flag = text.strip_prefix('-')?;
            NAMES.contains(&flag.split('=').next()?).then(|| format!("--{flag}"))
        });
        long.map_or(word, OsString::from)
    })
    .collect()
}
