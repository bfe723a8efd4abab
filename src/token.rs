//! The join token: `hm1.<id>.<secret>.<ca-pin>`.
//!
//! The id is public and finds the token; the secret proves it; the pin is what the joiner knows of the cluster's CA
//! before it sends anything. Of the secret only a hash is ever stored ([`Stored`]): it has 256 random bits, so one round
//! of SHA-256 is all a thief of the store has against him, and it is enough.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::state::{Digest, Secret};

/// What a token begins with: a later form gets another number.
const FORM: &str = "hm1";
/// Letters of an id: none that is read for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const ID_LETTERS: usize = 8;
const SECRET_BYTES: usize = 32;

/// How long a token lives unless the operator says otherwise; the joiner's host should come up in it.
pub const TTL: Duration = Duration::from_secs(24 * 3600);

/// A whole token, as an operator carries it from one host to another. There is no `Display`: it is shown once, on purpose.
#[derive(Debug, Clone)]
pub struct Token {
    /// Public.
    pub id: TokenId,
    secret: Secret,
    /// SHA-256 of the cluster CA's public key (SPKI).
    pub ca_pin: Digest,
}

/// The public name of a token: `token list` shows it, `token revoke` takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// What a joiner may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A master: it is given the CA keys and the cluster-wide secrets.
    Master,
    /// A worker: it is given its own signed certificates, and never a CA key.
    Worker,
}

/// What the store has of a token. A lease of the store's takes it away when it has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
    /// What it makes of its bearer.
    pub role: Role,
    /// Only for the host of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many more hosts may use it.
    pub uses: u32,
    /// Hosts that have: each may come again, as often as its join is interrupted, without another use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bearers: Vec<Bearer>,
    /// When it ends, in seconds since 1970. Its lease alone does not decide: whenever etcd elects a leader, every lease
    /// begins anew (<https://github.com/etcd-io/etcd/issues/9888>), and a snapshot that is restored has all there were.
    pub expires: i64,
}

/// A host that used a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bearer {
    /// Its node name.
    pub node: String,
    /// SHA-256 of what it knows its attempt by: nobody else can come again in its name.
    pub attempt_hash: Digest,
}

/// Why a token is refused. What is told to whoever presents it is the same for all: the log says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is none of this id: never made, expired, revoked or used up.
    #[error("no such token")]
    Unknown,
    /// The secret is another one.
    #[error("wrong secret")]
    WrongSecret,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// It is for another host.
    #[error("made for another node")]
    OtherNode,
    /// It is used up.
    #[error("used up")]
    UsedUp,
    /// It makes workers and a master was asked for, or the other way round.
    #[error("made for another role")]
    OtherRole,
    /// Another host has used it under this name.
    #[error("used by another host of this name")]
    OtherBearer,
}

impl Token {
    /// A new token from random bytes, for the cluster whose CA has this pin.
    pub fn new(random: &[u8; SECRET_BYTES + ID_LETTERS], ca_pin: Digest) -> Self {
        let (secret, id) = random.split_at(SECRET_BYTES);
        let id = id.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
        Self { id: TokenId(id), secret: Secret::new(secret.to_vec()), ca_pin }
    }

    /// Reads a token. Blanks around it are forgiven, nothing else.
    ///
    /// # Errors
    /// Which part of it is wrong; never what stands there.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            let hint = "hamaster token create    # on a master; copy the whole line";
            Err(Error::usage(format!("this is not a whole join token: {why}")).hint(hint))
        };
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [form, id, secret, pin] = parts[..] else {
            return refused(&format!("it has {} parts between dots, and a token has four", parts.len()));
        };
        if form != FORM {
            return refused("it does not begin with `hm1.`");
        }
        let Ok(id) = TokenId::try_from(id.to_owned()) else {
            return refused("its second part is not an id of eight letters");
        };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).ok().filter(|b| b.len() == 32);
        let Some(secret) = decode(secret) else {
            return refused("its third part, the secret, is damaged or cut off");
        };
        let Some(pin) = decode(pin).and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()) else {
            return refused("its fourth part, the CA's pin, is damaged or cut off");
        };
        Ok(Self { id, secret: Secret::new(secret.to_vec()), ca_pin: Digest(pin) })
    }

    /// The token as it is typed: whoever reads it can join.
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.expose()));
        Zeroizing::new(format!("{FORM}.{}.{}.{}", self.id, *secret, URL_SAFE_NO_PAD.encode(self.ca_pin.0)))
    }

    /// The secret, to be sent once the server's CA has been found to be the pinned one.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// What the store keeps of the secret.
    pub fn secret_hash(&self) -> Digest {
        Digest::of(self.secret.expose())
    }
}

impl Stored {
    /// What the store must have of it once the host `node` has been admitted as a `role`; `None` when nothing changes,
    /// because it comes again. `secret` and `attempt` are what it presents, `now` is in seconds since 1970. Hashes are compared in constant time, and the
    /// secret's first: who does not know it learns nothing of the rest.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub fn admit(
        &self,
        secret: &[u8],
        attempt: &[u8],
        node: &str,
        role: Role,
        now: i64,
    ) -> Result<Option<Self>, Denied> {
        if !same(&Digest::of(secret), &self.secret_hash) {
            return Err(Denied::WrongSecret);
        }
        if now >= self.expires {
            return Err(Denied::Expired);
        }
        if self.role != role {
            return Err(Denied::OtherRole);
        }
        if self.node.as_deref().is_some_and(|bound| bound != node) {
            return Err(Denied::OtherNode);
        }
        let attempt_hash = Digest::of(attempt);
        match self.bearers.iter().find(|b| b.node == node) {
            Some(known) if same(&known.attempt_hash, &attempt_hash) => Ok(None),
            Some(_) => Err(Denied::OtherBearer),
            None if self.uses == 0 => Err(Denied::UsedUp),
            None => {
                let mut used = self.clone();
                used.uses -= 1;
                used.bearers.push(Bearer { node: node.to_owned(), attempt_hash });
                Ok(Some(used))
            }
        }
    }
}

fn same(one: &Digest, other: &Digest) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(&one.0, &other.0).is_ok()
}

impl TryFrom<String> for TokenId {
    type Error = Box<Error>;

    fn try_from(text: String) -> Result<Self> {
        if text.len() == ID_LETTERS && text.bytes().all(|b| LETTERS.contains(&b)) {
            return Ok(Self(text));
        }
        let shown = text.chars().take(ID_LETTERS).collect::<String>();
        Err(Error::usage(format!("`{}` is not the id of a token", shown.escape_debug())).hint("hamaster token list"))
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
