//! What the shared code asks of the operating system, but for the objects that are watched
//! ([`crate::object`]): names as bytes, the agent's own files, clocks.
//!
//! Both systems give the same functions; nothing outside of this folder and of `object` says
//! `cfg(unix)` or `cfg(windows)`.

mod sddl;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(any(windows, test))]
mod wtf8;

pub(crate) use sddl::sddl_parts;
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
