//! The HTTP server: three pages, on hyper, which this is too small to need a framework above.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::task::JoinSet;

use super::{Access, Health, Metrics};

/// Connections served at a time: a scraper or two and a person. More of them wait, so that nobody
/// who can reach the port can make the agent run out of descriptors.
const CONNECTIONS_MAX: usize = 16;
/// A client that has not sent its request by then is let go.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// No request and its response take longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const TEXT: &str = "text/plain; charset=utf-8";

/// Why nothing listens.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "metrics: {0} is in use by another process; choose another with metrics.listen or --metrics"
    )]
    InUse(SocketAddr),
    /// The user may not take it: a port below 1024, mostly.
    #[error("metrics: not permitted to listen on {0}; a port of 1024 or above needs no privilege")]
    NotPermitted(SocketAddr),
    /// No interface has the address.
    #[error("metrics: {0} is not an address of this host")]
    NotAvailable(SocketAddr),
    /// Something else.
    #[error("metrics: cannot listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Listens on `address`, so that what is wrong with it is known before anything starts.
///
/// # Errors
/// When it cannot be had; the error names it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => BindError::InUse(address),
        ErrorKind::PermissionDenied => BindError::NotPermitted(address),
        ErrorKind::AddrNotAvailable => BindError::NotAvailable(address),
        _ => BindError::Other { address, source },
    })
}

/// Serves `GET /metrics`, `GET /healthz` and `GET /livez` until `shutdown`.
///
/// # Errors
/// When the listener is of no use; never because of a client.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    access: Arc<Access>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of a client that is gone already, or too many descriptors: both pass.
                tracing::debug!(%error, "a connection to the metrics port was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (metrics, health) = (Arc::clone(&metrics), Arc::clone(&health));
        let access = Arc::clone(&access);
        connections.spawn(async move {
            let client = async {
                match access.tls() {
                    Some(tls) => {
                        // One that speaks no TLS is no news either.
                        if let Ok(stream) = tls.accept(stream).await {
                            talk(stream, &metrics, &health, &access).await;
                        }
                    }
                    None => talk(stream, &metrics, &health, &access).await,
                }
            };
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, client).await;
        });
    }
}

/// Answers one request. Clients go away as they like; that is no news.
async fn talk<S>(stream: S, metrics: &Metrics, health: &Health, access: &Access)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let response = respond(&request, metrics, health, access);
        async move { Ok::<_, Infallible>(response) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        // A scraper comes back in a quarter of a minute: nothing is gained by waiting.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond<B>(
    request: &Request<B>,
    metrics: &Metrics,
    health: &Health,
    access: &Access,
) -> Response<String> {
    if !access.allows(request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes)) {
        let text = "a name and a password are asked for\n".into();
        let mut response = page(StatusCode::UNAUTHORIZED, TEXT, text);
        let realm = HeaderValue::from_static("Basic realm=\"fim\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, realm);
        return response;
    }
    let known = matches!(request.uri().path(), "/metrics" | "/healthz" | "/livez");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => match metrics.encode() {
            Ok(text) => page(StatusCode::OK, super::CONTENT_TYPE, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/healthz" => match health.problems() {
            None => page(StatusCode::OK, TEXT, "ok\n".into()),
            Some(problems) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{problems}\n")),
        },
        "/livez" => match health.is_alive() {
            true => page(StatusCode::OK, TEXT, "ok\n".into()),
            false => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "nothing gets through\n".into()),
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /livez\n".into()),
    }
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
