//! Platforms with a mistake.
#![allow(unsafe_code)] // implements the platform

use std::sync::atomic::{AtomicPtr, Ordering};

use axvcpu::{AxResult, AxVCpuHal};
use axvcpu_conformance::{Subject, generic};
use axvcpu_riscv::paging::Mode;
use axvcpu_toy::{FORMAT, ToyVCpu};

use crate::guests::Toy;
use crate::platform::{Heap, Threads};

/// The platform whose CPUs all have one number, or all have one word.
pub(crate) struct Shared<const NUMBER: bool, const WORD: bool>;

static THE_WORD: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

// SAFETY: it is not what it has to be: that is the mistake. The one case that it is used for makes two vCPUs that both outlive
// whatever is read through the word, and runs neither.
unsafe impl<const NUMBER: bool, const WORD: bool> AxVCpuHal for Shared<NUMBER, WORD> {
    type MmHal = Heap;
    fn irq_hanlder() {}
    fn cpu_id() -> usize {
        if NUMBER { 0 } else { Threads::cpu_id() }
    }
    fn load_current() -> *mut () {
        if WORD { THE_WORD.load(Ordering::SeqCst) } else { Threads::load_current() }
    }
    unsafe fn store_current(word: *mut ()) {
        if WORD {
            THE_WORD.store(word, Ordering::SeqCst);
        } else {
            // SAFETY: the caller's promise.
            unsafe { Threads::store_current(word) };
        }
    }
}

/// The backend on such a platform.
pub(crate) struct On<const NUMBER: bool, const WORD: bool>;

impl<const NUMBER: bool, const WORD: bool> Subject for On<NUMBER, WORD> {
    type Arch = ToyVCpu<Shared<NUMBER, WORD>>;
    type Machine = ();

    fn name(&self) -> &str {
        "toy, on a platform with a mistake"
    }
    fn machine(&self) -> AxResult {
        Ok(())
    }
    fn create_config(&self, (): &()) -> AxResult {
        Ok(())
    }
    fn setup_config(&self) {}
    fn sleep(&self, ns: u64) {
        crate::Backend.sleep(ns);
    }
    fn look_again(looks: u64) -> bool {
        crate::Backend::look_again(looks)
    }
    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        crate::Backend.on_two_cpus(here, there)
    }
}

impl<const NUMBER: bool, const WORD: bool> generic::Subject for On<NUMBER, WORD> {
    type Guests = Toy;
}

impl<const NUMBER: bool, const WORD: bool> generic::GuestsOf<On<NUMBER, WORD>> for Toy {
    fn format(_: &On<NUMBER, WORD>) -> Mode {
        FORMAT
    }
}
