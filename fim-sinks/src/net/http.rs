//! An HTTP client for one receiver: one connection, one request at a time, which keeps the order.

use std::io;
use std::time::Duration;

use fim_common::config::sink::{Auth, Http as Config, HttpVersion, Secret};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Stream, connect, connect_tls};

/// An answer is not longer: one of Elasticsearch has some 200 bytes for each event.
const ANSWER_MAX: usize = 16 << 20;

/// What a receiver answers.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
    headers: HeaderMap,
}

impl Answered {
    /// When the receiver wants to be asked again; a date is not looked at.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Whether this is for people to look at.
    pub(crate) fn is_page(&self) -> bool {
        self.field("content-type").is_some_and(|kind| {
            kind.trim_start()
                .as_bytes()
                .get(..9)
                .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
        })
    }

    /// A header of the answer, or one behind it.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.trailers.get(name).or_else(|| self.headers.get(name))?.to_str().ok()
    }

    /// The status and the beginning of the answer, for people.
    pub(crate) fn text(&self) -> String {
        let body = self.body.get(..300).unwrap_or(&self.body);
        let body: String = String::from_utf8_lossy(body)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!("HTTP {}: {}", self.status, body.trim())
    }
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// The client.
pub(crate) struct Client {
    config: Config,
    /// How a token is sent: `Bearer`, `ApiKey`, `Splunk`.
    scheme: &'static str,
    sender: Option<Sender>,
}

impl Client {
    pub(crate) fn new(config: Config, scheme: &'static str) -> Self {
        Self { config, scheme, sender: None }
    }

    /// Forgets the connection.
    pub(crate) fn reset(&mut self) {
        self.sender = None;
    }

    /// Sends a POST request, and returns the whole answer.
    ///
    /// # Errors
    /// When the receiver cannot be reached, or ends the connection, or what is sent for
    /// authentication cannot be read.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: Bytes,
        headers: &[(HeaderName, &'static str)],
    ) -> io::Result<Answered> {
        let mut is_fresh = self.is_gone().await;
        if is_fresh {
            self.sender = Some(self.connect().await?);
        }
        loop {
            let request = self.request(path, body.clone(), headers)?;
            let answer = match &mut self.sender {
                Some(Sender::One(sender)) => sender.send_request(request).await,
                Some(Sender::Two(sender)) => sender.send_request(request).await,
                None => return Err(io::ErrorKind::NotConnected.into()),
            };
            match answer {
                Ok(answer) => return whole(answer).await,
                // The receiver has ended a connection that was idle, at this very moment.
                Err(error) if !is_fresh && error.is_canceled() => {
                    is_fresh = true;
                    self.sender = Some(self.connect().await?);
                }
                Err(error) => return Err(io::Error::other(causes(&error))),
            }
        }
    }

    async fn is_gone(&mut self) -> bool {
        match &mut self.sender {
            None => true,
            Some(Sender::One(sender)) => sender.ready().await.is_err(),
            Some(Sender::Two(sender)) => sender.ready().await.is_err(),
        }
    }

    async fn connect(&self) -> io::Result<Sender> {
        let Config { url, tls, version, .. } = &self.config;
        let protocol: &[u8] = match version {
            HttpVersion::One => b"http/1.1",
            HttpVersion::Two => b"h2",
        };
        let stream: Box<dyn Stream> = match url.is_https {
            true => Box::new(connect_tls(&url.peer, tls, &[protocol]).await?),
            false => Box::new(connect(&url.peer).await?),
        };
        let stream = TokioIo::new(stream);
        let named = |error: hyper::Error| io::Error::other(format!("{}: {error}", url.peer));
        match version {
            HttpVersion::One => {
                let (sender, connection) = http1::handshake(stream).await.map_err(named)?;
                tokio::spawn(connection);
                Ok(Sender::One(sender))
            }
            HttpVersion::Two => {
                let executor = TokioExecutor::new();
                let (sender, connection) =
                    http2::handshake(executor, stream).await.map_err(named)?;
                tokio::spawn(connection);
                Ok(Sender::Two(sender))
            }
        }
    }

    fn request(
        &self,
        path: &str,
        body: Bytes,
        headers: &[(HeaderName, &'static str)],
    ) -> io::Result<Request<Full<Bytes>>> {
        let Config { url, version, .. } = &self.config;
        let uri = match version {
            HttpVersion::One => path.to_owned(),
            // The host is a part of the request there.
            HttpVersion::Two => {
                let scheme = if url.is_https { "https" } else { "http" };
                format!("{scheme}://{}{path}", url.peer)
            }
        };
        let mut request = Request::builder().method(Method::POST).uri(uri);
        if let HttpVersion::One = version {
            request = request.header(HOST, url.peer.to_string());
            request = request.header(CONTENT_LENGTH, body.len());
        }
        request = request.header(USER_AGENT, concat!("fim/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        // Read each time: it may have been replaced.
        if let Some(value) = self.authorization()? {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(body)).map_err(io::Error::other)
    }

    fn authorization(&self) -> io::Result<Option<HeaderValue>> {
        let text = match &self.config.auth {
            Auth::None => return Ok(None),
            Auth::Token(secret) => format!("{} {}", self.scheme, read(secret)?),
            Auth::Basic { username, password } => {
                use base64::Engine as _;
                let pair = format!("{username}:{}", read(password)?);
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            io::Error::other("the token or password has characters that a header cannot have")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What a secret is now.
pub(crate) fn read(secret: &Secret) -> io::Result<String> {
    match secret {
        Secret::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        Secret::Env(name) => std::env::var(name)
            .map_err(|error| io::Error::other(format!("environment variable {name}: {error}"))),
    }
}

async fn whole(answer: Response<hyper::body::Incoming>) -> io::Result<Answered> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(io::Error::other)?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = body.to_bytes();
    Ok(Answered { status: parts.status, body, trailers, headers: parts.headers })
}

/// An error with what lies behind it, which hyper leaves to its callers.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// `Content-Type`.
pub(crate) const TYPE: HeaderName = CONTENT_TYPE;
/// `Content-Encoding`.
pub(crate) const ENCODING: HeaderName = CONTENT_ENCODING;
