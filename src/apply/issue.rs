//! A token is made: etcd has its hash and its end, whoever asked has the token.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::etcd::client::Client;
use crate::host::{Host, clock, identity};
use crate::pki::inspect;
use crate::spec::ThisNode;
use crate::state::Digest;
use crate::token::{Role, Stored, Token};

/// An id that exists is drawn again; with eight letters that is never needed twice.
const DRAWS: usize = 8;

/// What a token is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What its bearer becomes.
    pub role: Role,
    /// How long it lives.
    pub life: Duration,
    /// How many hosts may use it.
    pub uses: u32,
    /// Only the host of this name.
    pub node: Option<String>,
}

/// A new token of the cluster whose CA is at `this` master, and its end in seconds since 1970.
///
/// # Errors
/// When the CA does not read, or etcd does not answer.
pub fn issue(host: &Host, this: &ThisNode, etcd: &Client, wanted: &Wanted) -> Result<(Token, i64)> {
    let pin = pin(host, this)?;
    let expires = (clock::now() + wanted.life).unix_timestamp();
    for _ in 0..DRAWS {
        let token = Token::new(&identity::random()?, pin);
        let stored = Stored {
            secret_hash: token.secret_hash(),
            role: wanted.role,
            node: wanted.node.clone(),
            uses: wanted.uses,
            bearers: vec![],
            expires,
        };
        if etcd.create_token(&token.id, &stored, wanted.life)? {
            return Ok((token, expires));
        }
    }
    Err(Error::apply("every id that was drawn exists").hint("hamaster token list"))
}

/// What a joiner will know the cluster's CA by.
fn pin(host: &Host, this: &ThisNode) -> Result<Digest> {
    let path = this.layout.pki().join("ca.crt");
    let broken = |why: &str| {
        Error::conflict(format!("cannot use the CA {}", path.display())).cause(why).hint("hamaster certs verify")
    };
    let pem = host.read(&path)?.ok_or_else(|| broken("it is missing"))?;
    let certs = inspect::certs(&pem).map_err(|why| broken(&why))?;
    certs.first().map(|ca| ca.spki).ok_or_else(|| broken("no certificate in it"))
}
