//! Code that changes, code that is entered anywhere, and more code than is kept decoded.

use axvcpu::Fence;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::SV39;

use crate::machine::{Machine, RAM, Random};
use crate::probe::{CODE, DATA, How, Probe};
use crate::tables::ALL;

/// The bytes of one instruction.
fn bytes(emit: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut a = Asm::new(0);
    emit(&mut a);
    a.finish().unwrap()
}

fn word(emit: impl FnOnce(&mut Asm)) -> u64 {
    let bytes = bytes(emit);
    u32::from_le_bytes(bytes.try_into().unwrap()).into()
}

/// A guest patches one instruction of a loop back and forth. The one patched is in the same block, in the same
/// page or in another.
#[test]
fn code_that_patches_itself() {
    for distance in [0, 4, 64, 1024, 4096, 8192] {
        let probe = Probe::bare();
        let versions = [1, 2].map(|n| word(|a| a.addi(A5, A5, n)));
        for (register, value) in [(T1, versions[0]), (T2, versions[1]), (T3, 1000), (A5, 0)] {
            probe.set(register, value);
        }
        probe.run(
            |a| {
                let (patched, back) = (a.label(), a.label());
                a.la(A1, patched);
                let top = a.here_label();
                a.sw(T1, 0, A1);
                a.fence_i();
                if distance > 4 {
                    a.jal(ZERO, patched);
                } else if distance == 4 {
                    a.nop();
                }
                if distance <= 4 {
                    a.bind(patched);
                    a.word(0);
                } else {
                    a.bind(back);
                }
                a.xor(T1, T1, T2); // the other version
                a.xor(T2, T1, T2);
                a.xor(T1, T1, T2);
                a.addi(T3, T3, -1);
                a.bnez(T3, top);
                if distance > 4 {
                    a.ebreak();
                    a.zero(distance);
                    a.bind(patched);
                    a.word(0);
                    a.jal(ZERO, back);
                }
            },
            How::S,
        );
        assert_eq!(probe.get(A5), 1500, "{distance} bytes away");
    }
}

/// Every instruction of a straight piece, replaced by the hypervisor and seen after its fence or the guest's.
#[test]
fn code_the_hypervisor_patches() {
    let probe = Probe::paged(SV39);
    let start = CODE + 0xfc0; // over the end of a page
    const LENGTH: u64 = 40;
    for half in 0..LENGTH {
        probe.machine.write(start + 2 * half, &bytes(|a| a.c_addi(A5, 1)));
    }
    probe.machine.write(start + 2 * LENGTH, &bytes(|a| a.c_ebreak()));
    let run = |fence| {
        probe.set(A5, 0);
        assert_eq!(probe.go(start, How::S.fence(fence)).unwrap().cause, 3);
        probe.get(A5)
    };
    assert_eq!(run(0), LENGTH);
    let mut expected = LENGTH;
    for half in 0..LENGTH {
        let at = start + 2 * half;
        probe.machine.write(at, &bytes(|a| a.c_addi(A5, 11)));
        let stale = run(0);
        assert!((expected..=expected + 10).contains(&stale), "{stale}");
        expected += 10;
        if half % 2 == 0 {
            probe.machine.vcpu.request_fence(Fence::INSTRUCTION);
            assert_eq!(run(0), expected, "halfword {half}");
        } else {
            assert_eq!(run(How::INSTRUCTIONS), expected, "halfword {half}");
        }
    }
    // Two short instructions become a long one, and again two.
    for half in 0..LENGTH - 1 {
        let at = start + 2 * half;
        let before = probe.machine.read(at, 4);
        probe.machine.write(at, &bytes(|a| a.addi(A5, A5, 100)));
        assert_eq!(run(How::INSTRUCTIONS), expected + 100 - 22, "halfword {half}");
        probe.machine.write(at, &before);
        assert_eq!(run(How::INSTRUCTIONS), expected);
    }
}

