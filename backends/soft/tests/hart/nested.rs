//! The second stage: what it refuses, by whom, and when its changes are seen.

use std::sync::atomic::{AtomicU64, Ordering};

use axvcpu::{AccessKind, AccessWidth, AxError, AxVCpu, AxVCpuExitReason, Fence, GuestPhysAddr};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::{Mode, SV39, SV39X4, SV48, SV48X4, SV57, SV57X4, pte};
use axvcpu_riscv::stage2::Perms;
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

use crate::machine::{DEVICE, Machine, RAM, TestHal};
use crate::permissions::op;
use crate::probe::{CODE, DATA, Ended, How, Kind, OPS, Probe, server};
use crate::tables::ALL;

const KINDS: [&str; 5] = ["fetch", "ld", "sd", "lr.d", "amoadd.d"];

fn fault(addr: u64, access: AccessKind) -> Ended {
    Err(AxVCpuExitReason::NestedPageFault { addr: GuestPhysAddr::new(addr), access })
}

/// What stage 2 makes of an 8-byte access it refuses.
fn refused(name: &str, addr: u64) -> Ended {
    let gpa = GuestPhysAddr::new(addr);
    match op(name).kind {
        Kind::Fetch => fault(addr, AccessKind::Execute),
        Kind::Load => Err(AxVCpuExitReason::MmioRead { addr: gpa, width: AccessWidth::Qword }),
        Kind::Store => {
            Err(AxVCpuExitReason::MmioWrite { addr: gpa, width: AccessWidth::Qword, data: 0x77 })
        }
        Kind::Reserve => fault(addr, AccessKind::Read),
        Kind::Atomic => fault(addr, AccessKind::Write),
    }
}

/// The entry of stage 2 for `gpa`, as its table has it.
#[allow(unsafe_code)] // reaches into a table
pub fn stage2_entry(machine: &Machine, gpa: u64) -> &AtomicU64 {
    let mode = machine.stage2.format();
    let mut table = machine.stage2.root().as_u64();
    for level in (0..mode.levels).rev() {
        let at = table + 8 * mode.index(gpa, level) as u64;
        // SAFETY: frames of the table, which lives as long as the machine.
        let entry = unsafe { AtomicU64::from_ptr(at as usize as *mut u64) };
        let value = entry.load(Ordering::Relaxed);
        if level == 0 || value & pte::RWX != 0 {
            return entry;
        }
        table = pte::addr(value);
    }
    unreachable!()
}

/// Every combination of a second-stage leaf's bits, for every access.
#[test]
fn every_second_stage_leaf() {
    for stage2 in [SV39X4, SV48X4, SV57X4] {
        let machine =
            Machine::with_stage2(server(), Clock::Instructions(VirtualClock::new()), stage2);
        let mut probe = Probe::on(machine, Some(SV39));
        let page = DATA + 0x5000;
        probe.machine.stage2.protect(GuestPhysAddr::new(page), 4096, Perms::R).unwrap(); // splits
        let entry = stage2_entry(&probe.machine, page);
        let host = entry.load(Ordering::Relaxed) & !0x3ff;
        let va = probe.tables().free(1) + 0x100;
        probe.tables().map(&probe.machine, va, 0, page, ALL);
        probe.set(A3, 0x77);
        for bits in 0..256 {
            if bits & pte::V != 0 && bits & pte::RWX == 0 {
                continue; // a pointer: there is no further table
            }
            let set = |bit| bits & bit != 0;
            let good = set(pte::V) && set(pte::U) && set(pte::A) && (set(pte::R) || !set(pte::W));
            entry.store(host | bits, Ordering::Relaxed);
            for name in KINDS {
                probe.machine.write(page + 0x100, &[0x02, 0x90]);
                probe.machine.vcpu.request_fence(Fence::STAGE2_TLB);
                probe.machine.vcpu.kick(); // fences are carried out on the way in
                assert_eq!(probe.machine.run(), AxVCpuExitReason::Nothing);
                let right = match op(name).kind {
                    Kind::Fetch => set(pte::X),
                    Kind::Load | Kind::Reserve => set(pte::R),
                    Kind::Store | Kind::Atomic => set(pte::W) && set(pte::D),
                };
                let mxr = How::S.status(axvcpu_riscv::csr::sstatus::MXR);
                let ended = probe.access(name, va, mxr);
                if good && right {
                    assert_eq!(ended.unwrap().cause, 3, "{name} {bits:#x}");
                } else {
                    assert_eq!(ended, refused(name, page + 0x100), "{name} {bits:#x}");
                    if op(name).kind != Kind::Store {
                        probe.machine.vcpu.fail_access().unwrap();
                        let trap = probe.resume().unwrap();
                        assert_eq!(trap.cause, op(name).kind.access_fault());
                        assert_eq!(trap.value, va);
                    } else {
                        assert_eq!(probe.resume().unwrap().cause, 3);
                    }
                }
            }
        }
        entry.store(host | 0xdf, Ordering::Relaxed);
    }
}

