//! Elasticsearch and OpenSearch: `_bulk`, with the event's id as that of the document, so that what
//! is sent again makes no second one. `create` is what a data stream allows.

use serde::{Deserialize, Serialize};

use crate::item::Item;
use crate::net::http::Answered;
use crate::sink::{Answer, Failure};

#[derive(Serialize)]
struct Operation<'o> {
    create: Target<'o>,
}

#[derive(Serialize)]
struct Target<'o> {
    #[serde(rename = "_index")]
    index: &'o str,
    #[serde(rename = "_id")]
    id: &'o str,
}

pub(super) fn body(items: &[Item], index: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for item in items {
        let operation = Operation { create: Target { index, id: &item.brief.event.id } };
        // Writing texts to a Vec does not fail.
        let _ = serde_json::to_writer(&mut body, &operation);
        body.push(b'\n');
        body.extend_from_slice(item.payload());
        body.push(b'\n');
    }
    body
}

/// The answer: an item for each operation, in order.
#[derive(Deserialize)]
struct Bulk {
    errors: bool,
    items: Vec<Done>,
}

#[derive(Deserialize)]
struct Done {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<serde_json::Value>,
}

pub(super) fn judge(answered: &Answered, count: usize) -> Result<Answer, Failure> {
    if !answered.status.is_success() {
        return Err(super::http::refused(answered));
    }
    let bulk: Bulk = serde_json::from_slice(&answered.body).map_err(|error| {
        Failure::retry(format!("no answer of _bulk ({error}): {}", answered.text()))
    })?;
    if bulk.items.len() != count {
        let reason = format!("an answer for {} of {count} events", bulk.items.len());
        return Err(Failure::retry(reason));
    }
    let mut answer = Answer::default();
    if !bulk.errors {
        return Ok(answer);
    }
    for (index, Done { create: Outcome { status, error } }) in bulk.items.into_iter().enumerate() {
        let reason = || {
            let error = error.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("status {status}: {}", error.chars().take(500).collect::<String>())
        };
        match status {
            // 409: it is there already.
            200..=299 | 409 => {}
            400 => answer.rejected.push((index, reason())),
            // 429: too busy. 403: it takes nothing, for want of disk or of rights. 404: there is no
            // such index. All of that can pass.
            _ => {
                answer.reason = reason();
                answer.again.push(index);
            }
        }
    }
    Ok(answer)
}
