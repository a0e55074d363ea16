//! Accesses that stage 2 refuses, wherever in a page and in whichever stage of the walk.

use axvcpu::AccessKind::{Execute, Read};
use axvcpu::AccessWidth::{Byte, Dword, Qword};
use axvcpu::GuestPhysAddr;
use axvcpu_arm::asm::*;
use axvcpu_stage2::{PAGE_SIZE, Perms};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use super::paging::{LAST, VIRTUAL, bits, entry, write_tables};
use crate::report::{Verdict, ensure, ensure_eq, fail};

/// `ret`
const RET: u64 = 0xd65f_03c0;

/// Fault status: an alignment fault.
const ALIGNMENT: u64 = 0x21;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 13] {
    [
        ("faults: what is mapped never exits, to the last byte", mapped),
        ("faults: read-only memory can be read, and writing it exits", read_only),
        ("faults: execute-only memory can be executed, and reading it exits", execute_only),
        ("faults: fetch from nothing", fetch_unmapped),
        ("faults: fetch from memory without execute permission", fetch_no_execute),
        ("faults: a misaligned device access is no exit", misaligned_device),
        ("faults: a misaligned access to nothing is no exit", misaligned_nothing),
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
            g.li(X19, address);
            g.li(X20, u64::MAX);
            g.str(X20, X19, 0);
            g.ldrsb(X20, X19, 7);
            g.strb(XZR, X19, 7);
            g.ldrb(X21, X19, 7);
            g.add(X20, X20, X21);
            g.report(X20);
        }
        // The page before the first and the page behind the last are somebody else's.
        g.li(X19, DATA);
        g.ldurb(X20, X19, -1);
        g.li(X19, DATA + DATA_PAGES * PAGE_SIZE);
        g.strb(X20, X19, 0);
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
        g.li(X19, page);
        for offset in [0, 0xff8] {
            g.ldr(X20, X19, offset);
            g.report(X20);
            g.str(X19, X19, offset);
            g.ldr(X20, X19, offset);
            g.report(X20);
        }
    })?;
    bench.space.add(page, 1, Some(Perms::R))?;
    for offset in [0, 0xff8] {
        bench.space.write(page + offset, pattern(offset))?;
    }
    for offset in [0, 0xff8] {
        bench.hart().mark(pattern(offset))?;
        bench.hart().mmio_write(page + offset, Qword, page)?;
        bench.hart().mark(pattern(offset))?; // completed by the exit, without an effect on memory
    }
    Ok(())
}

fn execute_only<S: Subject>(subject: &S) -> Verdict {
    let page = DATA + 0x10_0000;
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, page);
        g.blr(X19);
        g.mark(1);
        g.ldr(X20, X19, 0);
        g.report(X20);
    })?;
    let execute = Perms { read: false, write: false, execute: true };
    bench.space.add(page, 1, Some(execute))?;
    bench.space.write(page, RET)?;
    bench.hart().mark(1)?;
    bench.hart().mmio_read(page, Qword)?;
    bench.vcpu().set_return_value(3)?;
    bench.hart().mark(3)
}

fn fetch_unmapped<S: Subject>(subject: &S) -> Verdict {
    // The first and the last instruction of a page.
    let mut bench = Bench::boot(subject, |g| {
        for offset in [0, 0xffc] {
            g.li(X19, DEVICE + offset);
            g.blr(X19);
            g.mark(offset);
        }
    })?;
    bench.space.add(DEVICE, 1, None)?;
    bench.space.write(DEVICE, RET)?;
    bench.space.write(DEVICE + 0xff8, RET << 32)?;
    for offset in [0, 0xffc] {
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
        g.li(X19, DATA);
        g.li(X20, RET);
        g.str_w(X20, X19, 0);
        g.dsb_sy();
        g.ic_iallu();
        g.dsb_sy();
        g.isb();
        g.blr(X19);
        g.mark(1);
    })?;
    for _ in 0..3 {
        bench.hart().nested_fault(DATA, Execute)?;
    }
    bench.space.protect(DATA, Perms::RX)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    bench.hart().mark(1)
}

/// A misaligned access to device memory, which all memory is while translation is off: the guest's own fault.
fn misaligned_device<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, DEVICE + 0x100);
        at = g.here();
        g.ldur_w(X20, X19, 1);
        g.ldur(X20, X19, 4);
        g.ldurh(X20, X19, -1);
        g.stur_w(X20, X19, 2);
        g.stur(X20, X19, 1);
        g.sturh(X20, X19, 3);
    })?;
    misaligned(
        &bench,
        at,
        &[1, 4, -1, 2, 1, 3].map(|step| (DEVICE + 0x100).wrapping_add_signed(step)),
    )
}