/// Tables of the guest that are not in its memory: every level, every access. Where the hypervisor supplies
/// the memory the access goes on; where it does not the guest gets an access fault.
#[test]
fn tables_outside_of_memory() {
    for mode in [SV39, SV48, SV57] {
        for level in 1..mode.levels {
            for name in KINDS {
                for how in [How::S, How::U] {
                    let mut probe = Probe::paged(mode);
                    let va = probe.tables().free(1) + 0x100;
                    let hole = 0x4000_0000;
                    probe.tables().map(
                        &probe.machine,
                        va,
                        0,
                        DATA,
                        ALL | if how.user { pte::U } else { 0 },
                    );
                    probe.machine.write(DATA + 0x100, &[0x02, 0x90]);
                    let slot = probe.tables().entry(&probe.machine, va, level);
                    let table = pte::addr(probe.machine.read_u64(slot));
                    probe.machine.write_u64(slot, pte::new(hole, pte::V));
                    let how = how.fence(How::ALL);
                    let at = hole + 8 * mode.index(va, level - 1) as u64;
                    for _ in 0..2 {
                        assert_eq!(probe.access(name, va, how), fault(at, AccessKind::Read));
                        assert_eq!(probe.machine.vcpu.set_return_value(0), Err(AxError::NotAsked));
                        // Nothing has changed, so it happens again.
                        assert_eq!(probe.resume(), fault(at, AccessKind::Read));
                        probe.machine.vcpu.fail_access().unwrap();
                        assert_eq!(probe.machine.vcpu.fail_access(), Err(AxError::NotAsked));
                        let trap = probe.resume().unwrap();
                        let pc = if name == "fetch" { va } else { probe.stub(name, how) };
                        let cause = op(name).kind.access_fault();
                        assert_eq!(
                            (trap.cause, trap.value, trap.pc),
                            (cause, va, pc),
                            "{name} {level}"
                        );
                    }
                    assert_eq!(probe.access(name, va, how), fault(at, AccessKind::Read));
                    let host = probe.machine.host(table);
                    let hole = GuestPhysAddr::new(hole);
                    probe.machine.stage2.map(hole, host, 4096, Perms::R).unwrap();
                    assert_eq!(probe.resume().unwrap().cause, 3, "{name} {level}");
                }
            }
        }
    }
}

