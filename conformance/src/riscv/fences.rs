//! Changes of page tables and instructions, and the fences that make them visible.

use core::sync::atomic::{AtomicBool, Ordering};

use axvcpu::AccessWidth::Qword;
use axvcpu::{AccessKind, Fence};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num;
use axvcpu_riscv::paging::{SV39, pte};
use axvcpu_riscv::stage2::Perms;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit};
use super::guest::*;
use crate::report::{Verdict, ensure_eq, fail};
use crate::requests::{two_cpus, wait_for};

/// A page whose mapping changes, and the memory it leads to in turn.
const WINDOW: u64 = DATA + 0x10_0000;
const FIRST: u64 = DATA + 0x20_0000;
const SECOND: u64 = DATA + 0x20_1000;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 7] {
    [
        ("fence: memory taken away from stage 2", unmapped),
        ("fence: write permission taken away in stage 2", write_protected),
        ("fence: execute permission taken away in stage 2", execute_protected),
        ("fence: another page behind the same address", exchanged),
        ("fence: the host writes instructions", instructions),
        ("fence: the host changes the guest's own tables", guest_tables),
        ("fence: a running guest stops using a page", while_running),
    ]
}

fn unmapped<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        for _ in 0..2 {
            g.ld(S1, 0, S0);
            g.report(S1);
        }
        g.sd(S1, 8, S0);
        g.amoadd_d(S1, S1, S0, Order::Relaxed);
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.write(FIRST, 11)?;
    bench.space.map(WINDOW, FIRST, Perms::RW)?;
    bench.hart().mark(11)?;
    bench.space.unmap(WINDOW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    if bench.vcpu().fence_outstanding(Fence::STAGE2_TLB) {
        fail!("outstanding, although the guest does not run");
    }
    bench.hart().mmio_read(WINDOW, Qword)?;
    bench.vcpu().set_return_value(12)?;
    bench.hart().mark(12)?;
    bench.hart().mmio_write(WINDOW + 8, Qword, 12)?;
    bench.hart().nested_fault(WINDOW, AccessKind::Write)?;
    ensure_eq!(bench.space.read(FIRST)?, 11, "memory that was taken away");
    Ok(())
}

fn write_protected<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        g.li(S1, 1);
        for _ in 0..3 {
            g.sd(S1, 0, S0);
            g.ld(S2, 0, S0);
            g.report(S2);
            g.addi(S1, S1, 1);
        }
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.map(WINDOW, FIRST, Perms::RW)?;
    bench.hart().mark(1)?;
    bench.space.protect(WINDOW, Perms::R)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mmio_write(WINDOW, Qword, 2)?;
    bench.hart().mark(1)?;
    bench.space.protect(WINDOW, Perms::RW)?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.hart().mark(3)
}

fn execute_protected<S: Subject>(subject: &S) -> Verdict {
    // Within the reach of a direct call: whatever links code to code must let go of it, too.
    const NEAR: u64 = CODE + 0x8_0000;
    let mut bench = Bench::boot(subject, |g| {
        let again = g.here_label();
        g.li(S3, 300);
        let inner = g.here_label();
        let distance = (NEAR - g.here()) as i64;
        g.word(lookup("jal").and_then(|jal| jal.encode(&[1, distance])).unwrap_or(0));
        g.addi(S3, S3, -1);
        g.bnez(S3, inner);
        g.mark(1);
        g.j(again);
    })?;
    bench.space.add(NEAR, 1, Some(Perms::RX))?;
    bench.space.write(NEAR, 0x8082)?; // ret
    for _ in 0..3 {
        bench.hart().mark(1)?;
        bench.hart().mark(1)?;
        bench.space.protect(NEAR, Perms::R)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
        bench.hart().nested_fault(NEAR, AccessKind::Execute)?;
        bench.space.protect(NEAR, Perms::RX)?;
        bench.vcpu().request_fence(Fence::STAGE2_TLB);
    }
    Ok(())
}

