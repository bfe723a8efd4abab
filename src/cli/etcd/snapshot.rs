//! `hamaster etcd snapshot save`, `verify` and `restore`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::key::KeyArgs;
use crate::apply::restore::{self, Request};
use crate::apply::snapshot::{self, Contents, Subject};
use crate::archive::Key;
use crate::cli::change::lock;
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs};
use crate::error::{Error, Result};
use crate::etcd::snapshot::{Manifest, Source};
use crate::host::{Host, clock, observe};
use crate::spec::file::{self, Overrides};
use crate::spec::layout::Layout;
use crate::spec::{ClusterSpec, Node, SnapshotSpec, ThisNode, address};
use crate::state::Owner;
use crate::ui::{Format, Tone, Ui};

/// Subcommands of `etcd snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take one: etcd's data, the CA keys, the service account key, the encryption configuration, the cluster file
    Save(SaveArgs),
    /// Prove that one can bring a control plane back
    Verify(VerifyArgs),
    /// Make this host's etcd the only member of a new cluster with the data of one
    Restore(RestoreArgs),
}

/// `hamaster etcd snapshot save`
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Where to [default: a name by node and time in etcd.snapshots.dir]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
    /// Seal with a fresh key, shown once on standard output and kept nowhere
    #[arg(long, conflicts_with_all = ["key_file", "rotate"])]
    new_key: bool,
    /// Afterwards remove this master's oldest until etcd.snapshots.keep are left
    #[arg(long, conflicts_with = "file")]
    rotate: bool,
}

/// `hamaster etcd snapshot verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
}

/// `hamaster etcd snapshot restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    /// Move a member's data that is here to a directory beside it
    #[arg(long)]
    set_aside: bool,
    /// Restore etcd's data alone: keys and certificates of this host stay as they are
    #[arg(long)]
    data_only: bool,
    /// Name of this master [default: what this host was set up as, else the snapshot's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its address [default: the one in the cluster file]
    #[arg(long, value_name = "IP")]
    advertise_ip: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs one of them.
///
/// # Errors
/// Those of each.
pub fn run(command: &SnapshotCommand, global: &Global, ui: &Ui) -> Result<()> {
    match command {
        SnapshotCommand::Save(args) => save(args, global, ui),
        SnapshotCommand::Verify(args) => verify(args, global, ui),
        SnapshotCommand::Restore(args) => run_restore(args, global, ui),
    }
}

fn save(args: &SaveArgs, global: &Global, ui: &Ui) -> Result<()> {
    let Resolved { mut host, master, .. } = resolve::master(&SpecArgs::default(), global)?;
    let now = clock::now();
    let settings = master.spec.etcd.snapshots.clone().unwrap_or_default();
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let dir = made_dir(&mut host, &settings)?;
            host.shown(&snapshot::next_path(&host, &master.this, &dir, now)?)
        }
    };
    let near = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let subject = Subject { host: &host, spec: &master.spec, this: &master.this };
    let mut database = snapshot::stream(subject, near)?;
    // The key last: a run that cannot save makes none.
    let key = if args.new_key { Key::generate()? } else { args.key.read_or_make(&mut host, ui)? };
    let subject = Subject { host: &host, spec: &master.spec, this: &master.this };
    let saved = snapshot::save(subject, &mut database, &key, &path, now)?;
    let removed = match args.rotate {
        true => snapshot::rotate(&mut host, &settings.dir, &master.this.node.name, settings.keep, &path)?,
        false => vec![],
    };
    if ui.format == Format::Json {
        let shown = args.new_key.then(|| key.reveal().to_string());
        let removed: Vec<PathBuf> = removed.iter().map(|p| host.shown(p)).collect();
        ui.json(
            "snapshot",
            &json!({ "path": saved.path, "manifest": saved.manifest, "removed": removed, "key": shown }),
        );
        return Ok(());
    }
    let what = format!("{} {}", ui.paint(Tone::Good, "saved"), about(&saved.path, &saved.manifest));
    // A key that is shown is the result: it may be on its way into a file.
    if args.new_key {
        ui.say(&what)
    } else {
        ui.out(&format!("{what}\n"))
    }
    for path in &removed {
        ui.say(&format!("removed {}", host.shown(path).display()));
    }
    if args.new_key {
        ui.say("the key, shown this once; without it the snapshot is worth nothing:");
        ui.out(&format!("{}\n", *key.reveal()));
    }
    Ok(())
}

/// The directory snapshots go to by default, made if need be.
pub(super) fn made_dir(host: &mut Host, settings: &SnapshotSpec) -> Result<PathBuf> {
    if host.stat(&settings.dir)?.is_none() {
        host.ensure_dir(&settings.dir, 0o700, Owner::Root)?;
    }
    Ok(settings.dir.clone())
}

pub(super) fn about(path: &Path, m: &Manifest) -> String {
    let revision = m.revision.map_or("unknown revision".to_owned(), |r| format!("revision {r}"));
    format!("{}: cluster {}, {revision}, {} bytes of {} on {}", path.display(), m.cluster, m.bytes, m.member, m.taken)
}

