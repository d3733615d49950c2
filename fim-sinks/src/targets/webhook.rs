//! Any HTTP server: a POST request with a line for each event (NDJSON).

use crate::item::Item;
use crate::net::http::Answered;
use crate::sink::{Answer, Failure};

pub(super) fn body(items: &[Item]) -> Vec<u8> {
    let mut body = Vec::new();
    for item in items {
        body.extend_from_slice(item.payload());
        body.push(b'\n');
    }
    body
}

pub(super) fn judge(answered: &Answered) -> Result<Answer, Failure> {
    match answered.status.is_success() {
        true => Ok(Answer::default()),
        false => Err(super::http::refused(answered)),
    }
}