/// The root itself, and table entries that are there but not readable.
#[test]
fn tables_that_cannot_be_read() {
    let mut probe = Probe::paged(SV39);
    let table = probe.tables().frame();
    let va = probe.tables().free(0);
    let slot = probe.tables().entry(&probe.machine, va, 1);
    probe.machine.write_u64(slot, pte::new(table, pte::V));
    let execute_only = Perms { read: false, write: false, execute: true };
    probe.machine.stage2.protect(GuestPhysAddr::new(table), 4096, execute_only).unwrap();
    probe.machine.vcpu.request_fence(Fence::STAGE2_TLB);
    assert_eq!(probe.access("ld", va, How::S), fault(table, AccessKind::Read));
    // Read-only is enough: nobody writes accessed bits.
    probe.machine.stage2.protect(GuestPhysAddr::new(table), 4096, Perms::R).unwrap();
    probe.machine.vcpu.request_fence(Fence::STAGE2_TLB);
    probe.machine.write_u64(table, pte::new(DATA, ALL));
    assert_eq!(probe.resume().unwrap().cause, 3);
    // A root far outside: the handler cannot run either, so the exit repeats.
    let root = 0x123_4567_8000;
    let exit = probe.execute(
        |a| {
            a.li(T1, SV39.root_register(root) as i64);
            a.csrw(csrs::SATP, T1)
        },
        How::S,
    );
    let index = SV39.index(CODE, 2) as u64;
    assert_eq!(exit, fault(root + 8 * index, AccessKind::Read));
    for _ in 0..3 {
        probe.machine.vcpu.fail_access().unwrap();
        assert_eq!(probe.resume(), fault(root + 8 * index, AccessKind::Read));
    }
}

/// Addresses beyond what the second stage translates are refused like holes.
#[test]
fn addresses_beyond_the_second_stage() {
    let probe = Probe::paged(SV57);
    let tables = probe.tables();
    probe.set(A3, 0x77);
    for (i, pa) in [1 << 41, 1 << 55, (1 << 56) - 4096].into_iter().enumerate() {
        let va = tables.free(0) + 4096 * i as u64;
        tables.map(&probe.machine, va, 0, pa, ALL);
        for name in KINDS {
            assert_eq!(probe.access(name, va, How::S.fence(How::ALL)), refused(name, pa));
            let _ = probe.machine.vcpu.fail_access();
            let _ = probe.resume().unwrap();
        }
    }
    let bare = Probe::bare();
    bare.set(A3, 0x77);
    for pa in [1 << 41, 1 << 63, u64::MAX - 7] {
        for name in KINDS {
            assert_eq!(bare.access(name, pa, How::S), refused(name, pa));
            bare.machine.vcpu.fail_access().unwrap();
            let trap = bare.resume().unwrap();
            assert_eq!((trap.cause, trap.value), (op(name).kind.access_fault(), pa));
        }
    }
}

/// A mapping that is taken away, moved, or restricted: stale copies are gone after the fence, for data and code.
#[test]
fn the_second_stage_changes() {
    let mut probe = Probe::paged(SV39);
    let page = GuestPhysAddr::new(DATA + 0x6000);
    let (first, second) = (probe.machine.host(DATA + 0x6000), probe.machine.host(DATA + 0x9000));
    for (at, value) in [(DATA + 0x6000, 1), (DATA + 0x9000, 2)] {
        let mut a = Asm::new(at);
        a.li(T2, value);
        a.ebreak();
        probe.machine.write_code(at, a);
    }
    let fence = |probe: &Probe| probe.machine.vcpu.request_fence(Fence::STAGE2_TLB);
    let va = page.as_u64();
    for _ in 0..3 {
        for host in [first, second] {
            probe.machine.stage2.unmap(page, 4096).unwrap();
            fence(&probe);
            for op in OPS.iter().filter(|op| op.bytes == 8) {
                let exit = probe.access(op.name, va, How::S).unwrap_err();
                assert!(
                    !matches!(exit, AxVCpuExitReason::Hypercall { .. }),
                    "{} {exit:?}",
                    op.name
                );
                probe.machine.vcpu.fail_access().unwrap();
                assert_eq!(probe.resume().unwrap().cause, op.kind.access_fault());
            }
            let exit = probe.access("fetch", va, How::S);
            assert_eq!(exit, fault(va, AccessKind::Execute));
            probe.machine.stage2.map(page, host, 4096, Perms::RWX).unwrap();
            let trap = probe.resume().unwrap();
            assert_eq!((trap.cause, probe.get(T2)), (3, if host == first { 1 } else { 2 }));
            assert_eq!(probe.access("lw", va, How::S).unwrap().cause, 3);
            assert_eq!(probe.get(A5) >> 20, if host == first { 1 } else { 2 });
        }
    }
    // Dirty logging: writable again after the exit, without a fence, and the store is repeated.
    probe.machine.stage2.protect(page, 4096, Perms::RX).unwrap();
    fence(&probe);
    probe.set(A3, 0x77);
    assert_eq!(probe.access("ld", va + 8, How::S).unwrap().cause, 3);
    let exit = probe.access("sd", va + 8, How::S);
    assert_eq!(exit, refused("sd", va + 8));
    assert_eq!(probe.machine.read_u64(DATA + 0x9008), 0);
    probe.machine.stage2.protect(page, 4096, Perms::RWX).unwrap();
    probe.machine.vcpu.retry().unwrap();
    assert_eq!(probe.machine.vcpu.retry(), Err(AxError::NotAsked));
    assert_eq!(probe.resume().unwrap().cause, 3);
    assert_eq!(probe.machine.read_u64(DATA + 0x9008), 0x77);
}

