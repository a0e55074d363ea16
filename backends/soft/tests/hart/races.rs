//! Guests whose memory changes at the very moment it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axvcpu::AxVCpuExitReason;
use axvcpu_riscv::asm::*;
use axvcpu_soft::Clock;

use crate::machine::{Machine, RAM, exit};
use crate::probe::DATA;

fn host_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Runs the machine's code on a thread of its own while `change` is called with 0, 1, 2, … Answers the `a0` of
/// the call that ends it. A vCPU that never comes back fails the test and does not hang it.
fn beside(machine: Machine, change: impl Fn(&Machine, u64)) -> u64 {
    let machine = Arc::new(machine);
    let (sender, receiver) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let vcpu = std::thread::spawn({
        let (machine, over) = (machine.clone(), over.clone());
        move || {
            let vcpu = machine.another(1, Clock::Host(host_ns), RAM);
            vcpu.bind().unwrap();
            let end = exit(&vcpu);
            over.store(true, Ordering::Relaxed);
            sender.send(end).unwrap();
            vcpu.unbind().unwrap();
        }
    });
    let patience = Instant::now() + Duration::from_secs(60);
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        change(&machine, round);
        round += 1;
        assert!(round % 1024 != 0 || Instant::now() < patience, "the vCPU does not come back");
    }
    vcpu.join().unwrap();
    match receiver.recv().unwrap() {
        AxVCpuExitReason::Hypercall { nr: 77, args, .. } => args[0],
        other => panic!("{other:x?}"),
    }
}

fn done(a: &mut Asm, code: i64) {
    a.li(A0, code);
    a.li(A7, 77);
    a.ecall();
}

/// A misaligned load may see some bytes old and some new, but none that was never there.
#[test]
fn misaligned_loads_see_bytes_that_were_written() {
    let mut a = Asm::new(RAM);
    a.li(A1, DATA as i64);
    a.li(A2, 0x5555_5555);
    a.li(T6, 10_000_000);
    let (top, bad) = (a.here_label(), a.label());
    a.lwu(T1, 1, A1);
    a.xor(T1, T1, A2);
    // Each byte is 0x55 or 0xaa: now all zeros or all ones.
    a.orc_b(T2, T1);
    a.bne(T1, T2, bad);
    a.addi(T6, T6, -1);
    a.bnez(T6, top);
    done(&mut a, 0);
    a.bind(bad);
    done(&mut a, 1);
    let machine = Machine::new(a);
    machine.write(DATA, &[0x55; 8]);
    let bad = beside(machine, |machine, round| {
        machine.write(DATA + 1, &[if round % 2 == 0 { 0xaa } else { 0x55 }; 4]);
    });
    assert_eq!(bad, 0, "a byte was read that nobody wrote");
}

/// The instruction at the end of a page is, in turn, all of it there and only one half of it.
#[test]
fn an_instruction_that_becomes_a_straddler() {
    const PAGE: u64 = DATA + 0x1000;
    let mut a = Asm::new(RAM);
    a.li(A1, PAGE as i64 - 2);
    a.li(T6, 500_000);
    let top = a.here_label();
    a.fence_i();
    a.jalr(RA, 0, A1);
    a.addi(T6, T6, -1);
    a.bnez(T6, top);
    done(&mut a, 5);
    let machine = Machine::new(a);
    // Either `c.srai a5, 1` (0x8785) and then `auipc zero`, or `addi a5, a5, 1` (0x0017_8793) and then `c.nop`.
    machine.write(PAGE - 2, &[0x85, 0x87, 0x17, 0x00, 0x01, 0x00, 0x82, 0x80]);
    let code = beside(machine, |machine, round| {
        machine.write(PAGE - 2, &[if round % 2 == 0 { 0x93 } else { 0x85 }]);
    });
    assert_eq!(code, 5);
}
