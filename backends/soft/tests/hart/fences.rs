//! When changes of the guest's page tables are seen: at the latest after `sfence.vma`, or a write of `satp`.

use axvcpu::Fence;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::{SV39, SV48, SV57, page_size, pte};

use crate::machine::RAM;
use crate::permissions::{check, op};
use crate::probe::{CODE, DATA, How, Probe};
use crate::tables::ALL;

const KINDS: [&str; 5] = ["fetch", "ld", "sd", "lr.d", "amoadd.d"];
const FENCES: [u64; 4] = [How::ALL, How::ADDRESS, How::SPACE, How::ADDRESS_IN_SPACE];
const OLD: u64 = DATA + 0x1000;
const NEW: u64 = DATA + 0x2000;

/// Two pages that answer fetches with a breakpoint, and loads with different values.
fn prepare(probe: &Probe) {
    for (page, value) in [(OLD, 0x01d_9002), (NEW, 0x4e3_9002)] {
        probe.machine.write_u64(page + 0x100, value);
    }
}

/// Every way to change an entry, seen after every way to fence.
#[test]
fn changes_are_seen_after_a_fence() {
    for mode in [SV39, SV48, SV57] {
        let probe = Probe::paged(mode);
        prepare(&probe);
        let tables = probe.tables();
        probe.set(A6, 0); // the address space
        let va = tables.free(1) + 0x100;
        let slot = tables.entry(&probe.machine, va, 0);
        let ways = [
            // Before, after, and whether the access is allowed then.
            (pte::new(OLD, ALL), 0, false),
            (0, pte::new(OLD, ALL), true),
            (pte::new(OLD, ALL), pte::new(NEW, ALL), true),
            (pte::new(OLD, ALL), pte::new(OLD, pte::V | pte::A | pte::D), false),
            (pte::new(OLD, ALL), pte::new(OLD, ALL & !pte::A), false),
            (pte::new(OLD, ALL | pte::U), pte::new(OLD, ALL), true),
            (pte::new(OLD, ALL), pte::new(OLD, ALL | pte::U), false),
        ];
        for name in KINDS {
            for fence in FENCES {
                for (before, after, allowed) in ways {
                    probe.machine.write_u64(slot, before);
                    // Warm the caches, as the user too.
                    for how in [How::S, How::U] {
                        let _ = probe.access(name, va, how.fence(How::ALL)).unwrap();
                    }
                    probe.machine.write_u64(slot, after);
                    // Until the fence the old is as good as the new.
                    let stale = probe.access(name, va, How::S).unwrap().cause;
                    assert!([3, op(name).kind.page_fault()].contains(&stale));
                    let how = How::S.fence(fence);
                    let ended = probe.access(name, va, how);
                    check(&probe, ended, name, va, how, allowed, &|| {
                        format!("{before:#x}, {after:#x}")
                    });
                    if allowed && name == "ld" {
                        let there = probe.machine.read_u64(pte::addr(after) + 0x100);
                        assert_eq!(probe.get(A5), there);
                    }
                    prepare(&probe);
                }
            }
        }
    }
}

/// The user's translations go as well when the supervisor fences.
#[test]
fn a_fence_reaches_every_privilege() {
    let probe = Probe::paged(SV39);
    prepare(&probe);
    let tables = probe.tables();
    let va = tables.free(0) + 0x100;
    let slot = tables.entry(&probe.machine, va, 0);
    let sum = How::S.status(axvcpu_riscv::csr::sstatus::SUM);
    for fence in FENCES {
        for name in ["ld", "sd"] {
            probe.machine.write_u64(slot, pte::new(OLD, ALL | pte::U));
            for how in [How::U.fence(How::ALL), sum] {
                assert_eq!(probe.access(name, va, how).unwrap().cause, 3);
            }
            probe.machine.write_u64(slot, 0);
            for (how, fence) in [(How::U, fence), (sum, 0)] {
                let ended = probe.access(name, va, how.fence(fence));
                check(&probe, ended, name, va, how, false, &|| format!("fence {fence}"));
            }
        }
    }
}

