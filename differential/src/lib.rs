//! Random RISC-V programs and cases, and what is expected of whoever runs them.
//!
//! A program is made from a seed ([`generate`]) and covers all of user mode: RV64GC with Zba, Zbb and Zbs,
//! with operands at the edges and results that are used at once. Many of them share one image ([`image`]), whose
//! driver runs one after the other, in S-mode or behind page tables ([`paging`]), and hands out what each leaves
//! behind ([`result`]). Others do little but leave ([`exits`]). The supervisor's side of the architecture has cases of its
//! own ([`supervisor`]), and trials, in which a hypervisor does to guests whatever it can ([`trial`]).
//!
//! Whoever has two implementations runs an image on both; what they leave behind must be the same.
#![cfg_attr(not(test), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod access;
pub mod exits;
pub mod generate;
pub mod image;
pub mod layout;
pub mod paging;
pub mod program;
pub mod result;
pub mod rng;
pub mod shrink;
pub mod supervisor;
pub mod trial;
