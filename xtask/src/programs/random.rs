//! Random programs: every instruction of RV64GC that user code may execute, on
//! registers full of the values arithmetic goes wrong at.

use super::asm::{EBREAK, addi, b, cond, csr, csr_op, i, jal, op, r, reg, s, u};
use super::runtime::SCRATCH_SIZE;

/// A small, fixed generator (xorshift64*): the programs are the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // The state must not be zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.next() >> 32) as u32 % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }
}

/// One program: initial registers and steps, each a few instructions that make
/// sense only together.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) x: [u64; 32],
    pub(crate) f: [u64; 32],
    pub(crate) steps: Vec<Vec<u8>>,
}

impl Program {
    pub(crate) fn random(random: &mut Random, steps: usize) -> Self {
        Self {
            x: std::array::from_fn(|_| integer(random)),
            f: std::array::from_fn(|_| float(random)),
            steps: (0..steps).map(|_| step(random)).collect(),
        }
    }

    /// The same program without its last steps.
    pub(crate) fn first(&self, steps: usize) -> Self {
        Self { steps: self.steps[..steps].to_vec(), ..self.clone() }
    }
}

fn integer(random: &mut Random) -> u64 {
    const EDGES: [u64; 12] = [
        0,
        1,
        u64::MAX,
        i64::MIN as u64,
        i64::MAX as u64,
        0x8000_0000,
        0x7fff_ffff,
        0xffff_ffff_8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        63,
        0x0123_4567_89ab_cdef,
    ];
    match random.below(3) {
        0 => random.pick(&EDGES),
        1 => random.next() >> random.below(64),
        _ => random.next(),
    }
}

fn float(random: &mut Random) -> u64 {
    // Zero, smallest and largest subnormal, smallest and largest normal, one,
    // infinity, quiet and signalling NaN; of both widths.
    const DOUBLES: [u64; 10] = [
        0,
        1,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x7fef_ffff_ffff_ffff,
        0x3ff0_0000_0000_0000,
        0x7ff0_0000_0000_0000,
        0x7ff8_0000_0000_0001,
        0x7ff0_0000_0000_0001,
        0x41df_ffff_ffff_ffff,
    ];
    const SINGLES: [u32; 10] = [
        0,
        1,
        0x007f_ffff,
        0x0080_0000,
        0x7f7f_ffff,
        0x3f80_0000,
        0x7f80_0000,
        0x7fc0_0001,
        0x7f80_0001,
        0x4f00_0000,
    ];
    // A single in a wider register has all upper bits set (unprivileged ISA
    // manual, "NaN Boxing of Narrower Values").
    const BOX: u64 = 0xffff_ffff_0000_0000;
    let sign = random.below(2);
    match random.below(6) {
        0 => random.pick(&DOUBLES) | u64::from(sign) << 63,
        1 => BOX | u64::from(random.pick(&SINGLES) | sign << 31),
        2 => BOX | random.next() >> 32,
        // Around one, where results are neither huge nor tiny.
        3 => (0x3ff - 32 + u64::from(random.below(64))) << 52 | random.next() >> 12,
        4 => BOX | u64::from((127 - 16 + random.below(32)) << 23) | random.next() >> 41,
        _ => random.next(),
    }
}

/// A register a program may change: not the ones that hold its addresses.
fn target(random: &mut Random) -> u32 {
    loop {
        let register = random.below(32);
        if register != reg::SP && register != reg::GP {
            return register;
        }
    }
}

/// `N` different registers that hold values.
fn targets<const N: usize>(random: &mut Random) -> [u32; N] {
    let mut chosen = [reg::ZERO; N];
    for index in 0..N {
        chosen[index] = loop {
            let register = target(random);
            if register != reg::ZERO && !chosen[..index].contains(&register) {
                break register;
            }
        };
    }
    chosen
}

/// Any register: reading the ones that hold addresses does no harm.
fn source(random: &mut Random) -> u32 {
    random.below(32)
}

/// An offset into the scratch memory, aligned for an access of `size` bytes.
fn offset(random: &mut Random, size: i32) -> i32 {
    random.below((SCRATCH_SIZE / size) as u32) as i32 * size
}

