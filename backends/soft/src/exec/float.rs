//! Floating point: F and D. What the operations compute is in [`crate::fp`]; here is where operands come from
//! and results go.
//!
//! The immediate holds the `rm` field in its low three bits and, for fused operations, `rs3` above them.

use axvcpu_riscv::csr::sstatus;

use super::op::{Cursor, Op, R, Stop};
use super::{illegal, step};
use crate::fp::{self, Format, Integer, Rounding};
use crate::hart::Hart;

/// The rounding mode of the instruction, or of `frm` where it says so; `None` where that is reserved.
#[inline]
fn rounding(h: &Hart, op: &Op) -> Option<Rounding> {
    match op.imm as u8 & 7 {
        7 => Rounding::from_bits(h.csr.frm),
        fixed => Rounding::from_bits(fixed),
    }
}

#[inline]
fn get<F: Format>(h: &Hart, r: R) -> F::Bits {
    fp::nan_unbox::<F>(h.getf(r))
}

#[inline]
fn set<F: Format>(h: &mut Hart, r: R, value: F::Bits) {
    h.setf(r, fp::nan_box::<F>(value));
}

/// Runs `f` on the accrued exceptions.
#[inline]
fn with_flags<T>(h: &mut Hart, f: impl FnOnce(&mut u8) -> T) -> T {
    let mut flags = h.csr.fflags;
    let result = f(&mut flags);
    if flags != h.csr.fflags {
        h.csr.fflags = flags;
        h.csr.sstatus |= sstatus::FS;
    }
    result
}

/// Handlers whose body gets the hart and the op, with floating point known to be on.
macro_rules! handlers {
    ($($name:ident<$($param:ident: $bound:ident),+>($h:ident, $op:ident) $body:block)*) => {$(
        pub(super) fn $name<$($param: $bound),+>($h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
            if !$h.csr.fp_on() {
                return illegal($h, c, pc, left);
            }
            let $op = c.op();
            $body
            step($h, c, pc, left)
        }
    )*};
}

/// The same, with a rounding mode known to be valid.
macro_rules! rounding_handlers {
    ($($name:ident<$($param:ident: $bound:ident),+>($h:ident, $op:ident, $rm:ident) $body:block)*) => {$(
        pub(super) fn $name<$($param: $bound),+>($h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
            let $op = c.op();
            let Some($rm) = rounding($h, $op).filter(|_| $h.csr.fp_on()) else {
                return illegal($h, c, pc, left);
            };
            $body
            step($h, c, pc, left)
        }
    )*};
}

macro_rules! rounded_binary {
    ($($name:ident)*) => { rounding_handlers! {$(
        $name<F: Format>(h, op, rm) {
            let (a, b) = (get::<F>(h, op.rs1), get::<F>(h, op.rs2));
            let result = with_flags(h, |flags| fp::$name::<F>(a, b, rm, flags));
            set::<F>(h, op.rd, result);
        }
    )*} };
}
rounded_binary! { add sub mul div }

macro_rules! fused {
    ($($name:ident)*) => { rounding_handlers! {$(
        $name<F: Format>(h, op, rm) {
            let (a, b) = (get::<F>(h, op.rs1), get::<F>(h, op.rs2));
            let c = get::<F>(h, R::src(op.imm as u32 >> 3));
            let result = with_flags(h, |flags| fp::$name::<F>(a, b, c, rm, flags));
            set::<F>(h, op.rd, result);
        }
    )*} };
}
fused! { fmadd fmsub fnmsub fnmadd }

macro_rules! signs {
    ($($name:ident)*) => { handlers! {$(
        $name<F: Format>(h, op) {
            let (a, b) = (get::<F>(h, op.rs1), get::<F>(h, op.rs2));
            set::<F>(h, op.rd, fp::$name::<F>(a, b));
        }
    )*} };
}
signs! { sgnj sgnjn sgnjx }

macro_rules! choices {
    ($($name:ident)*) => { handlers! {$(
        $name<F: Format>(h, op) {
            let (a, b) = (get::<F>(h, op.rs1), get::<F>(h, op.rs2));
            let result = with_flags(h, |flags| fp::$name::<F>(a, b, flags));
            set::<F>(h, op.rd, result);
        }
    )*} };
}
choices! { min max }

macro_rules! comparisons {
    ($($name:ident)*) => { handlers! {$(
        $name<F: Format>(h, op) {
            let (a, b) = (get::<F>(h, op.rs1), get::<F>(h, op.rs2));
            let result = with_flags(h, |flags| fp::$name::<F>(a, b, flags));
            h.set(op.rd, result.into());
        }
    )*} };
}
comparisons! { feq flt fle }

rounding_handlers! {
    sqrt<F: Format>(h, op, rm) {
        let a = get::<F>(h, op.rs1);
        let result = with_flags(h, |flags| fp::sqrt::<F>(a, rm, flags));
        set::<F>(h, op.rd, result);
    }

    // `fcvt` to an integer. 32-bit results, signed or not, are sign-extended.
    to_int<F: Format, I: Register>(h, op, rm) {
        let a = get::<F>(h, op.rs1);
        let result: I = with_flags(h, |flags| fp::to_int::<F, I>(a, rm, flags));
        h.set(op.rd, result.to_register());
    }

    // `fcvt` from an integer.
    from_int<F: Format, I: Register>(h, op, rm) {
        let a = I::from_register(h.get(op.rs1));
        let result = with_flags(h, |flags| fp::from_int::<F, I>(a, rm, flags));
        set::<F>(h, op.rd, result);
    }

    // `fcvt.s.d`, `fcvt.d.s`.
    convert<From: Format, To: Format>(h, op, rm) {
        let a = get::<From>(h, op.rs1);
        let result = with_flags(h, |flags| fp::convert::<From, To>(a, rm, flags));
        set::<To>(h, op.rd, result);
    }
}

handlers! {
    class<F: Format>(h, op) {
        let class = fp::classify::<F>(get::<F>(h, op.rs1));
        h.set(op.rd, class.into());
    }

    // `fmv.x.w`, `fmv.x.d`: the bits as they are, boxed or not.
    to_bits<F: Format>(h, op) {
        let bits = h.getf(op.rs1);
        h.set(op.rd, if F::WIDTH == 32 { bits as i32 as i64 as u64 } else { bits });
    }

    // `fmv.w.x`, `fmv.d.x`.
    from_bits<F: Format>(h, op) {
        let bits = F::from_raw(h.get(op.rs1));
        set::<F>(h, op.rd, bits);
    }
}

/// An integer type as an `x` register holds it.
pub(super) trait Register: Integer {
    fn to_register(self) -> u64;
    fn from_register(value: u64) -> Self;
}

macro_rules! register {
    ($($t:ty: |$value:ident| $to:expr;)*) => {$(
        impl Register for $t {
            fn to_register(self) -> u64 {
                let $value = self;
                $to
            }

            fn from_register(value: u64) -> Self {
                value as Self
            }
        }
    )*};
}
register! {
    i32: |value| value as i64 as u64;
    u32: |value| value as i32 as i64 as u64;
    i64: |value| value as u64;
    u64: |value| value;
}
