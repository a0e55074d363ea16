//! What the guest is told, and the hypervisor, when stage 2 has no translation.

use axvcpu::AccessKind::{self, Execute, Read};
use axvcpu::AccessWidth::{Byte, Qword};
use axvcpu::{Fence, GuestPhysAddr};
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::entry;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::exceptions::{VIRTUAL, write_tables};
use super::guest::*;
use crate::report::{Stop, Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 7] {
    [
        ("faults: the first and the last byte of memory", mapped),
        ("faults: read-only memory", read_only),
        ("faults: fetch from memory that is not there", fetch_unmapped),
        ("faults: fetch from memory without execute permission", fetch_no_execute),
        ("faults: an instruction whose second half is missing", fetch_straddling),
        ("paging: guest addresses are not guest physical ones", paging_mmio),
        ("paging: tables that are not there", paging_walk),
    ]
}

/// `ret`.
const RET: [u8; 1] = [0xc3];

fn mapped<S: Subject>(subject: &S) -> Verdict {
    const END: u64 = DATA + 0x1000 * DATA_PAGES;
    let bench = Bench::boot(subject, |g| {
        for address in [DATA, END - 8] {
            g.li(RSI, address);
            g.li(R12, u64::MAX);
            g.mov(mem(RSI), R12);
            g.movsx(R13, byte(RSI) + 7);
            g.mov(byte(RSI) + 7, 0);
            g.movzx(R14, byte(RSI) + 7);
            g.add(R13, R14);
            g.report(R13);
        }
        // The byte before the first and the one behind the last are somebody else's.
        g.mov(CL, at(DATA - 1));
        g.mov(at(END), CL);
    })?;
    let hart = bench.hart();
    hart.mark(u64::MAX)?;
    hart.mark(u64::MAX)?;
    hart.mmio_read(DATA - 1, Byte)?;
    bench.vcpu().set_return_value(6)?;
    hart.mmio_write(END, Byte, 6)
}

fn read_only<S: Subject>(subject: &S) -> Verdict {
    const PAGE: u64 = DATA + 0x10_0000;
    let mut bench = Bench::boot(subject, |g| {
        for offset in [0, 0xff8] {
            g.li(RSI, PAGE + offset);
            g.mov(R12, mem(RSI));
            g.report(R12);
            g.mov(mem(RSI), RSI);
            g.mov(R12, mem(RSI));
            g.report(R12);
        }
    })?;
    bench.space.add(PAGE, 1, Some(Perms::R))?;
    for offset in [0, 0xff8] {
        bench.space.write(PAGE + offset, pattern(offset))?;
    }
    bench.announce();
    for offset in [0, 0xff8] {
        bench.hart().mark(pattern(offset))?;
        bench.hart().mmio_write(PAGE + offset, Qword, PAGE + offset)?;
        bench.hart().mark(pattern(offset))?; // completed by the exit, without an effect on memory
    }
    Ok(())
}

fn fetch_unmapped<S: Subject>(subject: &S) -> Verdict {
    // The first and the last instruction of a page.
    const OFFSETS: [u64; 2] = [0, 0xfff];
    let mut bench = Bench::boot(subject, |g| {
        for offset in OFFSETS {
            g.li(RSI, DEVICE + offset);
            g.call_at(RSI);
            g.mark(offset);
        }
    })?;
    bench.space.add(DEVICE, 1, None)?;
    for offset in OFFSETS {
        bench.space.fill(DEVICE + offset, &RET)?;
    }
    for offset in OFFSETS {
        for _ in 0..3 {
            bench.hart().nested_fault(DEVICE + offset, Execute)?;
        }
        bench.space.map(DEVICE, DEVICE, Perms::RX)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.hart().mark(offset)?;
        bench.space.unmap(DEVICE)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
    }
    bench.hart().end()
}

fn fetch_no_execute<S: Subject>(subject: &S) -> Verdict {
    if !subject.enforces_execute() {
        return Err(Stop::Skipped("needs permission to execute, and not only to read"));
    }
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DATA);
        g.call_at(RSI);
        g.mark(1);
    })?;
    bench.space.fill(DATA, &RET)?;
    let mut bench = bench;
    for _ in 0..3 {
        bench.hart().nested_fault(DATA, Execute)?;
    }
    bench.space.protect(DATA, Perms::RX)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mark(1)
}

