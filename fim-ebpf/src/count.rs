//! Counters: what became of each call of a hook.

use fim_common::record::{Counters, Hook};

use crate::maps::COUNTERS;

macro_rules! counters {
    ($($name:ident)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(hook: Hook) {
                if let Some(counters) = COUNTERS.get_ptr_mut(hook as u32) {
                    let counters: *mut Counters = counters;
                    // SAFETY: this CPU's own slot. Another task may preempt between load and
                    // store on a preemptible kernel; a hook's count is then one short, which the
                    // record sequence still shows.
                    unsafe { (*counters).$name += 1 };
                }
            }
        )*
    };
}

counters! { seen filtered submitted lost error }
