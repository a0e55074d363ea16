//! Two-stage address translation, and the caches in front of it.

pub(crate) mod tlb;
mod walk;

pub(crate) use walk::{Access, Fault, Page, Privilege, Stage2, Translation};
