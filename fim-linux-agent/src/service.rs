//! What the service manager is told, if there is one: sd_notify(3).

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use fim_common::metrics::Health;

/// Tells it. Without a service manager nothing is told.
pub fn notify(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let result = UnixDatagram::unbound().and_then(|socket| {
        use std::os::linux::net::SocketAddrExt as _;
        match path.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.send_to_addr(
                message.as_bytes(),
                &std::os::unix::net::SocketAddr::from_abstract_name(name)?,
            ),
            None => socket.send_to(message.as_bytes(), &path),
        }
    });
    if let Err(error) = result {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// The time within which it wants to hear that we live: sd_watchdog_enabled(3).
///
/// # Errors
/// When it says something that is no time.
pub fn watchdog() -> io::Result<Option<Duration>> {
    let read = |name: &str| std::env::var(name).ok();
    watchdog_of(read("WATCHDOG_USEC"), read("WATCHDOG_PID"), std::process::id())
}

fn watchdog_of(
    usec: Option<String>,
    pid: Option<String>,
    own: u32,
) -> io::Result<Option<Duration>> {
    let wrong = |name: &str, value: &str| io::Error::other(format!("{name} is {value:?}"));
    // Inherited from somebody else, it is not for us.
    if let Some(pid) = pid
        && pid.parse::<u32>().map_err(|_| wrong("WATCHDOG_PID", &pid))? != own
    {
        return Ok(None);
    }
    let Some(usec) = usec else { return Ok(None) };
    match usec.parse::<u64>() {
        Ok(usec) if usec > 0 => Ok(Some(Duration::from_micros(usec))),
        _ => Err(wrong("WATCHDOG_USEC", &usec)),
    }
}

/// Says again and again that the agent lives, as long as its pipeline gets on: a thread that is
/// stuck, the collector's or the pipeline's, ends it, and the service manager starts another one.
pub async fn watch(limit: Duration, health: Arc<Health>) {
    // A word that is late by half the time is still in time.
    let mut every = tokio::time::interval(limit / 4);
    let mut last = None;
    loop {
        every.tick().await;
        if has_grown(&mut last, health.beats()) {
            notify("WATCHDOG=1");
        }
    }
}

/// Whether there was a beat since the last look; the first look counts as one.
fn has_grown(last: &mut Option<u64>, beats: u64) -> bool {
    let before = last.replace(beats);
    before != Some(beats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_s_time_is_taken_where_it_is_for_us() {
        let of = |usec: Option<&str>, pid: Option<&str>| {
            watchdog_of(usec.map(str::to_owned), pid.map(str::to_owned), 7).ok()
        };
        let second = Some(Some(Duration::from_secs(1)));
        assert_eq!(of(Some("1000000"), None), second);
        assert_eq!(of(Some("1000000"), Some("7")), second);
        assert_eq!(of(Some("1000000"), Some("8")), Some(None));
        assert_eq!(of(None, None), Some(None));
        for (usec, pid) in [("0", None), ("soon", None), ("-1", None), ("1", Some("x"))] {
            assert_eq!(of(Some(usec), pid), None, "{usec} {pid:?}");
        }
    }

    #[test]
    fn a_pipeline_that_stands_still_is_no_life() {
        let health = Health::starting();
        let mut last = None;
        assert!(has_grown(&mut last, health.beats()), "it has just been started");
        assert!(!has_grown(&mut last, health.beats()));
        health.beat();
        assert!(has_grown(&mut last, health.beats()));
        assert!(!has_grown(&mut last, health.beats()));
    }
}