/// After a reset a vCPU knows nothing of the instructions it has executed before it.
#[test]
fn code_loaded_before_a_reset() {
    let program = |value| {
        let mut a = Asm::new(RAM);
        a.li(A0, value);
        a.li(A7, 77);
        a.ecall();
        a
    };
    let machine = Machine::new(program(1));
    machine.until(77);
    assert_eq!(machine.x(10), 1);
    machine.write_code(RAM, program(2));
    machine.vcpu.reset().unwrap();
    machine.until(77);
    assert_eq!(machine.x(10), 2);
}

/// More straight code, and more blocks, than are kept.
#[test]
fn more_code_than_is_kept() {
    let probe = Probe::bare();
    const SIZE: u64 = 0x1f_0000;
    for (piece, instructions) in [(2, 1), (4, 2)] {
        let count = SIZE / piece;
        let one = bytes(|a| {
            a.c_addi(A5, 1);
            if instructions == 2 {
                // To the instruction behind it: a block of its own.
                let next = a.label();
                a.c_j(next);
                a.bind(next);
            }
        });
        let mut code = one.repeat(count as usize);
        code.extend(bytes(|a| a.c_ebreak()));
        probe.machine.write(DATA, &code);
        for fence in [How::INSTRUCTIONS, 0, 0, How::INSTRUCTIONS] {
            probe.set(A5, 0);
            let before = probe.machine.instructions();
            let trap = probe.go(DATA, How::S.fence(fence)).unwrap();
            assert_eq!((trap.cause, trap.pc), (3, DATA + SIZE));
            assert_eq!(probe.get(A5), count);
            let executed = probe.machine.instructions() - before;
            assert!((count * instructions..count * instructions + 40).contains(&executed));
        }
    }
}

/// Jumps between blocks at random, so that links are made and broken in every order.
#[test]
fn jumps_everywhere() {
    let probe = Probe::paged(SV39);
    let random = &mut Random(4711);
    const BLOCKS: usize = 4096;
    // Each block is 16 bytes: counts itself, and goes to the next of a random round trip.
    let mut order: Vec<usize> = (1..BLOCKS).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    let trip: Vec<usize> = [0].into_iter().chain(order).chain([0]).collect();
    for round in 0..4 {
        for pair in trip.windows(2) {
            let at = |block: usize| DATA + 16 * block as u64;
            let mut a = Asm::new(at(pair[0]));
            a.c_addi(A5, 1);
            let distance = at(pair[1]).wrapping_sub(a.here()) as i64;
            if pair[1] == 0 {
                a.c_ebreak();
            } else if distance.abs() < 4000 && round % 2 == 0 {
                // A branch: encoded by hand, for the label is another program's.
                let d = distance as u32;
                let bits = (d >> 12 & 1) << 31
                    | (d >> 5 & 63) << 25
                    | (d >> 1 & 15) << 8
                    | (d >> 11 & 1) << 7;
                a.word(bits | 0x63);
            } else {
                let d = distance as u32;
                let bits = (d >> 20 & 1) << 31
                    | (d >> 1 & 0x3ff) << 21
                    | (d >> 11 & 1) << 20
                    | d & 0xf_f000;
                a.word(bits | 0x6f);
            }
            probe.machine.write_code(at(pair[0]), a);
        }
        for fence in [How::INSTRUCTIONS, 0, How::ALL, How::INSTRUCTIONS] {
            probe.set(A5, 0);
            assert_eq!(probe.go(DATA, How::S.fence(fence)).unwrap().cause, 3);
            assert_eq!(probe.get(A5), BLOCKS as u64);
        }
    }
}