fn fetch_straddling<S: Subject>(subject: &S) -> Verdict {
    const PAGE: u64 = DATA + 0x10_0000;
    const START: u64 = PAGE + 0xffd;
    let mut bench = Bench::boot(subject, |g| {
        g.li(RBX, 0);
        g.li(RSI, START);
        g.call_at(RSI);
        g.report(RBX);
    })?;
    bench.space.add(PAGE, 2, None)?;
    // Five bytes across the boundary.
    let mut a = Asm::new(START);
    a.li(RBX, 0x1234_5678);
    a.ret();
    bench.space.fill(START, &finish(a)?)?;
    bench.space.map(PAGE, PAGE, Perms::RX)?;
    bench.announce();
    for _ in 0..2 {
        bench.hart().nested_fault(PAGE + 0x1000, Execute)?;
    }
    bench.space.map(PAGE + 0x1000, PAGE + 0x1000, Perms::RX)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mark(0x1234_5678)
}

fn paging_mmio<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(RAX, super::exceptions::ROOT);
        g.mov_to_cr(3, RAX);
        g.li(RSI, VIRTUAL);
        g.movzx(R12D, byte(RSI) + 0x123);
        g.report(R12);
        g.mov(mem(RSI) + 0x7f8, R12);
        // Two pages next to each other are devices far from each other.
        g.mov(R12, mem(RSI) + 0x1000);
        g.mov(R13, mem(RSI) + 0x2000);
        g.report(R13);
    })?;
    let pages = [DEVICE, DEVICE + 0x50_0000, DATA].map(|to| (to, entry::WRITE));
    write_tables(&mut bench, &pages)?;
    bench.space.write(DATA, pattern(1))?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE + 0x123, Byte)?;
    vcpu.set_return_value(0x1f5)?;
    hart.mark(0xf5)?;
    hart.mmio_write(DEVICE + 0x7f8, Qword, 0xf5)?;
    hart.mmio_read(DEVICE + 0x50_0000, Qword)?;
    vcpu.set_return_value(0)?;
    hart.mark(pattern(1))
}

fn paging_walk<S: Subject>(subject: &S) -> Verdict {
    // The last table is where stage 2 maps nothing: its entry cannot be read, whatever it is read for.
    let mut behind = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.li(RAX, super::exceptions::ROOT);
        g.mov_to_cr(3, RAX);
        g.li(RSI, VIRTUAL);
        g.mov(R12, mem(RSI));
        behind = g.here();
        g.report(R12);
    })?;
    let tables = write_tables(&mut bench, &[(DATA, entry::WRITE)])?;
    let at = tables.entry(VIRTUAL, 0).unwrap_or(0);
    bench.space.write(DATA, pattern(1))?;
    bench.space.unmap(at & !0xfff)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    let exit = bench.hart().run()?;
    let expected = Exit::NestedPageFault { addr: GuestPhysAddr::new(at), access: Read };
    if !subject.reports_walks() {
        // The guest has it as a fault of its own, or the vCPU ends there, or what is below the backend takes the entry
        // for a device: nobody else is concerned.
        let is_trap = bench.hart().trap_of(exit)?.is_some();
        let ended = matches!(exit, Exit::InternalError { .. } | Exit::SystemCrash);
        let device = matches!(exit, Exit::MmioRead { addr, .. } if addr.as_u64() == at & !7);
        ensure!(is_trap || ended || device, "{exit:x?}");
        return Err(Stop::Skipped(
            "needs walks that are reported; without, it is the guest's fault",
        ));
    }
    let writes = Exit::NestedPageFault { addr: GuestPhysAddr::new(at), access: AccessKind::Write };
    ensure!(exit == expected || exit == writes, "expected {expected:x?}, found {exit:x?}");
    bench.vcpu().fail_access()?;
    bench.hart().trap_for(vector::GP)?;
    bench.hart().go_on_at(behind)?;
    ensure_eq!(bench.hart().report()?, 0, "the target of the load that failed");
    bench.hart().end()
}
