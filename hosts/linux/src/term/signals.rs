//! Signals: whatever asks the program to end or to pause finds the terminal as it was.
//!
//! The signals are blocked in every thread and taken one by one by a thread that waits for nothing else, so no
//! code ever runs in a signal handler.
#![allow(unsafe_code)] // signal-mask system calls

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use super::raw;

/// How long an orderly end may take before the signal's own effect is let through.
const GRACE: Duration = Duration::from_secs(5);

/// Signals that come so soon after the first one say the same: timeout(1) tells the program, and then its group.
const ECHO: Duration = Duration::from_millis(100);

const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// A set of signals.
#[derive(Clone, Copy)]
struct Set(libc::sigset_t);

impl Set {
    fn of(signals: impl IntoIterator<Item = i32>) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: initialized by `sigemptyset`, then only changed.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            Self(set.assume_init())
        }
    }

    /// Blocks or unblocks the set in the calling thread.
    fn mask(&self, how: i32) {
        // SAFETY: the set is complete; the old mask is not asked for. Fails for a wrong `how` only.
        unsafe { libc::pthread_sigmask(how, &self.0, ptr::null_mut()) };
    }

    /// Takes the next signal of the (blocked) set.
    fn wait(&self) -> i32 {
        let mut signal = 0;
        // SAFETY: the set and the number are alive. Fails for an invalid set only; 0 is no signal then.
        unsafe { libc::sigwait(&self.0, &mut signal) };
        signal
    }

    /// As [`wait`](Self::wait), for no longer than that.
    fn wait_for(&self, timeout: Duration) -> Option<i32> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the set and the time are alive; no details of the signal are asked for.
        let signal = unsafe { libc::sigtimedwait(&self.0, ptr::null_mut(), &timeout) };
        (signal > 0).then_some(signal)
    }
}

/// Whether whoever started the program wants it not to react to the signal, as `nohup` does.
fn ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; the structure is complete when the answer is 0.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Starts to handle signals. To be called before any other thread is started, as threads inherit the mask.
///
/// `end` is called with the signal that asks the program to end, from another thread. If the program still
/// lives a little later, or when a second signal comes, the terminal is restored and the signal kills it.
pub(crate) fn handle(end: impl Fn(i32) + Send + 'static) -> io::Result<()> {
    let handled = ENDING.into_iter().chain([libc::SIGTSTP]).filter(|&signal| !ignored(signal));
    let set = Set::of(handled.chain([libc::SIGCONT]));
    set.mask(libc::SIG_BLOCK);
    // Not joined: it waits for signals until the program is gone.
    thread::Builder::new().name("signals".into()).stack_size(128 << 10).spawn(move || {
        loop {
            match set.wait() {
                libc::SIGTSTP => stop(),
                libc::SIGCONT => raw::resume(),
                signal if ENDING.contains(&signal) => {
                    end(signal);
                    let again = again();
                    raw::restore();
                    die(again.unwrap_or(signal));
                }
                _ => {}
            }
        }
    })?;
    Ok(())
}

/// Waits for a second signal that asks the program to end, until its grace is over.
fn again() -> Option<i32> {
    let start = Instant::now();
    loop {
        let signal = Set::of(ENDING).wait_for(GRACE.saturating_sub(start.elapsed()));
        if signal.is_none() || start.elapsed() > ECHO {
            return signal;
        }
    }
}

/// Stops the program as Ctrl-Z stops others; returns when it is continued.
fn stop() {
    raw::restore();
    let set = Set::of([libc::SIGTSTP]);
    // SAFETY: raises a signal, which stays pending until it is unblocked.
    unsafe { libc::raise(libc::SIGTSTP) };
    set.mask(libc::SIG_UNBLOCK); // stops here, unless nobody is there who could continue us
    set.mask(libc::SIG_BLOCK);
    raw::resume();
}

/// Ends the program by the signal.
fn die(signal: i32) {
    // SAFETY: the signals handled here have their default effect, as nothing installs a handler: to end the
    // process.
    unsafe { libc::raise(signal) };
    Set::of([signal]).mask(libc::SIG_UNBLOCK);
}
