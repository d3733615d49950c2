//! Syslog: RFC 5424 over a socket of this host, TCP (RFC 6587, octet counting) or TLS (RFC 5425).
//!
//! A receiver of syslog does not say what it has taken. What was sent over a connection is taken to
//! have arrived when the connection still stands [`CONFIRMATION`] later; when it breaks before, it
//! is sent again. That is longer than the kernel takes to break a connection whose other end does
//! not acknowledge, and than a receiver that lives takes to read what it was sent.

use std::io;
use std::time::Duration;

use fim_common::config::sink::{Syslog as Config, SyslogTo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, WriteHalf};
use tokio::sync::oneshot;

use crate::format::syslog::header;
use crate::item::Item;
use crate::net::{Stream, connect, connect_tls};
use crate::sink::{Answer, Failure, Pending, Sink};

mod local;

/// See above; [`crate::net`] breaks connections after 10 s.
const CONFIRMATION: Duration = Duration::from_secs(15);

pub(crate) struct Syslog {
    config: Config,
    connection: Option<Connection>,
}

enum Connection {
    /// Bytes in order.
    Stream(Channel),
    /// A message each.
    Datagram(local::Datagrams),
}

/// The writing side; the other one is read by a task, which ends when the connection does.
struct Channel {
    writer: WriteHalf<Box<dyn Stream>>,
    ended: oneshot::Receiver<String>,
    framing: Framing,
}

/// What separates messages.
#[derive(Clone, Copy)]
enum Framing {
    /// Their length before each (RFC 6587, section 3.4.1).
    Counted,
    /// A newline behind each, which none has in it: what readers of a Unix stream expect.
    Newline,
}

impl Syslog {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, connection: None }
    }

    async fn connection(&mut self) -> io::Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match &self.config.to {
                SyslogTo::Unix(path) => match local::connect(path).await? {
                    local::Local::Stream(stream) => channel(stream, Framing::Newline),
                    local::Local::Datagrams(socket) => Connection::Datagram(socket),
                },
                SyslogTo::Tcp(peer) => channel(Box::new(connect(peer).await?), Framing::Counted),
                SyslogTo::Tls(peer, tls) => {
                    channel(Box::new(connect_tls(peer, tls, &[]).await?), Framing::Counted)
                }
            },
        };
        Ok(self.connection.insert(connection))
    }

    async fn send(&mut self, items: &[Item]) -> Result<Answer, Failure> {
        let (facility, app_name) = (self.config.facility, self.config.app_name.clone());
        let message = |item: &Item| {
            let mut message = header(&item.brief, facility, &app_name).into_bytes();
            message.extend_from_slice(item.payload());
            message
        };
        match self.connection().await.map_err(Failure::retry)? {
            Connection::Stream(channel) => {
                let mut bytes = Vec::new();
                for item in items {
                    let message = message(item);
                    if let Framing::Counted = channel.framing {
                        bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
                    }
                    bytes.extend_from_slice(&message);
                    if let Framing::Newline = channel.framing {
                        bytes.push(b'\n');
                    }
                }
                channel.write(&bytes).await.map_err(Failure::retry)?;
                Ok(Answer::default())
            }
            Connection::Datagram(socket) => {
                let mut answer = Answer::default();
                for (index, item) in items.iter().enumerate() {
                    match socket.send(&message(item)).await {
                        Ok(()) => {}
                        Err(error) if local::is_too_long(&error) => {
                            answer.rejected.push((index, error.to_string()));
                        }
                        Err(error) => return Err(Failure::retry(error)),
                    }
                }
                Ok(answer)
            }
        }
    }
}

fn channel(stream: Box<dyn Stream>, framing: Framing) -> Connection {
    let (mut reader, writer) = tokio::io::split(stream);
    let (end, ended) = oneshot::channel();
    // A receiver has nothing to say, but that it ends, or refuses our certificate.
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        let reason = loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break "the receiver has closed the connection".to_owned(),
                Ok(_) => {}
                // With TLS one that is killed ends so.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    break "the receiver has closed the connection without a word".to_owned();
                }
                Err(error) => break error.to_string(),
            }
        };
        let _ = end.send(reason);
    });
    Connection::Stream(Channel { writer, ended, framing })
}

impl Channel {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let writing = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        tokio::select! {
            biased;
            reason = &mut self.ended => Err(reason.unwrap_or_default()),
            written = writing => match written {
                Ok(()) => Ok(()),
                // What the other side said before it ended is more to the point.
                Err(error) => match self.ended.try_recv() {
                    Ok(reason) => Err(format!("{error}; {reason}")),
                    Err(_) => Err(error.to_string()),
                },
            },
        }
    }
}

impl Sink for Syslog {
    fn deliver<'a>(&'a mut self, items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>> {
        Box::pin(self.send(items))
    }

    fn reset(&mut self) {
        self.connection = None;
    }

    fn confirmation(&self) -> Option<Duration> {
        Some(CONFIRMATION)
    }

    fn broken(&mut self) -> Pending<'_, String> {
        match &mut self.connection {
            Some(Connection::Stream(channel)) => Box::pin(async {
                (&mut channel.ended).await.unwrap_or_else(|_| "the connection has ended".to_owned())
            }),
            _ => Box::pin(std::future::pending()),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        match (&mut self.connection, &self.config.to) {
            (Some(Connection::Stream(channel)), _) => match channel.ended.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Ok(()),
                Ok(reason) => Err(reason),
                Err(error) => Err(error.to_string()),
            },
            (Some(Connection::Datagram(socket)), SyslogTo::Unix(path)) => {
                match socket.is_at(path) {
                    true => Ok(()),
                    false => Err("the receiver has gone, or is another".to_owned()),
                }
            }
            _ => Err("there is no connection".to_owned()),
        }
    }

    fn close(&mut self) -> Pending<'_, bool> {
        Box::pin(async {
            match self.connection.take() {
                // It reads all there is before it sees that there is no more.
                Some(Connection::Stream(mut channel)) => {
                    channel.writer.shutdown().await.is_ok()
                        && channel.ended.await.is_ok_and(|reason| reason.contains("closed"))
                }
                // Each is in the receiver's queue already.
                Some(Connection::Datagram(_)) | None => false,
            }
        })
    }
}
