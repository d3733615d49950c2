//! Putting a record together and handing it to the ring.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_ringbuf_query,
};
use fim_common::record::{Header, Hook, Kind, RECORD_MAX, VERSION};

use crate::{
    count,
    maps::{EVENTS, SEQUENCE, Scratch},
    scope::settings,
};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Takes the scratch. The result goes to [`send`].
///
/// # Safety
/// `scratch` is a map value.
#[inline(always)]
pub(crate) unsafe fn begin(scratch: *mut Scratch) -> u64 {
    // SAFETY: of the caller.
    unsafe {
        let generation = (&raw const (*scratch).generation).read_volatile() + 1;
        (&raw mut (*scratch).generation).write_volatile(generation);
        generation
    }
}

/// Completes the header and copies `len` bytes to the ring. Returns whether user space will see
/// them; if not, the loss is counted.
///
/// # Safety
/// `scratch` is a map value of which `len` bytes after the header are filled.
#[inline(always)]
pub(crate) unsafe fn send(
    scratch: *mut Scratch,
    generation: u64,
    hook: Hook,
    kind: Kind,
    len: usize,
) -> bool {
    // SAFETY: of the caller; a helper without arguments.
    unsafe { send_of(scratch, generation, hook, kind, bpf_ktime_get_boot_ns(), len) }
}

/// The same of what was at `time`, nanoseconds since boot.
///
/// # Safety
/// As for [`send`].
#[inline(always)]
pub(crate) unsafe fn send_of(
    scratch: *mut Scratch,
    generation: u64,
    hook: Hook,
    kind: Kind,
    time: u64,
    len: usize,
) -> bool {
    let Some(sequence) = SEQUENCE.get_ptr_mut(0) else { return false };
    // SAFETY: map values; the length is checked against the scratch for the verifier.
    unsafe {
        let number = *sequence;
        *sequence = number + 1;
        let len = core::hint::black_box(len as u64);
        if len > RECORD_MAX as u64
            || (&raw const (*scratch).generation).read_volatile() != generation
        {
            count::lost(hook);
            return false;
        }
        let bytes = (&raw mut (*scratch).bytes).cast::<u8>();
        let header: *mut Header = bytes.cast();
        (*header).len = len as u32;
        (*header).version = VERSION;
        (*header).kind = kind as u16;
        (*header).time = time;
        (*header).sequence = number;
        (*header).cpu = bpf_get_smp_processor_id();
        (*header).hook = hook as u32;

        let ring = (&raw const EVENTS).cast_mut().cast();
        // One wake-up costs as much as thirty records: the reader polls, and is only woken when
        // the ring fills faster than that, which a record in eight finds out.
        let wake = number & 7 == 0
            && settings().is_none_or(|settings| {
                bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= settings.wake_bytes
            });
        let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
        if bpf_ringbuf_output(ring, bytes.cast(), len, flags) < 0 {
            count::lost(hook);
            return false;
        }
        count::submitted(hook);
        true
    }
}
