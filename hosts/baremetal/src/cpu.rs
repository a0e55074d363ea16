//! What belongs to one physical CPU.
#![allow(unsafe_code)] // follows the register that points to it

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

#[cfg(target_os = "none")]
use crate::arch;

/// The most CPUs that are started.
pub(crate) const MAX_CPUS: usize = 8;
pub(crate) const STACK_SIZE: usize = 64 << 10;
const EMERGENCY_STACK: usize = 4 << 10;

/// One physical CPU. A register of its own (`tp`, `TPIDR_EL2`) points to it from the first instructions on.
#[repr(C, align(128))]
pub(crate) struct Cpu {
    /// The word of [`AxVCpuHal::load_current`](axvcpu::AxVCpuHal::load_current).
    pub(crate) current: AtomicPtr<()>,
    /// Its number.
    pub(crate) id: AtomicUsize,
    /// The top of a stack for traps of the hypervisor itself.
    pub(crate) emergency_stack: AtomicUsize,
    /// What the firmware calls it: a hart id, or the affinity in `MPIDR_EL1`.
    pub(crate) hardware_id: AtomicUsize,
    pub(crate) timer: crate::timer::Deadlines,
    /// A job from another CPU: its address, 0 for none.
    pub(crate) job: AtomicUsize,
    /// The times it was interrupted.
    pub(crate) interrupts: AtomicU64,
}

impl Cpu {
    const fn new() -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            id: AtomicUsize::new(0),
            emergency_stack: AtomicUsize::new(0),
            hardware_id: AtomicUsize::new(0),
            timer: crate::timer::Deadlines::new(),
            job: AtomicUsize::new(0),
            interrupts: AtomicU64::new(0),
        }
    }

    /// The one this runs on.
    #[inline(always)]
    pub(crate) fn this() -> &'static Self {
        #[cfg(target_os = "none")]
        {
            // SAFETY: it has pointed to this CPU's element of `CPUS` since it was started.
            unsafe { &*arch::this_cpu() }
        }
        #[cfg(not(target_os = "none"))]
        &CPUS[0]
    }

    /// That with this number.
    pub(crate) fn get(id: usize) -> Option<&'static Self> {
        CPUS.get(id)
    }

    /// Counts an interrupt.
    pub(crate) fn was_interrupted(&self) {
        self.interrupts.store(self.interrupts.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Fills in what the assembly could not; before any other CPU looks.
    pub(crate) fn init(id: usize, hardware_id: usize) {
        let Some(cpu) = CPUS.get(id) else { return };
        cpu.id.store(id, Ordering::Relaxed);
        cpu.hardware_id.store(hardware_id, Ordering::Relaxed);
        let stack = EMERGENCY_STACKS[id].0.get().addr() + EMERGENCY_STACK;
        cpu.emergency_stack.store(stack, Ordering::Relaxed);
    }
}

pub(crate) static CPUS: [Cpu; MAX_CPUS] = [const { Cpu::new() }; MAX_CPUS];

/// Memory for a stack.
#[repr(C, align(16))]
pub(crate) struct Stack<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: nobody accesses it but as the stack of the one CPU it belongs to.
unsafe impl<const SIZE: usize> Sync for Stack<SIZE> {}

#[cfg_attr(not(target_os = "none"), expect(dead_code))]
pub(crate) static STACKS: [Stack<STACK_SIZE>; MAX_CPUS] =
    [const { Stack(UnsafeCell::new([0; STACK_SIZE])) }; MAX_CPUS];

static EMERGENCY_STACKS: [Stack<EMERGENCY_STACK>; MAX_CPUS] =
    [const { Stack(UnsafeCell::new([0; EMERGENCY_STACK])) }; MAX_CPUS];
