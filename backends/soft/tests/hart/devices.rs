//! Accesses that leave the guest: what the hypervisor is asked, and what becomes of its answer.

use axvcpu::{AccessWidth, AxError, AxVCpuExitReason, GuestPhysAddr};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::SV39;

use crate::machine::DEVICE;
use crate::memory::{loaded, result, value};
use crate::probe::{CODE, DATA, How, Kind, OPS, Op, Probe};
use crate::tables::ALL;

fn plain() -> impl Iterator<Item = &'static Op> {
    OPS.iter().filter(|op| matches!(op.kind, Kind::Load | Kind::Store))
}

/// The exit for `op` at `addr`, with all ones as the value.
fn asked(op: &Op, addr: u64) -> AxVCpuExitReason {
    let width = AccessWidth::from_bytes(op.bytes as usize).unwrap();
    let addr = GuestPhysAddr::new(addr);
    match op.kind {
        Kind::Load => AxVCpuExitReason::MmioRead { addr, width },
        _ => AxVCpuExitReason::MmioWrite { addr, width, data: VALUE & width.mask() },
    }
}

const VALUE: u64 = 0xf1e2_d3c4_b5a6_9788;
const ANSWER: u64 = 0x8192_a3b4_c5d6_e7f8;

/// A probe with the device somewhere in virtual memory.
fn with_device() -> (Probe, u64) {
    let probe = Probe::paged(SV39);
    let va = probe.tables().free(1) + 0x3000;
    probe.tables().map(&probe.machine, va, 0, DEVICE, ALL);
    value(&probe, VALUE);
    (probe, va)
}

/// Every width, sign and register file at every offset.
#[test]
fn reads_and_writes() {
    let (probe, va) = with_device();
    for op in plain() {
        for offset in 0..16 {
            probe.set(A5, 0x5a5a);
            let ended = probe.access(op.name, va + offset, How::S);
            let pc = probe.stub(op.name, How::S);
            if offset % op.bytes != 0 {
                let cause = if op.kind == Kind::Load { 4 } else { 6 };
                let trap = ended.unwrap();
                assert_eq!(
                    (trap.cause, trap.value, trap.pc),
                    (cause, va + offset, pc),
                    "{}",
                    op.name
                );
                continue;
            }
            assert_eq!(ended, Err(asked(op, DEVICE + offset)), "{}", op.name);
            if op.kind == Kind::Load {
                assert_eq!(probe.machine.vcpu.run(), Err(AxError::Unanswered));
                probe.machine.vcpu.set_return_value(ANSWER).unwrap();
                assert_eq!(probe.machine.vcpu.set_return_value(ANSWER), Err(AxError::NotAsked));
            } else {
                assert_eq!(probe.machine.vcpu.set_return_value(ANSWER), Err(AxError::NotAsked));
            }
            let trap = probe.resume().unwrap();
            let length = if op.name.starts_with("c.") { 2 } else { 4 };
            assert_eq!((trap.cause, trap.pc), (3, pc + length), "{}", op.name);
            if op.kind == Kind::Load {
                let bytes = &ANSWER.to_le_bytes()[..op.bytes as usize];
                assert_eq!(result(&probe, op.name), loaded(op.name, bytes), "{}", op.name);
            }
        }
    }
}

/// The guest sees an access fault when nothing answers, and nothing else of the access.
#[test]
fn accesses_that_fail() {
    let (probe, va) = with_device();
    for op in plain() {
        for how in [How::S, How::S.status(1 << 5)] {
            assert_eq!(probe.access(op.name, va, how), Err(asked(op, DEVICE)));
            let instructions = probe.machine.instructions();
            let before = probe.machine.state();
            probe.machine.vcpu.fail_access().unwrap();
            assert_eq!(probe.machine.vcpu.fail_access(), Err(AxError::NotAsked));
            assert_eq!(probe.machine.vcpu.retry(), Err(AxError::NotAsked));
            assert_eq!(probe.machine.vcpu.set_return_value(0), Err(AxError::NotAsked));
            let after = probe.machine.state();
            assert_eq!(before[..64], after[..64], "registers");
            // A store had been counted when the exit was made.
            let counted = u64::from(op.kind == Kind::Store);
            assert_eq!(probe.machine.instructions(), instructions - counted);
            let trap = probe.resume().unwrap();
            let pc = probe.stub(op.name, how);
            assert_eq!(
                (trap.cause, trap.value, trap.pc),
                (op.kind.access_fault(), va, pc),
                "{}",
                op.name
            );
            assert_eq!(trap.status & 1 << 5, how.status & 1 << 5);
        }
    }
}

/// What is tried again asks the same question as often as one likes, and counts once.
#[test]
fn accesses_that_are_repeated() {
    let (probe, va) = with_device();
    for op in plain() {
        assert_eq!(probe.access(op.name, va, How::S), Err(asked(op, DEVICE)));
        let instructions = probe.machine.instructions();
        for _ in 0..3 {
            probe.machine.vcpu.retry().unwrap();
            assert_eq!(probe.machine.vcpu.retry(), Err(AxError::NotAsked));
            assert_eq!(probe.machine.exit(), asked(op, DEVICE));
            assert_eq!(probe.machine.instructions(), instructions);
        }
        if op.kind == Kind::Load {
            probe.machine.vcpu.set_return_value(ANSWER).unwrap();
            assert_eq!(probe.machine.instructions(), instructions + 1);
        }
        assert_eq!(probe.resume().unwrap().cause, 3);
    }
}

