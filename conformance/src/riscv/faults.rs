//! Accesses that stage 2 refuses, wherever in a page and in whichever stage of the walk.

use axvcpu::AccessKind::{Execute, Read};
use axvcpu::AccessWidth::{Byte, Qword};
use axvcpu::GuestPhysAddr;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{cause, num};
use axvcpu_riscv::paging::{self, PAGE_SIZE, SV39, pte};
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Verdict, ensure, ensure_eq, fail};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 13] {
    [
        ("faults: what is mapped never exits, to the last byte", mapped),
        ("faults: read-only memory can be read, and writing it exits", read_only),
        ("faults: execute-only memory can be executed, and reading it exits", execute_only),
        ("faults: fetch from nothing", fetch_unmapped),
        ("faults: fetch from memory without execute permission", fetch_no_execute),
        ("faults: an instruction whose second half is missing", fetch_straddling),
        ("faults: a misaligned device access is no exit", misaligned_device),
        ("faults: a misaligned access half of which is missing", misaligned_straddling),
        ("faults: a misaligned access within memory", misaligned_memory),
        ("paging: guest addresses are not guest physical ones", paging_mmio),
        ("paging: the guest's own page faults never exit", paging_own_faults),
        ("paging: tables that are not there", paging_walk),
        ("paging: beyond the physical address space", beyond),
    ]
}

fn mapped<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for address in [DATA, DATA + DATA_PAGES * PAGE_SIZE - 8] {
            g.li(S0, address as i64);
            g.li(S1, -1);
            g.sd(S1, 0, S0);
            g.lb(S1, 7, S0);
            g.sb(ZERO, 7, S0);
            g.lbu(S2, 7, S0);
            g.add(S1, S1, S2);
            g.report(S1);
        }
        // The page before the first and the page behind the last are somebody else's.
        g.li(S0, DATA as i64);
        g.lb(S1, -1, S0);
        g.li(S0, (DATA + DATA_PAGES * PAGE_SIZE) as i64);
        g.sb(S1, 0, S0);
    })?;
    let hart = bench.hart();
    hart.mark(u64::MAX)?;
    hart.mark(u64::MAX)?;
    hart.mmio_read(DATA - 1, Byte)?;
    bench.vcpu().set_return_value(6)?;
    hart.mmio_write(DATA + DATA_PAGES * PAGE_SIZE, Byte, 6)
}

fn read_only<S: Subject>(subject: &S) -> Verdict {
    let page = DATA + 0x10_0000;
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, page as i64);
        for offset in [0, 0x7f8] {
            g.ld(S1, offset, S0);
            g.report(S1);
            g.sd(S0, offset, S0);
            g.ld(S1, offset, S0);
            g.report(S1);
        }
    })?;
    bench.space.add(page, 1, Some(Perms::R))?;
    for offset in [0, 0x7f8] {
        bench.space.write(page + offset, pattern(offset))?;
    }
    for offset in [0, 0x7f8] {
        bench.hart().mark(pattern(offset))?;
        bench.hart().mmio_write(page + offset, Qword, page)?;
        bench.hart().mark(pattern(offset))?; // completed by the exit, without an effect on memory
    }
    Ok(())
}

fn execute_only<S: Subject>(subject: &S) -> Verdict {
    let page = DATA + 0x10_0000;
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, page as i64);
        g.jalr(RA, 0, S0);
        g.mark(1);
        g.ld(S1, 0, S0);
        g.report(S1);
    })?;
    let execute = Perms { read: false, write: false, execute: true };
    bench.space.add(page, 1, Some(execute))?;
    bench.space.write(page, 0x8082)?; // ret
    bench.hart().mark(1)?;
    bench.hart().mmio_read(page, Qword)?;
    bench.vcpu().set_return_value(3)?;
    bench.hart().mark(3)
}

