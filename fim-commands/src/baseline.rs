//! `fim baseline`: takes, shows and accepts what is known of the watched objects.

use std::io::Write;
use std::path::{Path, PathBuf};

use fim_common::baseline::{Baseline, LastChange, PRIVILEGED, PROGRAM, StateDir, StateDirError};
use fim_common::event::{
    Action, BaselineChange, Event, Fim, Provider, Shared, Side, SmolStr, path_base64, path_text,
    pretty::{escaped, pretty},
};
use fim_common::journal::Journal;
use fim_common::pipeline::{Names, own_event, scan_event};
use fim_common::scan::{self, Difference, Mode, Summary};
use fim_common::time::Timestamp;
use serde::Serialize;

use crate::survey::{self, Survey};
use crate::{Arguments, Failure, Site, exit, start};

/// Differences that are accepted with one event; each holds some 1 KiB until then.
const BATCH: usize = 65_536;

/// `fim baseline create`: what there is now is what is known.
///
/// # Errors
/// When there is a baseline already, or it cannot be taken; with the exit code.
pub fn create(site: &dyn Site, out: &mut dyn Write, arguments: &Arguments) -> Result<(), Failure> {
    let config = start::configuration(arguments)?;
    let state = open_state(arguments)?;
    let baseline = Baseline::open(state.path()).map_err(Failure::runtime)?;
    let survey = Survey::of(site, &config, state.path(), Some(state.agent_id()));
    let known = |root: &scan::Root| baseline.scan_complete(&root.path).ok().flatten();
    if let Some(at) = survey.roots.iter().map(known).collect::<Option<Vec<_>>>()
        && let Some(at) = at.into_iter().max()
    {
        return Err(Failure::runtime(format!(
            "there is a baseline already, of {at}: `{PROGRAM} check` shows what differs from it, \
             `{PROGRAM} baseline accept` takes that into it"
        )));
    }
    // Before anything is done, so that who did it can be written down.
    let mut chronicle = Chronicle::open(site, &config, &state)?;
    let cancel = site.interrupted();
    let summary = survey
        .with_progress(config.scan.limits, false, &cancel, None, |scope, options| {
            scan::reconcile(&baseline, scope, Mode::First, options, &mut |_| {})
        })
        .map_err(Failure::runtime)?;
    if summary.cancelled {
        return Err(Failure::runtime(format!(
            "interrupted: what was taken is kept, and `{PROGRAM} baseline create` goes on from there"
        )));
    }
    let change = BaselineChange {
        objects: summary.objects,
        created: baseline.count().map_err(Failure::runtime)?,
        unreadable: summary.errors,
        ..BaselineChange::default()
    };
    chronicle.write(Action::BaselineCreated, change)?;
    for root in &survey.roots {
        let done = baseline.set_scan_complete(&root.path, Timestamp::now());
        done.map_err(Failure::runtime)?;
    }
    baseline.set_stopped(Timestamp::now()).map_err(Failure::runtime)?;
    let Summary { objects, bytes, errors, .. } = summary;
    say(
        out,
        format_args!(
            "baseline taken: {objects} objects, {} MiB read{}",
            bytes >> 20,
            unread(errors)
        ),
    )
}