/// Any halfword may be the start of an instruction.
#[test]
fn into_the_middle() {
    let probe = Probe::bare();
    // lui a2, …: its upper half, alone, is c.addi a5, 1, and what follows goes on from there.
    let c_addi = u32::from(u16::from_le_bytes(bytes(|a| a.c_addi(A5, 1)).try_into().unwrap()));
    let long = c_addi << 16 | 12 << 7 | 0x37;
    let mut a = Asm::new(CODE);
    for _ in 0..20 {
        a.word(long);
    }
    a.ebreak();
    probe.machine.write_code(CODE, a);
    for _ in 0..2 {
        for half in (0..40).chain((0..40).rev()) {
            probe.set(A5, 0);
            probe.set(A2, 0);
            assert_eq!(probe.go(CODE + 2 * half, How::S).unwrap().pc, CODE + 80);
            assert_eq!(probe.get(A5), half % 2, "from halfword {half}");
            let seen_lui = if half == 39 { 0 } else { u64::from(long & !0xfff) as i32 as u64 };
            assert_eq!(probe.get(A2), seen_lui);
        }
    }
}

/// `jalr`: odd sums lose their lowest bit, the link may replace the base, and offsets reach both ways.
#[test]
fn indirect_jumps() {
    let probe = Probe::bare();
    for (offset, odd) in [(0, 0), (0, 1), (1, 0), (-1, 0), (-1, 1), (2047, 1), (-2048, 1)] {
        for rd in [ZERO, RA, T1, A1] {
            let target = CODE + 0x100;
            probe.machine.write(
                target,
                &bytes(|a| {
                    a.li(A5, 7);
                    a.ebreak()
                }),
            );
            probe.set(
                A1,
                ((target | odd) & !u64::from(offset & 1 != 0 && odd == 0))
                    .wrapping_sub(offset as i64 as u64),
            );
            probe.set(rd, probe.get(rd));
            probe.set(A5, 0);
            let base = probe.get(A1);
            let trap = probe.execute(|a| a.jalr(rd, offset, A1), How::S).unwrap();
            let to = base.wrapping_add(offset as i64 as u64) & !1;
            assert_eq!((trap.pc, probe.get(A5)), (to + 4, 7), "{offset} {odd}");
            if rd != ZERO {
                assert_eq!(probe.get(rd), CODE + 4);
            }
        }
    }
    probe.machine.write(CODE + 0x100, &bytes(|a| a.c_ebreak()));
    for register in [RA, A1, T6] {
        probe.set(register, CODE + 0x100);
        assert_eq!(probe.execute(|a| a.c_jalr(register), How::S).unwrap().pc, CODE + 0x100);
        assert_eq!(probe.get(RA), CODE + 2);
        probe.set(register, CODE + 0x101);
        assert_eq!(probe.execute(|a| a.c_jr(register), How::S).unwrap().pc, CODE + 0x100);
    }
}

/// The same memory at several addresses and for both privileges: what is decoded once is right for each.
#[test]
fn code_at_several_addresses() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let aliases: Vec<u64> = (0..4).map(|i| tables.free(i % 2) + 0x10_0000 * i as u64).collect();
    for &alias in &aliases {
        tables.map(&probe.machine, alias, 0, DATA, ALL);
    }
    let mut a = Asm::new(DATA);
    let (skip, end) = (a.label(), a.label());
    a.auipc(T1, 0);
    a.jal(T2, skip);
    a.bind(skip);
    a.call(end);
    a.bind(end);
    a.mv(T3, RA);
    a.csrr(T4, csrs::SSCRATCH); // not for users
    a.ebreak();
    probe.machine.write_code(DATA, a);
    for _ in 0..3 {
        for &alias in &aliases {
            assert_eq!(probe.go(alias, How::S.fence(How::ALL)).unwrap().pc, alias + 24);
            assert_eq!([T1, T2, T3].map(|r| probe.get(r)), [alias, alias + 8, alias + 16]);
        }
        let user = probe.place(DATA, How::U);
        let trap = probe.go(user, How::U).unwrap();
        assert_eq!((trap.cause, trap.pc), (2, user + 20));
        assert_eq!([T1, T2, T3].map(|r| probe.get(r)), [user, user + 8, user + 16]);
    }
}
