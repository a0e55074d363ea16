//! Cases that only this architecture has.

use axvcpu::AxVCpuExitReason;
use axvcpu_conformance::Failure;
use axvcpu_conformance::generic::{
    Architecture, Bench, Hart, Instructions, Isa, NamedCase, Reg, Verdict, pattern,
};
use axvcpu_toy::isa::{REGISTERS, cause, op};

use crate::Backend;
use crate::guests::{BASE, Toy, Trap};

pub(crate) const CASES: [NamedCase<Backend>; 4] = [
    ("start: registers are 0, and interrupts are off", start),
    ("call: number, arguments and result", call),
    ("trap: instructions that do not exist", illegal),
    ("trap: accesses that are not aligned", misaligned),
];

fn expect<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: expected {expected:x?}, found {found:x?}")).into())
}

/// Runs to a trap, and behind its instruction.
fn expect_trap(hart: &Hart<Backend, Toy>, cause: u64, value: u64) -> Verdict {
    let trap = hart.trap()?;
    expect("the trap", trap, Trap { cause, value, ..trap })?;
    Toy::step_over(&hart.vcpu, &trap)
}

fn start(subject: &Backend) -> Verdict {
    let mut bench = Bench::<_, Toy>::empty(subject)?;
    bench.space.fill(Toy::CODE, &Toy::store_registers()?)?;
    bench.add_hart(subject, 0)?;
    let hart = bench.hart();
    hart.vcpu.set_gpr(BASE, Toy::DATA)?;
    hart.vcpu.inject_interrupt(1)?; // would lead to address 0
    hart.vcpu.bind()?;
    hart.end()?;
    for register in (0..REGISTERS).filter(|&register| register != BASE) {
        let found = bench.space.read(Toy::DATA + 8 * register as u64)?;
        expect(&format!("register {register}"), found, 0)?;
    }
    Ok(())
}

fn call(subject: &Backend) -> Verdict {
    const NUMBER: u16 = 0xabcd;
    let bench = Bench::<_, Toy>::boot(subject, |g| {
        for register in 1..=6 {
            g.load_number(register, pattern(register as u64));
        }
        g.put(op::HOST, 0, 0, NUMBER);
        g.copy(Toy::gpr(Reg::A), 1);
        g.report(Reg::A);
    })?;
    let args = core::array::from_fn(|index| pattern(index as u64 + 1));
    let expected = AxVCpuExitReason::Hypercall { nr: NUMBER.into(), function: 0, args };
    expect("the exit", bench.hart().run()?, expected)?;
    bench.vcpu().set_return_value(pattern(7))?;
    expect("the result", bench.hart().report()?, pattern(7))
}

fn illegal(subject: &Backend) -> Verdict {
    // No operation at all, operations behind the last, and a system register and a width that there is not.
    let words =
        [0, op::RETURN + 1, 0xff, op::READ | 7 << 16, op::WRITE | 7 << 16, op::LOAD | 4 << 28];
    let bench =
        Bench::<_, Toy>::boot(subject, |g| words.into_iter().for_each(|word| g.word(word)))?;
    for word in words {
        expect_trap(bench.hart(), cause::ILLEGAL, word.into())?;
    }
    bench.hart().end()
}

fn misaligned(subject: &Backend) -> Verdict {
    use axvcpu::AccessWidth::{Dword, Qword, Word};
    // Where there is memory, and where there is none.
    let accesses = [(Word, 1), (Dword, 2), (Qword, 4)];
    let places = [Toy::DATA, Toy::DEVICE];
    let bench = Bench::<_, Toy>::boot(subject, |g| {
        for place in places {
            g.set(Reg::B, place);
            for (width, offset) in accesses {
                g.load(Reg::A, width, Reg::B, offset);
                g.store(Reg::A, width, Reg::B, offset);
            }
        }
    })?;
    for place in places {
        for (_, offset) in accesses {
            expect_trap(bench.hart(), cause::MISALIGNED, place + offset)?;
            expect_trap(bench.hart(), cause::MISALIGNED, place + offset)?;
        }
    }
    bench.hart().end()
}
