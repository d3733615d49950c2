//! Names of accounts, remembered. Looking one up may ask a domain controller, which takes as long as
//! the network does: a thread does so, and whoever asks waits a moment, no more.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::process::Accounts;

/// How long somebody waits for a name, once for each account.
const PATIENCE: Duration = Duration::from_millis(100);
/// An account without a name is asked for again after this long: the network may be back.
const AGAIN: Duration = Duration::from_secs(60);
/// Accounts that are remembered at most; beyond, all are forgotten.
pub const ACCOUNTS_MAX: usize = 4096;

enum Known {
    Asked,
    Is(Option<String>, Instant),
}

type Table = (Mutex<HashMap<String, Known>>, Condvar);

/// Accounts. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct People {
    table: Arc<Table>,
    ask: Arc<Mutex<Sender<String>>>,
}

impl People {
    /// Begins to answer; `look_up` is what tells an account's name.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(look_up: impl Fn(&str) -> Option<String> + Send + 'static) -> std::io::Result<Self> {
        let table: Arc<Table> = Arc::default();
        let (ask, asked) = channel::<String>();
        let answers = Arc::clone(&table);
        // It ends with the last clone.
        std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
            for sid in asked {
                let name = look_up(&sid);
                let mut known = answers.0.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(sid, Known::Is(name, Instant::now()));
                drop(known);
                answers.1.notify_all();
            }
        })?;
        Ok(Self { table, ask: Arc::new(Mutex::new(ask)) })
    }
}

impl Accounts for People {
    fn name(&self, sid: &str) -> Option<String> {
        let mut known = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(sid) {
            Some(Known::Is(Some(name), _)) => return Some(name.clone()),
            Some(Known::Is(None, at)) if at.elapsed() < AGAIN => return None,
            // Somebody waited already.
            Some(Known::Asked) => return None,
            _ => {}
        }
        if known.len() >= ACCOUNTS_MAX {
            known.retain(|_, known| matches!(known, Known::Asked));
        }
        known.insert(sid.to_owned(), Known::Asked);
        let ask = self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails when the thread has ended, which it does not while we are.
        let _ = ask.send(sid.to_owned());
        drop(ask);
        let waits =
            |known: &mut HashMap<String, Known>| matches!(known.get(sid), Some(Known::Asked));
        let waited = self.table.1.wait_timeout_while(known, PATIENCE, waits);
        let (known, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match known.get(sid) {
            Some(Known::Is(name, _)) => name.clone(),
            _ => None,
        }
    }
}
