//! The kernel's side: requests, the page that exits arrive through, and the one system call that is made often.

mod page;
pub(crate) mod request;
mod run;

use std::ffi::c_int;
use std::io;

use axvcpu::AxError;

pub(crate) use page::{Io, Mapping, Mmio, PortShape, RunPage};
pub(crate) use run::enter;

/// An error of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    /// What a system call answered, or why it did not.
    fn check(result: c_int) -> Result<c_int, Self> {
        if result >= 0 { Ok(result) } else { Err(Self::last()) }
    }

    /// Of the last system call on this thread.
    pub(crate) fn last() -> Self {
        Self(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

impl From<Errno> for AxError {
    fn from(Errno(code): Errno) -> Self {
        match code {
            libc::ENOMEM => Self::NoMemory,
            _ => Self::Host { code },
        }
    }
}

impl From<Errno> for io::Error {
    fn from(Errno(code): Errno) -> Self {
        Self::from_raw_os_error(code)
    }
}
