//! Processes as they start: what no event tells of them is asked of the system while they run.

use std::sync::Arc;
use std::time::Duration;

use fim_common::event::actor::{Token, UserId};
use fim_common::loss::Losses;
use fim_win32::process::{self, Process};

use super::people::People;
use super::worker::{Counters, Message, Setback};
use crate::decode::{self, Provider, integrity_level};
use crate::etl::Record;
use crate::process::{Accounts as _, Seen, elevation_type};
use crate::stream::Queue;

/// Messages of this queue: none.
pub(super) enum Nothing {}

/// What the system says of a process, in the words of events.
fn seen(found: Process, people: &People) -> Seen {
    let user = found.user.map(|id| UserId { name: people.name(&id), id });
    Seen {
        pid: found.pid,
        created: found.created,
        parent: found.parent,
        executable: found.executable,
        command_line: found.command_line.filter(|line| !line.is_empty()),
        user,
        token: Token {
            integrity_level: found.integrity.map(integrity_level).map(str::to_owned),
            elevated: found.elevated,
            elevation_type: found.elevation_type.and_then(elevation_type).map(str::to_owned),
            session: found.session,
        },
    }
}

/// All processes that run now.
pub(super) fn running(people: &People) -> std::io::Result<Vec<Seen>> {
    let all = process::all()?;
    Ok(all
        .into_iter()
        // Idle.
        .filter(|(pid, _)| *pid != 0)
        .map(|(pid, name)| {
            let mut found = Process::look(pid).unwrap_or(Process { pid, ..Process::default() });
            // System, and what is protected.
            found.executable.get_or_insert(name);
            seen(found, people)
        })
        .collect())
}

/// Takes what the session of processes tells, looks at each that starts, and hands both on; until
/// the queue is closed.
pub(super) fn follow(
    queue: &Queue<Nothing>,
    people: &People,
    to: &Queue<Message>,
    losses: &Losses,
    counters: &Counters,
) {
    loop {
        let batch = queue.take(Duration::from_secs(1));
        if let Some(lost) = batch.lost {
            Setback::Queue(lost).report(losses, counters);
        }
        let mut rest = &batch.records[..];
        while let Some((record, length)) = Record::parse(rest) {
            let seen = started(&record).and_then(|pid_and_time| look(pid_and_time, people));
            let bytes: Arc<[u8]> = rest[..length].into();
            to.send(Message::Process { record: bytes, seen: seen.map(Box::new) });
            rest = &rest[length..];
        }
        if batch.closed {
            return;
        }
    }
}

/// The process that a record tells the start of, and when that was.
fn started(record: &Record<'_>) -> Option<(u32, Option<u64>)> {
    let event = decode::decode(record).ok()?;
    let is_start = event.provider == Provider::Process && event.id == 1;
    Some((event.values.process_id.filter(|_| is_start)?, event.values.create_time))
}

/// Looks at a process; not at another one that has the same id by now.
fn look((pid, created): (u32, Option<u64>), people: &People) -> Option<Seen> {
    let found = Process::look(pid).ok()?;
    let same = created.zip(found.created).is_none_or(|(said, found)| said == found);
    same.then(|| seen(found, people))
}
