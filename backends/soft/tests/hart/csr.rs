//! The supervisor's registers: what they hold, and what counts.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::num::{SENVCFG, STIMECMP};
use axvcpu_riscv::csr::sstatus::{FS, MXR, SD, SIE, SPIE, SPP, SUM, UXL_64};
use axvcpu_riscv::paging::SV39;

use crate::machine::{DEVICE, Random};
use crate::probe::{CODE, DATA, How, Probe};

const ALL: u64 = u64::MAX;

/// Each register: the bits that can be set, and those that always are.
const REGISTERS: &[(&str, u16, u64, u64)] = &[
    ("sie", csrs::SIE, 0x222, 0),
    ("scounteren", csrs::SCOUNTEREN, 7, 0),
    ("senvcfg", SENVCFG, 1, 0),
    ("sscratch", csrs::SSCRATCH, ALL, 0),
    ("sepc", csrs::SEPC, ALL & !1, 0),
    ("scause", csrs::SCAUSE, ALL, 0),
    ("stval", csrs::STVAL, ALL, 0),
    ("stimecmp", STIMECMP, ALL, 0),
    ("fflags", csrs::FFLAGS, 0x1f, 0),
    ("frm", csrs::FRM, 7, 0),
    ("fcsr", csrs::FCSR, 0xff, 0),
];

/// All six ways to write, and the old value they read.
#[test]
fn what_registers_hold() {
    let probe = Probe::bare();
    let random = &mut Random(99);
    for &(name, number, writable, fixed) in REGISTERS {
        let holds = |value: u64| value & writable | fixed;
        let mut old = {
            probe.run(|a| a.csrr(A5, number), How::S);
            probe.get(A5)
        };
        if matches!(number, csrs::SEPC | csrs::SCAUSE | csrs::STVAL) {
            old = 0; // the report of the last piece has changed it
        }
        for round in 0..40 {
            let value = [0, ALL, random.next(), 1 << (round + 20)][round % 4];
            let immediate = value & 31;
            let imm = immediate as u32;
            probe.set(T1, value);
            probe.set(T2, old);
            let before = old;
            let mut check = |emit: &dyn Fn(&mut Asm), new: u64| {
                // Set first what it should hold: reports change some registers.
                probe.run(
                    |a| {
                        a.csrw(number, T2);
                        emit(a);
                        a.csrr(A2, number);
                        a.csrw(csrs::SIE, ZERO);
                    },
                    How::S,
                );
                assert_eq!(
                    (probe.get(A5), probe.get(A2)),
                    (before, holds(new)),
                    "{name} {value:#x} {before:#x}"
                );
                old = holds(new);
            };
            check(&|a| a.csrrs(A5, number, T1), before | value);
            check(&|a| a.csrrc(A5, number, T1), before & !value);
            check(&|a| a.csrrsi(A5, number, imm), before | immediate);
            check(&|a| a.csrrci(A5, number, imm), before & !immediate);
            check(&|a| a.csrrwi(A5, number, imm), immediate);
            check(&|a| a.csrrs(A5, number, ZERO), before);
            check(&|a| a.csrrw(A5, number, T1), value);
        }
        // Old value and new one in the same register.
        probe.set(T2, 0);
        probe.set(A5, ALL);
        probe.run(
            |a| {
                a.csrw(number, T2);
                a.csrrw(A5, number, A5);
                a.csrr(A2, number);
                a.csrw(csrs::SIE, ZERO)
            },
            How::S,
        );
        assert_eq!((probe.get(A5), probe.get(A2)), (fixed, holds(ALL)), "{name}");
    }
}

/// `sstatus` has few bits that can be written; UXL is fixed and SD computed.
#[test]
fn the_status_register() {
    let probe = Probe::bare();
    for (value, expected) in [
        (0, 0),
        (ALL, SIE | SPIE | SPP | FS | SUM | MXR | SD),
        (ALL & !FS, SIE | SPIE | SPP | SUM | MXR),
        (1 << 13, 1 << 13),
        (2 << 13, 2 << 13),
        (SD, 0),
        (3 << 32, 0),
        (3 << 15 | 3 << 9, 0), // XS, VS: no such state
        (1 << 17 | 1 << 6 | 0x1f << 20, 0),
    ] {
        probe.set(T1, value);
        probe.run(
            |a| {
                a.csrw(csrs::SSTATUS, T1);
                a.csrr(A5, csrs::SSTATUS);
                a.csrw(csrs::SSTATUS, ZERO)
            },
            How::S,
        );
        assert_eq!(probe.get(A5), expected | UXL_64, "{value:#x}");
    }
}

