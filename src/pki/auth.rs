//! Secret files that are not certificates: `sa.key`, `known_tokens.csv`, `basic_auth.csv`, `encryption-config.yaml`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::pki::{issue, kubeconfig};
use crate::state::Secret;
use crate::state::desired::{SecretKind, SecretSpec, StaticUser};

/// The static token file, in the bundle.
pub const KNOWN_TOKENS: &str = "known_tokens.csv";
/// The basic auth file, in the bundle.
pub const BASIC_AUTH: &str = "basic_auth.csv";
/// The EncryptionConfiguration, in the bundle.
pub const ENCRYPTION_CONFIG: &str = "encryption-config.yaml";

/// The files of `want`, its own path first. `existing` is what is at that path now: a service account key that is there
/// is never made anew (every token in the cluster would die with it), only its public half is derived.
///
/// # Errors
/// When the random source fails or the existing key does not read.
pub fn make(want: &SecretSpec, existing: Option<&[u8]>) -> Result<Vec<(PathBuf, Secret)>> {
    let one = |secret| Ok(vec![(want.path.clone(), secret)]);
    match &want.kind {
        SecretKind::ServiceAccountKey { public, algorithm } => {
            let key = match existing {
                Some(bytes) => Secret::new(bytes.to_vec()),
                None => issue::key(*algorithm)?,
            };
            let public_half = Secret::new(issue::public_pem(key.expose())?.into_bytes());
            Ok(vec![(want.path.clone(), key), (public.clone(), public_half)])
        }
        SecretKind::KnownTokens { users } | SecretKind::BasicAuth { users } => one(csv(users)?),
        SecretKind::EncryptionConfig => one(encryption_config()?),
    }
}

/// `secret,user,uid,"group1,group2"`: the groups are one field, quoted because of its commas.
fn csv(users: &[StaticUser]) -> Result<Secret> {
    // Reserved at once: a growing buffer would leave copies behind.
    let mut out =
        Vec::with_capacity(users.iter().map(|u| 128 + 2 * (u.name.len() + u.uid.len()) + 64 * u.groups.len()).sum());
    for user in users {
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(random()?));
        out.extend_from_slice(token.as_bytes());
        for field in [&user.name, &user.uid] {
            out.push(b',');
            out.extend_from_slice(quoted(field).as_bytes());
        }
        if !user.groups.is_empty() {
            out.extend_from_slice(format!(",\"{}\"", user.groups.join(",").replace('"', "\"\"")).as_bytes());
        }
        out.push(b'\n');
    }
    Ok(Secret::new(out))
}

/// RFC 4180 quoting, only where it is needed.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) || field.starts_with(' ') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| issue::no_randomness())?;
    Ok(bytes)
}

#[derive(Serialize, Deserialize)]
struct EncryptionConfiguration {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Serialize, Deserialize)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// secretbox first, so new secrets are encrypted; identity last, so that what was stored in clear still reads.
fn encryption_config() -> Result<Secret> {
    let key = Zeroizing::new(STANDARD.encode(random()?));
    let provider = |name: &str, value| serde_json::Map::from_iter([(name.to_owned(), value)]);
    let config = EncryptionConfiguration {
        api_version: "apiserver.config.k8s.io/v1".to_owned(),
        kind: "EncryptionConfiguration".to_owned(),
        resources: vec![Resources {
            resources: vec!["secrets".to_owned()],
            providers: vec![
                provider("secretbox", serde_json::json!({ "keys": [{ "name": "key1", "secret": *key }] })),
                provider("identity", serde_json::json!({})),
            ],
        }],
    };
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    let yaml = serde_yaml::to_string_with_options(&config, options)
        .map_err(|e| Error::apply("encryption configuration cannot be written").cause(e))?;
    Ok(Secret::new(yaml.into_bytes()))
}

/// Checks that an apiserver takes a static auth file: it exits on a row with fewer than three columns.
///
/// # Errors
/// Why it does not read, without quoting any of it.
pub fn read_csv(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    let mut rows = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty()) {
        let at = number + 1;
        let fields = fields(line).ok_or_else(|| format!("line {at}: a quote in the wrong place"))?;
        if fields.len() < 3 {
            return Err(format!("line {at}: {} columns, at least 3 are needed", fields.len()));
        }
        if fields[0].is_empty() {
            return Err(format!("line {at}: the first column is empty"));
        }
        rows += 1;
    }
    if rows == 0 { Err("empty".to_owned()) } else { Ok(()) }
}

/// The fields of one row; `None` when a quote is bare or never closed, where Go's encoding/csv fails too.
fn fields(line: &str) -> Option<Vec<Zeroizing<String>>> {
    let mut fields = vec![];
    let mut rest = line;
    loop {
        let mut field = Zeroizing::new(String::with_capacity(rest.len()));
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let end = quoted.find('"')?;
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                let Some(more) = quoted.strip_prefix('"') else { break };
                field.push('"');
                quoted = more;
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return None;
            }
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// Checks that a file is an EncryptionConfiguration with at least one provider.
///
/// # Errors
/// Why it does not read, without quoting any of it.
pub fn read_encryption(bytes: &[u8]) -> Result<(), String> {
    let config: EncryptionConfiguration = kubeconfig::yaml(bytes)?;
    if config.kind != "EncryptionConfiguration" {
        return Err("its kind is not EncryptionConfiguration".to_owned());
    }
    match config.resources.iter().all(|r| !r.providers.is_empty()) && !config.resources.is_empty() {
        true => Ok(()),
        false => Err("no provider in it".to_owned()),
    }
}
