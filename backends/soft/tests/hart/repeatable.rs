//! The same run twice, and the same computation however it is cut into pieces.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axvcpu::AxVCpuExitReason;
use axvcpu_riscv::asm::*;
use axvcpu_soft::Clock;

use crate::machine::{AtTheEnd, DEVICE, Machine, RAM, Random};
use crate::probe::DATA;

/// A guest with a timer interrupt every 20 µs, in the midst of arithmetic, atomics, device accesses and waiting.
fn busy_guest() -> Asm {
    let mut a = Asm::new(RAM);
    let (handler, go) = (a.label(), a.label());
    a.j(go);
    a.align(4);
    a.bind(handler);
    a.csrr(S2, csrs::TIME);
    a.addi(S2, S2, 200);
    a.csrw(csrs::STIMECMP, S2);
    a.addi(S3, S3, 1);
    a.csrr(S4, csrs::SEPC);
    a.xor(S5, S5, S4); // where each of them came
    a.slli(S6, S5, 7);
    a.add(S5, S5, S6);
    a.sret();
    a.bind(go);
    a.la(T0, handler);
    a.csrw(csrs::STVEC, T0);
    a.li(T0, 1 << 5);
    a.csrw(csrs::SIE, T0);
    a.csrr(T0, csrs::TIME);
    a.addi(T0, T0, 300);
    a.csrw(csrs::STIMECMP, T0);
    a.li(T0, 1 << 13);
    a.csrw(csrs::SSTATUS, T0);
    a.csrrsi(ZERO, csrs::SSTATUS, 2);
    a.li(A1, DATA as i64);
    a.li(A2, DEVICE as i64);
    a.li(S7, 60);
    let outer = a.here_label();
    a.li(T1, 3000);
    let top = a.here_label();
    compute(&mut a);
    a.addi(T1, T1, -1);
    a.bnez(T1, top);
    a.lw(T2, 0, A2);
    a.add(A0, A0, T2);
    a.sw(A0, 4, A2);
    a.wfi();
    a.addi(S7, S7, -1);
    a.bnez(S7, outer);
    a.li(A7, 77);
    a.ecall();
    a
}

/// A step of a computation on `a0`, on floating-point registers and on memory at `a1`.
fn compute(a: &mut Asm) {
    a.slli(T3, A0, 13);
    a.xor(A0, A0, T3);
    a.srli(T3, A0, 7);
    a.xor(A0, A0, T3);
    a.addi(A0, A0, 0x55);
    a.andi(T4, A0, 0x7f8);
    a.add(T4, T4, A1);
    a.amoadd_d(T5, A0, T4, Order::Relaxed);
    a.ld(T6, 8, T4);
    a.mulhu(T5, T5, T6);
    a.sh(T5, 3, T4);
    a.fcvt_d_lu(FT0, T5, Rounding::Dyn);
    a.fmadd_d(FT1, FT1, FT0, FT0, Rounding::Rtz);
}

/// An exit, the time and the instructions until then.
type Event = (AxVCpuExitReason, u64, u64);

/// Runs the guest; answers what happened, and registers and memory at the end.
fn record() -> (Vec<Event>, Vec<u64>, Vec<u8>) {
    let machine = Machine::new(busy_guest());
    let clock = machine.clock.clone().unwrap();
    let mut log = vec![];
    loop {
        let exit = machine.run();
        if exit == AxVCpuExitReason::Nothing {
            continue;
        }
        log.push((exit, clock.now_ns(), machine.instructions()));
        match exit {
            AxVCpuExitReason::MmioRead { .. } => {
                machine.vcpu.set_return_value(log.len() as u64 * 0x9e37).unwrap();
            }
            AxVCpuExitReason::Halt { wake_after_ns: Some(ns) } => {
                clock.advance_to_ns(clock.now_ns() + ns);
                machine.vcpu.wake();
            }
            AxVCpuExitReason::Halt { .. } | AxVCpuExitReason::MmioWrite { .. } => {
                machine.vcpu.wake()
            }
            AxVCpuExitReason::Hypercall { nr: 77, .. } => break,
            exit => panic!("{exit:?}"),
        }
    }
    (log, machine.state(), machine.read(DATA, 0x1000))
}

