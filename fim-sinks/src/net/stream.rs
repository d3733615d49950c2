//! A connection to a host.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fim_common::config::sink::{Peer, Tls};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
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
    break_unacknowledged(&stream)?;
    // Also while nothing is sent.
    let alive = TcpKeepalive::new().with_time(UNACKNOWLEDGED).with_interval(UNACKNOWLEDGED / 4);
    SockRef::from(&stream).set_tcp_keepalive(&alive)?;
    Ok(stream)
}

/// After [`UNACKNOWLEDGED`].
#[cfg(unix)]
fn break_unacknowledged(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// After [`UNACKNOWLEDGED`], where the system takes that; else after its own time, some 20 s.
#[cfg(windows)]
fn break_unacknowledged(stream: &TcpStream) -> io::Result<()> {
    if let Err(error) = fim_win32::net::set_max_retransmission(stream, UNACKNOWLEDGED) {
        tracing::debug!(%error, "what is not acknowledged breaks a connection later");
    }
    Ok(())
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
