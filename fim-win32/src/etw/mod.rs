//! Sessions of Event Tracing for Windows (ETW): what the kernel tells, as it happens.
//!
//! ferrisetw starts, opens and reads a session ([`session`]); what it does not offer is asked of
//! Windows by hand ([`control`]). A record is lent to whoever takes it ([`RawRecord`]), with every
//! pointer in it checked: what is beyond the lengths that the system gives is out of reach.

mod control;
mod record;
mod session;

pub use control::{Losses, flush, losses};
pub use record::{HEADER_BYTES, RawRecord};
pub use session::{Provider, Session, SessionOptions, Sink, StartError, file_names, stop_by_name};

/// The longest name of a session, in UTF-16 units: what ferrisetw takes.
pub const NAME_MAX: usize = 200;
