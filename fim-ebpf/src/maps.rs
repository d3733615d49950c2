//! Maps. Sizes are those of a default build; the loader sets the ring's.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use fim_common::record::{
    Attrs, Counters, HOOKS, NAME_MAX, Object, RECORD_MAX,
    maps::{Armed, Attempts, AttemptsKey, FilterKey, RootEntry, Settings},
};

/// Records to user space.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Per hook and CPU: what became of its calls.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(HOOKS as u32, 0);

/// One entry.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// One entry.
#[map]
pub(crate) static ARMED: Array<Armed> = Array::with_max_entries(1, 0);

/// Directories that decide about scope, by inode address.
#[map]
pub(crate) static ROOTS: HashMap<u64, RootEntry> = HashMap::with_max_entries(16_384, 0);

/// Name filters of roots; the value is a depth.
#[map]
pub(crate) static FILTERS: HashMap<FilterKey, u32> = HashMap::with_max_entries(16_384, 0);

/// Directories whose children are out of scope.
#[map]
pub(crate) static OUTSIDE: LruHashMap<u64, Outside> = LruHashMap::with_max_entries(65_536, 0);

/// Directories whose children are in scope, with the way to them.
#[map]
pub(crate) static INSIDE: LruHashMap<u64, Inside> = LruHashMap::with_max_entries(8_192, 0);

/// Inode address of the one of them that this CPU met last.
#[map]
pub(crate) static LAST_INSIDE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Files in scope that have more than one name, by identity (without generation); the value means
/// nothing. User space keeps it.
#[map]
pub(crate) static LINKED: HashMap<Object, u32> = HashMap::with_max_entries(65_536, 0);

/// Failed attempts, so that a process that fails in a loop is not told of each time.
#[map]
pub(crate) static ATTEMPTS: LruHashMap<AttemptsKey, Attempts> =
    LruHashMap::with_max_entries(8_192, 0);

/// Operations between their entry and exit hook, by (object address, hook). What never comes to an
/// exit (before 5.13) makes room.
#[map]
pub(crate) static PENDING: LruHashMap<PendingKey, Pending> =
    LruHashMap::with_max_entries(16_384, 0);

/// Renames between entry and exit, by the address of the dentry.
#[map]
pub(crate) static RENAMES: HashMap<u64, PendingRename> = HashMap::with_max_entries(1_024, 0);

/// File descriptions open for writing in scope, by file address. Each leaves when it is released.
#[map]
pub(crate) static FILES: HashMap<u64, OpenFile> = HashMap::with_max_entries(65_536, 0);

/// How often something came into scope that may be open for writing without an entry in [`FILES`],
/// or found no room there. From the first time on, the release of a description without an entry is
/// looked at.
#[map]
pub(crate) static UNTRACKED: Array<u64> = Array::with_max_entries(1, 0);

/// Inodes in scope that are or were open for writing, or were changed, by inode address. They stay
/// until there is no room: to put one in costs more than all that is written into it.
#[map]
pub(crate) static WRITTEN: LruHashMap<u64, Written> = LruHashMap::with_max_entries(65_536, 0);

/// Executions already described to user space.
#[map]
pub(crate) static DESCRIBED: LruHashMap<Execution, u32> = LruHashMap::with_max_entries(32_768, 0);

/// A hash of the one of them that this CPU met last.
#[map]
pub(crate) static LAST_DESCRIBED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Where a file record is put together before it is copied to the ring at its true size.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The same for process records, which are made in the middle of a file record.
#[map]
pub(crate) static PROCESS_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Records made on this CPU so far.
#[map]
pub(crate) static SEQUENCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Outside {
    pub(crate) ino: u64,
    pub(crate) dev: u32,
    pub(crate) generation: u32,
    pub(crate) epoch: u64,
}

/// Bytes of a path that [`Inside`] has room for.
pub(crate) const INSIDE_PATH: usize = 96;

/// The identity comes first: where the kernel gives the entry to another directory while it is
/// read, that is what it overwrites first.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Inside {
    pub(crate) ino: u64,
    pub(crate) dev: u32,
    pub(crate) generation: u32,
    pub(crate) epoch: u64,
    /// Id of the root.
    pub(crate) root: u32,
    /// Bytes of `path`.
    pub(crate) len: u32,
    /// Of the directory below the root, leaf first.
    pub(crate) path: [u64; INSIDE_PATH / 8],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PendingKey {
    pub(crate) object: u64,
    pub(crate) hook: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) object: Object,
    pub(crate) before: Attrs,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PendingRename {
    /// Address of the old parent's dentry, which the rename's locks keep in memory.
    pub(crate) old_parent: u64,
    pub(crate) object: Object,
    pub(crate) other: Object,
    pub(crate) other_attrs: Attrs,
    pub(crate) flags: u32,
    pub(crate) name_len: u32,
    pub(crate) name: [u8; NAME_MAX + 1],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OpenFile {
    pub(crate) mtime: i64,
    pub(crate) mtime_nsec: u32,
    /// 1: only a comparison can tell whether it was changed.
    pub(crate) doubtful: u32,
    pub(crate) start: u64,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) size: u64,
    pub(crate) exec_id: u32,
    pub(crate) reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) ino: u64,
    pub(crate) generation: u32,
    pub(crate) reserved: u32,
    /// When a modification was last reported, nanoseconds since boot.
    pub(crate) reported: u64,
    /// Descriptions open for writing.
    pub(crate) writers: u32,
    /// Process of the last reported modification.
    pub(crate) tgid: u32,
}