/// `fim baseline accept [PATH...]`: takes what differs from the baseline into it.
///
/// # Errors
/// When an agent runs, there is no baseline, a path is not watched, or something fails; with the
/// exit code.
pub fn accept(
    site: &dyn Site,
    out: &mut dyn Write,
    arguments: &Arguments,
    paths: &[PathBuf],
    json: bool,
) -> Result<(), Failure> {
    let config = start::configuration(arguments)?;
    exists(&arguments.state_dir)?;
    let state = open_state(arguments)?;
    let baseline = Baseline::open(state.path()).map_err(Failure::runtime)?;
    let mut survey = survey(site, &config, arguments, Some(state.agent_id()), paths)?;
    survey.leave_out_unknown(&baseline)?;
    let chronicle = Chronicle::open(site, &config, &state)?;
    let mut accepting = Accepting {
        baseline: &baseline,
        survey: &survey,
        alert_severity: config.events.alert_severity,
        names: site.names(),
        chronicle,
        batch: Vec::new(),
        change: BaselineChange {
            paths: paths.iter().map(|path| path_text(path)).collect(),
            ..BaselineChange::default()
        },
        total: 0,
        out,
        json,
        failure: None,
    };
    let cancel = site.interrupted();
    let known = baseline.count().ok().filter(|_| paths.is_empty());
    let summary =
        survey.with_progress(config.scan.limits, false, &cancel, known, |scope, options| {
            scan::reconcile(&baseline, scope, Mode::Propose, options, &mut |difference| {
                accepting.take(difference);
            })
        });
    let summary = summary.map_err(Failure::runtime)?;
    if let Some(failure) = accepting.failure.take() {
        return Err(failure);
    }
    accepting.change.objects = summary.objects;
    accepting.change.unreadable = summary.errors;
    accepting.commit()?;
    let total = accepting.total;
    if !json {
        let objects = summary.objects;
        say(
            out,
            format_args!("{objects} objects compared, {total} accepted{}", unread(summary.errors)),
        )?;
    }
    if summary.cancelled {
        return Err(Failure::runtime("interrupted: the rest is not accepted"));
    }
    Ok(())
}

/// Takes differences into the baseline, a batch at a time.
struct Accepting<'a> {
    baseline: &'a Baseline,
    survey: &'a Survey,
    alert_severity: u8,
    names: Box<dyn Names>,
    chronicle: Chronicle<'a>,
    batch: Vec<Difference>,
    change: BaselineChange,
    total: u64,
    out: &'a mut dyn Write,
    json: bool,
    failure: Option<Failure>,
}

impl Accepting<'_> {
    fn take(&mut self, difference: Difference) {
        // What nobody is told of (a directory's times) is brought up to date and not counted.
        if !difference.changes.is_empty() {
            match (&difference.before, &difference.after) {
                (None, _) => self.change.created += 1,
                (_, None) => self.change.deleted += 1,
                _ => self.change.updated += 1,
            }
            let shown = scan_event(
                difference.clone(),
                &self.survey.policy,
                &mut *self.names,
                self.alert_severity,
            );
            if let Some(event) = shown
                && let Err(failure) = show(self.out, &event, self.json)
            {
                self.failure.get_or_insert(failure);
            }
        }
        self.batch.push(difference);
        if self.batch.len() >= BATCH
            && let Err(failure) = self.commit()
        {
            self.failure.get_or_insert(failure);
        }
    }

    /// First the event, then the baseline: whoever is killed in between has accepted nothing, and
    /// the next comparison tells of it again.
    fn commit(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        if self.failure.is_some() {
            return Ok(());
        }
        let fresh = BaselineChange { paths: self.change.paths.clone(), ..Default::default() };
        let change = std::mem::replace(&mut self.change, fresh);
        self.total += change.created + change.updated + change.deleted;
        let event = self.chronicle.write(Action::BaselineAccepted, change)?;
        let last = LastChange {
            time: event.timestamp,
            event_id: event.event.id,
            action: Action::BaselineAccepted,
            provider: Provider::Scan,
            pid: None,
            process: None,
            executable: None,
            user: None,
            login: None,
        };
        for Difference { path, after, changes, .. } in batch {
            let done = match &after {
                None => self.baseline.remove(&path).map(drop),
                Some(state) => self.baseline.put(&path, state).and_then(|()| {
                    if changes.is_empty() {
                        return Ok(());
                    }
                    self.baseline.set_last_change(&path, &last)
                }),
            };
            done.map_err(Failure::runtime)?;
        }
        self.baseline.flush().map_err(Failure::runtime)
    }
}

/// The journal, for a command that changes what the agent keeps.
struct Chronicle<'a> {
    site: &'a dyn Site,
    journal: Journal,
    host: Shared<fim_common::event::Host>,
    agent: Shared<fim_common::event::Agent>,
    sequence: u64,
}

