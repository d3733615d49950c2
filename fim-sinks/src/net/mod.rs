//! Connections: TCP, and TLS in it.

pub(crate) mod http;
mod stream;
mod tls;

pub(crate) use stream::{Stream, connect, connect_tls};
