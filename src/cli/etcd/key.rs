//! Where the key of a snapshot comes from: a file, standard input, or a prompt; never the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::archive::Key;
use crate::error::{Error, Result};
use crate::host::spool::{self, NewFile};
use crate::host::{Host, operator};
use crate::spec::layout::Layout;
use crate::state::{Owner, Secret};
use crate::ui::Ui;

/// The key, when something is opened.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The file that holds the key, or - for standard input [default: /etc/hamaster/snapshot.key, else it is asked for]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

impl KeyArgs {
    /// The key to open with.
    ///
    /// # Errors
    /// When there is none, or it is no key.
    pub(super) fn read(&self, host: &Host, ui: &Ui) -> Result<Key> {
        match &self.key_file {
            Some(path) if path == Path::new("-") => Key::parse(&spool::stdin_line()?),
            Some(path) => parse(&Secret::new(operator::read(path)?), path),
            None => {
                let path = Layout::host().snapshot_key();
                match host.read(&path)?.map(Secret::new) {
                    Some(bytes) => parse(&bytes, &host.shown(&path)),
                    None => Key::parse(
                        &ui.ask_secret("Key of the snapshot")
                            .map_err(|e| e.hint("--key-file FILE, or --key-file - to read it from standard input"))?,
                    ),
                }
            }
        }
    }

    /// The key to seal with: one is made where the file is not there yet.
    ///
    /// # Errors
    /// When the file holds something else, or cannot be written.
    pub(super) fn read_or_make(&self, host: &mut Host, ui: &Ui) -> Result<Key> {
        let Some(path) = self.key_file.as_deref() else { return own_or_made(host, ui) };
        if path == Path::new("-") || path.exists() {
            return self.read(host, ui);
        }
        let key = Key::generate()?;
        let mut file = NewFile::begin(path)?;
        let line = zeroize::Zeroizing::new(format!("{}\n", *key.reveal()));
        let written = file.write_all(line.as_bytes());
        written.map_err(|e| Error::apply(format!("cannot write {}", path.display())).cause(e))?;
        file.appear()?;
        ui.say(&format!(
            "made the key {}: without it the snapshot is worth nothing, keep a copy elsewhere",
            path.display()
        ));
        Ok(key)
    }
}

fn own_or_made(host: &mut Host, ui: &Ui) -> Result<Key> {
    let path = Layout::host().snapshot_key();
    if let Some(bytes) = host.read(&path)?.map(Secret::new) {
        return parse(&bytes, &host.shown(&path));
    }
    let key = Key::generate()?;
    let line = zeroize::Zeroizing::new(format!("{}\n", *key.reveal()));
    host.write(&path, line.as_bytes(), 0o600, Owner::Root)?;
    let shown = host.shown(&path);
    ui.warn(&format!("made the key {}: without it no snapshot opens, so keep a copy off this host", shown.display()));
    Ok(key)
}

fn parse(bytes: &Secret, path: &Path) -> Result<Key> {
    let wrong = || Error::usage(format!("{} does not hold a key", path.display()));
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| wrong())?;
    Key::parse(text).map_err(|e| wrong().cause(e))
}
