//! The system calls for which no safe function is at hand. The only file of these tests in which
//! the compiler does not check everything.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

fn result(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// truncate(2).
pub(super) fn truncate(path: &Path, size: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a NUL and outlives the call.
    result(unsafe { libc::truncate(path.as_ptr(), size.cast_signed()) })
}

/// A file handle, name_to_handle_at(2), with room for what any file system has in one.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    handle: [u8; libc::MAX_HANDLE_SZ as usize],
}

/// open_by_handle_at(2) for writing, when the kernel has forgotten the names of the file: then the
/// descriptor has none.
pub(super) fn open_without_name(path: &Path) -> io::Result<File> {
    // A pseudo file: its content means something to the kernel alone.
    const FORGET: &str = "/proc/sys/vm/drop_caches";
    const NAMES: &str = "2";
    let name = CString::new(path.as_os_str().as_bytes())?;
    let size = libc::MAX_HANDLE_SZ as libc::c_uint;
    let mut handle = Handle { bytes: size, kind: 0, handle: [0; libc::MAX_HANDLE_SZ as usize] };
    let pointer = (&raw mut handle).cast::<libc::file_handle>();
    let mut mount = 0;
    // SAFETY: `name` ends with a NUL, the handle has as much room as it says, and all of it outlives
    // the call.
    result(unsafe {
        libc::name_to_handle_at(libc::AT_FDCWD, name.as_ptr(), pointer, &raw mut mount, 0)
    })?;
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    for _ in 0..100 {
        std::fs::write(FORGET, NAMES)?;
        // SAFETY: as above; the descriptor is open.
        let descriptor =
            unsafe { libc::open_by_handle_at(directory.as_raw_fd(), pointer, libc::O_WRONLY) };
        result(descriptor.min(0))?;
        // SAFETY: a new descriptor that nobody else has.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        if std::fs::read_link(format!("/proc/self/fd/{descriptor}"))? != path {
            return Ok(file);
        }
    }
    Err(io::Error::other("the kernel does not forget the name of the file"))
}

/// seteuid(2), for all threads of this process.
pub(super) fn seteuid(uid: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    result(unsafe { libc::seteuid(uid) })
}

/// Stores `bytes` at the beginning of `file` through a shared mapping, when the file has been
/// closed already: then there is nothing but the mapping to tell of it.
pub(super) fn store_through_mapping(file: File, bytes: &[u8]) -> io::Result<()> {
    let mapping = Mapping::new(file, bytes.len(), libc::PROT_READ | libc::PROT_WRITE)?;
    mapping.store(bytes);
    mapping.end()
}

/// As [`store_through_mapping`], and once more after `between`: the page is dirty by then, so that
/// the kernel does not even notice.
pub(super) fn store_twice(
    file: File,
    [first, second]: [&[u8]; 2],
    between: &mut dyn FnMut(),
) -> io::Result<()> {
    let mapping = Mapping::new(file, first.len(), libc::PROT_READ | libc::PROT_WRITE)?;
    mapping.store(first);
    between();
    mapping.store(second);
    mapping.end()
}

/// Lets this process have so many descriptors.
pub(super) fn allow_descriptors(count: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: reads the limit, and only changes what this process may have open.
    result(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// As [`store_through_mapping`], but the mapping may only be read at first.
pub(super) fn store_through_upgraded_mapping(file: File, bytes: &[u8]) -> io::Result<()> {
    let mapping = Mapping::new(file, bytes.len(), libc::PROT_READ)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: changes what may be done with memory that is ours, to more than before.
    result(unsafe { libc::mprotect(mapping.address, mapping.length, protection) })?;
    mapping.store(bytes);
    mapping.end()
}

/// The beginning of a file, shared.
struct Mapping {
    address: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// Maps and closes `file`.
    fn new(file: File, length: usize, protection: libc::c_int) -> io::Result<Self> {
        let descriptor = file.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        let address = unsafe {
            let nowhere = std::ptr::null_mut();
            libc::mmap(nowhere, length, protection, libc::MAP_SHARED, descriptor, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address, length })
    }

    /// Stores, in a mapping that may be written.
    fn store(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.length, "a mapping of another size");
        // SAFETY: the mapping is as long as `bytes`, and does not overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.cast::<u8>(), bytes.len());
        }
    }

    /// Unmaps.
    fn end(self) -> io::Result<()> {
        // SAFETY: exactly what was mapped, and nothing refers to it any more.
        result(unsafe { libc::munmap(self.address, self.length) })
    }
}

