//! Counters: what became of each call of a hook.

use fim_common::record::{Counters, Hook};

use crate::{atomic, maps::COUNTERS};

macro_rules! counters {
    ($($name:ident)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(hook: Hook) {
                if let Some(counters) = COUNTERS.get_ptr_mut(hook as u32) {
                    let counters: *mut Counters = counters;
                    // SAFETY: this CPU's own slot. Atomic all the same (some 5 ns): on a
                    // preemptible kernel another task may come between load and store, and a
                    // count that is one short looks like an operation that vanished.
                    unsafe { atomic::add_u64(&raw mut (*counters).$name, 1) };
                }
            }
        )*
    };
}

counters! { seen filtered submitted lost error }
