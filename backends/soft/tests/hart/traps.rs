//! Traps into the supervisor and the return from them.

use axvcpu::{AxVCpuExitReason, GuestPhysAddr};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus::{MXR, SIE, SPIE, SPP, SUM, UXL_64};
use axvcpu_riscv::paging::SV39;

use crate::machine::{Machine, RAM};
use crate::probe::{CODE, DATA, How, Probe, Trap};
use crate::tables::ALL;

#[test]
fn status_goes_through_trap_and_return() {
    let probe = Probe::bare();
    for user in [false, true] {
        for interrupts in [0, SPIE] {
            for others in [0, SUM, MXR, SUM | MXR] {
                let how = How { user, status: interrupts | others, ..How::S };
                let trap = probe.execute(|_| {}, how).unwrap();
                let expected = UXL_64 | 1 << 13 | others | interrupts | if user { 0 } else { SPP };
                assert_eq!(trap.status, expected, "{how:?}");
                if !user {
                    probe.run(|a| a.csrr(A5, csrs::SSTATUS), how);
                    // The return has made SPIE the interrupt enable, and left SPIE set and SPP clear.
                    let enabled = if interrupts == 0 { 0 } else { SIE };
                    assert_eq!(
                        probe.get(A5),
                        UXL_64 | 1 << 13 | others | enabled | SPIE,
                        "{how:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn calls_and_breakpoints() {
    let probe = Probe::paged(SV39);
    let user = probe.place(CODE, How::U);
    let trap = |emit: fn(&mut Asm), how| {
        let trap = probe
            .execute(
                |a| {
                    a.nop();
                    emit(a)
                },
                how,
            )
            .unwrap();
        (trap.cause, trap.value, trap.pc)
    };
    assert_eq!(trap(|a| a.ecall(), How::U), (8, 0, user + 4));
    assert_eq!(trap(|a| a.ebreak(), How::U), (3, user + 4, user + 4));
    assert_eq!(trap(|a| a.ebreak(), How::S), (3, CODE + 4, CODE + 4));
    assert_eq!(trap(|a| a.c_ebreak(), How::S), (3, CODE + 4, CODE + 4));
    assert_eq!(trap(|a| a.c_ebreak(), How::U), (3, user + 4, user + 4));
}

/// A supervisor's call is the hypervisor's, with all its arguments, and goes on behind it.
#[test]
fn hypercalls() {
    let probe = Probe::bare();
    let registers = [A0, A1, A2, A3, A4, A5, A6, A7];
    let exit = probe.execute(
        |a| {
            for (i, register) in registers.into_iter().enumerate() {
                a.li(register, 0x1234_5678_9abc_def0_u64 as i64 + i as i64);
            }
            a.ecall();
            a.mv(T1, A0);
            a.mv(T2, A1);
        },
        How::S,
    );
    let value = |i: u64| 0x1234_5678_9abc_def0 + i;
    let args = [0, 1, 2, 3, 4, 5].map(value);
    let expected = AxVCpuExitReason::Hypercall { nr: value(7), function: value(6), args };
    assert_eq!(exit, Err(expected));
    probe.machine.vcpu.set_return_value(u64::MAX).unwrap();
    probe.set(A1, 5);
    assert_eq!(probe.resume().unwrap().cause, 3);
    assert_eq!((probe.get(T1), probe.get(T2)), (u64::MAX, 5));
    // Whoever does not answer leaves `a0` alone.
    let call = probe.execute(
        |a| {
            a.li(A0, 17);
            a.li(A7, 1);
            a.ecall();
            a.mv(T1, A0)
        },
        How::S,
    );
    assert!(matches!(call, Err(AxVCpuExitReason::Hypercall { nr: 1, .. })));
    assert_eq!(probe.resume().unwrap().cause, 3);
    assert_eq!(probe.get(T1), 17);
}

/// With a vectored `stvec` exceptions still go to the base.
#[test]
fn exceptions_do_not_use_the_vector() {
    let mut a = Asm::new(RAM);
    let handler = a.label();
    a.la(T0, handler);
    a.addi(T0, T0, 1);
    a.csrw(csrs::STVEC, T0);
    a.ebreak();
    a.align(64);
    a.bind(handler);
    for number in 0..16 {
        a.li(A0, number);
        a.li(A7, 77);
        a.ecall();
        a.nop();
    }
    let machine = Machine::new(a);
    machine.until(77);
    assert_eq!(machine.x(10), 0);
}

/// `sret` to addresses of all kinds; `sepc` has no lowest bit.
#[test]
fn returns_go_anywhere() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let page = tables.free(1);
    tables.map(&probe.machine, page, 0, CODE, ALL);
    probe.machine.write(CODE, &[0x02, 0x90].repeat(2048)); // c.ebreak everywhere
    for (to, how, expected) in [
        (page, How::S, (3, page, page)),
        (page + 1, How::S, (3, page, page)),
        (page + 0xffe, How::S, (3, page + 0xffe, page + 0xffe)),
        (page + 0xfff, How::S, (3, page + 0xffe, page + 0xffe)),
        (page, How::U, (12, page, page)),
        (page + 0x1000, How::S, (12, page + 0x1000, page + 0x1000)),
        (0, How::U, (12, 0, 0)),
        (u64::MAX, How::S, (12, u64::MAX - 1, u64::MAX - 1)),
        (1 << 63, How::S, (12, 1 << 63, 1 << 63)),
    ] {
        let trap = probe.go(to, how.fence(How::ALL | How::INSTRUCTIONS)).unwrap();
        assert_eq!((trap.cause, trap.value, trap.pc), expected, "{to:#x} {how:?}");
    }
}

/// What lies at the very top of the address space is like any other memory.
#[test]
fn the_last_page() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let page = !0xfff;
    tables.map(&probe.machine, page, 0, CODE, ALL);
    tables.map(&probe.machine, 0, 0, CODE + 0x1000, ALL);
    let mut code = Asm::new(CODE);
    code.zero(0xff8);
    code.ld(A5, 0, A1);
    code.c_nop();
    code.half(0x0513); // the first half of addi a0, zero, 7
    code.half(0x0070);
    code.c_ebreak();
    probe.machine.write_code(CODE, code);
    let how = How::S.fence(How::ALL | How::INSTRUCTIONS);
    probe.set(A1, page + 0xff8);
    let trap = probe.go(page + 0xff8, how).unwrap();
    assert_eq!((trap.cause, trap.pc, probe.get(A0)), (3, 2, 7));
    // An exit and a trap of the last instruction there.
    let mut code = Asm::new(CODE);
    code.zero(0xffc);
    code.ld(A5, 0, A1);
    code.c_ebreak();
    probe.machine.write_code(CODE, code);
    probe.set(A1, 8);
    tables.map(&probe.machine, 0x1000, 0, crate::machine::DEVICE, ALL);
    probe.set(A1, 0x1008);
    let exit = probe.go(page + 0xffc, how);
    let addr = GuestPhysAddr::new(crate::machine::DEVICE + 8);
    let width = axvcpu::AccessWidth::Qword;
    assert_eq!(exit, Err(AxVCpuExitReason::MmioRead { addr, width }));
    probe.machine.vcpu.set_return_value(3).unwrap();
    let trap = probe.resume().unwrap();
    assert_eq!((trap.cause, trap.pc, probe.get(A5)), (3, 0, 3));
    probe.set(A1, 0x2000);
    let trap = probe.go(page + 0xffc, how).unwrap();
    assert_eq!((trap.cause, trap.value, trap.pc), (13, 0x2000, page + 0xffc));
    // A misaligned access around the end.
    probe.machine.write_u64(CODE + 0xff8, 0x1122_3344_0000_0000);
    probe.machine.write_u64(CODE + 0x1000, 0x5566_7788);
    assert_eq!(probe.access("ld", u64::MAX - 3, How::S).unwrap().cause, 3);
    assert_eq!(probe.get(A5), 0x5566_7788_1122_3344);
    probe.set(A3, 0x0102_0304_0506_0708);
    assert_eq!(probe.access("sd", u64::MAX - 3, How::S).unwrap().cause, 3);
    assert_eq!(probe.machine.read_u64(CODE + 0x1000), 0x0102_0304);
}

/// A handler that traps itself loops for ever, but the host stays in control, and nothing retires.
#[test]
fn a_trap_in_the_trap_handler_does_not_hang_the_host() {
    let broken: [fn(&Probe) -> u64; 3] = [
        |_| 0x1000_0000_0000, // nothing mapped: fetch page fault
        |probe| {
            probe.machine.write_u64(DATA, 0);
            DATA
        }, // an illegal instruction
        |probe| {
            probe.machine.write(DATA, &[0x02, 0x90]);
            DATA
        }, // a breakpoint
    ];
    for handler in broken {
        let probe = Probe::paged(SV39);
        let handler = handler(&probe);
        probe.set(T1, handler);
        let mut asm = Asm::new(CODE);
        asm.csrw(csrs::STVEC, T1);
        asm.word(0);
        probe.machine.write_code(CODE, asm);
        let before = probe.machine.instructions();
        for (register, value) in [(A0, CODE), (A4, 0), (S5, probe.satp.get()), (S6, SPP)] {
            probe.set(register, value);
        }
        for _ in 0..3 {
            assert_eq!(probe.machine.run(), AxVCpuExitReason::Nothing);
        }
        let retired = probe.machine.instructions() - before;
        assert!(retired < 40, "{retired}");
        let state = probe.machine.state();
        assert_eq!(state[64], handler, "the program counter");
    }
}

/// A trap in the middle of straight code has executed everything before it and nothing behind it.
#[test]
fn traps_are_precise() {
    let probe = Probe::paged(SV39);
    for place in 0..70 {
        let trap = probe.execute(
            |a| {
                a.li(T1, 0);
                a.li(A1, 0);
                for i in 0..70 {
                    if i == place {
                        a.ld(A5, 0, A1); // nothing mapped there
                    }
                    a.addi(T1, T1, 1);
                }
            },
            How::S,
        );
        let at = CODE + 8 + 4 * place;
        assert_eq!(trap.unwrap().pc, at);
        assert_eq!(probe.get(T1), place);
        let Trap { cause, value, .. } = trap.unwrap();
        assert_eq!((cause, value), (13, 0));
    }
}
