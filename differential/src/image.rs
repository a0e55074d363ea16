//! The driver that runs one program after another, and the image that holds it and them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use axvcpu_riscv::asm::{csrs, *};

use crate::layout;
use crate::program::Program;

/// Linux's `write`, which with [`EXIT`] is all the system calls there are.
pub const WRITE: u64 = 64;
/// Linux's `exit`.
pub const EXIT: u64 = 93;

/// What a batch of programs looks like in memory.
pub struct Image {
    /// The bytes from [`layout::BASE`] on.
    pub bytes: Vec<u8>,
    /// Where a Linux process starts, in U-mode with everything ready.
    pub user_entry: u64,
    /// Where a hart starts that is in S-mode and has nothing ready.
    pub supervisor_entry: u64,
}

/// Everything the driver needs to know about one program.
struct Blob {
    code: Vec<u8>,
    state: Vec<u8>,
}

impl Blob {
    fn new(program: &Program) -> Result<Self, String> {
        let mut code = program.code()?;
        if code.len() as u64 > layout::CODE_SIZE - 8 {
            return Err(format!("the program has {} bytes of code; make it shorter", code.len()));
        }
        // Back to the driver: the fuel register is the only one whose value nobody needs any more.
        code.extend_from_slice(&exit_code().map_err(|error| error.to_string())?);
        code.resize(code.len().next_multiple_of(8), 0);
        let mut state = program.data.clone();
        state.resize(layout::DATA_SIZE as usize, 0);
        let registers = program.x.iter().chain(&program.f).chain([&program.fcsr]);
        state.extend(registers.flat_map(|value| value.to_le_bytes()));
        Ok(Self { code, state })
    }
}

/// The jump at a program's end: to the second instruction slot of the driver.
fn exit_code() -> Result<Vec<u8>, AsmError> {
    let mut a = Asm::new(0);
    a.lui(T6, (layout::BASE >> 12) as u32);
    // `lui` sign-extends and the address has bit 31 set.
    a.slli(T6, T6, 32);
    a.srli(T6, T6, 32);
    a.jalr(ZERO, RETURN as i32, T6);
    a.finish()
}

/// Offsets of the driver's doors.
const START: u64 = 0;
const RETURN: u64 = 4;
const SUPERVISOR: u64 = 8;

/// Writes the driver and `programs` into one image.
///
/// # Errors
///
/// When one of them cannot be encoded, or they do not fit.
pub fn build(programs: &[Program]) -> Result<Image, String> {
    let blobs = programs
        .iter()
        .map(|program| {
            Blob::new(program).map_err(|error| format!("seed {}: {error}", program.seed))
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut bytes = driver().map_err(|error| error.to_string())?;
    if bytes.len() as u64 > layout::CODE - layout::BASE {
        return Err("the driver has outgrown its place".to_string());
    }
    bytes.resize((layout::PROGRAMS - layout::BASE) as usize, 0);
    // The index: size of the code, then code, then state; a size of 0 ends it.
    for blob in &blobs {
        bytes.extend_from_slice(&(blob.code.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&blob.code);
        bytes.extend_from_slice(&blob.state);
    }
    bytes.extend_from_slice(&0u64.to_le_bytes());
    if bytes.len() as u64 > layout::END - layout::BASE {
        return Err(format!("{} programs do not fit into one image", programs.len()));
    }
    Ok(Image {
        bytes,
        user_entry: layout::BASE + START,
        supervisor_entry: layout::BASE + SUPERVISOR,
    })
}

/// Loads all registers from, or stores them to, the area at [`layout::REGISTERS`], which `T6` points to.
fn registers(
    a: &mut Asm,
    mut x: impl FnMut(&mut Asm, X, i32),
    mut f: impl FnMut(&mut Asm, F, i32),
) {
    for number in 0..32 {
        if let Some(register) = F::new(number) {
            f(a, register, 8 * (31 + i32::from(number)));
        }
    }
    for number in 1..31 {
        if let Some(register) = X::new(number) {
            x(a, register, 8 * (i32::from(number) - 1));
        }
    }
}

const FCSR_OFFSET: i32 = 8 * 63;

/// The code at [`layout::BASE`].
fn driver() -> Result<Vec<u8>, AsmError> {
    let a = &mut Asm::new(layout::BASE);
    let (start, next, back, supervisor) = (a.label(), a.label(), a.label(), a.label());
    let (cursor, done) = (a.label(), a.label());
    a.j(start);
    a.j(back);
    a.j(supervisor);

    // A hart in S-mode: floating point on (FS = initial; privileged manual, "Extension Context Status").
    a.bind(supervisor);
    a.li(T0, 1 << 13);
    a.csrrs(ZERO, csrs::SSTATUS, T0);

    a.bind(start);
    a.li(S0, layout::PROGRAMS as i64);

    a.bind(next); // S0: the next program
    a.ld(T0, 0, S0);
    a.beqz(T0, done);
    a.addi(S0, S0, 8);
    a.li(T1, layout::CODE as i64);
    copy(a, S0, T1, T0);
    a.fence_i();
    a.li(T0, layout::RESULT_SIZE as i64);
    a.li(T1, layout::RESULT as i64);
    copy(a, S0, T1, T0);
    a.la(T0, cursor);
    a.sd(S0, 0, T0);
    // No reservation is left over from the program before, whether this succeeds or not.
    a.addi(T0, T0, 8);
    a.sc_d(T1, ZERO, T0, Order::Relaxed);

    a.li(T6, layout::REGISTERS as i64);
    a.ld(T0, FCSR_OFFSET, T6);
    a.csrw(csrs::FCSR, T0);
    registers(a, |a, x, at| a.ld(x, at, T6), |a, f, at| a.fld(f, at, T6));
    a.ld(T6, 8 * 30, T6);
    let program = a.label();
    // A plain jump, because every register has its value now.
    a.j(program);

    a.bind(back);
    a.li(T6, layout::REGISTERS as i64);
    registers(a, |a, x, at| a.sd(x, at, T6), |a, f, at| a.fsd(f, at, T6));
    a.csrr(T0, csrs::FCSR);
    a.sd(T0, FCSR_OFFSET, T6);
    a.li(A0, 1);
    a.li(A1, layout::RESULT as i64);
    a.li(A2, layout::RESULT_SIZE as i64);
    a.li(A7, WRITE as i64);
    a.ecall();
    a.la(T0, cursor);
    a.ld(S0, 0, T0);
    a.j(next);

    a.bind(done);
    a.li(A0, 0);
    a.li(A7, EXIT as i64);
    a.ecall();

    a.align(8);
    a.bind(cursor);
    a.quad(0);
    a.quad(0); // the doomed SC's

    let gap = layout::CODE - a.here();
    a.zero(gap as usize);
    a.bind(program);
    core::mem::replace(a, Asm::new(0)).finish()
}

/// Copies `T0` bytes, a multiple of 8 and not 0, and leaves `from` behind them.
fn copy(a: &mut Asm, from: X, to: X, count: X) {
    let again = a.here_label();
    a.ld(T2, 0, from);
    a.sd(T2, 0, to);
    a.addi(from, from, 8);
    a.addi(to, to, 8);
    a.addi(count, count, -8);
    a.bnez(count, again);
}
