//! Changes of page tables and instructions, and the fences that make them visible.

use axvcpu::AccessWidth::Qword;
use axvcpu::Fence;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv::paging::{SV39, pte};
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::guest::*;
use crate::report::Verdict;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 1] {
    [("fence: the host changes the guest's own tables", guest_tables)]
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    const VIRTUAL: u64 = 0x30_0000_0000;
    let root = DATA + 0x40_0000;
    let mut bench = Bench::boot(subject, |g| {
        g.csrw(num::SATP, A0);
        g.sfence_vma(ZERO, ZERO);
        g.report_for_ever(VIRTUAL);
    })?;
    bench.space.add(root, 1, Some(Perms::RW))?;
    // Gigabyte pages: the code where it is, and a window onto the gigabyte it is in, or onto nothing.
    let rwx = pte::V | pte::RWX | pte::A | pte::D;
    let gigabyte = CODE & !((1 << 30) - 1);
    let entry = |address| root + 8 * SV39.index(address, 2) as u64;
    bench.space.write(entry(CODE), pte::new(gigabyte, rwx))?;
    bench.vcpu().set_gpr(10, SV39.root_register(root))?;
    for target in [DEVICE, gigabyte, DEVICE, gigabyte] {
        let target = target & !((1 << 30) - 1);
        bench.space.write(entry(VIRTUAL), pte::new(target, rwx))?;
        bench.vcpu().request_fence(Fence::GUEST_TLB);
        if target == gigabyte {
            bench.hart().mark(bench.space.read(CODE)?)?;
        } else {
            bench.hart().mmio_read(target, Qword)?;
            bench.vcpu().set_return_value(4)?;
            bench.hart().mark(4)?;
        }
    }
    Ok(())
}