fn exchanged<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        let again = g.here_label();
        g.jalr(RA, 0, S0);
        g.report(S1);
        g.ld(S1, 8, S0);
        g.report(S1);
        g.j(again);
    })?;
    for (page, value) in [(FIRST, 1), (SECOND, 2)] {
        bench.space.add(page, 1, None)?;
        let mut asm = Asm::new(WINDOW);
        asm.li(S1, value);
        asm.ret();
        bench.space.fill(page, &asm.finish().unwrap_or_default())?;
        bench.space.write(page + 8, 10 * value as u64)?;
    }
    // Data, instructions and everything derived from them change together, again and again.
    for _ in 0..3 {
        for (page, value) in [(FIRST, 1), (SECOND, 2)] {
            bench.space.unmap(WINDOW)?;
            bench.space.map(WINDOW, page, Perms::RWX)?;
            bench.vcpu().request_fence(Fence::STAGE2_TLB | Fence::INSTRUCTION);
            bench.hart().mark(value)?;
            bench.hart().mark(10 * value)?;
        }
    }
    Ok(())
}

fn instructions<S: Subject>(subject: &S) -> Verdict {
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        let again = g.here_label();
        // A loop, so that whatever translates code has good reason to.
        g.li(S3, 300);
        let inner = g.here_label();
        g.jalr(RA, 0, S0);
        g.addi(S3, S3, -1);
        g.bnez(S3, inner);
        g.report(S1);
        g.j(again);
    })?;
    bench.space.add(WINDOW, 1, Some(Perms::RX))?;
    for value in 0..5 {
        let mut asm = Asm::new(WINDOW);
        asm.li(S1, value);
        asm.ret();
        bench.space.fill(WINDOW, &asm.finish().unwrap_or_default())?;
        bench.vcpu().request_fence(Fence::INSTRUCTION);
        bench.hart().mark(value as u64)?;
    }
    Ok(())
}

fn guest_tables<S: Subject>(subject: &S) -> Verdict {
    const VIRTUAL: u64 = 0x30_0000_0000;
    let root = DATA + 0x40_0000;
    let mut bench = Bench::boot(subject, |g| {
        g.csrw(num::SATP, A0);
        g.sfence_vma(ZERO, ZERO);
        g.li(S0, VIRTUAL as i64);
        let again = g.here_label();
        g.ld(S1, 0, S0);
        g.report(S1);
        g.j(again);
    })?;
    bench.space.add(root, 1, Some(Perms::RW))?;
    bench.space.add(FIRST, 1, Some(Perms::RW))?;
    bench.space.add(SECOND, 1, Some(Perms::RW))?;
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

fn while_running<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 20;
    let mut bench = Bench::boot(subject, |g| {
        g.li(S0, WINDOW as i64);
        g.li(S1, 1);
        let again = g.here_label();
        g.amoadd_d(ZERO, S1, S0, Order::Relaxed);
        g.j(again);
    })?;
    bench.space.add(FIRST, 1, None)?;
    bench.space.add(SECOND, 1, None)?;
    bench.space.map(WINDOW, FIRST, Perms::RW)?;
    let Bench { harts, space } = &mut bench;
    let hart = &harts[0];
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            while !done.load(Ordering::SeqCst) {
                match hart.vcpu.run()? {
                    Exit::Nothing => {}
                    // Between unmapping and mapping anew the guest finds nothing there.
                    Exit::NestedPageFault { addr, .. } if addr.as_u64() == WINDOW => {}
                    Exit::ExternalInterrupt { .. } => super::bench::dispatch::<S>(),
                    exit => fail!("{exit:x?}"),
                }
            }
            Ok(())
        },
        || {
            let result = (|| -> Verdict {
                for round in 0..ROUNDS {
                    let (old, new) = if round % 2 == 0 { (FIRST, SECOND) } else { (SECOND, FIRST) };
                    wait_for::<S>("the guest to count", || Ok(space.read(old)? != 0))?;
                    space.unmap(WINDOW)?;
                    space.map(WINDOW, new, Perms::RW)?;
                    hart.vcpu.request_fence(Fence::STAGE2_TLB);
                    wait_for::<S>("the fence", || {
                        Ok(!hart.vcpu.fence_outstanding(Fence::STAGE2_TLB))
                    })?;
                    // From now on the old page is the host's.
                    space.write(old, 0)?;
                    wait_for::<S>("the guest to count elsewhere", || Ok(space.read(new)? != 0))?;
                    ensure_eq!(space.read(old)?, 0, "round {round}: a page after its fence");
                }
                Ok(())
            })();
            done.store(true, Ordering::SeqCst);
            hart.vcpu.kick();
            result
        },
    )
}