impl Written {
    /// Not reported yet.
    #[inline(always)]
    pub(crate) fn new(identity: &Object, writers: u32) -> Self {
        let Object { ino, generation, .. } = *identity;
        Self { ino, generation, reserved: 0, reported: 0, writers, tgid: 0 }
    }

    /// Whether it is about this object, and not about another that had its address.
    #[inline(always)]
    pub(crate) fn is_of(&self, identity: &Object) -> bool {
        self.ino == identity.ino && self.generation == identity.generation
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Execution {
    pub(crate) start: u64,
    pub(crate) tgid: u32,
    pub(crate) exec_id: u32,
}

/// Where a walk is. In memory, so that what the verifier knows of it does not grow with each step.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WalkState {
    /// Address of the dentry where the walk began.
    pub(crate) first: u64,
    /// The epoch when it began.
    pub(crate) epoch: u64,
    /// Address of the dentry that is looked at.
    pub(crate) here: u64,
    /// And of the one below it; 0: none.
    pub(crate) child: u64,
    /// Of the mount, where a path is walked across mounts.
    pub(crate) mount: u64,
    /// Where the path begins in the scratch.
    pub(crate) start: u64,
    /// Components above the object.
    pub(crate) depth: u32,
    /// 1: the walk began at the directory of a name that has no dentry.
    pub(crate) started: u32,
    /// 1: names are copied.
    pub(crate) copy: u32,
    /// 1: the path is cut.
    pub(crate) cut: u32,
    /// 1: the verdict is that of this name, not of its directory.
    pub(crate) by_name: u32,
    /// Where in the scratch the path of the directory begins, behind the object's own name.
    pub(crate) above: u32,
    /// See [`scalar`].
    word: u64,
}

/// The value of a pointer as a number that the verifier lets be computed with: what is loaded from
/// a map is none to it. 0 without a scratch.
#[inline(always)]
pub(crate) fn scalar(pointer: u64) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: a map value.
    unsafe {
        let word = &raw mut (*scratch).walk.word;
        word.write_volatile(pointer);
        word.read_volatile()
    }
}

/// Room for a record and for the name that crosses its end before the bound is checked.
#[repr(C, align(8))]
pub(crate) struct Scratch {
    /// Bumped by whoever starts to write: on a preemptible kernel another task may take the
    /// scratch of this CPU in the middle of a program. Then the record is not sent but counted
    /// as lost.
    pub(crate) generation: u64,
    /// Where the next byte goes. Kept here and not in a register: what is loaded from a map is
    /// unknown to the verifier, so with [`Scratch::cursor`]'s mask every round of a loop starts
    /// from the same range, and rounds that it has seen are pruned. A cursor in a register has a
    /// new range each round, and two ways through a round then make 2^rounds states.
    cursor: u64,
    pub(crate) walk: WalkState,
    pub(crate) bytes: [u8; RECORD_MAX + 512],
}

/// Bytes of a record that the cursor can point at.
pub(crate) const CURSOR_MASK: u64 = 0x3fff;
const _: () = assert!((CURSOR_MASK as usize) < RECORD_MAX);

impl Scratch {
    /// The cursor, bounded for the verifier.
    #[inline(always)]
    pub(crate) unsafe fn cursor(this: *mut Self) -> usize {
        // SAFETY: a map value; the AND is one register. In assembly, so that LLVM does not remove
        // what it believes to know.
        unsafe {
            let mut cursor = (&raw const (*this).cursor).read_volatile();
            core::arch::asm!(
                "{cursor} &= 0x3fff",
                cursor = inout(reg) cursor,
                options(pure, nomem, nostack)
            );
            cursor as usize
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn set_cursor(this: *mut Self, cursor: usize) {
        // SAFETY: a map value.
        unsafe { (&raw mut (*this).cursor).write_volatile(cursor as u64) };
    }

    #[inline(always)]
    pub(crate) unsafe fn bytes(this: *mut Self) -> *mut u8 {
        // SAFETY: a map value.
        unsafe { (&raw mut (*this).bytes).cast() }
    }

    /// Appends a name of at most 255 bytes and its NUL.
    #[inline(always)]
    pub(crate) unsafe fn push_name(this: *mut Self, name: *const u8, len: u32) {
        // SAFETY: the cursor is at most CURSOR_MASK, and 512 bytes lie behind it.
        unsafe {
            let cursor = Self::cursor(this);
            let mut len = u64::from(len);
            core::arch::asm!(
                "{len} &= 0xff",
                len = inout(reg) len,
                options(pure, nomem, nostack)
            );
            let target = Self::bytes(this).add(cursor);
            aya_ebpf::helpers::generated::bpf_probe_read_kernel(
                target.cast(),
                len as u32,
                name.cast(),
            );
            target.add(len as usize).write_volatile(0);
            Self::set_cursor(this, cursor + len as usize + 1);
        }
    }
}
