//! Calls of the firmware (SBI 2.0).
#![allow(unsafe_code)] // environment calls

const TIME: u64 = 0x5449_4d45;
const IPI: u64 = 0x0073_5049;
const HSM: u64 = 0x0048_534d;
const RESET: u64 = 0x5352_5354;
const CONSOLE_PUTCHAR: u64 = 1;

/// The firmware refused, with this code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(#[allow(dead_code)] pub(crate) i64); // shown by `Debug`

/// # Safety
///
/// What the call does keeps everything sound.
unsafe fn call(extension: u64, function: u64, args: [u64; 3]) -> Result<u64, Refused> {
    #[cfg(target_arch = "riscv64")]
    {
        let [a0, a1, a2] = args;
        let (error, value): (i64, u64);
        // SAFETY: the caller's promise; the convention keeps all registers but a0 and a1.
        unsafe {
            core::arch::asm!(
                "ecall",
                in("a7") extension,
                in("a6") function,
                inlateout("a0") a0 => error,
                inlateout("a1") a1 => value,
                in("a2") a2,
            );
        }
        if error == 0 { Ok(value) } else { Err(Refused(error)) }
    }
    #[cfg(not(target_arch = "riscv64"))]
    {
        let _ = (extension, function, args);
        Err(Refused(-2))
    }
}

/// Makes this hart's timer interrupt pending at `deadline`, and not before.
pub(crate) fn set_timer(deadline: u64) {
    // SAFETY: an interrupt that is dealt with whenever it comes. Every firmware has the call.
    let _ = unsafe { call(TIME, 0, [deadline, 0, 0]) };
}

/// Makes the software interrupt of a hart pending.
pub(crate) fn send_ipi(hart: usize) {
    // SAFETY: as above.
    let _ = unsafe { call(IPI, 0, [1, hart as u64, 0]) };
}

/// Starts a hart at `entry`, with `arg` in its `a1`.
pub(crate) fn start_hart(hart: usize, entry: usize, arg: usize) -> Result<(), Refused> {
    // SAFETY: the entry is the one made for this.
    unsafe { call(HSM, 0, [hart as u64, entry as u64, arg as u64]) }.map(drop)
}

/// Switches the machine off. Comes back if the firmware cannot.
pub(crate) fn power_off(failed: bool) {
    // SAFETY: the end.
    let _ = unsafe { call(RESET, 0, [0, u64::from(failed), 0]) };
}

/// Writes to the firmware's console: for what has to be said before the machine's own serial port is known.
pub(crate) fn write_console(bytes: &[u8]) {
    for &byte in bytes {
        // SAFETY: prints a character.
        let _ = unsafe { call(CONSOLE_PUTCHAR, 0, [byte.into(), 0, 0]) };
    }
}
