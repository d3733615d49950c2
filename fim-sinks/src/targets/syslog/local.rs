//! A socket of this host: a datagram socket as a rule, a stream where the receiver has that.

use std::io;
use std::path::Path;

use crate::net::Stream;

#[cfg(unix)]
pub(super) use unix::{Datagrams, connect, is_too_long};
#[cfg(windows)]
pub(super) use windows::{Datagrams, connect, is_too_long};

/// What the receiver has.
pub(super) enum Local {
    #[cfg_attr(windows, expect(dead_code, reason = "there are none"))]
    Stream(Box<dyn Stream>),
    #[cfg_attr(windows, expect(dead_code, reason = "there are none"))]
    Datagrams(Datagrams),
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::MetadataExt as _;

    use rustix::io::Errno;
    use tokio::net::{UnixDatagram, UnixStream};

    use super::{Local, Path, io};

    /// Device and inode of the socket tell whether it is still that receiver's.
    pub(in super::super) struct Datagrams(UnixDatagram, (u64, u64));

    impl Datagrams {
        pub(in super::super) async fn send(&self, message: &[u8]) -> io::Result<()> {
            self.0.send(message).await.map(drop)
        }

        /// Whether the same socket is at `path` still.
        pub(in super::super) fn is_at(&self, path: &Path) -> bool {
            inode(path).is_ok_and(|now| now == self.1)
        }
    }

    pub(in super::super) async fn connect(path: &Path) -> io::Result<Local> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let inode = inode(path).map_err(named)?;
        let socket = UnixDatagram::unbound().map_err(named)?;
        match socket.connect(path) {
            Ok(()) => Ok(Local::Datagrams(Datagrams(socket, inode))),
            // unix(7).
            Err(error) if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
                let stream = UnixStream::connect(path).await.map_err(named)?;
                Ok(Local::Stream(Box::new(stream)))
            }
            Err(error) => Err(named(error)),
        }
    }

    fn inode(path: &Path) -> io::Result<(u64, u64)> {
        let metadata = std::fs::metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    pub(in super::super) fn is_too_long(error: &io::Error) -> bool {
        error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
    }
}

#[cfg(windows)]
mod windows {
    use super::{Local, Path, io};

    /// There are none on Windows.
    pub(in super::super) enum Datagrams {}

    impl Datagrams {
        pub(in super::super) async fn send(&self, _: &[u8]) -> io::Result<()> {
            match *self {}
        }

        pub(in super::super) fn is_at(&self, _: &Path) -> bool {
            match *self {}
        }
    }

    /// The configuration lets none through.
    pub(in super::super) async fn connect(path: &Path) -> io::Result<Local> {
        let message = format!("{}: Windows has no socket for syslog", path.display());
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    pub(in super::super) fn is_too_long(_: &io::Error) -> bool {
        false
    }
}
