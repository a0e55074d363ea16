//! What every program here needs around it: setting up a hart, surviving traps,
//! printing its state and powering off, through SBI alone, so that the same bytes
//! run on any RISC-V machine.

use super::asm::{
    Assembler, ECALL, ENTRY, SRET, add, addi, cond, csr, csr_op, i, ld, op, r, reg, sb, sd, slli,
};
use super::random::Program;

/// Guest memory the programs work on, far behind their code.
const AREA: u64 = ENTRY + 0x0100_0000;

/// The area, as offsets from `gp`, which programs never change. Everything up
/// to [`DUMPED`] doublewords is printed.
mod at {
    /// `fcsr`, in the place of `x0`; then `x1` and so on.
    pub(super) const X: i32 = 0;
    pub(super) const F: i32 = 256;
    /// A hash of the causes and places of all traps.
    pub(super) const TRAPS: i32 = 512;
    /// The bytes that loads and stores work on; `sp` points here.
    pub(super) const SCRATCH: i32 = 520;
    /// Where the trap handler keeps what it changes.
    pub(super) const SAVED: i32 = 520 + super::SCRATCH_SIZE;
    pub(super) const TEXT: i32 = 1024;
}

/// Bytes of memory a program may load and store, from `sp` upwards.
pub(crate) const SCRATCH_SIZE: i32 = 256;

/// Doublewords printed after each program.
pub(crate) const DUMPED: usize = 64 + 1 + SCRATCH_SIZE as usize / 8;

const _: () = assert!(at::F == at::X + 256 && at::TRAPS == at::F + 256, "areas overlap");
const _: () = assert!(at::SCRATCH == at::TRAPS + 8 && at::SAVED + 24 <= at::TEXT);
const _: () = assert!((at::SCRATCH + SCRATCH_SIZE) as usize == DUMPED * 8);

/// Printed before the first program's state.
pub(crate) const BANNER: &str = "AXVCPU-PROGRAMS";

/// SBI extension and function numbers (SBI specification, chapters "Debug
/// Console", "System Reset" and "Legacy Extensions").
const SBI_DEBUG_CONSOLE: i32 = 0x4442_434e;
const SBI_SYSTEM_RESET: i32 = 0x5352_5354;
const SBI_LEGACY_SHUTDOWN: i32 = 8;

/// The name of the doubleword at `index` of a printed state.
pub(crate) fn name(index: usize) -> String {
    match index {
        0 => "fcsr".into(),
        1..32 => format!("x{index}"),
        32..64 => format!("f{}", index - 32),
        64 => "traps".into(),
        _ => format!("memory+{:#x}", (index - 65) * 8),
    }
}

/// The subroutines, once they have an address.
struct Routines {
    fill: u64,
    print: u64,
    stop: u64,
}

/// Puts `programs` into one guest that runs one after the other, prints the
/// state after each as a line of [`DUMPED`] hexadecimal doublewords, and powers
/// off.
pub(crate) fn guest(programs: &[Program]) -> Vec<u8> {
    let mut out = Assembler::default();
    let routines = begin(&mut out);
    for program in programs {
        one(&mut out, &routines, program);
    }
    out.jump(reg::ZERO, routines.stop);
    out.finish()
}

/// Code from the first instruction to the place where programs go.
fn begin(out: &mut Assembler) -> Routines {
    let entry = out.here();
    out.word(0);
    out.align(4);
    let handler = trap_handler(out);
    let fill = fill(out);
    let (print_text, stop) = print_text(out);
    let print = print_state(out, print_text);
    let banner = out.here();
    out.raw(format!("{BANNER}\n").as_bytes());
    out.align(4);

    out.patch_jump(entry, reg::ZERO);
    // sstatus.FS = Dirty: floating point is off at reset.
    out.constant(reg::T0, 0x6000);
    out.word(csr_op(2, reg::ZERO, csr::SSTATUS, reg::T0));
    out.address(reg::T0, handler);
    out.word(csr_op(1, reg::ZERO, csr::STVEC, reg::T0));
    out.address(reg::S0, banner);
    out.word(addi(reg::S1, reg::ZERO, BANNER.len() as i32 + 1));
    out.jump(reg::RA, print_text);
    Routines { fill, print, stop }
}