impl<'a> Chronicle<'a> {
    fn open(
        site: &'a dyn Site,
        config: &fim_common::config::Config,
        state: &StateDir,
    ) -> Result<Self, Failure> {
        Ok(Self {
            site,
            journal: start::open_journal(config, state)?,
            host: site.host().into(),
            agent: start::agent(Some(state.agent_id()), &start::start_id()).into(),
            sequence: 0,
        })
    }

    /// Writes down what is being done, with who does it: this very process.
    fn write(&mut self, action: Action, change: BaselineChange) -> Result<Event, Failure> {
        let BaselineChange { objects, created, updated, deleted, .. } = change;
        let message = match action {
            Action::BaselineCreated => format!("the baseline was taken: {objects} objects"),
            _ => format!(
                "accepted into the baseline: {created} new, {updated} changed, {deleted} gone"
            ),
        };
        let fim =
            Fim { message: Some(message), baseline: Some(Box::new(change)), ..Fim::default() };
        let mut event = own_event(action, fim, self.host.clone(), self.agent.clone());
        let actor = self.site.actor();
        event.process.clone_from(&actor.process);
        event.user.clone_from(&actor.user);
        event.container.clone_from(&actor.container);
        event.kubernetes.clone_from(&actor.kubernetes);
        event.fim.ancestors.clone_from(&actor.ancestors);
        event.fim.unknown.clone_from(&actor.unknown);
        self.sequence += 1;
        event.event.sequence = self.sequence;
        self.journal.append(&event).map_err(Failure::runtime)?;
        self.journal.flush().map_err(Failure::runtime)?;
        self.journal.sync().map_err(Failure::runtime)?;
        Ok(event)
    }
}

/// One line of `fim baseline list --json`.
#[derive(Serialize)]
struct Known {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(flatten)]
    state: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctime: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<SmolStr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selinux: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_change: Option<LastChange>,
}