fn verify(args: &VerifyArgs, global: &Global, ui: &Ui) -> Result<()> {
    let host = resolve::host(global.root.as_deref())?;
    let key = args.key.read(&host, ui)?;
    let verified = snapshot::verify(&key, &args.file)?;
    if ui.format == Format::Json {
        let (manifest, keys) = (&verified.manifest, &verified.keys);
        ui.json("snapshot-verified", &json!({ "manifest": manifest, "revision": verified.revision, "keys": keys }));
        return Ok(());
    }
    let sum = match verified.manifest.source {
        Source::Stream => "its checksum fits",
        Source::Copy => "copied from a stopped member, so without a checksum of etcd's",
    };
    ui.out(&format!(
        "{} {}\n  opens whole; {sum}; revision {} reads; {} keys fit their certificates\n",
        ui.paint(Tone::Good, "good"),
        about(&args.file, &verified.manifest),
        verified.revision,
        verified.keys.len()
    ));
    Ok(())
}

fn run_restore(args: &RestoreArgs, global: &Global, ui: &Ui) -> Result<()> {
    let mut host = resolve::host(global.root.as_deref())?;
    let key = args.key.read(&host, ui)?;
    clock::watch_interrupts()?;
    let _lock = lock(&host, ui)?;
    let (contents, spool) = Contents::unpack(&key, &args.file, &host.shown(Path::new("/var/lib")))?;
    contents.whole()?;
    let (spec, this) = target(args, &host, &contents)?;
    let files = match args.data_only {
        true => restore::Files::default(),
        false => restore::compare(&host, &contents.files)?,
    };
    let title = format!("etcd of {} from {}", this.node.name, args.file.display());
    if !args.yes {
        ui.say(&format!(
            "{}: every write after {} is lost; apiservers and etcd on all other masters must be stopped first",
            ui.paint(Tone::Bold, &title),
            contents.manifest.taken
        ));
    }
    ui.confirm("Restore it?", args.yes)?;
    let request = Request {
        spec: &spec,
        this: &this,
        database: &spool.path(),
        sha256: &contents.database.sha256,
        unchecked: contents.manifest.source == Source::Copy,
        set_aside: args.set_aside,
    };
    // Keys first: data that nobody can read or sign for is of no use.
    restore::write_missing(&mut host, &files, &contents.files)?;
    let done = restore::restore(&mut host, &request)?;
    for kept in &files.kept {
        ui.warn(&format!("{} differs from the snapshot's and stays", host.shown(kept).display()));
    }
    finish(&mut host, &this, &done, ui, &title)
}

/// Starts what can be started and says what is left to do.
pub(super) fn finish(host: &mut Host, this: &ThisNode, done: &restore::Done, ui: &Ui, title: &str) -> Result<()> {
    let running = restore::start(host, this)?;
    let forgotten = if running.is_some() { restore::forget_others(host, this)? } else { vec![] };
    let aside = done.aside.as_ref().map(|p| host.shown(p));
    if ui.format == Format::Json {
        let json = json!({
            "clusterId": done.cluster_id, "memberId": done.member_id, "running": running.is_some(), "forgotten": forgotten,
            "aside": aside, "revisionsMovedAhead": done.bumped,
        });
        ui.json("restored", &json);
        return Ok(());
    }
    if let Some(aside) = &aside {
        ui.say(&format!("what was there is in {}", aside.display()));
    }
    if !done.bumped {
        ui.warn("revisions may go backwards: restart every kube-apiserver, controller and kubelet");
    }
    let state = if running.is_some() { "runs" } else { "is on disk" };
    ui.out(&format!(
        "{title}: {} (cluster {}, member {} {state})\n",
        ui.paint(Tone::Good, "done"),
        done.cluster_id,
        done.member_id
    ));
    if running.is_none() {
        ui.say("next: hamaster init    # on this host, to start it; then hamaster master remove for each other master");
    }
    if !forgotten.is_empty() {
        ui.say(&format!("the cluster's spec does not name {} any more", forgotten.join(", ")));
    }
    ui.say("next: hamaster reset, then hamaster join    # on every other master");
    Ok(())
}

/// The cluster and the master this host is or will be: from the host, else from the snapshot.
fn target(args: &RestoreArgs, host: &Host, contents: &Contents) -> Result<(ClusterSpec, ThisNode)> {
    let layout = Layout::host();
    let path = layout.cluster_yaml();
    let load = |name: &str, bytes: &[u8]| file::load(Some((name, file::decode(name, bytes)?)), &Overrides::default());
    let spec = match (host.read(&path)?, contents.files.get(&path)) {
        (Some(bytes), _) => load(&host.shown(&path).display().to_string(), &bytes)?,
        (None, Some((_, bytes))) => load("the snapshot's cluster.yaml", bytes.expose())?,
        (None, None) => return Err(Error::usage("neither this host nor the snapshot has a cluster.yaml")),
    };
    let record = observe::record(host, &layout.record())?;
    let name = args.name.clone().or(record.node).unwrap_or_else(|| contents.manifest.member.clone());
    let known = spec.masters.iter().find(|m| m.name == name).map(|m| m.ip);
    let wrong = |m: crate::spec::mistake::Mistake| Error::usage(m.message).hint("--name NAME --advertise-ip IP");
    address::node_name(&name).map_err(wrong)?;
    let ip = match (&args.advertise_ip, known) {
        (Some(text), _) => address::ip(text).map_err(wrong)?,
        (None, Some(ip)) => ip,
        (None, None) => {
            return Err(Error::usage(format!("the cluster file knows no master {name}")).hint("--advertise-ip IP"));
        }
    };
    let this = ThisNode { node: Node { name, ip }, loopback: [127, 0, 0, 1].into(), layout };
    Ok((spec, this))
}
