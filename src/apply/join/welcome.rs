//! What a master gives to one that joins: in answer to a token, or sealed in a file.

use std::path::PathBuf;

use crate::admission::{self, Bytes, File, WELCOME, Welcome};
use crate::error::{Error, Result};
use crate::etcd::client::Registered;
use crate::host::Host;
use crate::pki::catalog;
use crate::spec::{ClusterSpec, ThisNode};
use crate::state::Secret;

/// The cluster of `cluster_id` with the spec `registered`, which is `spec`; of its files
/// those that are `shared`, as they are on this master now.
///
/// # Errors
/// When a file is gone.
pub fn welcome(
    host: &Host,
    this: &ThisNode,
    registered: Registered,
    spec: &ClusterSpec,
    shared: Vec<(PathBuf, u32)>,
    cluster_id: String,
) -> Result<Welcome> {
    let masters = spec.masters.iter().map(|m| admission::Host { name: m.name.clone(), ip: m.ip }).collect();
    let files = files(host, this, spec, shared)?;
    Ok(Welcome { schema: WELCOME.to_owned(), cluster_id, masters, files, certificates: vec![], spec: registered.spec })
}

fn files(host: &Host, this: &ThisNode, spec: &ClusterSpec, shared: Vec<(PathBuf, u32)>) -> Result<Vec<File>> {
    let layout = &this.layout;
    let cas = catalog::cas(spec, this);
    let mut files = vec![];
    for (path, mode) in shared {
        let here = layout.path(&path);
        match host.read(&here)? {
            Some(bytes) => files.push(File { path, mode, content: Bytes(Secret::new(bytes)) }),
            // The key of an external CA is nowhere.
            None if cas.iter().any(|ca| ca.key == here) => {}
            None => {
                let gone = format!("{} is gone", here.display());
                return Err(Error::conflict(gone).hint("hamaster init --only pki"));
            }
        }
    }
    Ok(files)
}
