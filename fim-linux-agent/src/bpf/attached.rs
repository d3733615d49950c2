//! Programs and the links by which they are attached, each on its own: one that fails does not take
//! the others down, and one that somebody detached is attached again.
//!
//! A link is a descriptor of the agent's; with it closed the kernel detaches the program.

use aya::programs::links::FdLink;
use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};

use super::loader::describe;

/// A program that is attached, or was.
pub(super) struct Attached {
    /// Where it stands in the list of programs.
    pub(super) index: usize,
    /// In the object.
    program: String,
    /// The kernel function or tracepoint.
    target: String,
    /// `None`: it is not attached any more.
    link: Option<FdLink>,
    /// The kernel's numbers of link and program.
    link_id: u32,
    program_id: u32,
}

impl Attached {
    /// Loads and attaches a program; says how many instructions the verifier looked at.
    pub(super) fn new(
        ebpf: &mut Ebpf,
        index: usize,
        name: &str,
        target: &str,
        btf: &Btf,
    ) -> Result<(Self, Option<u32>), String> {
        let program = ebpf
            .program_mut(name)
            .ok_or_else(|| format!("no program for this kernel's signature ({name})"))?;
        let said = |error| refusal(name, target, &error);
        load(program, target, btf).map_err(said)?;
        let link = link(program).map_err(said)?;
        let info = program.info().map_err(said)?;
        let attached = Self {
            index,
            program: name.to_owned(),
            target: target.to_owned(),
            link_id: link.info().map_err(|error| describe(&error))?.id(),
            program_id: info.id(),
            link: Some(link),
        };
        Ok((attached, info.verified_instruction_count()))
    }

    /// Whether the agent's descriptor still is the link of its program. One that is not is let go
    /// of: it may be anything by now.
    pub(super) fn holds(&mut self) -> bool {
        let Some(link) = self.link.take() else { return false };
        let is_it = link
            .info()
            .is_ok_and(|info| info.id() == self.link_id && info.program_id() == self.program_id);
        if is_it {
            self.link = Some(link);
        } else {
            // Closing it could close what is somebody else's.
            std::mem::forget(link);
        }
        is_it
    }

    /// Whether the agent's descriptor still is its program.
    pub(super) fn has_program(&self, ebpf: &Ebpf) -> bool {
        let program = ebpf.program(&self.program);
        program.is_some_and(|program| program.info().is_ok_and(|info| info.id() == self.program_id))
    }

    /// Attaches it again.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub(super) fn again(&mut self, ebpf: &mut Ebpf) -> Result<(), String> {
        if !self.has_program(ebpf) {
            return Err("the agent has lost its descriptor of the program".to_owned());
        }
        let program = ebpf.program_mut(&self.program).ok_or("it is gone from the object")?;
        let said = |error| refusal(&self.program, &self.target, &error);
        let attached = match link(program) {
            Ok(link) => link,
            // Before 5.13 a program can be attached once.
            Err(error) => {
                tracing::debug!(%error, program = self.program, "it is loaded anew");
                unload(program).map_err(said)?;
                let btf = Btf::from_sys_fs().map_err(|error| describe(&error))?;
                load(program, &self.target, &btf).map_err(said)?;
                link(program).map_err(said)?
            }
        };
        self.link_id = attached.info().map_err(|error| describe(&error))?.id();
        self.program_id = program.info().map_err(said)?.id();
        self.link = Some(attached);
        Ok(())
    }
}

fn load(program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => program.load(target, btf),
        Program::FExit(program) => program.load(target, btf),
        Program::BtfTracePoint(program) => program.load(target, btf),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::BtfTracePoint(program) => program.unload(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn link(program: &mut Program) -> Result<FdLink, ProgramError> {
    match program {
        Program::FEntry(program) => {
            let id = program.attach()?;
            Ok(program.take_link(id)?.into())
        }
        Program::FExit(program) => {
            let id = program.attach()?;
            Ok(program.take_link(id)?.into())
        }
        Program::BtfTracePoint(program) => {
            let id = program.attach()?;
            Ok(program.take_link(id)?.into())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// What the verifier's log ends with, whatever came of it.
const SUMS: [&str; 3] = ["processed ", "verification time ", "stack depth "];

fn refusal(program: &str, target: &str, error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return describe(error) };
    let log = verifier_log.to_string();
    tracing::trace!(program, target, %log, "verifier log");
    // The last lines say what the verifier did not like; the rest is what it saw before.
    let is_sum = |line: &&str| SUMS.iter().any(|sum| line.starts_with(sum));
    let tail: Vec<&str> = log.lines().rev().filter(|line| !is_sum(line)).take(2).collect();
    let tail = tail.into_iter().rev().collect::<Vec<_>>().join("; ");
    if tail.is_empty() {
        format!("the kernel refuses it: {io_error}")
    } else {
        format!("the kernel refuses it: {io_error} ({tail})")
    }
}
