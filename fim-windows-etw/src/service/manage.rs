//! `service install|start|stop|reload|status|uninstall`: what the service control manager is asked.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fim_commands::start::Failure;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceExitCode,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState,
    ServiceStatus, ServiceType, UserEventCode,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

use super::RELOAD;
use crate::commands::exit;

/// What people see in the list of services.
const DISPLAY_NAME: &str = "fim file integrity monitor";
const DESCRIPTION: &str = "Says which file or registry key changed, what it was before, and who \
                           did it, as far as the system tells.";
/// After a failure it is started again so much later; the last one also from then on.
const RESTARTS: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(60)];
/// After so long without a failure the next one counts as the first.
const FORGOTTEN: Duration = Duration::from_secs(86_400);
/// What the system waits for us when it goes down.
const PRESHUTDOWN: Duration = Duration::from_secs(30);
/// Beyond this without getting on, a start or a stop has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Windows' codes.
const ACCESS_DENIED: i32 = 5;
const ALREADY_RUNNING: i32 = 1056;
const DOES_NOT_EXIST: i32 = 1060;
const CANNOT_ACCEPT_CONTROL: i32 = 1061;
const NOT_ACTIVE: i32 = 1062;
const MARKED_FOR_DELETE: i32 = 1072;

/// An error of the SCM, and what to do about it.
pub(super) fn failure(error: &windows_service::Error) -> Failure {
    let windows_service::Error::Winapi(error) = error else { return Failure::runtime(error) };
    match error.raw_os_error() {
        Some(ACCESS_DENIED) => Failure::new(
            exit::NOT_PERMITTED,
            "the service manager refuses: this is for administrators (an elevated prompt)",
        ),
        Some(DOES_NOT_EXIST) => Failure::new(
            exit::UNAVAILABLE,
            "the service is not installed: fim-windows-etw service install",
        ),
        Some(MARKED_FOR_DELETE) => Failure::runtime(
            "the service is being removed: it goes when everybody who looks at it (services.msc) \
             has closed it",
        ),
        _ => Failure::runtime(format!("the service manager: {error}")),
    }
}

fn code_of(error: &windows_service::Error) -> Option<i32> {
    match error {
        windows_service::Error::Winapi(error) => error.raw_os_error(),
        _ => None,
    }
}

fn said(written: std::io::Result<()>) -> Result<(), Failure> {
    fim_commands::quiet_on_closed_pipe(written).map_err(Failure::runtime)
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager, Failure> {
    ServiceManager::local_computer(None::<&str>, access).map_err(|error| failure(&error))
}

fn open(name: &str, access: ServiceAccess) -> Result<Service, Failure> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    manager.open_service(name, access).map_err(|error| failure(&error))
}

/// Installs this program as the service `name`, which the system starts with `arguments`; of one
/// that is there already, program and arguments are replaced.
///
/// # Errors
/// When somebody who is no administrator could replace the program, and what the SCM says.
pub fn install(out: &mut dyn Write, name: &str, arguments: Vec<OsString>) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::runtime)?;
    is_safe(&program)?;
    let info = ServiceInfo {
        name: name.into(),
        display_name: DISPLAY_NAME.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments: arguments,
        dependencies: Vec::new(),
        // LocalSystem: what is watched is readable for nobody less.
        account_name: None,
        account_password: None,
    };
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    // Starting again after a failure is a right of its own.
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::QUERY_STATUS;
    let (service, was_there) = match manager.open_service(name, access) {
        Ok(service) => {
            service.change_config(&info).map_err(|error| failure(&error))?;
            (service, true)
        }
        Err(error) if code_of(&error) == Some(DOES_NOT_EXIST) => {
            let service = manager.create_service(&info, access);
            (service.map_err(|error| failure(&error))?, false)
        }
        Err(error) => return Err(failure(&error)),
    };
    let restarts =
        RESTARTS.map(|delay| ServiceAction { action_type: ServiceActionType::Restart, delay });
    let recovery = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGOTTEN),
        reboot_msg: None,
        command: None,
        actions: Some(restarts.to_vec()),
    };
    // The service works without each of these, so that they are no reason not to have it.
    for (what, done) in [
        ("description", service.set_description(DESCRIPTION)),
        ("recovery", service.update_failure_actions(recovery)),
        ("recovery after an error", service.set_failure_actions_on_non_crash_failures(true)),
        ("time to shut down", service.set_preshutdown_timeout(PRESHUTDOWN)),
    ] {
        if let Err(error) = done {
            let error = failure(&error);
            tracing::warn!("the service manager does not take the {what}: {error}");
        }
    }
    let done = if was_there { "updated" } else { "installed" };
    said(writeln!(out, "service {name}: {done}"))
}

/// What runs as the system must not be for others to replace: neither the program nor, by another
/// one beside it, what it loads.
fn is_safe(program: &Path) -> Result<(), Failure> {
    const READ_CONTROL: u32 = 0x0002_0000;
    const BACKUP_SEMANTICS: u32 = 0x0200_0000;
    for path in [Some(program), program.parent()].into_iter().flatten() {
        let file = OpenOptions::new()
            .access_mode(READ_CONTROL)
            .custom_flags(BACKUP_SEMANTICS)
            .open(path)
            .and_then(|file| fim_common::own::writable_by_others(&file));
        let place = path.display();
        match file {
            Ok(None) => {}
            Ok(Some(why)) => {
                let message = format!(
                    "{place}: {why}; it would run as the system, so that nobody but \
                     administrators may be able to change it: put it below C:\\Program Files"
                );
                return Err(Failure::new(exit::NOT_PERMITTED, message));
            }
            Err(error) => return Err(Failure::runtime(format!("{place}: {error}"))),
        }
    }
    Ok(())
}

