//! Plain loads and stores: widths, signs, alignment, pages.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::{SV39, pte};

use crate::probe::{DATA, How, Kind, OPS, Op, Probe};
use crate::tables::ALL;

fn plain() -> impl Iterator<Item = &'static Op> {
    OPS.iter().filter(|op| matches!(op.kind, Kind::Load | Kind::Store))
}

/// What the destination of a load holds when memory has these bytes.
pub fn loaded(name: &str, bytes: &[u8]) -> u64 {
    let raw = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    match name.trim_start_matches("c.") {
        "lb" => raw as i8 as u64,
        "lh" => raw as i16 as u64,
        "lw" => raw as i32 as u64,
        "flw" => raw | 0xffff_ffff_0000_0000,
        _ => raw,
    }
}

/// Where the value of a load arrives: `a5`, or `fa5`.
pub fn result(probe: &Probe, name: &str) -> u64 {
    if name.contains("fl") { probe.machine.state()[32 + 15] } else { probe.get(A5) }
}

/// Gives the stores their value, also in `fa3`.
pub fn value(probe: &Probe, value: u64) {
    probe.set(A3, value);
    probe.run(|a| a.fmv_d_x(FA3, A3), How::S);
}

/// Two pages next to each other whose memory is not.
fn two_pages(probe: &Probe) -> (u64, [u64; 2]) {
    let va = probe.tables().free(1);
    let pages = [DATA + 0x3000, DATA + 0x1000];
    probe.tables().map(&probe.machine, va, 0, pages[0], ALL);
    probe.tables().map(&probe.machine, va + 0x1000, 0, pages[1], ALL);
    (va, pages)
}

/// Every width at every offset, also from one page to the next.
#[test]
fn misaligned_accesses() {
    let probe = Probe::paged(SV39);
    let (va, pages) = two_pages(&probe);
    let place = |offset: u64| pages[(offset >> 12) as usize] + (offset & 0xfff);
    let stored = 0xf1e2_d3c4_b5a6_9788_u64;
    value(&probe, stored);
    for op in plain() {
        for offset in (0..17).chain(0xff0..0x1010) {
            // Around it everything is known.
            let window: Vec<u64> = (offset.max(8) - 8..offset + 16).collect();
            for &at in &window {
                probe.machine.write(place(at), &[(at * 37 + 0x81) as u8]);
            }
            let bytes: Vec<u8> =
                (offset..offset + op.bytes).map(|at| (at * 37 + 0x81) as u8).collect();
            // With the pages in the cache, and without.
            for fence in [How::ALL, 0] {
                let trap = probe.access(op.name, va + offset, How::S.fence(fence)).unwrap();
                assert_eq!(trap.cause, 3, "{} at {offset:#x}", op.name);
                if op.kind == Kind::Load {
                    assert_eq!(
                        result(&probe, op.name),
                        loaded(op.name, &bytes),
                        "{} at {offset:#x}",
                        op.name
                    );
                }
            }
            for at in window {
                let byte = probe.machine.read(place(at), 1)[0];
                let inside = op.kind == Kind::Store && (offset..offset + op.bytes).contains(&at);
                let expected = if inside {
                    (stored >> (8 * (at - offset))) as u8
                } else {
                    (at * 37 + 0x81) as u8
                };
                assert_eq!(byte, expected, "{} at {offset:#x}: byte {at:#x}", op.name);
            }
        }
    }
}

/// An access over two pages of which one refuses it: the trap names the part that failed, and nothing was
/// written.
#[test]
fn the_second_page_faults() {
    let probe = Probe::paged(SV39);
    let (va, pages) = two_pages(&probe);
    let slots = [0, 1].map(|i| probe.tables().entry(&probe.machine, va + 0x1000 * i, 0));
    value(&probe, u64::MAX);
    for op in plain().filter(|op| op.bytes > 1) {
        for offset in 0x1001 - op.bytes..0x1000 {
            for (first, second) in
                [(ALL, 0), (0, ALL), (0, 0), (ALL, ALL & !pte::W), (ALL & !pte::W, ALL)]
            {
                let writable = [first, second].map(|flags| flags & pte::W != 0);
                let readable = [first, second].map(|flags| flags & pte::R != 0);
                let [good_first, good_second] =
                    if op.kind == Kind::Store { writable } else { readable };
                for (slot, (page, flags)) in slots.iter().zip(pages.iter().zip([first, second])) {
                    probe.machine.write_u64(*slot, pte::new(*page, flags));
                }
                probe.machine.write_u64(pages[0] + 0xff8, 0x1111);
                probe.machine.write_u64(pages[1], 0x2222);
                for fence in [How::ALL, 0] {
                    let trap = probe.access(op.name, va + offset, How::S.fence(fence)).unwrap();
                    let failed = match (good_first, good_second) {
                        (false, _) => va + offset,
                        (true, false) => va + 0x1000,
                        (true, true) => {
                            assert_eq!(trap.cause, 3);
                            continue;
                        }
                    };
                    let pc = probe.stub(op.name, How::S);
                    let cause = op.kind.page_fault();
                    assert_eq!(
                        (trap.cause, trap.value, trap.pc),
                        (cause, failed, pc),
                        "{} {offset:#x}",
                        op.name
                    );
                    if op.kind == Kind::Store {
                        assert_eq!(probe.machine.read_u64(pages[0] + 0xff8), 0x1111);
                        assert_eq!(probe.machine.read_u64(pages[1]), 0x2222);
                    }
                }
            }
        }
    }
}

/// Immediates reach both ways, and the base may be the register loaded.
#[test]
fn addresses() {
    let probe = Probe::bare();
    for offset in [-2048, -8, 0, 8, 2040] {
        probe
            .machine
            .write_u64((DATA + 0x1000).wrapping_add_signed(offset), offset as u64 ^ 0x5555);
        probe.set(A1, DATA + 0x1000);
        probe.run(
            |a| {
                a.ld(A5, offset as i32, A1);
                a.ld(A1, offset as i32, A1)
            },
            How::S,
        );
        assert_eq!(
            (probe.get(A5), probe.get(A1)),
            (offset as u64 ^ 0x5555, offset as u64 ^ 0x5555)
        );
    }
    probe.set(A1, DATA);
    probe.run(
        |a| {
            a.sd(A1, 16, A1);
            a.ld(ZERO, 0, A1);
            a.mv(A5, ZERO)
        },
        How::S,
    );
    assert_eq!((probe.machine.read_u64(DATA + 16), probe.get(A5)), (DATA, 0));
    // `x0` as a base is zero, where nothing is.
    let exit = probe.execute(|a| a.lw(A5, 0x10, ZERO), How::S).unwrap_err();
    let addr = axvcpu::GuestPhysAddr::new(0x10);
    assert_eq!(
        exit,
        axvcpu::AxVCpuExitReason::MmioRead { addr, width: axvcpu::AccessWidth::Dword }
    );
}
