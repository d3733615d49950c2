//! Sockets.

use std::io;
use std::os::windows::io::{AsRawSocket as _, AsSocket};
use std::time::Duration;

use windows_sys::Win32::Networking::WinSock::{IPPROTO_TCP, SOCKET_ERROR, TCP_MAXRT, setsockopt};

/// Breaks a connection when what was sent is not acknowledged for so long, in whole seconds
/// (`TCP_MAXRT`).
///
/// # Errors
/// What the system says; some do not know it.
pub fn set_max_retransmission(socket: &impl AsSocket, time: Duration) -> io::Result<()> {
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_ne_bytes();
    // SAFETY: the socket is open as long as it is borrowed, and the value is as long as is said.
    let done = unsafe {
        setsockopt(
            socket.as_socket().as_raw_socket() as usize,
            IPPROTO_TCP,
            TCP_MAXRT,
            seconds.as_ptr(),
            size_of_val(&seconds) as i32,
        )
    };
    if done == SOCKET_ERROR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