/// Starts it, and waits until it watches.
///
/// # Errors
/// When it does not come up, and what the SCM says.
pub fn start(out: &mut dyn Write, name: &str) -> Result<(), Failure> {
    let service = open(name, ServiceAccess::START | ServiceAccess::QUERY_STATUS)?;
    match service.start::<&str>(&[]) {
        Ok(()) => {}
        Err(error) if code_of(&error) == Some(ALREADY_RUNNING) => {}
        Err(error) => return Err(failure(&error)),
    }
    wait(&service, ServiceState::Running)?;
    said(writeln!(out, "service {name}: running"))
}

/// Stops it, and waits until it has ended.
///
/// # Errors
/// When it does not end, and what the SCM says.
pub fn stop(out: &mut dyn Write, name: &str) -> Result<(), Failure> {
    let service = open(name, ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)?;
    end(&service)?;
    said(writeln!(out, "service {name}: stopped"))
}

fn end(service: &Service) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match service.stop() {
            Ok(_) => break,
            Err(error) if code_of(&error) == Some(NOT_ACTIVE) => break,
            // It is starting, or stopping already.
            Err(error)
                if code_of(&error) == Some(CANNOT_ACCEPT_CONTROL) && begun.elapsed() < PATIENCE =>
            {
                let status = service.query_status().map_err(|error| failure(&error))?;
                if status.current_state == ServiceState::StopPending {
                    break;
                }
                std::thread::sleep(POLL);
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    wait(service, ServiceState::Stopped)
}

/// Has it read its configuration again.
///
/// # Errors
/// What the SCM says.
pub fn reload(out: &mut dyn Write, name: &str) -> Result<(), Failure> {
    let service = open(name, ServiceAccess::USER_DEFINED_CONTROL)?;
    let code = UserEventCode::from_raw(RELOAD).map_err(Failure::runtime)?;
    service.notify(code).map_err(|error| failure(&error))?;
    said(writeln!(out, "service {name}: asked; the journal says what came of it"))
}

/// Says in which state it is; the exit code is 0 if it runs.
///
/// # Errors
/// What the SCM says.
pub fn status(out: &mut dyn Write, name: &str) -> Result<u8, Failure> {
    let service = open(name, ServiceAccess::QUERY_STATUS)?;
    let status = service.query_status().map_err(|error| failure(&error))?;
    let state = match status.current_state {
        ServiceState::Stopped => "stopped",
        ServiceState::StartPending => "starting",
        ServiceState::StopPending => "stopping",
        ServiceState::Running => "running",
        ServiceState::ContinuePending | ServiceState::PausePending | ServiceState::Paused => {
            "paused"
        }
    };
    let why = match status.current_state {
        ServiceState::Stopped => ended_with(&status),
        _ => status.process_id.map(|pid| format!("process {pid}")),
    };
    said(match why {
        Some(why) => writeln!(out, "service {name}: {state} ({why})"),
        None => writeln!(out, "service {name}: {state}"),
    })?;
    Ok(if status.current_state == ServiceState::Running { exit::OK } else { exit::FAILURE })
}

/// Stops it, and removes it. State and configuration are kept.
///
/// # Errors
/// What the SCM says.
pub fn uninstall(out: &mut dyn Write, name: &str) -> Result<(), Failure> {
    let access = ServiceAccess::STOP | ServiceAccess::QUERY_STATUS | ServiceAccess::DELETE;
    let service = open(name, access)?;
    end(&service)?;
    service.delete().map_err(|error| failure(&error))?;
    said(writeln!(out, "service {name}: removed; state and configuration are kept"))
}

/// Waits until it is in this state.
fn wait(service: &Service, wanted: ServiceState) -> Result<(), Failure> {
    let mut progress = None;
    let mut since = Instant::now();
    loop {
        let status = service.query_status().map_err(|error| failure(&error))?;
        if status.current_state == wanted {
            return Ok(());
        }
        if status.current_state == ServiceState::Stopped {
            let why = ended_with(&status).unwrap_or_else(|| "it says nothing".to_owned());
            let message = format!("the service has ended ({why}); its log says why");
            return Err(Failure::runtime(message));
        }
        let now = Some((status.current_state, status.checkpoint));
        if progress != now {
            progress = now;
            since = Instant::now();
        }
        if since.elapsed() >= PATIENCE {
            let state = status.current_state;
            let message = format!("the service does not get on: it is {state:?}");
            return Err(Failure::runtime(message));
        }
        std::thread::sleep(POLL);
    }
}

/// With what it ended, if that was an error.
fn ended_with(status: &ServiceStatus) -> Option<String> {
    match status.exit_code {
        ServiceExitCode::Win32(0) => None,
        ServiceExitCode::Win32(code) => {
            Some(std::io::Error::from_raw_os_error(code.cast_signed()).to_string())
        }
        ServiceExitCode::ServiceSpecific(code) => Some(format!("exit code {code}")),
    }
}
