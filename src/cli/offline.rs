//! The join bundle: what a token is worth, sealed in a file, for hosts that cannot reach a master's port 7443 yet.
//!
//! Whoever has file and key has the cluster's keys: it cannot be taken back as a token can. So the key is shown once and
//! kept nowhere, and a bundle that is too old is refused.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::admission::{self, Welcome};
use crate::apply::join::welcome;
use crate::archive::{self, Entry, Key, Kind};
use crate::error::{Error, Result};
use crate::etcd::client::Client;
use crate::etcd::keys;
use crate::host::spool::{self, NewFile};
use crate::host::{Host, clock, operator};
use crate::spec::file::{Overrides, load};
use crate::spec::{ThisNode, units};
use crate::state::Secret;
use crate::ui::{Format, Ui};

/// The entries of a bundle.
const TERMS: &str = "terms.json";
const WELCOME: &str = "welcome.json";

/// What a bundle is good for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terms {
    /// Only the host of this node name.
    node: Option<String>,
    /// Seconds since 1970.
    expires: i64,
}

/// Where a joiner finds bundle and key.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The bundle of `hamaster token create --offline`, in place of masters and token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token", "token_file"])]
    pub(super) offline: Option<PathBuf>,
    /// The file that holds its key, or - for standard input [default: ask]
    #[arg(long, value_name = "FILE", requires = "offline")]
    key_file: Option<PathBuf>,
}

/// Seals what this master would give into a new file, and shows the key.
///
/// # Errors
/// When the file is there, etcd does not answer, or one of the cluster's files is gone.
pub(super) fn create(
    file: &Path,
    (host, this, etcd): (&Host, &ThisNode, &Client),
    (node, life): (Option<String>, Duration),
    ui: &Ui,
) -> Result<()> {
    let mut out = NewFile::begin(file)?;
    let missing = || Error::conflict("etcd holds no cluster spec yet").hint("hamaster init    # finish it");
    let registered = etcd.spec()?.ok_or_else(missing)?;
    let spec = load(Some((keys::SPEC, &registered.spec)), &Overrides::default())?;
    let given = welcome(host, this, registered, &spec, admission::shared(&spec), etcd.status()?.cluster_id)?;
    let expires = clock::now() + life;
    let terms = Terms { node, expires: expires.unix_timestamp() };
    let key = Key::generate()?;
    let sealed = archive::seal(&key, Kind::Join, &[entry(TERMS, &terms)?, entry(WELCOME, &given)?])?;
    let failed = |e| Error::apply(format!("cannot write {}", file.display())).cause(e);
    out.write_all(&sealed).map_err(failed)?;
    out.appear()?;
    let command = format!("hamaster join --offline {}", file.display());
    if ui.format == Format::Json {
        let value = json!({ "path": file, "key": *key.reveal(), "expires": terms.expires, "command": command });
        ui.json("join-bundle", &value);
        return Ok(());
    }
    ui.out(&format!("{}\n", *key.reveal()));
    let who = terms.node.map_or("any host".to_owned(), |node| format!("the host {node}"));
    ui.say(&format!("for {who}, within {}: {} and this key, shown once,", units::show_duration(life), file.display()));
    ui.say("are all of the cluster's keys. They cannot be taken back. There:");
    ui.say(&format!("  {command}"));
    Ok(())
}

fn entry(name: &str, value: &impl Serialize) -> Result<Entry> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::apply("cannot encode the bundle").cause(e))?;
    Ok(Entry { name: name.to_owned(), mode: 0o600, bytes: Secret::new(bytes) })
}

impl BundleArgs {
    /// What the bundle gives to the host `node`.
    ///
    /// # Errors
    /// When the key is another one, the file was changed, or it is for another host or too old.
    pub(super) fn open(&self, file: &Path, node: &str, ui: &Ui) -> Result<Welcome> {
        let key = self.key(ui)?;
        let entries = archive::open(&key, Kind::Join, &operator::read(file)?)?;
        let shown = file.display();
        let terms: Terms = read(&entries, TERMS, file)?;
        if let Some(wanted) = terms.node.filter(|wanted| wanted != node) {
            return Err(Error::refused(format!("{shown} is for the host {wanted}, and this is {node}"))
                .hint(format!("hamaster join --offline {shown} --name {wanted}")));
        }
        let expires = OffsetDateTime::from_unix_timestamp(terms.expires).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        if clock::now() >= expires {
            return Err(Error::refused(format!("{shown} was good until {expires}"))
                .hint("hamaster token create --offline FILE    # on a master")
                .hint("date    # is this host's clock right?"));
        }
        let welcome: Welcome = read(&entries, WELCOME, file)?;
        match welcome.schema.as_str() {
            admission::WELCOME => Ok(welcome),
            other => Err(Error::refused(format!(
                "{shown} holds `{}`, and this version reads {}",
                other.escape_debug(),
                admission::WELCOME
            ))
            .hint("hamaster --version    # here and on the master that made it")),
        }
    }

    fn key(&self, ui: &Ui) -> Result<Key> {
        let text = match &self.key_file {
            Some(path) if path == Path::new("-") => spool::stdin_line()?,
            Some(path) => {
                let bytes = Zeroizing::new(operator::read(path)?);
                Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
            }
            None => ui.ask_secret("Key of the bundle").map_err(|e| e.hint("--key-file FILE"))?,
        };
        Key::parse(&text)
    }
}

fn read<T: serde::de::DeserializeOwned>(entries: &[Entry], name: &str, file: &Path) -> Result<T> {
    let broken = || Error::refused(format!("{} holds no {name} that reads", file.display()));
    let entry = entries.iter().find(|e| e.name == name).ok_or_else(broken)?;
    // Not the parser's words: they may show what it stumbled on, a key.
    serde_json::from_slice(entry.bytes.expose()).map_err(|_| broken())
}
