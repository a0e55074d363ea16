//! The guest's own kernel: what starts it, and its trap handler. The handler tells the hypervisor of each trap and
//! goes on as that has written to its page.

use alloc::vec::Vec;

use axvcpu_riscv::asm::{csrs, *};
use axvcpu_riscv::csr::num;

use super::layout::{HANDLER, SAVE};

/// The call of the trap handler; the number of the vector it was entered by is added.
pub(super) const TRAP: u64 = 0x0a00_1000;
/// As many vectors there are.
pub(super) const VECTORS: u64 = 16;

/// Offsets in [`SAVE`] of: the registers that the handler itself uses.
pub(super) const A7_AT: i32 = 0;
pub(super) const T5_AT: i32 = 8;
pub(super) const T4_AT: i32 = 16;
pub(super) const T6_AT: i32 = 24;
/// A word for a store that never happens.
const DOOMED: i32 = 32;

/// What the hypervisor tells: values for these, in this order.
pub(super) const TOLD: i32 = 128;
pub(super) const CSRS: [u16; 10] = [
    csrs::SEPC,
    csrs::SSTATUS,
    csrs::SIE,
    csrs::STVEC,
    csrs::STIMECMP,
    csrs::SCOUNTEREN,
    num::SENVCFG,
    csrs::SCAUSE,
    csrs::STVAL,
    csrs::SATP,
];
/// Then bits of `sip` to clear and to set, and `sscratch`.
pub(super) const SIP_CLEAR: i32 = TOLD + 8 * CSRS.len() as i32;
pub(super) const SIP_SET: i32 = SIP_CLEAR + 8;
pub(super) const SSCRATCH: i32 = SIP_SET + 8;
/// And two stores, each an address and a value.
pub(super) const STORES: [(i32, i32); 2] =
    [(SSCRATCH + 8, SSCRATCH + 16), (SSCRATCH + 24, SSCRATCH + 32)];
/// Where a store that is not wanted goes.
pub(super) const NO_STORE: u64 = SAVE + 2048;
/// What the guest starts with: `f0` to `f31`, `x0` to `x31`, `fcsr`.
pub(super) const POOL: i32 = 512;

/// The code for [`HANDLER`], and where the guest is entered.
pub(super) fn code() -> Result<(Vec<u8>, u64), AsmError> {
    let mut program = Asm::new(HANDLER);
    let a = &mut program;
    let (common, resume, start) = (a.label(), a.label(), a.label());
    let vectors: Vec<_> = (0..VECTORS).map(|_| a.label()).collect();
    vectors.iter().for_each(|&vector| a.j(vector));
    for (number, &vector) in vectors.iter().enumerate() {
        a.bind(vector);
        a.csrw(csrs::SSCRATCH, T6);
        a.li(T6, SAVE as i64);
        a.sd(A7, A7_AT, T6);
        a.li(A7, TRAP as i64 + number as i64);
        a.j(common);
    }

    a.bind(common);
    a.sd(T5, T5_AT, T6);
    a.sd(T4, T4_AT, T6);
    a.csrr(T5, csrs::SSCRATCH);
    a.sd(T5, T6_AT, T6);
    a.addi(T5, T6, DOOMED);
    a.sc_d(T4, ZERO, T5, Order::Relaxed); // no reservation is left, which harts may keep or not
    a.ecall();

    a.bind(resume);
    for (index, csr) in CSRS.into_iter().enumerate() {
        let leave = a.label();
        a.ld(T5, TOLD + 8 * index as i32, T6);
        if csr == csrs::STVEC {
            a.beqz(T5, leave); // it stays as it is
        }
        a.csrw(csr, T5);
        a.bind(leave);
    }
    a.sfence_vma(ZERO, ZERO);
    a.ld(T5, SIP_CLEAR, T6);
    a.csrrc(ZERO, csrs::SIP, T5);
    a.ld(T5, SIP_SET, T6);
    a.csrrs(ZERO, csrs::SIP, T5);
    for (at, value) in STORES {
        a.ld(T5, at, T6);
        a.ld(T4, value, T6);
        a.sd(T4, 0, T5);
    }
    a.sfence_vma(ZERO, ZERO);
    a.ld(T5, SSCRATCH, T6);
    a.csrw(csrs::SSCRATCH, T5);
    a.ld(A7, A7_AT, T6);
    a.ld(T5, T5_AT, T6);
    a.ld(T4, T4_AT, T6);
    a.ld(T6, T6_AT, T6);
    a.sret();

    a.bind(start);
    a.li(T6, SAVE as i64);
    a.li(T5, 3 << 13);
    a.csrrs(ZERO, csrs::SSTATUS, T5);
    for number in 0..32 {
        if let Some(register) = F::new(number) {
            a.fld(register, POOL + 8 * i32::from(number), T6);
        }
    }
    a.ld(T5, POOL + 512, T6);
    a.csrw(csrs::FCSR, T5);
    for number in 1..31 {
        if let Some(register) = X::new(number) {
            a.ld(register, POOL + 256 + 8 * i32::from(number), T6);
        }
    }
    a.j(resume);
    let entry = a.address(start).unwrap_or(HANDLER);
    Ok((program.finish()?, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_into_its_page() {
        let (code, entry) = code().unwrap();
        assert!(code.len() < 4096);
        assert!(entry > HANDLER && entry < HANDLER + code.len() as u64);
        // What a vector leads to must be a jump of four bytes.
        assert!(code.chunks_exact(4).take(16).all(|word| word[0] & 0x7f == 0x6f));
    }
}