/// Without paging in the guest the second stage alone decides, for users as for the supervisor.
#[test]
fn no_paging_in_the_guest() {
    let probe = Probe::bare();
    probe.set(A3, 0x77);
    probe.machine.write(DATA, &[0x02, 0x90]);
    for how in [How::S, How::U] {
        for name in KINDS {
            assert_eq!(probe.access(name, DATA, how).unwrap().cause, 3);
            assert_eq!(probe.access(name, DEVICE, how), refused(name, DEVICE));
            probe.machine.vcpu.fail_access().unwrap();
            let trap = probe.resume().unwrap();
            assert_eq!((trap.cause, trap.value), (op(name).kind.access_fault(), DEVICE));
            probe.machine.write(DATA, &[0x02, 0x90]);
        }
    }
    // Memory ends where it ends.
    let end = RAM + crate::machine::SIZE as u64;
    assert_eq!(probe.access("ld", end - 8, How::S).unwrap().cause, 3);
    assert_eq!(probe.access("ld", end, How::S), refused("ld", end));
}

/// Formats that do not exist are refused before anything follows a table of theirs.
#[test]
fn second_stage_formats_that_do_not_exist() {
    let make = |stage2| {
        let clock = Clock::Instructions(VirtualClock::new());
        AxVCpu::<SoftVCpu<TestHal>>::new(
            0,
            0,
            0,
            None,
            SoftConfig { stage2, ..SoftConfig::new(clock) },
        )
        .err()
    };
    for mode in [SV39, Mode { levels: 9, ..SV57X4 }, Mode { bits: 64, ..SV39X4 }] {
        assert_eq!(make(mode), Some(AxError::InvalidInput), "{mode:?}");
    }
    assert_eq!(make(SV57X4), None);
}

/// A vCPU's second-stage format decides about the width of guest physical addresses.
#[test]
fn second_stage_formats() {
    for (mode, bits) in [(SV39X4, 41), (SV48X4, 50), (SV57X4, 56)] {
        let mode: Mode = mode;
        let machine =
            Machine::with_stage2(server(), Clock::Instructions(VirtualClock::new()), mode);
        let mut probe = Probe::on(machine, Some(SV57));
        let high = (1 << bits) - 4096;
        let host = probe.machine.host(DATA + 0x7000);
        probe.machine.stage2.map(GuestPhysAddr::new(high), host, 4096, Perms::RWX).unwrap();
        let va = probe.tables().free(1);
        probe.tables().map(&probe.machine, va, 0, high, ALL);
        probe.machine.write_u64(DATA + 0x7010, 0xcafe);
        assert_eq!(probe.access("ld", va + 0x10, How::S.fence(How::ALL)).unwrap().cause, 3);
        assert_eq!(probe.get(A5), 0xcafe);
    }
}
