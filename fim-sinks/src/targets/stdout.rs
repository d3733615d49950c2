//! Standard output, a line for each event.

use std::io::{self, Write as _};

use tokio::task::spawn_blocking;

use crate::item::Item;
use crate::sink::{Answer, Failure, Pending, Sink};

pub(crate) struct Stdout;

impl Sink for Stdout {
    fn deliver<'a>(&'a mut self, items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            for item in items {
                bytes.extend_from_slice(item.payload());
                bytes.push(b'\n');
            }
            // Whoever reads may take any time: a pause is no failure.
            let written = spawn_blocking(move || {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes).and_then(|()| stdout.flush())
            });
            let named = |error: io::Error| Failure::retry(format!("standard output: {error}"));
            written.await.map_err(Failure::retry)?.map_err(named)?;
            Ok(Answer::default())
        })
    }

    fn has_timeout(&self) -> bool {
        false
    }
}
