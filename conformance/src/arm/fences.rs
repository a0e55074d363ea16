//! Changes of page tables and instructions, and the fences that make them visible.

use axvcpu::AccessWidth::Qword;
use axvcpu::Fence;
use axvcpu_stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Arm, Bench};
use super::guest::*;
use super::paging::{LAST, VIRTUAL, bits, entry, write_tables};
use crate::bench::Isa;
use crate::report::Verdict;

const FIRST: u64 = Arm::FIRST;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 1] {
    [("fence: the host changes the guest's own tables", guest_tables)]
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.report_for_ever(VIRTUAL);
    })?;
    write_tables(&mut bench, FIRST, bits::NORMAL)?;
    bench.space.add(FIRST, 1, Some(Perms::RW))?;
    bench.space.write(FIRST, 0x1111)?;
    for target in [FIRST, DEVICE, FIRST, DEVICE] {
        let leaf = target | bits::NORMAL | bits::TABLE;
        bench.space.write(entry(LAST, VIRTUAL, 0), leaf)?;
        bench.vcpu().request_fence(Fence::GUEST_TLB);
        if target == FIRST {
            bench.hart().mark(0x1111)?;
        } else {
            bench.hart().mmio_read(target, Qword)?;
            bench.vcpu().set_return_value(4)?;
            bench.hart().mark(4)?;
        }
    }
    Ok(())
}
