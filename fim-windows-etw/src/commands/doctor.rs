//! `doctor`: what works here, and why the rest does not.

use std::io::Write;

use anyhow::Result;
use fim_commands::exit;
use fim_common::config::Config;
use fim_win32::etw::StartError;
use serde::Serialize;

use crate::live::etw;

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    works: bool,
    detail: String,
}

/// Says it.
///
/// # Errors
/// When `out` cannot be written to; a closed pipe is not an error.
pub fn doctor(out: &mut dyn Write, json: bool) -> Result<u8> {
    let findings = findings();
    let works = findings.iter().any(|finding| finding.works);
    let written = if json {
        serde_json::to_writer_pretty(&mut *out, &findings)
            .map_err(Into::into)
            .and_then(|()| writeln!(out))
    } else {
        findings.iter().try_for_each(|finding| {
            let mark = if finding.works { "yes" } else { "NO " };
            writeln!(out, "{mark} {:<22} {}", finding.what, finding.detail)
        })
    };
    fim_commands::quiet_on_closed_pipe(written)?;
    Ok(if works { exit::OK } else { exit::UNAVAILABLE })
}

fn findings() -> Vec<Finding> {
    let registry = fim_win32::registry::Change::of([(r"HKLM\SOFTWARE", true)]);
    let directories = notify::recommended_watcher(|_| {}).and_then(|mut watcher| {
        let place = std::env::temp_dir();
        notify::Watcher::watch(&mut watcher, &place, notify::RecursiveMode::Recursive)
    });
    let of = |what, result: Result<String, String>| Finding {
        what,
        works: result.is_ok(),
        detail: result.unwrap_or_else(|why| why),
    };
    vec![
        of(
            "ETW session",
            etw::probe(&etw::Sizes::of(&Config::default().collector))
                .map(|()| "can be started: who did what is known".to_owned())
                .map_err(|error| match error {
                    StartError::NotPermitted(_) => format!(
                        "{error}: run as an administrator, as a service, or as a member of \
                         Performance Log Users; without it who did it is not known"
                    ),
                    _ => format!("{error}; without it who did it is not known"),
                }),
        ),
        of(
            "directory changes",
            directories
                .map(|()| "ReadDirectoryChangesW works".to_owned())
                .map_err(|error| error.to_string()),
        ),
        of(
            "registry changes",
            registry
                .map(|_| "RegNotifyChangeKeyValue works".to_owned())
                .map_err(|error| error.to_string()),
        ),
    ]
}