/// Adds cause and place of the trap to the hash and goes on behind the
/// instruction that caused it.
fn trap_handler(out: &mut Assembler) -> u64 {
    let here = out.here();
    let mix =
        [slli(reg::T2, reg::T1, 5), add(reg::T1, reg::T1, reg::T2), add(reg::T1, reg::T1, reg::T0)];
    for (index, register) in [reg::T0, reg::T1, reg::T2].into_iter().enumerate() {
        out.word(sd(register, reg::GP, at::SAVED + 8 * index as i32));
    }
    out.words(&[ld(reg::T1, reg::GP, at::TRAPS), csr_op(2, reg::T0, csr::SCAUSE, 0)]);
    out.words(&mix);
    out.word(csr_op(2, reg::T0, csr::SEPC, 0));
    out.words(&mix);
    out.words(&[
        sd(reg::T1, reg::GP, at::TRAPS),
        // An instruction whose two lowest bits are set has four bytes, any
        // other two.
        i(op::LOAD, 5, reg::T2, reg::T0, 0),
        i(op::IMM, 7, reg::T2, reg::T2, 3),
        i(op::IMM, 3, reg::T2, reg::T2, 3),
        slli(reg::T2, reg::T2, 1),
        addi(reg::T0, reg::T0, 4),
        r(op::OP, 0, 0x20, reg::T0, reg::T0, reg::T2),
        csr_op(1, reg::ZERO, csr::SEPC, reg::T0),
    ]);
    for (index, register) in [reg::T0, reg::T1, reg::T2].into_iter().enumerate() {
        out.word(ld(register, reg::GP, at::SAVED + 8 * index as i32));
    }
    out.word(SRET);
    here
}

/// Sets the memory of the next program to a fixed pattern.
fn fill(out: &mut Assembler) -> u64 {
    let here = out.here();
    out.words(&[
        sd(reg::ZERO, reg::GP, at::TRAPS),
        addi(reg::T0, reg::GP, at::SCRATCH),
        addi(reg::T1, reg::T0, SCRATCH_SIZE),
        addi(reg::T2, reg::ZERO, 1),
    ]);
    let again = out.here();
    out.words(&[
        slli(reg::S0, reg::T2, 7),
        add(reg::T2, reg::T2, reg::S0),
        i(op::IMM, 4, reg::T2, reg::T2, 0x5a5),
        sd(reg::T2, reg::T0, 0),
        addi(reg::T0, reg::T0, 8),
    ]);
    out.branch(cond::NE, reg::T0, reg::T1, again);
    out.word(i(op::JALR, 0, reg::ZERO, reg::RA, 0));
    here
}

/// Prints `s1` bytes at `s0`; and behind it, reached by itself or on an error,
/// the power-off.
fn print_text(out: &mut Assembler) -> (u64, u64) {
    let stop = out.here();
    out.constant(reg::A7, SBI_SYSTEM_RESET);
    // Shutdown, no reason; if that is not there, the legacy call.
    out.words(&[
        addi(reg::A6, reg::ZERO, 0),
        addi(reg::A0, reg::ZERO, 0),
        addi(reg::A1, reg::ZERO, 0),
        ECALL,
        addi(reg::A7, reg::ZERO, SBI_LEGACY_SHUTDOWN),
        ECALL,
    ]);
    out.jump(reg::ZERO, stop);

    let here = out.here();
    out.constant(reg::A7, SBI_DEBUG_CONSOLE);
    out.words(&[
        addi(reg::A6, reg::ZERO, 0),
        addi(reg::A0, reg::S1, 0),
        addi(reg::A1, reg::S0, 0),
        addi(reg::A2, reg::ZERO, 0),
        ECALL,
    ]);
    // Without a console nothing can be said: no output is what will be noticed.
    out.branch(cond::NE, reg::A0, reg::ZERO, stop);
    // The call may write less than it was asked to.
    out.words(&[add(reg::S0, reg::S0, reg::A1), r(op::OP, 0, 0x20, reg::S1, reg::S1, reg::A1)]);
    out.branch(cond::NE, reg::S1, reg::ZERO, here);
    out.word(i(op::JALR, 0, reg::ZERO, reg::RA, 0));
    (here, stop)
}