fn fetch_unmapped<S: Subject>(subject: &S) -> Verdict {
    // The first and the last instruction of a page.
    let mut bench = Bench::boot(subject, |g| {
        for offset in [0, 0xffe] {
            g.li(S0, (DEVICE + offset) as i64);
            g.jalr(RA, 0, S0);
            g.mark(offset);
        }
    })?;
    bench.space.add(DEVICE, 1, None)?;
    bench.space.write(DEVICE, 0x8082)?; // ret
    bench.space.fill(DEVICE + 0xffe, &[0x82, 0x80])?;
    for offset in [0, 0xffe] {
        for _ in 0..2 {
            bench.hart().nested_fault(DEVICE + offset, Execute)?;
        }
        bench.space.map(DEVICE, DEVICE, Perms::RX)?;
        bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
        bench.hart().mark(offset)?;
        bench.space.unmap(DEVICE)?;
        bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    }
    Ok(())
}

fn fetch_no_execute<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, DATA as i64);
        g.li(S1, 0x8082); // ret
        g.sh(S1, 0, S0);
        g.fence_i();
        g.jalr(RA, 0, S0);
        g.mark(1);
    })?;
    for _ in 0..3 {
        bench.hart().nested_fault(DATA, Execute)?;
    }
    bench.space.protect(DATA, Perms::RX)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.hart().mark(1)
}

fn fetch_straddling<S: Subject>(subject: &S) -> Verdict {
    let start = DATA + 0x10_0ffe;
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, start as i64);
        g.li(S1, 0);
        g.jalr(RA, 0, S0);
        g.report(S1);
    })?;
    bench.space.add(start & !0xfff, 2, None)?;
    // addi s1, s1, 0x55 across the boundary, and ret.
    let mut asm = Asm::new(start);
    asm.addi(S1, S1, 0x55);
    asm.ret();
    bench.space.fill(start, &asm.finish().unwrap_or_default())?;
    bench.space.map(start & !0xfff, start & !0xfff, Perms::RX)?;
    for _ in 0..2 {
        bench.hart().nested_fault(start + 2, Execute)?;
    }
    bench.space.map(start + 2, start + 2, Perms::RX)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.hart().mark(0x55)
}

/// A misaligned access to what is not memory: the guest is told so by a trap.
fn misaligned_device<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(S0, DEVICE as i64);
        at = g.here();
        g.lw(S1, 1, S0);
        g.ld(S1, 4, S0);
        g.lh(S1, 0x7ff, S0);
        g.sw(S1, 2, S0);
        g.sd(S1, 1, S0);
        g.sh(S1, 3, S0);
    })?;
    for index in 0..6 {
        let trap = bench.hart().trap()?;
        let allowed = match index {
            0..3 => [cause::LOAD_MISALIGNED, cause::LOAD_ACCESS],
            _ => [cause::STORE_MISALIGNED, cause::STORE_ACCESS],
        };
        ensure!(allowed.contains(&trap.cause), "access {index}: {trap:x?}");
        ensure_eq!(trap.epc, at + 4 * index, "sepc");
        bench.vcpu().set_return_value(trap.epc + 4)?;
    }
    bench.hart().end()
}

fn misaligned_straddling<S: Subject>(subject: &S) -> Verdict {
    // The last bytes of the data, and four bytes behind them. A backend may name the missing page in a nested
    // fault, or leave misaligned accesses to the guest; it may not store half of the value.
    let last = DATA + DATA_PAGES * PAGE_SIZE - 8;
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(S0, last as i64);
        g.li(S1, pattern(1) as i64);
        at = g.here();
        g.ld(S2, 4, S0);
        g.sd(S1, 4, S0);
    })?;
    bench.space.write(last, pattern(7))?;
    for index in 0..2 {
        match bench.hart().run()? {
            Exit::NestedPageFault { addr, .. } => {
                ensure_eq!(addr, GuestPhysAddr::new(last + 8), "the address of the nested fault");
                bench.vcpu().fail_access()?;
                let trap = bench.hart().trap()?;
                ensure_eq!(trap.value, last + 8, "stval: where the part that failed begins");
            }
            Exit::Hypercall { nr: TRAP, args, .. } => {
                let misaligned = [cause::LOAD_MISALIGNED, cause::STORE_MISALIGNED];
                ensure_eq!(args[1], misaligned[index as usize], "scause");
                ensure_eq!(args[3], last + 4, "stval");
            }
            exit => fail!("access {index}: {exit:x?}"),
        }
        ensure_eq!(bench.space.read(last)?, pattern(7), "memory after access {index}");
        bench.vcpu().set_return_value(at + 4 * index + 4)?;
    }
    bench.hart().end()
}