/// The same to normal memory, of which there is none.
fn misaligned_nothing<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL + 0x100);
        at = g.here();
        g.ldur_w(X20, X19, 1);
        g.stur(X20, X19, 4);
    })?;
    write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    misaligned(&bench, at, &[VIRTUAL + 0x101, VIRTUAL + 0x104])
}

/// Expects alignment faults at these addresses, of instructions from `at` on.
fn misaligned<S: Subject>(bench: &Bench<S>, at: u64, addresses: &[u64]) -> Verdict {
    for (elr, &far) in (at..).step_by(4).zip(addresses) {
        let trap = bench.hart().exception(class::DATA)?;
        ensure_eq!((trap.elr, trap.far), (elr, far), "ELR and FAR");
        ensure_eq!(trap.esr & 0x3f, ALIGNMENT, "fault status");
        bench.vcpu().set_return_value(elr + 4)?;
    }
    bench.hart().end()
}

fn misaligned_straddling<S: Subject>(subject: &S) -> Verdict {
    // The last bytes of the data, and four bytes behind them. A backend may name the missing page in a nested
    // fault, or leave misaligned accesses to the guest; it may not store half of the value.
    let last = DATA + DATA_PAGES * PAGE_SIZE - 8;
    let mut at = 0;
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, last);
        g.li(X20, pattern(1));
        at = g.here();
        g.ldur(X21, X19, 4);
        g.stur(X20, X19, 4);
    })?;
    write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    bench.space.write(last, pattern(7))?;
    for index in 0..2 {
        let elr = at + 4 * index;
        match bench.hart().run()? {
            Exit::NestedPageFault { addr, .. } => {
                ensure_eq!(addr, GuestPhysAddr::new(last + 8), "the address of the nested fault");
                bench.vcpu().fail_access()?;
                bench.hart().exception(class::DATA)?;
            }
            Exit::Hypercall { nr: TRAP, args: [vector, esr, at, far, ..], .. } => {
                ensure_eq!((vector, esr >> 26), (vector::SYNC, class::DATA), "vector and class");
                ensure_eq!((esr & 0x3f, at), (ALIGNMENT, elr), "fault status and ELR");
                ensure!((last + 4..=last + 8).contains(&far), "FAR: {far:#x}");
            }
            exit => fail!("access {index}: {exit:x?}"),
        }
        ensure_eq!(bench.space.read(last)?, pattern(7), "memory after access {index}");
        bench.vcpu().set_return_value(elr + 4)?;
    }
    bench.hart().end()
}

fn misaligned_memory<S: Subject>(subject: &S) -> Verdict {
    // Within a page and across two: normal memory takes it.
    let places = [DATA + 1, DATA + PAGE_SIZE - 4];
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        for place in places {
            g.li(X19, place);
            g.li(X20, pattern(5));
            g.li(X21, 0);
            g.str(X20, X19, 0);
            g.ldr(X21, X19, 0);
            g.report(X21);
        }
    })?;
    write_tables(&mut bench, DEVICE, bits::NORMAL)?;
    for _ in places {
        bench.hart().mark(pattern(5))?;
    }
    bench.hart().end()
}

fn paging_mmio<S: Subject>(subject: &S) -> Verdict {
    for kind in [bits::DEVICE, bits::NORMAL] {
        let mut at = 0;
        let mut bench = Bench::boot(subject, |g| {
            g.mmu_on();
            g.li(X19, VIRTUAL);
            g.ldrb(X20, X19, 0x123);
            g.report(X20);
            g.str(X20, X19, 0x7f8);
            g.ldrsw(X20, X19, 8);
            g.add_imm(X19, X19, 0x100);
            g.strh_pre(X20, X19, 2);
            g.report(X19);
            at = g.here();
            g.ldr_w(X20, X19, 4);
        })?;
        write_tables(&mut bench, DEVICE, kind)?;
        let (hart, vcpu) = (bench.hart(), bench.vcpu());
        hart.mmio_read(DEVICE + 0x123, Byte)?;
        vcpu.set_return_value(0x1f5)?;
        hart.mark(0xf5)?;
        hart.mmio_write(DEVICE + 0x7f8, Qword, 0xf5)?;
        hart.mmio_read(DEVICE + 8, Dword)?;
        vcpu.set_return_value(0xffff_fff0)?;
        hart.mmio_write(DEVICE + 0x102, axvcpu::AccessWidth::Word, 0xfff0)?;
        hart.mark(VIRTUAL + 0x102)?;
        let far = VIRTUAL + 0x106;
        // A multiple of 2 only: for device memory it is the guest's own fault, for the rest an alignment fault, too.
        let trap = hart.exception(class::DATA)?;
        ensure_eq!(
            (trap.elr, trap.far, trap.esr & 0x3f),
            (at, far, ALIGNMENT),
            "a misaligned load"
        );
    }
    Ok(())
}