/// Prints the state as a line of hexadecimal numbers.
fn print_state(out: &mut Assembler, print_text: u64) -> u64 {
    let here = out.here();
    out.words(&[
        addi(reg::T0, reg::GP, 0),
        addi(reg::S0, reg::GP, at::TEXT),
        addi(reg::S1, reg::S0, 0),
        addi(reg::T1, reg::ZERO, DUMPED as i32),
    ]);
    let doubleword = out.here();
    out.words(&[ld(reg::T2, reg::T0, 0), addi(reg::A0, reg::ZERO, 60)]);
    let digit = out.here();
    out.words(&[
        r(op::OP, 5, 0, reg::A1, reg::T2, reg::A0),
        i(op::IMM, 7, reg::A1, reg::A1, 15),
        i(op::IMM, 3, reg::A2, reg::A1, 10),
        addi(reg::A1, reg::A1, i32::from(b'a') - 10),
    ]);
    let skip = out.here() + 8;
    out.branch(cond::EQ, reg::A2, reg::ZERO, skip);
    out.words(&[
        addi(reg::A1, reg::A1, i32::from(b'0') - i32::from(b'a') + 10),
        sb(reg::A1, reg::S1, 0),
        addi(reg::S1, reg::S1, 1),
        addi(reg::A0, reg::A0, -4),
    ]);
    out.branch(cond::GE, reg::A0, reg::ZERO, digit);
    out.words(&[
        addi(reg::A1, reg::ZERO, i32::from(b' ')),
        sb(reg::A1, reg::S1, 0),
        addi(reg::S1, reg::S1, 1),
        addi(reg::T0, reg::T0, 8),
        addi(reg::T1, reg::T1, -1),
    ]);
    out.branch(cond::NE, reg::T1, reg::ZERO, doubleword);
    out.words(&[
        addi(reg::A1, reg::ZERO, i32::from(b'\n')),
        sb(reg::A1, reg::S1, -1),
        r(op::OP, 0, 0x20, reg::S1, reg::S1, reg::S0),
    ]);
    // It returns to our caller.
    out.jump(reg::ZERO, print_text);
    here
}

/// One program: its registers are loaded, it runs, its state is printed.
fn one(out: &mut Assembler, routines: &Routines, program: &Program) {
    let skip = out.here();
    out.word(0);
    out.align(8);
    let table = out.here();
    for value in program.x.iter().chain(&program.f) {
        out.raw(&value.to_le_bytes());
    }
    out.patch_jump(skip, reg::ZERO);

    out.address(reg::GP, AREA);
    out.jump(reg::RA, routines.fill);
    out.word(addi(reg::SP, reg::GP, at::SCRATCH));
    out.word(csr_op(1, reg::ZERO, csr::FCSR, reg::ZERO));
    out.address(reg::T6, table);
    for register in 0..32 {
        out.word(i(op::LOAD_FP, 3, register, reg::T6, 256 + 8 * register as i32));
    }
    for register in own_registers() {
        out.word(ld(register, reg::T6, 8 * register as i32));
    }

    for step in &program.steps {
        out.raw(step);
    }

    for register in own_registers() {
        out.word(sd(register, reg::GP, at::X + 8 * register as i32));
    }
    for register in 0..32 {
        let offset = at::F + 8 * register as i32;
        out.word(super::asm::s(op::STORE_FP, 3, reg::GP, register, offset));
    }
    out.word(csr_op(2, reg::T0, csr::FCSR, 0));
    out.word(sd(reg::T0, reg::GP, at::X));
    out.jump(reg::RA, routines.print);
}

/// The registers a program may change; the last is also the one that points to
/// the table of values.
fn own_registers() -> impl Iterator<Item = u32> {
    [reg::RA].into_iter().chain(4..32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Random;

    #[test]
    fn a_guest_stays_below_its_area() {
        let mut random = Random::new(1);
        let programs: Vec<_> = (0..400).map(|_| Program::random(&mut random, 40)).collect();
        assert!((guest(&programs).len() as u64) < AREA - ENTRY);
    }

    #[test]
    fn every_doubleword_has_a_name_of_its_own() {
        let mut names: Vec<_> = (0..DUMPED).map(name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), DUMPED);
    }
}