fn misaligned_memory<S: Subject>(subject: &S) -> Verdict {
    // Within a page and across two: either it works, or the guest is asked to do it itself.
    let places = [DATA + 1, DATA + PAGE_SIZE - 4];
    let bench = Bench::boot(subject, |g| {
        for place in places {
            g.li(S0, place as i64);
            g.li(S1, pattern(5) as i64);
            g.li(S2, 0);
            g.sd(S1, 0, S0);
            g.ld(S2, 0, S0);
            g.report(S2);
        }
    })?;
    for place in places {
        let mut trapped = false;
        loop {
            match bench.hart().run()? {
                Exit::Hypercall { nr: TRAP, args, .. } => {
                    let causes = [cause::LOAD_MISALIGNED, cause::STORE_MISALIGNED];
                    ensure!(causes.contains(&args[1]), "{place:#x}: cause {:#x}", args[1]);
                    trapped = true;
                    bench.vcpu().set_return_value(args[2] + 4)?;
                }
                Exit::Hypercall { nr: REPORT, args, .. } => {
                    let expected = if trapped { 0 } else { pattern(5) };
                    ensure_eq!(args[0], expected, "read back from {place:#x}");
                    break;
                }
                exit => fail!("{place:#x}: {exit:x?}"),
            }
        }
    }
    bench.hart().end()
}

/// Sv39 tables in data memory: the code where it is, and at `VIRTUAL` whatever `physical` is.
const VIRTUAL: u64 = 0x30_0000_0000;

fn write_tables<S: Subject>(bench: &mut Bench<S>, physical: u64, flags: u64) -> Verdict<u64> {
    let root = DATA + 0x40_0000;
    bench.space.add(root, 3, Some(Perms::RW))?;
    let (middle, last) = (root + PAGE_SIZE, root + 2 * PAGE_SIZE);
    let rwx = pte::V | pte::R | pte::W | pte::X | pte::A | pte::D;
    let space = &bench.space;
    let entry = |table, address, level| table + 8 * SV39.index(address, level) as u64;
    space.write(entry(root, CODE, 2), pte::new(CODE & !((1 << 30) - 1), rwx))?;
    space.write(entry(root, VIRTUAL, 2), pte::new(middle, pte::V))?;
    space.write(entry(middle, VIRTUAL, 1), pte::new(last, pte::V))?;
    space.write(entry(last, VIRTUAL, 0), pte::new(physical, flags))?;
    Ok(root)
}

fn paging_mmio<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.csrw(num::SATP, A0);
        g.sfence_vma(ZERO, ZERO);
        g.li(S0, VIRTUAL as i64);
        g.lbu(S1, 0x123, S0);
        g.report(S1);
        g.sd(S1, 0x7f8, S0);
        at = g.here();
        g.lw(S1, 4, S0);
    })?;
    let rw = pte::V | pte::R | pte::W | pte::A | pte::D;
    let root = write_tables(&mut bench, DEVICE, rw)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.set_gpr(10, SV39.root_register(root))?;
    hart.mmio_read(DEVICE + 0x123, Byte)?;
    vcpu.set_return_value(0x1f5)?;
    hart.mark(0xf5)?;
    hart.mmio_write(DEVICE + 0x7f8, Qword, 0xf5)?;
    hart.mmio_read(DEVICE + 4, axvcpu::AccessWidth::Dword)?;
    vcpu.fail_access()?;
    let trap = hart.trap_for(cause::LOAD_ACCESS)?;
    ensure_eq!(
        (trap.epc, trap.value),
        (at, VIRTUAL + 4),
        "sepc and stval: the guest's own address"
    );
    Ok(())
}

