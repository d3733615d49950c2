//! In the place of a type that this build does not have.

use crate::item::Item;
use crate::sink::{Answer, Failure, Pending, Sink};

/// Takes nothing, and says why.
pub(crate) struct Absent(pub(crate) &'static str);

impl Sink for Absent {
    fn deliver<'a>(&'a mut self, _items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>> {
        let reason = format!("this build of fim has no sinks of type \"{}\"", self.0);
        Box::pin(std::future::ready(Err(Failure::retry(reason))))
    }
}