/// Modes 0 and 1 of `stvec`; what is not a mode becomes one.
#[test]
fn the_trap_vector() {
    let probe = Probe::bare();
    for (value, expected) in
        [(0x8000_0000, 0x8000_0000), (0x8000_0001, 0x8000_0001), (ALL & !2, ALL & !2)]
    {
        probe.set(T1, value);
        probe.run(
            |a| {
                a.csrrw(T3, csrs::STVEC, T1);
                a.csrrw(A5, csrs::STVEC, T3)
            },
            How::S,
        );
        assert_eq!(probe.get(A5), expected);
    }
    for reserved in [2, 3] {
        probe.set(T1, CODE | reserved);
        probe.run(
            |a| {
                a.csrrw(T3, csrs::STVEC, T1);
                a.csrrw(A5, csrs::STVEC, T3)
            },
            How::S,
        );
        assert_eq!(probe.get(A5) & !3, CODE);
        assert!(probe.get(A5) & 3 < 2);
    }
}

/// `fflags` and `frm` are views of `fcsr`, and users may use all three.
#[test]
fn floating_point_registers() {
    let probe = Probe::paged(SV39);
    for how in [How::S, How::U] {
        probe.set(T1, ALL);
        probe.run(
            |a| {
                a.csrw(csrs::FCSR, T1);
                a.csrr(A1, csrs::FCSR);
                a.csrr(A2, csrs::FFLAGS);
                a.csrr(A3, csrs::FRM);
                a.csrrwi(ZERO, csrs::FRM, 2);
                a.csrr(T2, csrs::FCSR);
                a.csrrwi(ZERO, csrs::FFLAGS, 5);
                a.csrr(T3, csrs::FCSR);
            },
            how,
        );
        assert_eq!([A1, A2, A3, T2, T3].map(|r| probe.get(r)), [0xff, 0x1f, 7, 0x5f, 0x45]);
    }
}

/// FS tells when floating-point state was changed, and nothing else makes it dirty.
#[test]
fn dirty_floating_point() {
    let probe = Probe::paged(SV39);
    const DIRTY: &[fn(&mut Asm)] = &[
        |a| a.fmv_d_x(FT0, ZERO),
        |a| a.fmv_w_x(FT0, ZERO),
        |a| a.fld(FT0, 0, A1),
        |a| a.flw(FT0, 0, A1),
        |a| a.fadd_d(FT0, FT1, FT1, Rounding::Rne),
        |a| a.fsgnj_s(FT0, FT1, FT1),
        |a| a.fcvt_d_l(FT0, ZERO, Rounding::Rne),
        |a| a.csrw(csrs::FCSR, ZERO),
        |a| a.csrrwi(ZERO, csrs::FRM, 0),
        |a| a.csrrsi(ZERO, csrs::FFLAGS, 1),
    ];
    const CLEAN: &[fn(&mut Asm)] = &[
        |a| a.nop(),
        |a| a.fsd(FT1, 0, A1),
        |a| a.fmv_x_d(A5, FT1),
        |a| a.fclass_s(A5, FT1),
        |a| a.feq_d(A5, FT1, FT1),
        |a| a.csrr(A5, csrs::FCSR),
        |a| a.csrrsi(A5, csrs::FFLAGS, 0),
    ];
    for how in [How::S, How::U] {
        probe.run(
            |a| {
                a.fmv_d_x(FT1, ZERO);
                a.csrw(csrs::FCSR, ZERO)
            },
            How::S,
        );
        probe.set(A1, probe.place(DATA, how));
        for (i, &code) in DIRTY.iter().enumerate() {
            let status = probe.execute(code, how).unwrap().status;
            assert_eq!((status & FS, status & SD), (FS, SD), "number {i}");
            probe.run(|a| a.csrw(csrs::FCSR, ZERO), How::S);
        }
        for (i, &code) in CLEAN.iter().enumerate() {
            let status = probe.execute(code, how).unwrap().status;
            assert_eq!((status & FS, status & SD), (1 << 13, 0), "number {i}");
        }
    }
    // Flags that are raised make dirty what writes no register.
    probe.run(|a| a.csrw(csrs::FCSR, ZERO), How::S);
    probe.set(T1, 0x7ff0_0000_0000_0001); // a signaling NaN
    probe.run(|a| a.fmv_d_x(FT1, T1), How::S);
    let status = probe.execute(|a| a.feq_d(A5, FT1, FT1), How::S).unwrap().status;
    assert_eq!(status & FS, FS);
}

/// A kernel need not write `scounteren` for its users to read the counters.
#[test]
fn counters_for_users_from_the_start() {
    for number in [csrs::CYCLE, csrs::TIME, csrs::INSTRET] {
        let probe = Probe::paged(SV39);
        let trap = probe.execute(|a| a.csrr(A5, number), How::U).unwrap();
        assert_eq!(trap.cause, 3, "{number:#x}: not the breakpoint behind it");
    }
}

