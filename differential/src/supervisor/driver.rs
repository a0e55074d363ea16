//! The kernel that carries the cases out, one after another, and logs how each ended.

use alloc::vec;
use alloc::vec::Vec;

use axvcpu_riscv::asm::{csrs, *};
use axvcpu_riscv::paging::{Mode, PAGE_SIZE};

use super::case;
use super::layout::{CASES, CODE_PAGE, DATA_PAGES, ENTRY, LOG, RECORD, TABLES, entries, table};
use crate::rng::Rng;

/// What the data pages are filled with: `c.ebreak` everywhere, and `ebreak` at addresses that are 2 more than
/// a multiple of 4, of which the last crosses the page's end.
pub(super) const FILL: [u64; 2] = [0x9002_9002_9002_9002, 0x0073_0010_0073_0010];

/// Ticks after which a case that does not end is ended: 20 ms, or 20 million instructions.
const PATIENCE: i64 = 200_000;

const SBI_SYSTEM_RESET: i64 = 0x5352_5354;
const SSTATUS_FS: i64 = 3 << 13;

/// The image from [`ENTRY`] on, for `cases`.
pub(super) fn image(
    rng: &mut Rng,
    mode: Mode,
    cases: &[[u64; super::layout::WORDS]],
) -> Result<Vec<u8>, AsmError> {
    let registers: Vec<u64> = (0..64).map(|_| case::register(rng)).collect();
    let mut code = kernel(mode, &registers)?;
    let place = |image: &mut Vec<u8>, at: u64, words: &[u64]| {
        image.resize((at - ENTRY) as usize, 0);
        image.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    place(&mut code, CASES, cases.as_flattened());
    let mut tables = vec![0; (table(mode.levels) - TABLES) as usize / 8];
    for (at, entry) in entries(mode) {
        tables[(at - TABLES) as usize / 8] = entry;
    }
    place(&mut code, TABLES, &tables);
    // A case that runs past its instructions ends, and one that runs past the data does.
    place(&mut code, CODE_PAGE, &[FILL[0]; 512]);
    place(&mut code, DATA_PAGES[1] + PAGE_SIZE, &[FILL[1]; 512]);
    Ok(code)
}

fn kernel(mode: Mode, registers: &[u64]) -> Result<Vec<u8>, AsmError> {
    let mut program = Asm::new(ENTRY);
    let a = &mut program;
    let (handler, next, stop) = (a.label(), a.label(), a.label());
    let (save, pool, cursor) = (a.label(), a.label(), a.label());

    a.la(T0, handler);
    a.csrw(csrs::STVEC, T0);
    a.la(T0, save);
    a.csrw(csrs::SSCRATCH, T0);
    a.csrw(csrs::SCOUNTEREN, ZERO);
    a.li(T0, mode.root_register(table(mode.levels - 1)) as i64);
    a.csrw(csrs::SATP, T0);
    a.sfence_vma(ZERO, ZERO);
    a.li(T0, 1 << 5); // the timer's, which ends cases that would not end
    a.csrw(csrs::SIE, T0);

    a.bind(next); // the case and its record
    a.la(T0, cursor);
    a.ld(S0, 0, T0);
    a.addi(T0, T0, 8);
    a.sc_d(T1, ZERO, T0, Order::Relaxed); // no reservation is left, which harts may keep or not
    a.ld(T1, case::ENTRY_POINT, S0);
    a.beqz(T1, stop);
    for (at, value) in case::SLOTS {
        a.ld(T1, at, S0);
        a.ld(T2, value, S0);
        a.sd(T2, 0, T1);
    }
    a.sfence_vma(ZERO, ZERO);
    a.li(T1, CODE_PAGE as i64);
    for word in 0..4 {
        a.ld(T2, case::CODE + 8 * word, S0);
        a.sd(T2, 8 * word, T1);
    }
    for (page, fill) in DATA_PAGES.iter().zip(FILL) {
        a.li(T1, *page as i64);
        a.li(T2, fill as i64);
        a.li(T3, 512);
        let again = a.here_label();
        a.sd(T2, 0, T1);
        a.addi(T1, T1, 8);
        a.addi(T3, T3, -1);
        a.bnez(T3, again);
    }
    a.fence_i();

    a.li(T0, SSTATUS_FS);
    a.csrrs(ZERO, csrs::SSTATUS, T0);
    a.la(T6, pool);
    for number in 0..32 {
        if let Some(register) = F::new(number) {
            a.fld(register, 8 * (32 + i32::from(number)), T6);
        }
    }
    a.ld(T1, case::FCSR, S0);
    a.csrw(csrs::FCSR, T1);
    a.ld(T1, case::ENTRY_POINT, S0);
    a.csrw(csrs::SEPC, T1);
    a.csrr(T1, csrs::TIME);
    a.li(T2, PATIENCE);
    a.add(T1, T1, T2);
    a.csrw(csrs::STIMECMP, T1);
    a.ld(T1, case::SSTATUS, S0);
    a.csrw(csrs::SSTATUS, T1);
    a.ld(A0, case::ADDRESS, S0);
    a.ld(A1, case::VALUE, S0);
    for number in (1..32).filter(|number| ![10, 11].contains(number)) {
        if let Some(register) = X::new(number) {
            a.ld(register, 8 * i32::from(number), T6); // T6 itself comes last
        }
    }
    a.sret();

    a.align(4);
    a.bind(handler);
    a.csrrw(T6, csrs::SSCRATCH, T6);
    for number in 1..31 {
        if let Some(register) = X::new(number) {
            a.sd(register, 8 * i32::from(number), T6);
        }
    }
    a.csrrw(T0, csrs::SSCRATCH, T6);
    a.sd(T0, 8 * 31, T6);
    a.la(T0, cursor);
    a.ld(S0, 0, T0);
    a.addi(S1, S0, 0);
    a.li(T1, (LOG - CASES) as i64);
    a.add(S1, S1, T1);
    a.addi(T1, S0, RECORD as i32);
    a.sd(T1, 0, T0);
    for (index, csr) in
        [csrs::SCAUSE, csrs::STVAL, csrs::SEPC, csrs::SSTATUS].into_iter().enumerate()
    {
        a.csrr(T1, csr);
        a.sd(T1, 8 * index as i32, S1);
    }
    a.sd(A2, 8 * 4, S1);
    a.sd(A3, 8 * 5, S1);
    a.li(T0, SSTATUS_FS);
    a.csrrs(ZERO, csrs::SSTATUS, T0);
    a.csrr(T0, csrs::FCSR);
    a.sd(T0, 8 * 6, S1);
    for number in 0..32 {
        if let Some(register) = F::new(number) {
            a.fsd(register, 8 * (32 + i32::from(number)), T6);
        }
    }
    a.addi(T1, T6, 8);
    hash(a, 31);
    a.sd(T0, 8 * 7, S1);
    hash(a, 32);
    a.sd(T0, 8 * 8, S1);
    a.li(T1, DATA_PAGES[0] as i64);
    hash(a, 512);
    a.sd(T0, 8 * 9, S1);
    hash(a, 512);
    a.sd(T0, 8 * 10, S1);
    a.csrr(T1, csrs::SCAUSE);
    // A case interrupted by the timer may have been anywhere in its loop: nothing of that counts.
    let ended = a.label();
    a.bge(T1, ZERO, ended);
    for word in 1..11 {
        a.sd(ZERO, 8 * word, S1);
    }
    a.bind(ended);
    for (at, value) in case::RESTORED {
        a.ld(T1, at, S0);
        a.ld(T2, value, S0);
        a.sd(T2, 0, T1);
    }
    a.j(next);

    a.bind(stop);
    a.li(A0, 0);
    a.li(A1, 0);
    a.li(A6, 0);
    a.li(A7, SBI_SYSTEM_RESET);
    a.ecall();
    a.j(stop);

    a.align(8);
    a.bind(cursor);
    a.quad(CASES);
    a.quad(0); // the doomed SC's
    a.bind(save);
    a.zero(8 * 64);
    a.bind(pool);
    registers.iter().for_each(|&value| a.quad(value));
    program.finish()
}

/// `T0` = a hash of `count` doublewords at `T1`, which is behind them then.
fn hash(a: &mut Asm, count: i64) {
    a.li(T0, 0);
    a.li(T3, count);
    let again = a.here_label();
    a.ld(T2, 0, T1);
    a.slli(T4, T0, 5);
    a.sub(T0, T4, T0);
    a.add(T0, T0, T2);
    a.addi(T1, T1, 8);
    a.addi(T3, T3, -1);
    a.bnez(T3, again);
}

/// The names of a record's words.
pub(super) const NAMES: [&str; 11] = [
    "scause",
    "stval",
    "sepc",
    "sstatus",
    "a2",
    "a3",
    "fcsr",
    "x registers",
    "f registers",
    "data page 1",
    "data page 2",
];
