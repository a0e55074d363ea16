//! Changes of page tables and instructions, and the fences that make them visible.

use axvcpu::AccessWidth::Qword;
use axvcpu::Fence;
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::entry;

use super::NamedCase;
use super::Subject;
use super::bench::Bench;
use super::exceptions::{ROOT, VIRTUAL, write_tables};
use super::guest::*;
use crate::report::Verdict;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 1] {
    [("fence: the host changes the guest's own tables", guest_tables)]
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(RAX, ROOT);
        g.mov_to_cr(3, RAX);
        g.report_for_ever(VIRTUAL);
    })?;
    let tables = write_tables(&mut bench, &[(DEVICE, entry::WRITE)])?;
    let at = tables.entry(VIRTUAL, 0).unwrap_or(0);
    let flags = entry::PRESENT | entry::WRITE;
    bench.space.write(DATA, pattern(1))?;
    bench.space.write(DATA + 0x1000, pattern(2))?;
    for target in [DEVICE, DATA, DATA + 0x1000, DEVICE, DATA, DEVICE + 0x1000] {
        bench.space.write(at, target | flags)?;
        bench.vcpu().request_fence(Fence::GUEST_TLB);
        if target < DEVICE {
            bench.hart().mark(bench.space.read(target)?)?;
        } else {
            bench.hart().mmio_read(target, Qword)?;
            bench.vcpu().set_return_value(4)?;
            bench.hart().mark(4)?;
        }
    }
    Ok(())
}
