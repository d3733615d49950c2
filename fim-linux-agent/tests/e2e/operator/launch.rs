//! Starting a program as somebody: a stage between these tests and the program, since some things
//! a process can only do to itself.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::Raw;
use super::entry::{Stage, this_program};

/// What to become. Everything is done before the program is executed, as a login or sudo does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    program: Raw,
    args: Vec<Raw>,
    /// The stage of the program, where that is this one.
    next: Option<Box<Stage>>,
    login: Option<u32>,
    user: Option<(u32, u32)>,
    with_parent: bool,
}

impl Launch {
    /// The program and the arguments of `command`, and nothing else of it.
    pub(crate) fn of(command: &Command) -> Self {
        Self {
            program: Raw::from(command.get_program()),
            args: command.get_args().map(Raw::from).collect(),
            next: None,
            login: None,
            user: None,
            with_parent: false,
        }
    }

    /// This program again, in another stage.
    pub(super) fn stage(command: &Command, stage: Stage) -> Self {
        Self { next: Some(Box::new(stage)), ..Self::of(command) }
    }

    /// Sets the login uid.
    pub(crate) fn login(self, login: u32) -> Self {
        Self { login: Some(login), ..self }
    }

    /// Becomes this user and group, for good.
    pub(crate) fn user(self, uid: u32, gid: u32) -> Self {
        Self { user: Some((uid, gid)), ..self }
    }

    /// Dies with the thread that started it. Its standard output is then what it was given as
    /// standard input: libtest writes a greeting to its own before anybody can stop it.
    pub(crate) fn with_parent(self) -> Self {
        Self { with_parent: true, ..self }
    }

    /// To start it.
    pub(crate) fn command(self) -> Command {
        this_program(&Stage::Launch(self))
    }

    /// In the child: becomes the program. The error says why that is not possible.
    pub(super) fn exec(&self) -> String {
        if self.with_parent
            && let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        {
            return format!("prctl: {error}");
        }
        if let Some(login) = self.login
            && let Err(error) = std::fs::write("/proc/thread-self/loginuid", login.to_string())
        {
            return format!("/proc/thread-self/loginuid: {error}");
        }
        let mut command = Command::new(self.program.as_os_str());
        command.args(self.args.iter().map(Raw::as_os_str));
        match &self.next {
            Some(stage) => stage.put(&mut command),
            None => Stage::remove(&mut command),
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        if self.with_parent {
            match std::io::stdin().as_fd().try_clone_to_owned() {
                Ok(output) => command.stdin(Stdio::null()).stdout(output),
                Err(error) => return format!("dup: {error}"),
            };
        }
        let error = command.exec();
        format!("{}: {error}", self.program.as_os_str().display())
    }
}

/// Whether a login uid can be set here; if not, why.
pub(crate) fn login_is_possible(login: u32) -> Result<(), String> {
    let program = Command::new(OsStr::new("true"));
    let output = Launch::of(&program).login(login).command().output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
    }
}
