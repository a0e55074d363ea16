//! Machines whose vCPUs do what the input says.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axvcpu::{AccessWidth, AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_vmm::{Firmware, Outcome, Vm};

use crate::allocations;
use crate::input::Input;
use crate::platform::{Fake, Host, Script};

/// What the machine's vCPUs share.
pub(super) struct Shared {
    pub(super) script: Script,
    /// See [`Host::typed`].
    pub(super) typed: Arc<AtomicU64>,
}

/// How many bytes the user types next. Only a request: the host does it.
pub(super) struct Typed<'a>(&'a AtomicU64);

impl Typed<'_> {
    pub(super) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }
}

impl Shared {
    /// `next` makes one exit after the other out of `bytes`; when they are used up the machine is switched off.
    pub(super) fn new(bytes: &[u8], next: fn(&mut Input<'_>, Typed<'_>) -> Exit) -> Self {
        let typed = Arc::new(AtomicU64::new(0));
        let bytes = bytes.to_vec();
        let mut at = 0;
        let script = {
            let typed = typed.clone();
            move || {
                let mut input = Input::new(&bytes[at..]);
                if input.is_empty() {
                    return Exit::SystemDown;
                }
                let exit = next(&mut input, Typed(&typed));
                at = bytes.len() - input.len();
                exit
            }
        };
        Self { script: Arc::new(Mutex::new(script)), typed }
    }

    /// Runs the machine to its end, and looks at how it ends and what that took.
    pub(super) fn drive<const RESULT: usize, F: Firmware<Fake<RESULT>>>(
        &self,
        vm: &Vm<Fake<RESULT>, F>,
        push: &dyn Fn(&[u8]) -> usize,
    ) -> Outcome {
        let stop = |outcome| vm.stop(outcome);
        let host = Host { now: Cell::new(0), typed: &self.typed, push, stop: &stop };
        let (outcome, allocations) = allocations::during(|| vm.run_in_turn(&host));
        // The run itself has two lists of the vCPUs.
        assert!(allocations <= 4, "{allocations} allocations for a guest");
        match outcome {
            Outcome::CpuFailed { .. } | Outcome::UnknownExit { .. } => panic!("{outcome}"),
            outcome => outcome,
        }
    }
}

/// Addresses of interest: where they begin, and how many bytes.
pub(super) type Window = (u64, u64);

/// An address in one of the windows, or rarely anywhere: near the front as a rule, and mostly aligned.
pub(super) fn address(input: &mut Input<'_>, windows: &[Window], width: AccessWidth) -> u64 {
    let which = usize::from(input.u8());
    let Some(&(base, size)) = windows.get(which % (windows.len() + 1)) else {
        return input.number();
    };
    let bytes = width.bytes() as u64;
    let offset = match which / (windows.len() + 1) % 4 {
        0 => u64::from(input.u8()),
        1 => u64::from(input.u8()) * bytes,
        2 => u64::from(input.u16()) * bytes,
        _ => u64::from(input.u32()),
    };
    base + offset % size
}

/// A load or store.
pub(super) fn access(input: &mut Input<'_>, kind: u8, windows: &[Window]) -> Exit {
    let width = width(kind >> 1 & 3);
    let addr = GuestPhysAddr::new(address(input, windows, width));
    match kind & 1 {
        0 => Exit::MmioRead { addr, width },
        _ => Exit::MmioWrite { addr, width, data: input.number() & width.mask() },
    }
}

pub(super) fn width(log2: u8) -> AccessWidth {
    AccessWidth::from_bytes(1 << log2).expect("up to eight bytes")
}