fn paging_own_faults<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL);
        g.li(X20, VIRTUAL + PAGE_SIZE);
        g.ldr(X21, X19, 0); // allowed, and a device
        g.str(X21, X19, 0); // read-only in the guest's table
        g.ldr_w(X21, X20, 8); // not there in the guest's table
        g.br(X19); // no execute permission
    })?;
    let flags = bits::DEVICE | bits::READ_ONLY | bits::PRIVILEGED_NEVER;
    write_tables(&mut bench, DEVICE, flags)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(DEVICE, Qword)?;
    vcpu.set_return_value(1)?;
    let fault = |class, far, status| -> Verdict {
        let trap = hart.exception(class)?;
        ensure_eq!((trap.far, trap.esr & 0x3f), (far, status), "FAR and fault status");
        Ok(vcpu.set_return_value(trap.elr + 4)?)
    };
    fault(class::DATA, VIRTUAL, 0x0f)?; // permission, level 3
    fault(class::DATA, VIRTUAL + PAGE_SIZE + 8, 0x07)?; // translation, level 3
    fault(class::FETCH, VIRTUAL, 0x0f)
}

fn paging_walk<S: Subject>(subject: &S) -> Verdict {
    // The last table is where stage 2 maps nothing: its entry cannot be read, whatever it is read for.
    let mut bench = Bench::boot(subject, |g| {
        g.mmu_on();
        g.li(X19, VIRTUAL);
        g.ldr_w(X20, X19, 0);
        g.str_w(X20, X19, 0);
        g.blr(X19);
    })?;
    write_tables(&mut bench, DATA, bits::NORMAL)?;
    bench.space.unmap(LAST)?;
    bench.vcpu().request_fence(axvcpu::Fence::STAGE2_TLB);
    let entry = entry(LAST, VIRTUAL, 0);
    for class in [class::DATA, class::DATA, class::FETCH] {
        for _ in 0..2 {
            // The hardware tells no more than the page of a walk that failed, if it does not tell the entry.
            match bench.hart().run()? {
                Exit::NestedPageFault { addr, access: Read } => {
                    let addr = addr.as_u64();
                    ensure!(addr == entry || addr == LAST, "the walk failed at {addr:#x}");
                }
                exit => fail!("expected a nested fault of the walk, found {exit:x?}"),
            }
        }
        bench.vcpu().fail_access()?;
        let trap = bench.hart().exception(class)?;
        ensure_eq!(trap.far, VIRTUAL, "FAR");
        let status = trap.esr & 0x3f;
        ensure!(status == 0x10 || status == 0x17, "fault status {status:#x}");
        if class != class::FETCH {
            bench.vcpu().set_return_value(trap.elr + 4)?;
        }
    }
    // With the table in its place the same fetch works.
    bench.space.map(LAST, LAST, Perms::RW)?;
    bench.space.protect(DATA, Perms::RWX)?;
    bench.space.write(DATA, RET)?;
    bench.vcpu().request_fence(axvcpu::Fence::all());
    bench.hart().end()
}

fn beyond<S: Subject>(subject: &S) -> Verdict {
    // One byte more than stage 2 has address bits for: refused like any other, never wrapped around. A CPU that has no
    // more address bits itself tells its guest.
    let address = (1u64 << subject.stage2().bits()) + DEVICE;
    let mut bench = Bench::boot(subject, |g| {
        g.li(X19, address);
        g.ldr(X20, X19, 0);
        g.report(X20);
        g.br(X19);
    })?;
    bench.space.add(DEVICE, 1, Some(Perms::RWX))?;
    bench.space.write(DEVICE, RET)?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    match hart.run()? {
        Exit::MmioRead { addr, width: Qword } if addr.as_u64() == address => {
            vcpu.set_return_value(2)?;
            hart.mark(2)?;
            hart.nested_fault(address, Execute)
        }
        Exit::Hypercall { nr: TRAP, args: [vector, esr, elr, far, ..], .. } => {
            let found = (vector, esr >> 26, esr & 0x3c, far);
            let expected = (vector::SYNC, class::DATA, 0, address); // an address size fault
            ensure_eq!(found, expected, "vector, class, fault status and FAR");
            vcpu.set_return_value(elr + 4)?;
            hart.report()?;
            let trap = hart.exception(class::FETCH)?;
            ensure_eq!((trap.far, trap.esr & 0x3c), (address, 0), "FAR and fault status");
            Ok(())
        }
        exit => fail!("{exit:x?}"),
    }
}
