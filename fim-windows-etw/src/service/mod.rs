//! The Windows service: what the service control manager (SCM) asks, and what it is told.
//!
//! START_PENDING until everything is watched, then RUNNING; STOP_PENDING from the moment it is asked
//! to stop until `agent_stopped` is in the journal. While something is pending a checkpoint each
//! second says that it gets on.

use std::ffi::OsString;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fim_commands::start::{Arguments, Failure};
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::{define_windows_service, service_dispatcher};

use crate::commands::exit;
use crate::commands::run::{self, Control};

mod log;
pub mod manage;

pub use log::Log;

/// The service's name.
pub const NAME: &str = "fim";
/// How often something pending is said to get on.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How long the SCM is to wait for the next checkpoint.
const WAIT_HINT: Duration = Duration::from_secs(20);
/// `ERROR_FAILED_SERVICE_CONTROLLER_CONNECT`: somebody else than the SCM has started us.
const NO_CONTROLLER: i32 = 1063;
/// The control by which `service reload` asks; `sc control fim paramchange` means the same.
pub(crate) const RELOAD: u32 = 128;

define_windows_service!(entry, serve);

/// What the SCM's thread is to run: it hands over no values of ours.
static ASKED: OnceLock<Asked> = OnceLock::new();

/// The agent that the service is.
struct Asked {
    name: String,
    arguments: Arguments,
    ended: Mutex<Option<Failure>>,
}

/// Runs the agent as the service `name`, until the SCM stops it.
///
/// # Errors
/// When it is not the SCM who started us, and what [`run::run`] says; the SCM is told that too.
pub fn run(name: &str, arguments: Arguments) -> Result<(), Failure> {
    let asked = Asked { name: name.to_owned(), arguments, ended: Mutex::new(None) };
    if ASKED.set(asked).is_err() {
        return Err(Failure::runtime("this process is a service already"));
    }
    match service_dispatcher::start(name, entry) {
        Ok(()) => {}
        Err(windows_service::Error::Winapi(error))
            if error.raw_os_error() == Some(NO_CONTROLLER) =>
        {
            let message = "this is what the service manager runs: in a console say \
                           `fim-windows-etw run`, or `fim-windows-etw service start`";
            return Err(Failure::new(exit::USAGE, message));
        }
        Err(error) => return Err(manage::failure(&error)),
    }
    let ended = ASKED.get().and_then(|asked| lock(&asked.ended).take());
    ended.map_or(Ok(()), Err)
}

/// The SCM's thread.
fn serve(_: Vec<OsString>) {
    let Some(asked) = ASKED.get() else { return };
    if let Err(failure) = serve_until_stopped(asked) {
        // Nobody else hears it.
        tracing::error!("{failure}");
        *lock(&asked.ended) = Some(failure);
    }
}

fn serve_until_stopped(asked: &Asked) -> Result<(), Failure> {
    let told = Arc::new(Told::default());
    let control = Arc::new(Control::default());
    let handler = {
        let (told, control) = (Arc::clone(&told), Arc::clone(&control));
        move |asked: ServiceControl| match asked {
            ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
            ServiceControl::Stop | ServiceControl::Preshutdown | ServiceControl::Shutdown => {
                told.tell(Phase::Stopping);
                control.stop.notify_one();
                ServiceControlHandlerResult::NoError
            }
            ServiceControl::ParamChange => {
                control.reload.notify_one();
                ServiceControlHandlerResult::NoError
            }
            ServiceControl::UserEvent(code) if code.to_raw() == RELOAD => {
                control.reload.notify_one();
                ServiceControlHandlerResult::NoError
            }
            _ => ServiceControlHandlerResult::NotImplemented,
        }
    };
    let handle = service_control_handler::register(&asked.name, handler)
        .map_err(|error| manage::failure(&error))?;
    told.begin(handle);
    control.when_watching({
        let told = Arc::clone(&told);
        move || told.tell(Phase::Running)
    });
    let (ended, wait_ended) = mpsc::channel::<()>();
    let ticker = std::thread::Builder::new().name("checkpoints".to_owned()).spawn({
        let told = Arc::clone(&told);
        move || {
            while wait_ended.recv_timeout(CHECKPOINT) == Err(RecvTimeoutError::Timeout) {
                told.checkpoint();
            }
        }
    });
    let result = run::run_as(&asked.arguments, &control);
    told.tell(Phase::Stopping);
    drop(ended);
    match ticker {
        Ok(ticker) => drop(ticker.join()),
        Err(error) => tracing::warn!(%error, "the service manager saw no checkpoints"),
    }
    told.end(result.as_ref().err().map_or(0, |failure| failure.code));
    result
}