/// Users see the counters that `scounteren` shows them.
#[test]
fn counters_for_users() {
    let probe = Probe::paged(SV39);
    for shown in 0..8 {
        probe.set(T1, shown);
        probe.run(|a| a.csrw(csrs::SCOUNTEREN, T1), How::S);
        for (bit, number) in [csrs::CYCLE, csrs::TIME, csrs::INSTRET].into_iter().enumerate() {
            let trap = probe.execute(|a| a.csrr(A5, number), How::U).unwrap();
            assert_eq!(
                trap.cause,
                if shown & 1 << bit != 0 { 3 } else { 2 },
                "{number:#x} {shown}"
            );
            probe.run(|a| a.csrr(A5, number), How::S);
        }
    }
}

/// `instret` counts what retires, and only that: nothing that traps, everything once.
#[test]
fn instructions_retired() {
    let probe = Probe::paged(SV39);
    let count = |code: &dyn Fn(&mut Asm)| {
        probe.run(
            |a| {
                a.csrr(S8, csrs::INSTRET);
                code(a);
                a.csrr(S9, csrs::INSTRET);
            },
            How::S,
        );
        probe.get(S9) - probe.get(S8) - 1
    };
    for length in [0, 1, 2, 63, 64, 65, 200, 700] {
        assert_eq!(count(&|a| (0..length).for_each(|_| a.nop())), length);
        assert_eq!(count(&|a| (0..length).for_each(|_| a.c_nop())), length);
        assert_eq!(count(&|a| (0..length).for_each(|_| a.csrr(A5, csrs::SSCRATCH))), length);
    }
    for loops in [1, 10, 1000, 50_000] {
        let code = |a: &mut Asm| {
            a.li(T1, 0x1_0000 + loops);
            a.lui(T2, 0x10);
            let top = a.here_label();
            a.addi(T1, T1, -1);
            a.nop();
            a.bne(T1, T2, top);
        };
        let setup = if (0x1_0000 + loops) & 0xfff == 0 { 2 } else { 3 };
        assert_eq!(count(&code), setup + 3 * loops as u64);
    }
    // Interrupted by traps: each of the instructions that trap is left out, and the rest counts.
    for (what, emit) in [
        ("load", (|a| a.ld(A5, 0, ZERO)) as fn(&mut Asm)),
        ("illegal", |a| a.word(0xffff_ffff)),
        ("breakpoint", |a| a.ebreak()),
        ("atomic", |a| a.amoadd_d(A5, A3, ZERO, Order::Relaxed)),
        ("jump", |a| a.jalr(ZERO, 0, ZERO)),
    ] {
        let before = probe.machine.instructions();
        let trap = probe
            .execute(
                |a| {
                    a.nop();
                    a.nop();
                    emit(a)
                },
                How::S.fence(0),
            )
            .unwrap();
        let with = probe.machine.instructions() - before;
        assert!(trap.cause != 3 || what == "breakpoint", "{what}");
        let before = probe.machine.instructions();
        probe.execute(|a| a.ebreak(), How::S).unwrap();
        let without = probe.machine.instructions() - before;
        let jumped = u64::from(what == "jump"); // it retires; its target faults
        assert_eq!(with, without + 2 + jumped, "{what}");
    }
}

/// An access of a device counts once, when it is complete.
#[test]
fn instructions_at_devices() {
    let probe = Probe::bare();
    probe.set(A1, DEVICE);
    let code = |a: &mut Asm| {
        a.csrr(S8, csrs::INSTRET);
        a.lw(A5, 0, A1);
        a.csrr(S9, csrs::INSTRET);
        a.sw(A5, 0, A1);
        a.csrr(S10, csrs::INSTRET);
    };
    assert!(probe.execute(code, How::S).is_err());
    let asked = probe.machine.instructions();
    probe.machine.vcpu.retry().unwrap();
    assert!(probe.machine.exit().asks());
    assert_eq!(probe.machine.instructions(), asked);
    probe.machine.vcpu.set_return_value(1).unwrap();
    assert_eq!(probe.machine.instructions(), asked + 1);
    assert!(probe.resume().is_err());
    assert_eq!(probe.machine.instructions(), asked + 3);
    probe.resume().unwrap();
    let [first, second, third] = [S8, S9, S10].map(|r| probe.get(r));
    assert_eq!((second - first, third - second), (2, 2));
    // Each takes its nanosecond as well; the one that was tried again no further one. The code ends with a trap.
    let time = probe.machine.clock.as_ref().unwrap().now_ns();
    assert_eq!(time, probe.machine.instructions() + 1);
    assert_eq!(asked, first + 1);
}
