//! The terminal's mode: every key goes to the guest while it runs, and everything is as it was afterwards.
//!
//! The saved mode is in a `static` because those who must restore it have nothing else in common: the end of
//! the run, the panic hook and the thread that handles signals.
#![allow(unsafe_code)] // termios and signal-mask system calls

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{STDIN_FILENO, termios};

struct Terminal {
    original: termios,
    raw: bool,
}

static TERMINAL: Mutex<Option<Terminal>> = Mutex::new(None);

fn terminal() -> MutexGuard<'static, Option<Terminal>> {
    // A panic cannot leave it half-changed: it is written as a whole.
    TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard input in raw mode, until dropped.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Puts standard input, a terminal, into raw mode. Makes sure that a panic restores it.
    pub(crate) fn enter() -> io::Result<Self> {
        let mut original = MaybeUninit::uninit();
        // SAFETY: the kernel fills in the structure it is given, completely when it answers 0.
        let original = unsafe {
            if libc::tcgetattr(STDIN_FILENO, original.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            original.assume_init()
        };
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore(); // first, so that the message is readable
            default_hook(panic);
        }));
        let mut terminal = terminal();
        let terminal = terminal.insert(Terminal { original, raw: false });
        // Started in the background, the program stops here until it is brought to the foreground.
        match set_in_turn(&raw_mode(&original)) {
            Ok(()) => terminal.raw = true,
            // In the background, and there is no shell that could change that: not our terminal then.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
            Err(error) => return Err(error),
        }
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
        terminal().take();
    }
}

/// Gives the terminal its mode back, if it has another one now. Does nothing before [`RawMode::enter`].
pub(crate) fn restore() {
    if let Some(terminal) = &mut *terminal() {
        // In the background the terminal is somebody else's, who has set it up for himself.
        if terminal.raw && in_foreground() && set(&terminal.original).is_ok() {
            terminal.raw = false;
        }
    }
}

/// Takes the terminal again after the program was stopped and continued.
pub(crate) fn resume() {
    if let Some(terminal) = &mut *terminal() {
        if in_foreground() && set(&raw_mode(&terminal.original)).is_ok() {
            terminal.raw = true;
        }
    }
}

/// Keys as they are typed, without echo, signals or flow control. Output processing stays on, so that
/// messages to the user begin at the start of a line.
fn raw_mode(original: &termios) -> termios {
    let mut mode = *original;
    // SAFETY: changes fields of a structure of ours.
    unsafe { libc::cfmakeraw(&mut mode) };
    mode.c_oflag = original.c_oflag;
    mode
}

fn in_foreground() -> bool {
    // SAFETY: both calls only ask.
    let (owner, we) = unsafe { (libc::tcgetpgrp(STDIN_FILENO), libc::getpgrp()) };
    owner == we || owner < 0 // not our controlling terminal: nobody else takes turns with us on it
}

/// Sets the mode at once, whoever's turn it is.
fn set(mode: &termios) -> io::Result<()> {
    // The foreground may change between the caller's question and here. Then the change goes through, but the
    // signal that would stop the program in the middle of it does not.
    let mut before = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` and `pthread_sigmask` initialize the sets before they are read.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
    }
    let result = set_in_turn(mode);
    // SAFETY: restores the mask saved above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

/// Sets the mode, in the background once the program is brought to the foreground.
fn set_in_turn(mode: &termios) -> io::Result<()> {
    loop {
        // SAFETY: reads a complete structure.
        if unsafe { libc::tcsetattr(STDIN_FILENO, libc::TCSANOW, mode) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
