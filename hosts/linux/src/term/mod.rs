//! The user's side of the guest's console: a terminal, a pipe or a file.

pub(crate) mod escape;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod raw;
pub(crate) mod signals;
