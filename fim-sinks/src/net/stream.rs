//! A connection to a host.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fim_common::config::sink::{Peer, Tls};
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;

/// After this long without an acknowledgement of what was sent the connection is broken: a host
/// that is gone says nothing.
pub(crate) const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A connection, whatever it is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects.
///
/// # Errors
/// What the system says of the last of the host's addresses.
pub(crate) async fn connect(peer: &Peer) -> io::Result<TcpStream> {
    let target = (peer.host.as_str(), peer.port);
    let stream = TcpStream::connect(target).await.map_err(|error| named(peer, &error))?;
    stream.set_nodelay(true)?;
    let milliseconds = UNACKNOWLEDGED.as_millis() as u32;
    sockopt::set_tcp_user_timeout(&stream, milliseconds)?;
    // Also while nothing is sent.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, UNACKNOWLEDGED)?;
    sockopt::set_tcp_keepintvl(&stream, UNACKNOWLEDGED / 4)?;
    Ok(stream)
}

/// Connects, and makes sure who is there.
///
/// # Errors
/// As [`connect`], and what is wrong with the certificates of either side.
pub(crate) async fn connect_tls(
    peer: &Peer,
    tls: &Tls,
    protocols: &[&[u8]],
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let config = tls::client(tls, protocols)?;
    let name = tls.server_name.clone().unwrap_or_else(|| peer.host.clone());
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = connect(peer).await?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| named(peer, &error))
}

fn named(peer: &Peer, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{peer}: {error}"))
}