/// Where a service is in its life; it only goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Starting,
    Running,
    Stopping,
    Stopped,
}

/// What the SCM has been told.
#[derive(Default)]
struct Told {
    handle: OnceLock<ServiceStatusHandle>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    phase: Phase,
    checkpoint: u32,
    /// The agent's exit code.
    code: u8,
}

impl Told {
    fn begin(&self, handle: ServiceStatusHandle) {
        let state = lock(&self.state);
        // The handler may have been asked before it was here.
        let _ = self.handle.set(handle);
        self.say(*state);
    }

    /// A later phase; one that is over does not come back.
    fn tell(&self, phase: Phase) {
        let mut state = lock(&self.state);
        if let Some(next) = state.after(phase) {
            *state = next;
            self.say(next);
        }
    }

    fn checkpoint(&self) {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Starting | Phase::Stopping) {
            state.checkpoint += 1;
            self.say(*state);
        }
    }

    fn end(&self, code: u8) {
        lock(&self.state).code = code;
        self.tell(Phase::Stopped);
    }

    fn say(&self, state: State) {
        let Some(handle) = self.handle.get() else { return };
        if let Err(error) = handle.set_service_status(state.status()) {
            tracing::error!(%error, "the service manager cannot be told");
        }
    }
}

impl State {
    fn after(self, phase: Phase) -> Option<Self> {
        (phase > self.phase).then_some(Self { phase, checkpoint: 0, ..self })
    }

    fn status(self) -> ServiceStatus {
        let (current_state, pending) = match self.phase {
            Phase::Starting => (ServiceState::StartPending, true),
            Phase::Running => (ServiceState::Running, false),
            Phase::Stopping => (ServiceState::StopPending, true),
            Phase::Stopped => (ServiceState::Stopped, false),
        };
        let controls_accepted = match self.phase {
            Phase::Running => {
                ServiceControlAccept::STOP
                    | ServiceControlAccept::PRESHUTDOWN
                    | ServiceControlAccept::PARAM_CHANGE
            }
            _ => ServiceControlAccept::empty(),
        };
        ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state,
            controls_accepted,
            exit_code: match self.code {
                0 => ServiceExitCode::NO_ERROR,
                code => ServiceExitCode::ServiceSpecific(code.into()),
            },
            checkpoint: if pending { self.checkpoint + 1 } else { 0 },
            wait_hint: if pending { WAIT_HINT } else { Duration::ZERO },
            process_id: None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_is_over_does_not_come_back() {
        let state = State::default();
        let begun = state.status();
        assert_eq!((begun.current_state, begun.checkpoint), (ServiceState::StartPending, 1));
        // The SCM refuses controls while something is pending, and so do we.
        assert!(begun.controls_accepted.is_empty() && !begun.wait_hint.is_zero());
        // Stopped while it starts: RUNNING comes too late.
        let stopping = state.after(Phase::Stopping).unwrap();
        assert_eq!(stopping.after(Phase::Running), None);
        assert_eq!(stopping.after(Phase::Stopping), None);
        let running = state.after(Phase::Running).unwrap().status();
        assert!(running.controls_accepted.contains(ServiceControlAccept::STOP));
        assert_eq!((running.checkpoint, running.wait_hint), (0, Duration::ZERO));
        let ended = State { code: 64, ..stopping.after(Phase::Stopped).unwrap() }.status();
        assert_eq!(ended.current_state, ServiceState::Stopped);
        assert_eq!(ended.exit_code, ServiceExitCode::ServiceSpecific(64));
    }
}
