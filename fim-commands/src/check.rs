//! `fim check`: compares the file system with the baseline now, and changes nothing.

use std::io::Write;
use std::path::PathBuf;

use fim_common::pipeline::scan_event;
use fim_common::scan::{self, Mode, ScanError};

use crate::baseline::{open_beside, say, show, survey, unread};
use crate::{Arguments, Failure, Site, exit, start};

/// Compares, and writes each difference as the event that an agent would write. Returns the exit
/// code: 0 the same, 1 something differs; where the rest is the same, 66 the first scan of some places
/// has not ended, 74 some objects could not be read.
///
/// # Errors
/// When nothing could be compared, with an exit code that is not that of a difference.
pub fn check(
    site: &dyn Site,
    out: &mut dyn Write,
    arguments: &Arguments,
    paths: &[PathBuf],
    deep: bool,
    json: bool,
) -> Result<u8, Failure> {
    let config = start::configuration(arguments)?;
    let baseline = open_beside(&arguments.state_dir, exit::INPUT_OUTPUT)?;
    let agent_id = std::fs::read_to_string(arguments.state_dir.join("agent-id")).ok();
    let agent_id = agent_id.as_deref().map(str::trim);
    let mut survey = survey(site, &config, arguments, agent_id, paths)?;
    let is_partial = survey.leave_out_unknown(&baseline)?;
    let of = fim_common::event::Shared::from(site.host());
    let agent = fim_common::event::Shared::from(start::agent(agent_id, &start::start_id()));
    let mut names = site.names();
    let cancel = site.interrupted();
    let known = match std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        true => baseline.count().ok().filter(|_| paths.is_empty()),
        false => None,
    };
    let (mut told, mut failure) = (0_u64, None);
    let summary =
        survey.with_progress(config.scan.limits, deep, &cancel, known, |scope, options| {
            scan::reconcile(&baseline, scope, Mode::Compare, options, &mut |difference| {
                let severity = config.events.alert_severity;
                let Some(mut event) = scan_event(difference, &survey.policy, &mut *names, severity)
                else {
                    return;
                };
                told += 1;
                (event.host, event.agent) = (of.clone(), agent.clone());
                if let Err(error) = show(out, &event, json) {
                    failure.get_or_insert(error);
                }
            })
        });
    let summary = summary.map_err(|error| {
        use fim_common::baseline::BaselineError::Damaged;
        let damaged = matches!(error, ScanError::Baseline(Damaged { .. }));
        Failure::new(if damaged { exit::DATA } else { exit::INPUT_OUTPUT }, error)
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if summary.cancelled {
        return Err(Failure::new(exit::INPUT_OUTPUT, "interrupted: the rest is not compared"));
    }
    if !json {
        let objects = summary.objects;
        say(
            out,
            format_args!("{objects} objects compared, {told} differ{}", unread(summary.errors)),
        )?;
    }
    Ok(match (told, summary.errors) {
        (0, _) if is_partial => exit::NO_INPUT,
        (0, 0) => exit::OK,
        (0, _) => exit::INPUT_OUTPUT,
        _ => exit::FAILURE,
    })
}