/// `struct file_clone_range`.
#[repr(C)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    length: u64,
    offset: u64,
}

/// `struct file_dedupe_range` with one `struct file_dedupe_range_info`.
#[repr(C)]
struct DedupeRange {
    source_offset: u64,
    length: u64,
    count: u16,
    reserved: [u16; 3],
    target: i64,
    target_offset: u64,
    deduped: u64,
    status: i32,
    reserved_too: u32,
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    padding: [u8; 8],
}

const FICLONERANGE: libc::c_ulong = 0x4020_940d;
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;

/// `FICLONERANGE`: the first `length` bytes.
pub(super) fn clone_range(from: &File, to: &File, length: u64) -> io::Result<()> {
    let source = i64::from(from.as_raw_fd());
    let mut range = CloneRange { source, source_offset: 0, length, offset: 0 };
    // SAFETY: the type is that of this request.
    unsafe { ioctl(to.as_raw_fd(), FICLONERANGE, &mut range) }
}

/// `FIDEDUPERANGE` of the first `length` bytes; how many of them are shared now.
pub(super) fn dedupe_range(from: &File, to: &File, length: u64) -> io::Result<u64> {
    let mut range = DedupeRange {
        source_offset: 0,
        length,
        count: 1,
        reserved: [0; 3],
        target: i64::from(to.as_raw_fd()),
        target_offset: 0,
        deduped: 0,
        status: 0,
        reserved_too: 0,
    };
    // SAFETY: the type is that of this request with a count of one.
    unsafe { ioctl(from.as_raw_fd(), FIDEDUPERANGE, &mut range) }?;
    match range.status {
        status @ ..0 => Err(io::Error::from_raw_os_error(-status)),
        _ => Ok(range.deduped),
    }
}

/// `FS_IOC_FSSETXATTR`: adds a flag.
pub(super) fn add_xflag(file: &File, flag: u32) -> io::Result<()> {
    let mut attributes = FsXattr::default();
    // SAFETY: the type is that of this request.
    unsafe { ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &mut attributes) }?;
    attributes.flags |= flag;
    // SAFETY: as above.
    unsafe { ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &mut attributes) }
}

/// Takes all marks out of a fanotify group.
pub(crate) fn flush_marks(group: &OwnedFd) -> io::Result<()> {
    for on in [libc::FAN_MARK_FILESYSTEM, 0] {
        let flags = libc::FAN_MARK_FLUSH | on;
        let (root, nowhere) = (c"/".as_ptr(), libc::AT_FDCWD);
        // SAFETY: the path ends with a NUL and is static.
        result(unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, 0, nowhere, root) })?;
    }
    Ok(())
}

/// Has another process close one of its descriptors, as a debugger does: its main thread, which
/// waits in a system call, makes this one first. Not for the parent of that process, in which
/// another thread may wait for its end: it would be told of the stops (waitpid(2)).
#[cfg(target_arch = "x86_64")]
pub(super) fn close_in(pid: u32, descriptor: RawFd) -> io::Result<()> {
    const TRIES: u32 = 1000;
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    for _ in 0..TRIES {
        trace(libc::PTRACE_ATTACH, pid, 0, 0)?;
        let closed = close_in_traced(pid, descriptor);
        trace(libc::PTRACE_DETACH, pid, 0, 0)?;
        if closed? {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(io::Error::other("the process never waits in a system call"))
}

/// `false`: the process is not in a system call just now.
#[cfg(target_arch = "x86_64")]
fn close_in_traced(pid: libc::pid_t, descriptor: RawFd) -> io::Result<bool> {
    const SYSCALL: libc::c_long = 0x050f;
    wait_for_stop(pid)?;
    let before = registers(pid)?;
    let call = before.rip - 2;
    // SAFETY: asks for a word of the other process; the address is checked by the kernel.
    let code = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, pid, call, 0) };
    if code & 0xffff != SYSCALL {
        return Ok(false);
    }
    let mut during = before;
    during.rip = call;
    during.rax = libc::SYS_close.cast_unsigned();
    during.rdi = u64::try_from(descriptor).map_err(io::Error::other)?;
    // Not in a call any more: the kernel is not to restart the one that was interrupted.
    during.orig_rax = u64::MAX;
    trace(libc::PTRACE_SETREGS, pid, 0, (&raw const during) as usize)?;
    trace(libc::PTRACE_SINGLESTEP, pid, 0, 0)?;
    wait_for_stop(pid)?;
    let result = registers(pid)?.rax.cast_signed();
    trace(libc::PTRACE_SETREGS, pid, 0, (&raw const before) as usize)?;
    match result {
        0 => Ok(true),
        error => Err(io::Error::from_raw_os_error(-error as i32)),
    }
}