/// In the middle of a block: everything before has happened, nothing behind.
#[test]
fn exits_are_precise() {
    let probe = Probe::bare();
    for place in 0..70 {
        for store in [false, true] {
            probe.set(A1, DEVICE);
            probe.set(A3, VALUE);
            let exit = probe.execute(
                |a| {
                    a.li(T1, 0);
                    for i in 0..70 {
                        if i == place && store {
                            a.c_sd(A3, 0, A1);
                        } else if i == place {
                            a.c_ld(A5, 0, A1);
                        }
                        a.addi(T1, T1, 1);
                    }
                },
                How::S,
            );
            assert!(exit.is_err());
            assert_eq!(probe.get(T1), place);
            if !store {
                probe.machine.vcpu.set_return_value(ANSWER).unwrap();
            }
            assert_eq!(probe.resume().unwrap().pc, CODE + 4 + 2 + 4 * 70);
            assert_eq!(probe.get(T1), 70);
        }
    }
}

/// A load to `x0` asks all the same, and a misaligned access that touches a device does not reach it.
#[test]
fn odd_ones() {
    let (probe, va) = with_device();
    probe.set(A1, va);
    let exit = probe.execute(
        |a| {
            a.ld(ZERO, 8, A1);
            a.mv(A5, ZERO)
        },
        How::S,
    );
    let addr = GuestPhysAddr::new(DEVICE + 8);
    assert_eq!(exit, Err(AxVCpuExitReason::MmioRead { addr, width: AccessWidth::Qword }));
    probe.machine.vcpu.set_return_value(ANSWER).unwrap();
    assert_eq!(probe.resume().unwrap().cause, 3);
    assert_eq!(probe.get(A5), 0);
    // From memory into the device and from the device into memory.
    let (before, after) = (va - 0x1000, va + 0x1000);
    probe.tables().map(&probe.machine, before, 0, DATA + 0x1000, ALL);
    probe.tables().map(&probe.machine, after, 0, DATA + 0x4000, ALL);
    probe.machine.write_u64(DATA + 0x1ff8, 0x1111);
    probe.machine.write_u64(DATA + 0x4000, 0x2222);
    for op in plain().filter(|op| op.bytes > 1) {
        for at in [va - 1, after - 1] {
            let trap = probe.access(op.name, at, How::S.fence(How::ALL)).unwrap();
            let cause = if op.kind == Kind::Load { 4 } else { 6 };
            assert_eq!((trap.cause, trap.value), (cause, at), "{}", op.name);
        }
    }
    assert_eq!(probe.machine.read_u64(DATA + 0x1ff8), 0x1111);
    assert_eq!(probe.machine.read_u64(DATA + 0x4000), 0x2222);
}

/// What floating-point loads bring makes floating point dirty, answered or not answered from outside.
#[test]
fn floating_point_becomes_dirty() {
    let (probe, va) = with_device();
    let fs = |ended: crate::probe::Ended| ended.unwrap().status >> 13 & 3;
    for name in ["flw", "fld", "c.fld"] {
        assert!(probe.access(name, va, How::S).is_err());
        probe.machine.vcpu.set_return_value(ANSWER).unwrap();
        assert_eq!(fs(probe.resume()), 3, "{name} from a device");
        assert_eq!(fs(probe.access(name, DATA, How::S)), 3, "{name}");
        assert_eq!(fs(probe.access(name, 0, How::S)), 1, "{name} faults");
        assert!(probe.access(name, va, How::S).is_err());
        probe.machine.vcpu.fail_access().unwrap();
        assert_eq!(fs(probe.resume()), 1, "{name} failed");
    }
    for name in ["fsw", "fsd", "c.fsd"] {
        assert_eq!(fs(probe.access(name, DATA, How::S)), 1, "{name}");
    }
}

/// An interrupt that comes while the hypervisor is asked is taken behind the access, or before the access that is
/// tried again.
#[test]
fn interrupts_meanwhile() {
    let (probe, va) = with_device();
    probe.run(|a| a.csrrwi(ZERO, csrs::SIE, 2), How::S);
    let open = How::S.status(1 << 5);
    for op in plain() {
        let pc = probe.stub(op.name, open);
        let length = if op.name.starts_with("c.") { 2 } else { 4 };
        for again in [false, true] {
            assert_eq!(probe.access(op.name, va, open), Err(asked(op, DEVICE)));
            let instructions = probe.machine.instructions();
            probe.machine.vcpu.inject_interrupt(1).unwrap();
            let behind = if again {
                probe.machine.vcpu.retry().unwrap();
                0
            } else {
                if op.kind == Kind::Load {
                    probe.machine.vcpu.set_return_value(ANSWER).unwrap();
                    let bytes = &ANSWER.to_le_bytes()[..op.bytes as usize];
                    assert_eq!(result(&probe, op.name), loaded(op.name, bytes));
                    assert_eq!(probe.machine.instructions(), instructions + 1);
                }
                length
            };
            let trap = probe.resume().unwrap();
            assert_eq!((trap.cause, trap.pc), (1 << 63 | 1, pc + behind), "{} {again}", op.name);
            probe.run(|a| a.csrw(csrs::SIP, ZERO), How::S);
        }
    }
    // The same for a page of the second stage that is missing.
    let exit = probe.access("amoadd.d", va, open);
    assert!(matches!(exit, Err(AxVCpuExitReason::NestedPageFault { .. })));
    probe.machine.vcpu.inject_interrupt(1).unwrap();
    let trap = probe.resume().unwrap();
    assert_eq!((trap.cause, trap.pc), (1 << 63 | 1, probe.stub("amoadd.d", open)));
    // What was asked is no longer open.
    assert_eq!(probe.machine.vcpu.fail_access(), Err(AxError::NotAsked));
}