/// `fim baseline list [PATH...]`: what is known at and below the paths.
///
/// # Errors
/// When there is no baseline, or it cannot be read; with the exit code.
pub fn list(
    out: &mut dyn Write,
    state_dir: &Path,
    paths: &[PathBuf],
    json: bool,
) -> Result<(), Failure> {
    let baseline = open_beside(state_dir, exit::FAILURE)?;
    let everything = baseline.everything();
    let paths: Vec<PathBuf> = match paths {
        [] => everything,
        paths => paths.iter().map(|path| survey::object(path)).collect(),
    };
    for root in paths {
        for object in baseline.tree(&root) {
            let (path, state) = object.map_err(Failure::runtime)?;
            let last_change = baseline.last_change(&path).map_err(Failure::runtime)?;
            let selinux = fim_common::object::selinux_label(&state);
            let known = Known {
                path: path_text(&path),
                path_b64: path_base64(&path),
                ctime: state.ctime,
                device: state.device.map(fim_common::object::device_text),
                links: state.nlink,
                selinux,
                state: Side::new(&state, None),
                last_change,
            };
            let line = if json {
                serde_json::to_string(&known).map_err(Failure::runtime)?
            } else {
                line(&known)
            };
            if !write_line(out, &line)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// For people: type and mode, owner, size, hash, path, who changed it last.
fn line(known: &Known) -> String {
    let Known { state, last_change, .. } = known;
    let kind = state.kind.map_or("?".to_owned(), |kind| format!("{kind:?}").to_lowercase());
    let text = |value: &Option<SmolStr>| value.clone().unwrap_or_else(|| "-".into());
    let hash = state.sha256.as_deref().and_then(|hash| hash.get(..12)).unwrap_or("-");
    let mut line = format!(
        "{kind:<8} {} {:>5}:{:<5} {:>10} {hash:<12} {}",
        text(&state.mode),
        text(&state.uid),
        text(&state.gid),
        state.size.map_or("-".to_owned(), |size| size.to_string()),
        escaped(&known.path),
    );
    if let Some(target) = &state.target_path {
        line.push_str(&format!(" -> {}", escaped(target)));
    }
    if let Some(last) = last_change {
        let process = escaped(last.process.as_deref().unwrap_or("unknown"));
        line.push_str(&format!("  [{} by {process}", last.action.as_str()));
        if let Some(pid) = last.pid {
            line.push_str(&format!("[{pid}]"));
        }
        for (what, user) in [("user", &last.user), ("login", &last.login)] {
            if let Some(user) = user {
                line.push_str(&format!(" {what} {}", user.name.as_deref().unwrap_or(&user.id)));
            }
        }
        line.push_str(&format!(", event {}]", last.event_id));
    }
    line
}

/// What is known, beside an agent that may be running; with this exit code for what has none.
pub(crate) fn open_beside(state_dir: &Path, code: u8) -> Result<Baseline, Failure> {
    exists(state_dir)?;
    StateDir::check(state_dir).map_err(|error| Failure::new(code, error))?;
    Baseline::open_read_only(state_dir).map_err(|error| unreadable(error, code))
}

/// The baseline cannot be read: with this exit code, if it is not damaged, foreign or newer.
pub(crate) fn unreadable(error: fim_common::baseline::BaselineError, code: u8) -> Failure {
    use fim_common::baseline::BaselineError as Error;
    let bad = matches!(error, Error::Damaged { .. } | Error::Foreign { .. } | Error::Newer { .. });
    Failure::new(if bad { exit::DATA } else { code }, error)
}

/// There is a baseline, of whatever worth.
fn exists(state_dir: &Path) -> Result<(), Failure> {
    let path = state_dir.join("baseline.db");
    match std::fs::symlink_metadata(&path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(
            exit::NO_INPUT,
            format!(
                "there is no baseline in {}: take one with `{PROGRAM} baseline create`, or start the \
                 agent, which takes one first",
                state_dir.display()
            ),
        )),
        Err(error) => Err(not_allowed(&error)
            .unwrap_or_else(|| Failure::runtime(format!("{}: {error}", path.display())))),
    }
}

fn not_allowed(error: &std::io::Error) -> Option<Failure> {
    (error.kind() == std::io::ErrorKind::PermissionDenied).then(|| {
        Failure::new(
            exit::NOT_PERMITTED,
            format!("only who owns the state directory may look: run it as {PRIVILEGED}"),
        )
    })
}

/// The part of the watched objects that a command names.
pub(crate) fn survey(
    site: &dyn Site,
    config: &fim_common::config::Config,
    arguments: &Arguments,
    agent_id: Option<&str>,
    paths: &[PathBuf],
) -> Result<Survey, Failure> {
    Survey::of(site, config, &arguments.state_dir, agent_id).at(paths).map_err(|path| {
        let path = path.display();
        Failure::new(
            exit::USAGE,
            format!("nothing is watched at or below {path}: `{PROGRAM} explain {path}` says why"),
        )
    })
}

fn open_state(arguments: &Arguments) -> Result<StateDir, Failure> {
    StateDir::open(&arguments.state_dir).map_err(|error| match &error {
        StateDirError::Locked { pid, .. } => {
            let pid = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
            Failure::runtime(format!(
                "an agent{pid} is running on {}: it takes what it tells of into the baseline \
                 itself, so there is nothing to accept; to take over a state that is not told of, \
                 stop it first",
                arguments.state_dir.display()
            ))
        }
        StateDirError::Io { source, .. } => {
            not_allowed(source).unwrap_or_else(|| Failure::runtime(&error))
        }
        _ => Failure::runtime(&error),
    })
}

/// Writes an event for people, or as JSON.
pub(crate) fn show(out: &mut dyn Write, event: &Event, json: bool) -> Result<(), Failure> {
    let line = if json {
        serde_json::to_string(event).map_err(Failure::runtime)?
    } else {
        pretty(event, false)
    };
    write_line(out, &line).map(drop)
}

/// Whether anybody still reads.
fn write_line(out: &mut dyn Write, line: &str) -> Result<bool, Failure> {
    match writeln!(out, "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::runtime(error)),
    }
}

pub(crate) fn say(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    write_line(out, &text.to_string()).map(drop)
}

pub(crate) fn unread(errors: u64) -> String {
    match errors {
        0 => String::new(),
        errors => format!(", {errors} could not be read (`--log debug` names them)"),
    }
}