fn paging_own_faults<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.csrw(num::SATP, A0);
        g.sfence_vma(ZERO, ZERO);
        g.li(S0, VIRTUAL as i64);
        g.li(S2, PAGE_SIZE as i64);
        g.add(S2, S2, S0);
        g.ld(S1, 0, S0); // allowed, and a device
        g.sd(S1, 0, S0); // read-only in the guest's table
        g.lw(S1, 8, S2); // not there in the guest's table
        g.jalr(RA, 0, S0); // no execute permission
    })?;
    let root = write_tables(&mut bench, DEVICE, pte::V | pte::R | pte::A | pte::D)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    vcpu.set_gpr(10, SV39.root_register(root))?;
    hart.mmio_read(DEVICE, Qword)?;
    vcpu.set_return_value(1)?;
    let trap = hart.trap_for(cause::STORE_PAGE)?;
    ensure_eq!(trap.value, VIRTUAL, "stval");
    vcpu.set_return_value(trap.epc + 4)?;
    let trap = hart.trap_for(cause::LOAD_PAGE)?;
    ensure_eq!(trap.value, VIRTUAL + PAGE_SIZE + 8, "stval");
    vcpu.set_return_value(trap.epc + 4)?;
    let trap = hart.trap_for(cause::FETCH_PAGE)?;
    ensure_eq!((trap.epc, trap.value), (VIRTUAL, VIRTUAL), "sepc and stval");
    Ok(())
}

fn paging_walk<S: Subject>(subject: &S) -> Verdict {
    // The last table is where stage 2 maps nothing: its entry cannot be read, whatever it is read for.
    let mut bench = Bench::boot(subject, |g| {
        g.csrw(num::SATP, A0);
        g.sfence_vma(ZERO, ZERO);
        g.li(S0, VIRTUAL as i64);
        g.lw(S1, 0, S0);
        g.sw(S1, 0, S0);
        g.jalr(RA, 0, S0);
    })?;
    let rwx = pte::V | pte::RWX | pte::A | pte::D;
    let root = write_tables(&mut bench, DATA, rwx)?;
    let table = root + 2 * PAGE_SIZE;
    let entry = table + 8 * SV39.index(VIRTUAL, 0) as u64;
    bench.space.unmap(table)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.vcpu().set_gpr(10, SV39.root_register(root))?;
    for code in [cause::LOAD_ACCESS, cause::STORE_ACCESS, cause::FETCH_ACCESS] {
        for _ in 0..2 {
            bench.hart().nested_fault(entry, Read)?;
        }
        bench.vcpu().fail_access()?;
        let trap = bench.hart().trap_for(code)?;
        ensure_eq!(trap.value, VIRTUAL, "stval");
        if code != cause::FETCH_ACCESS {
            bench.vcpu().set_return_value(trap.epc + 4)?;
        }
    }
    // With the table in its place the same fetch works.
    bench.space.map(table, table, Perms::RW)?;
    bench.space.protect(DATA, Perms::RWX)?;
    bench.space.write(DATA, 0x8082)?; // ret
    bench.vcpu().request_fence(axvcpu::Fence::all());
    bench.hart().end()
}

fn beyond<S: Subject>(subject: &S) -> Verdict {
    // One byte more than the stage-2 mode has address bits for: refused like any other, never wrapped around.
    let address = 1 << subject.stage2_mode().bits;
    ensure!(address > CODE && paging::PAGE_SIZE == 4096, "the mode is too small");
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, (address + DEVICE) as i64);
        g.ld(S1, 0, S0);
        g.report(S1);
        g.jalr(RA, 0, S0);
    })?;
    bench.space.add(DEVICE, 1, Some(Perms::RWX))?;
    bench.hart().mmio_read(address + DEVICE, Qword)?;
    bench.vcpu().set_return_value(2)?;
    bench.hart().mark(2)?;
    bench.hart().nested_fault(address + DEVICE, Execute)
}