#[test]
fn two_runs_are_the_same() {
    let first = record();
    assert!(first.0.len() > 150 && first.1[19] > 50, "{} exits", first.0.len());
    assert_eq!(first, record());
}

/// A pure computation, with nothing to see of time.
fn pure_guest() -> Asm {
    let mut a = Asm::new(RAM);
    a.li(T0, 1 << 13);
    a.csrw(csrs::SSTATUS, T0);
    a.li(A1, DATA as i64);
    a.li(T1, 300_000);
    let (top, other) = (a.here_label(), a.label());
    compute(&mut a);
    a.andi(T2, A0, 1);
    a.beqz(T2, other);
    a.addi(S8, S8, 1);
    a.bind(other);
    a.addi(T1, T1, -1);
    a.bnez(T1, top);
    a.li(A7, 77);
    a.ecall();
    a
}

/// Kicks at any moment, fences and other requests: they show nowhere in the result.
#[test]
fn interruptions_leave_no_trace() {
    let finish = |machine: &Machine| {
        let mut interrupted = 0;
        loop {
            match machine.run() {
                AxVCpuExitReason::Nothing => interrupted += 1,
                AxVCpuExitReason::Hypercall { nr: 77, .. } => break,
                exit => panic!("{exit:?}"),
            }
        }
        (machine.state(), machine.read(DATA, 0x1000), interrupted)
    };
    let start = Instant::now();
    let undisturbed = finish(&Machine::with_clock(pure_guest(), Clock::Host(|| 0)));
    let whole = start.elapsed();
    assert_eq!(undisturbed.2, 0);
    let by_instructions = finish(&Machine::new(pure_guest()));
    assert_eq!((&by_instructions.0, &by_instructions.1), (&undisturbed.0, &undisturbed.1));
    let mut interrupted = 0;
    for seed in 1..50 {
        if interrupted > 20 {
            break;
        }
        let machine = Machine::with_clock(pure_guest(), Clock::Host(|| 0));
        let over = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let random = &mut Random(seed);
                while !over.load(Ordering::Relaxed) {
                    let pause = random.below(whole.as_nanos() as u64 / 40 + 1);
                    std::thread::sleep(Duration::from_nanos(pause));
                    match random.below(4) {
                        0 => machine.vcpu.request_fence(axvcpu::Fence::all()),
                        1 => machine.vcpu.wake(),
                        _ => machine.vcpu.kick(),
                    }
                }
            });
            let _over = AtTheEnd(&over);
            finish(&machine)
        });
        assert_eq!((&result.0, &result.1), (&undisturbed.0, &undisturbed.1), "seed {seed}");
        interrupted += result.2;
    }
    assert!(interrupted > 20, "hardly interrupted at all: {interrupted}");
}

/// Kicks of the instruction clock's run shift where it comes back, but neither its time nor its result.
#[test]
fn kicks_do_not_change_a_repeatable_computation() {
    let machine = Machine::new(pure_guest());
    machine.until(77);
    let expected = (machine.state(), machine.clock.as_ref().unwrap().now_ns());
    let random = &mut Random(3);
    let machine = Machine::new(pure_guest());
    loop {
        if random.below(2) == 0 {
            machine.vcpu.kick();
        }
        if random.below(3) == 0 {
            machine.vcpu.request_fence(axvcpu::Fence::all());
        }
        match machine.run() {
            AxVCpuExitReason::Nothing => {}
            AxVCpuExitReason::Hypercall { nr: 77, .. } => break,
            exit => panic!("{exit:?}"),
        }
    }
    assert_eq!((machine.state(), machine.clock.as_ref().unwrap().now_ns()), expected);
}
