//! Bytes to the door, without hamaster's own client: from any loopback address, honest or not.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::DEADLINE;
use crate::master::Master;

pub(crate) const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A connection to the door from `source`.
pub(crate) fn tcp(m1: &Master, source: Ipv4Addr) -> io::Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddrV4::new(source, 0))?;
    connect(&fd, &m1.door())?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(DEADLINE))?;
    // Or the request waits for the 40 ms after which the handshake's end is acknowledged.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same with TLS, as a client that trusts the cluster's CA.
pub(crate) fn tls(m1: &Master, source: Ipv4Addr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let pem = std::fs::read(m1.dir.path().join("etc/kubernetes/pki/ca.crt"))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("kubernetes.default.svc").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp(m1, source)?);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

/// Sends `request` as it is; the status and all of the answer.
pub(crate) fn send(m1: &Master, source: Ipv4Addr, request: &[u8]) -> io::Result<(u16, String)> {
    let mut stream = tls(m1, source)?;
    stream.write_all(request)?;
    answer(stream)
}

pub(crate) fn answer(mut stream: impl Read) -> io::Result<(u16, String)> {
    let mut bytes = vec![];
    match stream.read_to_end(&mut bytes) {
        // It may be ended without goodbye once it has answered.
        Err(e) if bytes.is_empty() => return Err(e),
        _ => {}
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split_whitespace().nth(1).and_then(|s| s.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))?, text))
}

pub(crate) fn post(m1: &Master, source: Ipv4Addr, body: &[u8]) -> io::Result<(u16, String)> {
    let head = format!("POST /v1/join HTTP/1.1\r\nhost: m1\r\ncontent-length: {}\r\n\r\n", body.len());
    send(m1, source, &[head.as_bytes(), body].concat())
}

pub(crate) fn get(m1: &Master, path: &str) -> (u16, String) {
    send(m1, HERE, format!("GET {path} HTTP/1.1\r\nhost: m1\r\n\r\n").as_bytes()).unwrap()
}
