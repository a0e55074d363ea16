//! Guests written instruction by instruction: random programs whose results are
//! compared with QEMU's, and a loop whose speed is measured.

pub(crate) mod asm;
mod random;
pub(crate) mod runtime;
pub(crate) mod speed;

pub(crate) use random::{Program, Random};
