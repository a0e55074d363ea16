//! A kernel of thirty instructions, which runs the programs in U-mode behind Sv39 page tables and interrupts
//! them with its timer. They must not notice.
//!
//! Pages that follow one another in a program's address space do not in memory, so that an access or an
//! instruction across a page boundary must be translated twice.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use axvcpu_riscv::asm::{csrs, *};
use axvcpu_riscv::paging::{PAGE_SIZE, SV39, pte};

use crate::layout;

/// The hypercall that says that a program has trapped: cause, value and program counter are its arguments.
pub const TRAP: u64 = 0x7472_6170;

const KERNEL: u64 = layout::TABLES;
const ROOT: u64 = KERNEL + PAGE_SIZE;
const MIDDLE: u64 = ROOT + PAGE_SIZE;
const LOWEST: u64 = MIDDLE + PAGE_SIZE;

/// Ticks between timer interrupts: 700 instructions when each counts as one nanosecond.
pub const INTERVAL: i32 = 7;

const CODE_PAGES: u64 = layout::CODE_SIZE / PAGE_SIZE;

/// Where the byte at virtual address `address` is in memory.
pub fn translate(address: u64) -> u64 {
    let (page, offset) = (address & !(PAGE_SIZE - 1), address % PAGE_SIZE);
    let code = page.wrapping_sub(layout::CODE) / PAGE_SIZE;
    let physical = if code < CODE_PAGES {
        layout::CODE + (CODE_PAGES - 1 - code) * PAGE_SIZE // backwards
    } else if page == layout::DATA_MIDDLE - PAGE_SIZE {
        page + 5 * PAGE_SIZE
    } else if page == layout::DATA_MIDDLE {
        page + 2 * PAGE_SIZE
    } else {
        page
    };
    physical + offset
}

/// Adds kernel and page tables to the guest's memory, which begins at [`layout::BASE`], and answers where the
/// guest starts.
/// Timer interrupts are `interval` ticks apart, below 2048: enough for a program to get on meanwhile.
///
/// # Errors
///
/// When the memory is too small.
pub fn prepare(memory: &mut [u8], user_entry: u64, interval: i32) -> Result<u64, String> {
    let mut place = |at: u64, bytes: &[u8]| {
        let offset = (at - layout::BASE) as usize;
        memory.get_mut(offset..offset + bytes.len()).map(|to| to.copy_from_slice(bytes))
    };
    let user = pte::V | pte::RWX | pte::U | pte::A | pte::D;
    let kernel = pte::V | pte::RWX | pte::A | pte::D;
    let mut entry = |table: u64, index: usize, value: u64| {
        place(table + 8 * index as u64, &value.to_le_bytes())
    };
    let index = |level| SV39.index(layout::BASE, level);
    entry(ROOT, index(2), pte::new(MIDDLE, pte::V)).ok_or("no room for page tables")?;
    entry(MIDDLE, index(1), pte::new(LOWEST, pte::V)).ok_or("no room for page tables")?;
    for page in 0..512 {
        let address = layout::BASE + page as u64 * PAGE_SIZE;
        let flags = if address == KERNEL { kernel } else { user };
        entry(LOWEST, page, pte::new(translate(address), flags))
            .ok_or("no room for page tables")?;
    }
    // Programs beyond the first 2 MiB, in large pages.
    for (page, address) in (layout::BASE..layout::END).step_by(2 << 20).enumerate().skip(1) {
        entry(MIDDLE, index(1) + page, pte::new(address, user)).ok_or("no room for page tables")?;
    }
    let code = kernel_code(user_entry, interval).map_err(|error| error.to_string())?;
    place(KERNEL, &code).ok_or("no room for the kernel")?;
    Ok(KERNEL)
}

fn kernel_code(user_entry: u64, interval: i32) -> Result<Vec<u8>, AsmError> {
    const FS_INITIAL: i64 = 1 << 13;
    const SPP: i64 = 1 << 8;
    const TIMER: i64 = 1 << 5;

    let mut a = Asm::new(KERNEL);
    let (handler, timer, trap) = (a.label(), a.label(), a.label());
    a.li(T0, FS_INITIAL);
    a.csrrs(ZERO, csrs::SSTATUS, T0);
    a.li(T0, SPP);
    a.csrrc(ZERO, csrs::SSTATUS, T0);
    a.la(T0, handler);
    a.csrw(csrs::STVEC, T0);
    a.li(T0, user_entry as i64);
    a.csrw(csrs::SEPC, T0);
    a.li(T0, SV39.root_register(ROOT) as i64);
    a.csrw(csrs::SATP, T0);
    a.sfence_vma(ZERO, ZERO);
    a.csrr(T0, csrs::TIME);
    a.addi(T0, T0, interval);
    a.csrw(csrs::STIMECMP, T0);
    a.li(T0, TIMER);
    a.csrrs(ZERO, csrs::SIE, T0);
    a.sret();

    a.align(4);
    a.bind(handler);
    a.csrrw(T0, csrs::SSCRATCH, T0);
    a.csrr(T0, csrs::SCAUSE);
    a.blt(T0, ZERO, timer);
    a.addi(T0, T0, -8); // an environment call of U-mode
    a.bnez(T0, trap);
    a.csrr(T0, csrs::SEPC);
    a.addi(T0, T0, 4);
    a.csrw(csrs::SEPC, T0);
    a.csrrw(T0, csrs::SSCRATCH, T0);
    a.ecall(); // passed on with its registers
    a.sret();

    a.bind(timer);
    a.csrr(T0, csrs::TIME);
    a.addi(T0, T0, interval);
    a.csrw(csrs::STIMECMP, T0);
    a.csrrw(T0, csrs::SSCRATCH, T0);
    a.sret();

    a.bind(trap);
    a.csrr(A0, csrs::SCAUSE);
    a.csrr(A1, csrs::STVAL);
    a.csrr(A2, csrs::SEPC);
    a.li(A7, TRAP as i64);
    a.ecall();
    a.j(trap);
    a.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// No two pages of the programs share memory, or the results would.
    #[test]
    fn the_translation_is_one_to_one() {
        let used = (layout::BASE..layout::TABLES).step_by(PAGE_SIZE as usize);
        let pages: Vec<_> = used.filter(|&page| page < layout::DATA_MIDDLE + PAGE_SIZE).collect();
        let targets: HashSet<_> = pages.iter().map(|&page| translate(page)).collect();
        assert_eq!(targets.len(), pages.len());
        assert!(targets.iter().all(|&page| page < layout::TABLES));
        assert_eq!(translate(layout::CODE + 5), layout::CODE + 15 * PAGE_SIZE + 5);
    }

    #[test]
    fn the_kernel_fits_into_its_page() {
        assert!(kernel_code(layout::BASE, INTERVAL).unwrap().len() < PAGE_SIZE as usize);
    }
}
