//! Two functions on two physical CPUs.
#![allow(unsafe_code)] // carries functions to the CPUs they are meant for

use core::cell::UnsafeCell;

use axvcpu_baremetal::Machine;

/// The two functions.
struct Pair<'a> {
    here: UnsafeCell<&'a mut dyn FnMut()>,
    there: UnsafeCell<&'a mut (dyn FnMut() + Send)>,
}

// SAFETY: `on_two_cpus` uses `here` on the CPU it is called on only, and `there`, which may be sent, on one other.
unsafe impl Sync for Pair<'_> {}

/// Calls `here` on CPU 0, which is the one this is called on, and `there` on CPU 1; `false` if there is none.
pub(crate) fn on_two_cpus(
    machine: &Machine,
    here: &mut dyn FnMut(),
    there: &mut (dyn FnMut() + Send),
) -> bool {
    if machine.cpus() < 2 {
        return false;
    }
    let pair = Pair { here: UnsafeCell::new(here), there: UnsafeCell::new(there) };
    let pair = &pair; // all of it, not its fields
    machine.on_all_cpus(&|cpu| match cpu {
        // SAFETY: called once for each CPU, so that each function is used by one.
        0 => unsafe { (*pair.here.get())() },
        // SAFETY: as above.
        1 => unsafe { (*pair.there.get())() },
        _ => {}
    });
    true
}
