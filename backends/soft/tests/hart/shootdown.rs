//! Fences that another thread asks for while the guest runs: once it is told that nothing is outstanding, the
//! guest uses nothing stale any more. And a vCPU that is moved from thread to thread.

use std::sync::atomic::{AtomicBool, Ordering};

use axvcpu::{AxVCpuExitReason, Fence, GuestPhysAddr, VCpuState};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::{SV39, pte};
use axvcpu_riscv::stage2::Perms;
use axvcpu_soft::Clock;

use crate::machine::{AtTheEnd, Machine, RAM, VCpu};
use crate::probe::{CODE, DATA, How, Probe};
use crate::tables::ALL;

const PAGES: [u64; 2] = [DATA + 0x4000, DATA + 0x9000];
/// What the guest must never see.
const POISON: u64 = 0xdead;
/// The guest's call when it saw it.
const SEEN: u64 = 66;
const ROUNDS: usize = 60;

/// Fences the guest while it runs.
fn shoot(vcpu: &VCpu, fence: Fence) {
    while vcpu.state() != VCpuState::Running {
        std::thread::yield_now();
    }
    vcpu.request_fence(fence);
    while vcpu.fence_outstanding(fence) {
        std::thread::yield_now();
    }
}

/// Starts `code` as a loop of the supervisor, and runs it while `other` does its work on another thread.
fn against(probe: &Probe, code: impl FnOnce(&mut Asm), other: impl FnOnce(&Machine) + Send) {
    let exit = probe.execute(
        |a| {
            a.ecall();
            code(a)
        },
        How::S.fence(How::ALL),
    );
    assert!(matches!(exit, Err(AxVCpuExitReason::Hypercall { nr: 5, .. })), "{exit:?}");
    let machine = &probe.machine;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Also if it panics, or nobody would hear of it.
            let _over = AtTheEnd(&over);
            other(machine);
        });
        while !over.load(Ordering::Acquire) {
            match machine.run() {
                AxVCpuExitReason::Nothing => {}
                exit => panic!("{exit:x?}"),
            }
        }
    });
    assert!(probe.get(S8) > 0, "the guest did nothing");
}

/// Loads what `a1` points to and looks whether it is poison.
fn watch(a: &mut Asm) {
    a.li(S8, 0);
    a.li(T3, POISON as i64);
    let (top, bad) = (a.here_label(), a.label());
    a.ld(T2, 0, A1);
    a.beq(T2, T3, bad);
    a.addi(S8, S8, 1);
    a.j(top);
    a.bind(bad);
    a.li(A7, SEEN as i64);
    a.ecall();
}

#[test]
fn pages_of_the_guest() {
    let probe = Probe::paged(SV39);
    let va = probe.tables().free(1);
    let slot = probe.tables().map(&probe.machine, va, 0, PAGES[0], ALL);
    probe.set(A1, va);
    against(&probe, watch, |machine| {
        for round in 1..ROUNDS {
            let (new, old) = (PAGES[round % 2], PAGES[(round + 1) % 2]);
            machine.write_u64(new, 0);
            machine.write_u64(slot, pte::new(new, ALL));
            shoot(&machine.vcpu, Fence::GUEST_TLB);
            machine.write_u64(old, POISON);
        }
    });
}

#[test]
fn pages_of_the_second_stage() {
    let mut probe = Probe::paged(SV39);
    // The same guest page, backed by either of two; exchanged in the entry, as hypervisors do.
    let page = GuestPhysAddr::new(DATA + 0x20_0000);
    let hosts = PAGES.map(|page| probe.machine.host(page));
    probe.machine.stage2.map(page, hosts[0], 4096, Perms::RWX).unwrap();
    let entry = crate::nested::stage2_entry(&probe.machine, page.as_u64());
    let flags = entry.load(Ordering::Relaxed) & 0x3ff;
    probe.tables().map(&probe.machine, probe.tables().free(1), 0, page.as_u64(), ALL);
    probe.set(A1, probe.tables().free(1));
    against(&probe, watch, |machine| {
        for round in 1..ROUNDS {
            let (new, old) = (round % 2, (round + 1) % 2);
            machine.write_u64(PAGES[new], 0);
            entry.store(pte::new(hosts[new].as_u64(), flags), Ordering::Release);
            shoot(&machine.vcpu, Fence::STAGE2_TLB);
            machine.write_u64(PAGES[old], POISON);
        }
    });
}

/// A patched instruction is not executed any more in its old form.
#[test]
fn instructions() {
    let probe = Probe::bare();
    let counters = [DATA, DATA + 64];
    // The patched instruction chooses the counter.
    let versions = [0, 64].map(|offset| {
        let mut a = Asm::new(0);
        a.addi(T2, A1, offset);
        a.finish().unwrap()
    });
    let patched = CODE + 4 + 4 + 4;
    let first = versions[0].clone();
    probe.set(A1, DATA);
    let code = |a: &mut Asm| {
        a.li(S8, 0);
        a.li(T3, 1);
        let top = a.here_label();
        assert_eq!(a.here(), patched);
        a.bytes(&first);
        a.amoadd_d(ZERO, T3, T2, Order::Relaxed);
        a.addi(S8, S8, 1);
        a.j(top);
    };
    against(&probe, code, |machine| {
        for round in 1..ROUNDS {
            machine.write(patched, &versions[round % 2]);
            shoot(&machine.vcpu, Fence::INSTRUCTION);
            let old = counters[(round + 1) % 2];
            let before = machine.read_u64(old);
            // The other one counts on, this one does not.
            let new = machine.read_u64(counters[round % 2]);
            let mut patience = 0;
            while machine.read_u64(counters[round % 2]) < new + 100 && patience < 10_000 {
                std::thread::yield_now();
                patience += 1;
            }
            assert_eq!(machine.read_u64(old), before, "round {round}");
        }
    });
}

/// Each run on a new thread: nothing of a vCPU stays behind.
#[test]
fn from_thread_to_thread() {
    let mut a = Asm::new(RAM);
    a.li(T1, 300);
    let top = a.here_label();
    a.li(T2, 1000);
    let inner = a.here_label();
    a.add(A0, A0, T2);
    a.addi(T2, T2, -1);
    a.bnez(T2, inner);
    a.li(A7, 5);
    a.mv(S8, A0);
    a.ecall();
    a.mv(A0, S8);
    a.addi(T1, T1, -1);
    a.bnez(T1, top);
    a.li(A7, 77);
    a.ecall();
    let machine = Machine::with_clock(a, Clock::Host(|| 0));
    machine.vcpu.unbind().unwrap();
    let vcpu = &machine.vcpu;
    let mut calls = 0;
    loop {
        let exit = std::thread::scope(|scope| {
            let run = || {
                vcpu.bind().unwrap();
                let exit = vcpu.run().unwrap();
                vcpu.unbind().unwrap();
                exit
            };
            scope.spawn(run).join().unwrap()
        });
        match exit {
            AxVCpuExitReason::Hypercall { nr: 5, .. } => calls += 1,
            AxVCpuExitReason::Hypercall { nr: 77, .. } => break,
            exit => panic!("{exit:?}"),
        }
    }
    assert_eq!((calls, machine.x(10)), (300, 300 * 500_500));
}