#[cfg(target_arch = "x86_64")]
fn registers(pid: libc::pid_t) -> io::Result<libc::user_regs_struct> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    trace(libc::PTRACE_GETREGS, pid, 0, registers.as_mut_ptr() as usize)?;
    // SAFETY: integers, for which zeros are good too.
    Ok(unsafe { registers.assume_init() })
}

/// ptrace(2), for requests whose data is a number or points to as much as the request takes.
#[cfg(target_arch = "x86_64")]
fn trace(request: libc::c_uint, pid: libc::pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the callers in this file pass registers where the request wants them.
    let done = unsafe { libc::ptrace(request, pid, address, data) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(target_arch = "x86_64")]
fn wait_for_stop(pid: libc::pid_t) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: the status is ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    match waited == pid && libc::WIFSTOPPED(status) {
        true => Ok(()),
        false => Err(io::Error::other(format!("it has not stopped: {status:#x}"))),
    }
}

/// ioctl(2).
///
/// # Safety
/// `T` is the type that `request` takes.
unsafe fn ioctl<T>(file: RawFd, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: `argument` outlives the call; the rest is the caller's word.
    result(unsafe { libc::ioctl(file, request, std::ptr::from_mut(argument)) })
}

/// Has an io_uring do one thing, and waits for its result.
///
/// # Safety
/// What `entry` points to lives until this returns.
unsafe fn submit(entry: io_uring::squeue::Entry) -> io::Result<i32> {
    let mut ring = io_uring::IoUring::new(2)?;
    // SAFETY: as the caller says: nothing is under way any more when this returns.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().ok_or_else(|| io::Error::other("no completion"))?;
    match done.result() {
        error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
        result => Ok(result),
    }
}

/// Whether a worker thread of the kernel's does it, rather than the calling thread.
fn by(entry: io_uring::squeue::Entry, worker: bool) -> io_uring::squeue::Entry {
    match worker {
        true => entry.flags(io_uring::squeue::Flags::ASYNC),
        false => entry,
    }
}

/// `IORING_OP_WRITE`.
pub(super) fn ring_write(file: &File, bytes: &[u8], worker: bool) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let descriptor = io_uring::types::Fd(file.as_raw_fd());
    let entry = io_uring::opcode::Write::new(descriptor, bytes.as_ptr(), length).build();
    // SAFETY: `bytes` and `file` outlive the call.
    let written = unsafe { submit(by(entry, worker)) }?;
    assert_eq!(written.cast_unsigned(), length, "the ring wrote a part only");
    Ok(())
}

const HERE: io_uring::types::Fd = io_uring::types::Fd(libc::AT_FDCWD);

/// `IORING_OP_OPENAT` with `O_CREAT` and `O_EXCL`, then `IORING_OP_CLOSE`.
pub(super) fn ring_create(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
    let open = io_uring::opcode::OpenAt::new(HERE, path.as_ptr()).flags(flags).mode(0o640);
    // SAFETY: `path` outlives the call.
    let descriptor = unsafe { submit(open.build()) }?;
    let close = io_uring::opcode::Close::new(io_uring::types::Fd(descriptor));
    // SAFETY: points to nothing.
    unsafe { submit(close.build()) }.map(drop)
}

/// `IORING_OP_UNLINKAT`.
pub(super) fn ring_unlink(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let entry = io_uring::opcode::UnlinkAt::new(HERE, path.as_ptr()).build();
    // SAFETY: `path` outlives the call.
    unsafe { submit(entry) }.map(drop)
}

/// `IORING_OP_RENAMEAT`.
pub(super) fn ring_rename(from: &Path, to: &Path) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    let entry = io_uring::opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build();
    // SAFETY: both paths outlive the call.
    unsafe { submit(entry) }.map(drop)
}
