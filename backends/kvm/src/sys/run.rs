//! `KVM_RUN`, by the shortest way. The C library's `ioctl` takes its arguments from a list and keeps `errno`: as many
//! instructions again as everything else between an exit and the next entry.
#![allow(unsafe_code)] // one system call

use std::arch::asm;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: u64 = 0xae80;

/// Enters the guest. Answers 0, or a negated error number.
#[inline(always)]
pub(crate) fn enter(vcpu: BorrowedFd<'_>) -> i64 {
    let result;
    // SAFETY: system calls take their number in rax, arguments in rdi, rsi and rdx, and change rax, rcx and r11 (System V
    // ABI, AMD64 supplement, A.2.1). What this one reads and writes of the program is the page it shares and the guest's
    // memory, neither of which is borrowed by anybody; the compiler is told that memory changes.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") libc::SYS_ioctl => result,
            in("rdi") i64::from(vcpu.as_raw_fd()),
            in("rsi") KVM_RUN,
            in("rdx") 0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
