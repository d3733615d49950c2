//! Connections: TCP, and TLS in it.

mod stream;
mod tls;

pub(crate) use stream::{Stream, connect, connect_tls};