fn immediate(random: &mut Random) -> i32 {
    match random.below(3) {
        0 => random.pick(&[0, 1, -1, 2047, -2048]),
        _ => random.below(4096) as i32 - 2048,
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn halves(halves: &[u32]) -> Vec<u8> {
    halves.iter().flat_map(|half| (*half as u16).to_le_bytes()).collect()
}

fn step(random: &mut Random) -> Vec<u8> {
    match random.below(16) {
        0..4 => bytes(&[arithmetic(random)]),
        4..6 => bytes(&[memory(random)]),
        6 => atomic(random),
        7..11 => bytes(&[floating(random)]),
        11..14 => compressed(random),
        14 => control(random),
        _ => special(random),
    }
}

fn arithmetic(random: &mut Random) -> u32 {
    let (rd, rs1, rs2) = (target(random), source(random), source(random));
    let shift = random.below(64) as i32;
    match random.below(8) {
        // Unprivileged ISA manual, "Integer Register-Register Operations".
        0 | 1 => {
            let (f3, f7) = random.pick(&[
                (0, 0),
                (0, 0x20),
                (1, 0),
                (2, 0),
                (3, 0),
                (4, 0),
                (5, 0),
                (5, 0x20),
                (6, 0),
                (7, 0),
            ]);
            r(op::OP, f3, f7, rd, rs1, rs2)
        }
        // "M" Extension for Integer Multiplication and Division.
        2 => r(op::OP, random.below(8), 1, rd, rs1, rs2),
        3 => {
            let f3_f7 = [
                (0, 0),
                (0, 0x20),
                (1, 0),
                (5, 0),
                (5, 0x20),
                (0, 1),
                (4, 1),
                (5, 1),
                (6, 1),
                (7, 1),
            ];
            let (f3, f7) = random.pick(&f3_f7);
            r(op::OP_32, f3, f7, rd, rs1, rs2)
        }
        4 => i(op::IMM, random.pick(&[0, 2, 3, 4, 6, 7]), rd, rs1, immediate(random)),
        5 => {
            let (f3, high) = random.pick(&[(1, 0), (5, 0), (5, 0x400)]);
            i(op::IMM, f3, rd, rs1, shift | high)
        }
        6 => match random.below(2) {
            0 => i(op::IMM_32, 0, rd, rs1, immediate(random)),
            _ => {
                let (f3, high) = random.pick(&[(1, 0), (5, 0), (5, 0x400)]);
                i(op::IMM_32, f3, rd, rs1, shift & 31 | high)
            }
        },
        _ => u(random.pick(&[op::LUI, op::AUIPC]), rd, random.below(1 << 20) as i32),
    }
}

fn memory(random: &mut Random) -> u32 {
    let rd = target(random);
    let register = source(random);
    match random.below(4) {
        0 | 1 => {
            let f3 = random.below(7);
            i(op::LOAD, f3, rd, reg::SP, offset(random, 1 << (f3 & 3)))
        }
        2 => {
            let f3 = random.below(4);
            s(op::STORE, f3, reg::SP, register, offset(random, 1 << f3))
        }
        _ => {
            let f3 = 2 + random.below(2);
            let offset = offset(random, 1 << f3);
            match random.below(2) {
                0 => i(op::LOAD_FP, f3, register, reg::SP, offset),
                _ => s(op::STORE_FP, f3, reg::SP, register, offset),
            }
        }
    }
}

fn atomic(random: &mut Random) -> Vec<u8> {
    let f3 = 2 + random.below(2);
    let ordering = random.below(4);
    let place = offset(random, 1 << f3);
    let amo = |f5: u32, rd, rs1, rs2| r(op::AMO, f3, f5 << 2 | ordering, rd, rs1, rs2);
    if random.below(3) > 0 {
        let [pointer] = targets(random);
        let f5 = random.pick(&[0, 1, 4, 8, 12, 16, 20, 24, 28]);
        let (rd, rs2) = (target(random), source(random));
        return bytes(&[addi(pointer, reg::SP, place), amo(f5, rd, pointer, rs2)]);
    }
    // A store-conditional may fail for no visible reason, so it is repeated; in
    // the end the result is the same everywhere. The loop keeps to what the
    // manual guarantees progress for ("Eventual Success of
    // Store-Conditional Instructions").
    let [pointer, old, new, failed] = targets(random);
    bytes(&[
        addi(pointer, reg::SP, place),
        amo(2, old, pointer, 0),
        addi(new, old, immediate(random)),
        amo(3, failed, pointer, new),
        b(cond::NE, failed, reg::ZERO, -12),
    ])
}

/// The "F" and "D" extensions.
fn floating(random: &mut Random) -> u32 {
    let format = random.below(2);
    let (rd, rs1, rs2, rs3) = (source(random), source(random), source(random), source(random));
    let mode = random.pick(&[0, 1, 2, 3, 4, 7, 7]);
    let fp = |f7: u32, f3: u32, rd: u32, rs2: u32| r(op::FP, f3, f7 | format, rd, rs1, rs2);
    match random.below(12) {
        0..3 => fp(random.pick(&[0x00, 0x04, 0x08, 0x0c]), mode, rd, rs2),
        3 => fp(0x2c, mode, rd, 0),
        4 => {
            let multiply_add = random.pick(&[0x43, 0x47, 0x4b, 0x4f]);
            rs3 << 27 | r(multiply_add, mode, format, rd, rs1, rs2)
        }
        5 => fp(0x10, random.below(3), rd, rs2),
        6 => fp(0x14, random.below(2), rd, rs2),
        7 => fp(0x50, random.below(3), target(random), rs2),
        // Between the widths: the source's format is the other one.
        8 => fp(0x20, mode, rd, 1 - format),
        9 => fp(0x60, mode, target(random), random.below(4)),
        10 => fp(0x68, mode, rd, random.below(4)),
        _ => match random.below(3) {
            0 => fp(0x70, 0, target(random), 0),
            1 => fp(0x70, 1, target(random), 0),
            _ => fp(0x78, 0, rd, 0),
        },
    }
}

/// The "C" extension; register fields of three bits mean `x8` to `x15`.
fn compressed(random: &mut Random) -> Vec<u8> {
    let rd = loop {
        let register = target(random);
        if register != reg::ZERO {
            break register;
        }
    };
    let rs2 = 1 + random.below(31);
    let (short, other) = (random.below(8), random.below(8));
    // Six bits, not zero, split as most formats do: bit 12 and bits 6..2.
    let six = 1 + random.below(63);
    let imm = (six >> 5) << 12 | (six & 31) << 2;
    let half = match random.below(14) {
        0 => 0x0001 | rd << 7 | imm,    // c.addi
        1 => 0x2001 | rd << 7 | imm,    // c.addiw
        2 => 0x4001 | rd << 7 | imm,    // c.li
        3 => 0x6001 | rd << 7 | imm,    // c.lui
        4 => 0x8001 | short << 7 | imm, // c.srli
        5 => 0x8401 | short << 7 | imm, // c.srai
        6 => 0x8801 | short << 7 | imm, // c.andi
        7 => {
            // c.sub c.xor c.or c.and c.subw c.addw
            let kind = random.pick(&[0x8c01, 0x8c21, 0x8c41, 0x8c61, 0x9c01, 0x9c21]);
            kind | short << 7 | other << 2
        }
        8 => 0x0002 | rd << 7 | imm,       // c.slli
        9 => 0x8002 | rd << 7 | rs2 << 2,  // c.mv
        10 => 0x9002 | rd << 7 | rs2 << 2, // c.add
        11 => {
            // c.addi4spn: bits 5:4|9:6|2|3 of the offset
            let value = 4 * (1 + random.below(255));
            let field = (value >> 4 & 3) << 11
                | (value >> 6 & 15) << 7
                | (value >> 2 & 1) << 6
                | (value >> 3 & 1) << 5;
            field | short << 2
        }
        12 => stack_access(random, rd, rs2),
        _ => return short_access(random, short, other),
    };
    halves(&[half])
}

/// Loads and stores relative to the stack pointer.
fn stack_access(random: &mut Random, rd: u32, rs2: u32) -> u32 {
    let word = offset(random, 4) as u32;
    let double = offset(random, 8) as u32;
    let load_word = (word >> 5 & 1) << 12 | (word >> 2 & 7) << 4 | (word >> 6 & 3) << 2;
    let load_double = (double >> 5 & 1) << 12 | (double >> 3 & 3) << 5 | (double >> 6 & 7) << 2;
    let store_word = (word >> 2 & 15) << 9 | (word >> 6 & 3) << 7;
    let store_double = (double >> 3 & 7) << 10 | (double >> 6 & 7) << 7;
    match random.below(6) {
        0 => 0x4002 | rd << 7 | load_word,     // c.lwsp
        1 => 0x6002 | rd << 7 | load_double,   // c.ldsp
        2 => 0x2002 | rd << 7 | load_double,   // c.fldsp
        3 => 0xc002 | rs2 << 2 | store_word,   // c.swsp
        4 => 0xe002 | rs2 << 2 | store_double, // c.sdsp
        _ => 0xa002 | rs2 << 2 | store_double, // c.fsdsp
    }
}

/// Loads and stores relative to one of the short registers, set up right before.
fn short_access(random: &mut Random, base: u32, register: u32) -> Vec<u8> {
    // Offsets reach 31 words or doublewords.
    let word = random.below(32) * 4;
    let double = random.below(32) * 8;
    let word_field = (word >> 3 & 7) << 10 | (word >> 2 & 1) << 6 | (word >> 6 & 1) << 5;
    let double_field = (double >> 3 & 7) << 10 | (double >> 6 & 3) << 5;
    let half = match random.below(6) {
        0 => 0x4000 | word_field,   // c.lw
        1 => 0x6000 | double_field, // c.ld
        2 => 0x2000 | double_field, // c.fld
        3 => 0xc000 | word_field,   // c.sw
        4 => 0xe000 | double_field, // c.sd
        _ => 0xa000 | double_field, // c.fsd
    };
    let mut step = bytes(&[addi(8 + base, reg::SP, 0)]);
    step.extend(halves(&[half | base << 7 | register << 2]));
    step
}

/// Branches and jumps, all forward over one instruction.
fn control(random: &mut Random) -> Vec<u8> {
    let (rs1, rs2) = (source(random), source(random));
    let skipped = arithmetic(random);
    let short = random.below(8);
    match random.below(6) {
        0 | 1 => bytes(&[b(random.pick(&[0, 1, 4, 5, 6, 7]), rs1, rs2, 8), skipped]),
        2 => bytes(&[jal(target(random), 8), skipped]),
        3 => {
            let [pointer] = targets(random);
            let rd = target(random);
            bytes(&[u(op::AUIPC, pointer, 0), i(op::JALR, 0, rd, pointer, 12), skipped])
        }
        // c.beqz, c.bnez and c.j with an offset of six bytes.
        kind => {
            let half = match (kind, random.below(2)) {
                (4, 0) => 0xc001 | short << 7 | 3 << 3,
                (4, _) => 0xe001 | short << 7 | 3 << 3,
                _ => 0xa001 | 3 << 3,
            };
            let mut step = halves(&[half]);
            step.extend(bytes(&[skipped]));
            step
        }
    }
}

/// Floating-point control, fences, and instructions that trap.
fn special(random: &mut Random) -> Vec<u8> {
    let rd = target(random);
    match random.below(10) {
        0..3 => {
            // A static rounding mode, so that most later steps do not trap.
            let mode = random.below(5);
            bytes(&[csr_op(5, rd, csr::FRM, mode)])
        }
        3 => bytes(&[csr_op(5 + random.below(3), rd, csr::FFLAGS, random.below(32))]),
        4 => bytes(&[csr_op(2, rd, csr::FCSR, 0)]),
        5 => {
            // A reserved rounding mode makes the next dynamic use illegal; then
            // back to a valid one.
            let mode = 5 + random.below(3);
            let use_it = r(op::FP, 7, 0, source(random), source(random), source(random));
            bytes(&[csr_op(5, rd, csr::FRM, mode), use_it, csr_op(5, reg::ZERO, csr::FRM, 0)])
        }
        // fence, fence.i, sfence.vma
        6 => bytes(&[random.pick(&[0x0ff0_000f, 0x0000_100f, 0x1200_0073])]),
        7 => bytes(&[EBREAK]),
        // c.ebreak; the all-zero halfword, which is defined to be illegal.
        8 => halves(&[random.pick(&[0x9002, 0x0000])]),
        // A machine-mode register, an unused opcode, and a reserved operation.
        _ => bytes(&[random.pick(&[
            csr_op(2, rd, 0x300, 0),
            0x0000_0077 | rd << 7,
            r(op::OP, 0, 0x7f, rd, 1, 1),
        ])]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_program() {
        let make = |seed| Program::random(&mut Random::new(seed), 50).steps;
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn steps_have_whole_instructions() {
        let mut random = Random::new(7);
        for _ in 0..5000 {
            let step = step(&mut random);
            let mut at = 0;
            while at < step.len() {
                let half = u16::from_le_bytes([step[at], step[at + 1]]);
                at += if half & 3 == 3 { 4 } else { 2 };
            }
            assert_eq!(at, step.len());
        }
    }

    #[test]
    fn a_shorter_program_is_a_prefix() {
        let program = Program::random(&mut Random::new(3), 20);
        let first = program.first(5);
        assert_eq!(first.steps, program.steps[..5]);
        assert_eq!(first.x, program.x);
    }
}
