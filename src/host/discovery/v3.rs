//! Keys in an etcd that is there already, reached by its name: any of its addresses will do.
#![allow(clippy::disallowed_methods, reason = "floor 3: asks the resolver")]

use std::net::{SocketAddr, ToSocketAddrs};

use rustls_pki_types::ServerName;

use crate::error::Result;
use crate::etcd::client::Client;
use crate::etcd::discovery::Listing;

/// etcd's own.
const PORT: u16 = 2379;

/// One token in another etcd.
pub struct Keys {
    host: String,
    token: String,
    tls: rustls::ClientConfig,
}

impl Keys {
    pub(super) fn new(host: &str, token: &str, tls: rustls::ClientConfig) -> Self {
        Self { host: host.to_owned(), token: token.to_owned(), tls }
    }

    pub(super) fn listing(&self) -> Result<Listing, String> {
        self.any(|client| client.listing(&self.token))
    }

    pub(super) fn register(&self, id: &str, value: &str) -> Result<(), String> {
        self.any(|client| client.enrol(&self.token, id, value))
    }

    pub(super) fn withdraw(&self, id: &str) -> Result<(), String> {
        self.any(|client| client.withdraw(&self.token, id))
    }

    /// The first answer; else what each address said.
    fn any<T>(&self, ask: impl Fn(&Client) -> Result<T>) -> Result<T, String> {
        let (name, addresses) = self.resolve()?;
        let mut said = vec![];
        for at in addresses {
            match Client::named(at, name.clone(), self.tls.clone()).and_then(|client| ask(&client)) {
                Ok(answer) => return Ok(answer),
                Err(e) => said.push(e.to_string()),
            }
        }
        Err(said.join("; "))
    }

    fn resolve(&self) -> Result<(ServerName<'static>, Vec<SocketAddr>), String> {
        let uri: http::Uri =
            format!("https://{}", self.host).parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let found = (host.as_str(), uri.port_u16().unwrap_or(PORT)).to_socket_addrs();
        let found: Vec<_> = found.map_err(|e| format!("{host} does not resolve: {e}"))?.collect();
        let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host} is no name of a server"))?;
        Ok((name, found))
    }
}
