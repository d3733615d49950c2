//! Executions, new processes and their ends: what keeps user space's process table, so that a
//! process already gone is still named, and so are its parents.

use fim_common::record::{Actor, ForkBody, Header, Hook, Kind};

use crate::{
    count,
    maps::SCRATCH,
    mem::{Memory, Probed},
    offsets as off, process, record,
};

const BODY: usize = size_of::<Header>() + size_of::<Actor>();

/// sched_process_exec: the current task runs another program.
#[inline(always)]
pub(crate) unsafe fn executed() {
    let execution = process::own_execution();
    process::describe_now(execution.start, execution.tgid, execution.exec_id);
}

/// sched_process_fork.
#[inline(always)]
pub(crate) unsafe fn forked(child: *const u8) {
    // SAFETY: Probed reads check addresses; the scratch holds the record.
    unsafe {
        let tgid: u32 = Probed::read(child, off::task_tgid());
        let pid: u32 = Probed::read(child, off::task_pid());
        if tgid != pid {
            return; // a thread
        }
        count::seen(Hook::Fork);
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return count::error(Hook::Fork) };
        let generation = record::begin(scratch);
        let bytes = (&raw mut (*scratch).bytes).cast::<u8>();
        process::fill_actor(bytes.add(size_of::<Header>()).cast());
        let body: *mut ForkBody = bytes.add(BODY).cast();
        (*body).start = Probed::read(child, off::task_start());
        (*body).tgid = tgid;
        (*body).exec_id = Probed::read(child, off::task_exec_id());
        record::send(scratch, generation, Hook::Fork, Kind::Fork, BODY + size_of::<ForkBody>());
    }
}

/// sched_process_exit: one task ends; the process does with its last.
#[inline(always)]
pub(crate) unsafe fn exited(task: *const u8) {
    // SAFETY: as above.
    unsafe {
        let signal: *const u8 = Probed::read(task, off::task_signal());
        // do_exit() has counted this task off before the tracepoint.
        if Probed::read::<u32>(signal, off::signal_live()) != 0 {
            return;
        }
        count::seen(Hook::Exit);
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return count::error(Hook::Exit) };
        let generation = record::begin(scratch);
        let bytes = (&raw mut (*scratch).bytes).cast::<u8>();
        process::fill_actor(bytes.add(size_of::<Header>()).cast());
        record::send(scratch, generation, Hook::Exit, Kind::Exit, BODY);
    }
}
