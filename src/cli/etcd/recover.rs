//! `hamaster etcd recover`.

use std::path::PathBuf;

use clap::Args;

use super::key::KeyArgs;
use super::snapshot::{about, finish, made_dir};
use crate::apply::recover;
use crate::apply::restore::{self, Request};
use crate::apply::snapshot::{self, Contents, Subject};
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs};
use crate::error::{Error, Result};
use crate::etcd::recovery::Loss;
use crate::etcd::snapshot::Source;
use crate::host::clock;
use crate::ui::{Tone, Ui};

/// `hamaster etcd recover`
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Go back to this snapshot instead of this master's own data
    #[arg(long, value_name = "ARCHIVE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs it.
///
/// # Errors
/// When a quorum lives or may return, another master has newer data, nobody confirms, or a step fails.
pub fn run(args: &RecoverArgs, global: &Global, ui: &Ui) -> Result<()> {
    let Resolved { mut host, master, .. } = resolve::master(&SpecArgs::default(), global)?;
    let (spec, this) = (&master.spec, &master.this);
    clock::watch_interrupts()?;
    let _lock = host.lock()?;
    let survey = recover::survey(Subject { host: &host, spec, this })?;
    let loss = recover::judge(&survey, args.from.is_some())?;
    tell(&loss, args, ui);
    ui.confirm(&format!("Go on with {} alone?", this.node.name), args.yes)?;
    let title = format!("etcd of {} alone", this.node.name);
    let data_dir = this.layout.path(&spec.etcd.data_dir);

    if let Some(sha256) = restore::interrupted(&host, spec, this)? {
        ui.say("a recovery was interrupted between the old data and the new: it is finished now");
        let database = PathBuf::new();
        let request = Request { spec, this, database: &database, sha256: &sha256, unchecked: false, set_aside: true };
        let done = restore::restore(&mut host, &request)?;
        return finish(&mut host, this, &done, ui, &title);
    }

    // Opened before anything is touched: a wrong key must not stop etcd.
    let archive = match &args.from {
        None => None,
        Some(path) => {
            let key = args.key.read(&host, ui)?;
            let (contents, spool) = Contents::unpack(&key, path, &host.shown(&data_dir))?;
            contents.whole()?;
            Some((contents, spool))
        }
    };
    if !survey.own_answers {
        // It serves nobody, and its database is only still once it is stopped.
        recover::stop_own(&mut host, &data_dir)?;
    }
    let own = recover::own_data(Subject { host: &host, spec, this }, &survey);
    let mut own = match (own, &archive) {
        (Ok(own), _) => Some(own),
        (Err(e), None) => return Err(e),
        (Err(e), Some(_)) => {
            ui.warn(&format!("no snapshot of what is here can be taken: {e}"));
            None
        }
    };
    if let Some(own) = &mut own {
        let now = clock::now();
        let settings = spec.etcd.snapshots.clone().unwrap_or_default();
        let dir = made_dir(&mut host, &settings)?;
        let key = if archive.is_some() {
            KeyArgs { key_file: None }
        } else {
            KeyArgs { key_file: args.key.key_file.clone() }
        };
        let key = key.read_or_make(&mut host, ui)?;
        let path = host.shown(&snapshot::next_path(&host, this, &dir, now)?);
        let saved = snapshot::save(Subject { host: &host, spec, this }, own, &key, &path, now)?;
        ui.say(&format!("saved first: {}", about(&saved.path, &saved.manifest)));
    }
    if recover::stop_own(&mut host, &data_dir)? {
        return Err(Error::conflict(format!("etcd still runs on {}", host.shown(&data_dir).display()))
            .hint("stop it, then run this again: what it has was saved"));
    }
    let (path, sha256, unchecked) = match (&archive, &mut own) {
        (Some((contents, spool)), _) => {
            (spool.path(), contents.database.sha256.clone(), contents.manifest.source == Source::Copy)
        }
        (None, Some(own)) => (own.spool.path(), recover::digest(own)?, own.source == Source::Copy),
        (None, None) => return Err(Error::conflict("there is no data to go on with")),
    };
    let request = Request { spec, this, database: &path, sha256: &sha256, unchecked, set_aside: true };
    let done = restore::restore(&mut host, &request)?;
    finish(&mut host, this, &done, ui, &title)
}

fn tell(loss: &Loss, args: &RecoverArgs, ui: &Ui) {
    let forgotten = if loss.members.is_empty() { "nobody".to_owned() } else { loss.members.join(", ") };
    ui.say(&ui.paint(Tone::Bold, "what will be lost:"));
    ui.say(&format!("  {forgotten} of {} voters are forgotten; each must be reset before it joins again", loss.voters));
    match &args.from {
        Some(path) => ui.say(&format!("  every write since {} was taken", path.display())),
        None if loss.unknown.is_empty() => {}
        None => ui.say(&format!(
            "  writes that only {} had: their disks cannot be compared with this one",
            loss.unknown.join(", ")
        )),
    }
}