/// Any address in a large page fences all of it.
#[test]
fn large_pages_are_fenced_by_any_of_their_addresses() {
    for mode in [SV39, SV48, SV57] {
        for level in 1..mode.levels {
            let probe = Probe::paged(mode);
            let tables = probe.tables();
            for half in 0..2 {
                let base = tables.address(half, level, DATA);
                let slot = tables.entry(&probe.machine, base, level);
                let pa = DATA & !(page_size(level) - 1);
                let pages = [0, 0x1000, 0x7000, 0x1f_f000];
                for fenced in pages.into_iter().chain([page_size(level) - 0x1000]) {
                    for name in KINDS {
                        let far = tables.free(half) + (fenced & (page_size(level) - 1));
                        prepare(&probe);
                        for page in pages {
                            probe.machine.write(DATA + page, &[0x02, 0x90]);
                        }
                        probe.machine.write_u64(slot, pte::new(pa, ALL));
                        for page in pages {
                            let how = How::S.fence(How::ALL);
                            assert_eq!(probe.access(name, base + page, how).unwrap().cause, 3);
                            assert_eq!(probe.access(name, base + page, How::S).unwrap().cause, 3);
                        }
                        for page in pages {
                            assert_eq!(probe.access(name, base + page, How::S).unwrap().cause, 3);
                            probe.machine.write(DATA + page, &[0x02, 0x90]);
                        }
                        probe.machine.write_u64(slot, 0);
                        probe.set(A1, far);
                        let trap = probe.go(probe.stub("ld", How::S), How::S.fence(How::ADDRESS));
                        assert_eq!(trap.unwrap().cause, 13);
                        for page in pages {
                            let va = base + page;
                            let ended = probe.access(name, va, How::S);
                            check(&probe, ended, name, va, How::S, false, &|| {
                                format!("{fenced:#x} fenced, level {level} of {mode:?}")
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Entries above the leaf: a table exchanged for another, for a large page, for nothing.
#[test]
fn tables_are_exchanged() {
    for mode in [SV39, SV48, SV57] {
        let probe = Probe::paged(mode);
        prepare(&probe);
        let tables = probe.tables();
        let va = tables.free(0) + 0x100;
        tables.map(&probe.machine, va, 0, OLD, ALL);
        let value = |fence| {
            let trap = probe.access("ld", va, How::S.fence(fence)).unwrap();
            if trap.cause == 3 { probe.get(A5) } else { trap.cause }
        };
        let (old, new) = (probe.machine.read_u64(OLD + 0x100), probe.machine.read_u64(NEW + 0x100));
        for level in 1..mode.levels {
            let slot = tables.entry(&probe.machine, va, level);
            let entry = probe.machine.read_u64(slot);
            assert_eq!(value(How::ALL), old);
            // Another subtree that leads to the other page.
            let mut below = NEW;
            let mut flags = ALL;
            for _ in 0..level {
                let table = tables.frame();
                for i in 0..512 {
                    probe.machine.write_u64(table + 8 * i, pte::new(below, flags));
                }
                (below, flags) = (table, pte::V);
            }
            probe.machine.write_u64(slot, pte::new(below, pte::V));
            assert!([old, new].contains(&value(0)));
            assert_eq!(value(How::ADDRESS), new);
            probe.machine.write_u64(slot, 0);
            assert!([new, 13].contains(&value(0)));
            assert_eq!(value(How::ADDRESS), 13);
            probe.machine.write_u64(slot, entry);
            assert_eq!(value(How::ADDRESS), old);
        }
    }
}

/// A global page is not exempt from fences of all address spaces, and one address space's pages are gone in
/// another's tables.
#[test]
fn address_spaces() {
    let probe = Probe::paged(SV39);
    prepare(&probe);
    let tables = probe.tables();
    let va = tables.free(1) + 0x100;
    let slot = tables.map(&probe.machine, va, 0, OLD, ALL | pte::G);
    let first = probe.satp.get();
    for fence in [How::ALL, How::ADDRESS] {
        probe.machine.write_u64(slot, pte::new(OLD, ALL | pte::G));
        assert_eq!(probe.access("ld", va, How::S.fence(How::ALL)).unwrap().cause, 3);
        probe.machine.write_u64(slot, 0);
        assert_eq!(probe.access("ld", va, How::S.fence(fence)).unwrap().cause, 13);
    }
    // A second address space that shares the kernel's part.
    let root = tables.frame();
    let index = SV39.index(RAM, 2) as u64;
    probe.machine.write_u64(root + 8 * index, probe.machine.read_u64(tables.root + 8 * index));
    probe.machine.write_u64(slot, pte::new(OLD, ALL));
    let second = SV39.root_register(root) | 7 << 44;
    for _ in 0..3 {
        probe.satp.set(first | 3 << 44);
        assert_eq!(probe.access("ld", va, How::S).unwrap().cause, 3);
        probe.satp.set(second);
        assert_eq!(probe.access("ld", va, How::S).unwrap().cause, 13);
    }
}

/// `satp` as a register: modes the hart has, 16 bits of ASID, 44 of page number; other modes are not written.
#[test]
fn satp_holds_what_it_can() {
    let probe = Probe::paged(SV39);
    let root = probe.tables().root;
    let read_after = |value: u64| {
        probe.set(T1, value);
        probe.run(
            |a| {
                a.csrrw(A2, csrs::SATP, T1);
                a.csrrw(T2, csrs::SATP, A2)
            },
            How::S,
        );
        probe.get(T2)
    };
    let now = probe.satp.get();
    for mode in (1..16).filter(|mode| ![8, 9, 10].contains(mode)) {
        assert_eq!(read_after(mode << 60 | 0xabc << 44 | 0x12345), now, "mode {mode}");
    }
    for asid in [0, 1, 0x8000, 0xffff] {
        let value = SV39.root_register(root) | asid << 44;
        assert_eq!(read_after(value), value);
    }
    assert_eq!(read_after(0), 0);
    // The page number: the tables of a mode that is tried out have to be there.
    let bare = Probe::bare();
    let all = u64::MAX >> 4;
    bare.set(T1, all);
    bare.run(
        |a| {
            a.csrw(csrs::SATP, T1);
            a.csrr(A5, csrs::SATP);
            a.csrw(csrs::SATP, ZERO)
        },
        How::S,
    );
    assert_eq!(bare.get(A5), all);
}

/// Each mode translates with its own number of levels, and the change takes effect with the next instruction.
#[test]
fn modes_change_on_the_fly() {
    let probe = Probe::bare();
    let mut next = crate::probe::TABLES;
    let mut satps = vec![];
    for mode in [SV39, SV48, SV57] {
        let tables = crate::tables::Tables::new(mode, next);
        tables.map(&probe.machine, RAM, 2, RAM, ALL);
        satps.push((mode, tables.satp()));
        next = tables.frame();
    }
    for (mode, satp) in satps.iter().chain(&satps).copied() {
        probe.satp.set(satp);
        assert_eq!(probe.access("ld", CODE, How::S).unwrap().cause, 3);
        for va in [1 << 38, 1 << 47, 1 << 56, u64::MAX << 38, u64::MAX << 47, u64::MAX << 56] {
            let trap = probe.access("ld", va, How::S).unwrap();
            assert_eq!((trap.cause, trap.value), (13, va), "{mode:?}");
        }
        probe.satp.set(0);
        assert_eq!(probe.access("ld", CODE, How::U).unwrap().cause, 3);
    }
}

/// What the hypervisor fences for the guest counts like the guest's own.
#[test]
fn the_hypervisor_fences() {
    let probe = Probe::paged(SV39);
    prepare(&probe);
    let va = probe.tables().free(1) + 0x100;
    let slot = probe.tables().map(&probe.machine, va, 0, OLD, ALL);
    for name in KINDS {
        probe.machine.write_u64(slot, pte::new(OLD, ALL));
        assert_eq!(probe.access(name, va, How::S.fence(How::ALL)).unwrap().cause, 3);
        probe.machine.write_u64(slot, 0);
        probe.machine.vcpu.request_fence(Fence::GUEST_TLB);
        let ended = probe.access(name, va, How::S);
        check(&probe, ended, name, va, How::S, false, &|| "fenced from outside".into());
        prepare(&probe);
    }
}

/// Patching a page's entry under running code: the same address runs the other page's code after the fence.
#[test]
fn code_is_remapped_under_way() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let va = tables.free(0);
    for (page, value) in [(OLD, 1), (NEW, 2)] {
        let mut a = Asm::new(va);
        let top = a.label();
        a.li(T1, 100);
        a.bind(top);
        a.addi(T2, T2, value);
        a.addi(T1, T1, -1);
        a.bnez(T1, top);
        a.ebreak();
        probe.machine.write_code(page, a);
    }
    let slot = tables.map(&probe.machine, va, 0, OLD, ALL);
    probe.set(A1, va);
    for fence in FENCES.repeat(2) {
        for (page, each) in [(OLD, 1), (NEW, 2)] {
            probe.machine.write_u64(slot, pte::new(page, ALL));
            probe.set(T2, 0);
            let trap = probe.go(va, How::S.fence(fence)).unwrap();
            assert_eq!((trap.cause, probe.get(T2)), (3, 100 * each));
        }
    }
}

/// Code that goes to another page by a branch, and by falling off its end: the other page is looked up anew.
#[test]
fn the_page_a_branch_leads_to_is_remapped() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let va = tables.free(0);
    const FIRST: u64 = DATA + 0x8000;
    // A loop around the end of a page. `a2` chooses the branch or the way straight on.
    let mut a = Asm::new(va + 0xfe4);
    let (top, away, back) = (a.label(), a.label(), a.label());
    a.bind(top);
    a.addi(T1, T1, -1);
    a.bnez(A2, away);
    a.bind(back);
    a.bnez(T1, top);
    a.ebreak();
    a.ebreak();
    a.addi(T3, T3, 1);
    a.bnez(A2, back); // never: the last of its page
    a.bind(away);
    let code = a.finish().unwrap();
    assert_eq!(code.len(), 0x1c);
    probe.machine.write(FIRST + 0xfe4, &code);
    for (page, each) in [(OLD, 1), (NEW, 2)] {
        // addi t2, t2, each; back to `back`, or to the end.
        let mut a = Asm::new(va + 0xfec);
        let back = a.here_label();
        a.zero(0x14);
        a.addi(T2, T2, each);
        let done = a.label();
        a.beqz(A2, done);
        a.j(back);
        a.bind(done);
        a.ebreak();
        let code = a.finish().unwrap();
        probe.machine.write(page, &code[0x14..]);
    }
    tables.map(&probe.machine, va, 0, FIRST, ALL);
    let slot = tables.map(&probe.machine, va + 0x1000, 0, OLD, ALL);
    probe.set(A1, va + 0x1000);
    for fence in FENCES.repeat(2) {
        for (page, each) in [(OLD, 1), (NEW, 2)] {
            probe.machine.write_u64(slot, pte::new(page, ALL));
            for (register, value) in [(T1, 50), (T2, 0), (A2, 1)] {
                probe.set(register, value);
            }
            assert_eq!(probe.go(va + 0xfe4, How::S.fence(fence)).unwrap().cause, 3);
            assert_eq!(probe.get(T2), 50 * each, "by a branch");
            // Straight on, several times so that the way is known.
            probe.set(A2, 0);
            probe.set(T2, 0);
            for _ in 0..3 {
                assert_eq!(probe.go(va + 0xff8, How::S).unwrap().cause, 3);
            }
            assert_eq!(probe.get(T2), 3 * each, "straight on");
        }
        // And with a fence between two ways straight on.
        for (page, each) in [(OLD, 1), (NEW, 2)] {
            probe.machine.write_u64(slot, pte::new(page, ALL));
            probe.set(T2, 0);
            assert_eq!(probe.go(va + 0xff8, How::S.fence(fence)).unwrap().cause, 3);
            assert_eq!(probe.get(T2), each);
        }
    }
}

/// A new address space takes effect with the instruction behind the write of `satp`.
#[test]
fn the_address_space_changes_under_the_code() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let va = tables.free(1);
    let mut satps = vec![];
    for (page, value) in [(OLD, 1), (NEW, 2)] {
        let mut a = Asm::new(va);
        a.csrw(csrs::SATP, T1);
        a.li(A5, value);
        a.csrw(csrs::SATP, T3);
        a.ebreak();
        probe.machine.write_code(page, a);
        let space = crate::tables::Tables::new(SV39, tables.frame());
        probe.machine.write_u64(
            space.root + 8 * SV39.index(RAM, 2) as u64,
            probe.machine.read_u64(tables.root + 8 * SV39.index(RAM, 2) as u64),
        );
        // Two tables of its own, found without the allocator of another address space.
        let (middle, last) = (tables.frame(), tables.frame());
        let index = |level| 8 * SV39.index(va, level) as u64;
        probe.machine.write_u64(space.root + index(2), pte::new(middle, pte::V));
        probe.machine.write_u64(middle + index(1), pte::new(last, pte::V));
        probe.machine.write_u64(last + index(0), pte::new(page, ALL));
        satps.push(space.satp() | (value as u64) << 44);
    }
    for round in 0..12 {
        // From either of them to either of them; the report is made in the first again.
        let (from, to) = (satps[round % 2], satps[round / 2 % 2]);
        probe.satp.set(from);
        probe.set(T1, to);
        probe.set(T3, from);
        assert_eq!(probe.go(va, How::S).unwrap().cause, 3);
        assert_eq!(probe.get(A5), 1 + (round / 2 % 2) as u64, "round {round}");
    }
}
