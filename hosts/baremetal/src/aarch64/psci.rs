//! Calls of the firmware (Arm DEN0022, "Power State Coordination Interface").
#![allow(unsafe_code)] // calls firmware

use core::sync::atomic::{AtomicBool, Ordering};

use fdt::Fdt;

const CPU_ON: u64 = 0xc400_0003;
const SYSTEM_OFF: u64 = 0x8400_0008;

/// Whether it is called with `HVC`: it is below what runs at EL1. Else it is called with `SMC`.
static BY_HVC: AtomicBool = AtomicBool::new(false);

/// The firmware refused, with this code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(#[allow(dead_code)] pub(crate) i64); // shown by `Debug`

/// Calls it as the device tree says.
pub(super) fn find(tree: &Fdt<'_>) {
    let method = tree.find_node("/psci").and_then(|psci| psci.property("method"));
    let by_hvc = method.and_then(|method| method.as_str()) == Some("hvc");
    BY_HVC.store(by_hvc, Ordering::Relaxed);
}

/// # Safety
///
/// What the call does keeps everything sound.
unsafe fn call(function: u64, args: [u64; 3]) -> Result<(), Refused> {
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! by {
            ($instruction:literal) => {{
                let result: i64;
                // SAFETY: the caller's promise; the convention keeps x18 and up (Arm DEN0028).
                unsafe {
                    core::arch::asm!(
                        $instruction,
                        inlateout("x0") function => result,
                        inlateout("x1") args[0] => _,
                        inlateout("x2") args[1] => _,
                        inlateout("x3") args[2] => _,
                        out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                        out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
                        out("x16") _, out("x17") _,
                        options(nostack),
                    );
                }
                result
            }};
        }
        let result = if BY_HVC.load(Ordering::Relaxed) { by!("hvc #0") } else { by!("smc #0") };
        if result == 0 { Ok(()) } else { Err(Refused(result)) }
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        let _ = (function, args);
        Err(Refused(-1))
    }
}

/// Starts a CPU at `entry`, with `context` in its `x0`.
pub(super) fn start_cpu(affinity: usize, entry: usize, context: usize) -> Result<(), Refused> {
    // SAFETY: the entry is the one made for this.
    unsafe { call(CPU_ON, [affinity as u64, entry as u64, context as u64]) }
}

/// Switches the machine off. Comes back if the firmware cannot.
pub(super) fn power_off() {
    // SAFETY: the end.
    let _ = unsafe { call(SYSTEM_OFF, [0; 3]) };
}
