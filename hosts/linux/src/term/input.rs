//! The guest's console input: a thread that reads standard input and offers it to the guest at the pace the
//! guest takes it.
//!
//! A pipe or file is not read further while the guest has not taken what was read, so nothing of it is lost. A
//! terminal is always read, or the escape key would stop working when the guest stops listening; keys that a
//! deaf guest never takes are dropped once there are many of them.
#![allow(unsafe_code)] // eventfd, poll and read system calls

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use libc::{POLLIN, STDIN_FILENO, pollfd};

use super::escape::{Escape, Key};

/// Keys kept for a guest that does not listen.
const TYPED_AHEAD: usize = 4096;
/// When to offer the guest its input again if nobody says that it wants it.
const RETRY_MS: i32 = 100;

/// Who takes what is typed.
pub(crate) trait Typed: Send {
    /// Offers input to the guest, which takes as many bytes as answered.
    fn offer(&self, bytes: &[u8]) -> usize;
    /// The user wants to leave.
    fn leave(&self);
    /// The user wants to know the keys.
    fn help(&self);
}

/// Interrupts the input thread's wait. Cheap to clone; usable anywhere, waits for nothing.
#[derive(Clone)]
pub(crate) struct Waker {
    event: Arc<OwnedFd>,
    closing: Arc<AtomicBool>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: creates a descriptor and touches nothing else.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created, and owned by nobody else.
        let event = Arc::new(unsafe { OwnedFd::from_raw_fd(event) });
        Ok(Self { event, closing: Arc::default() })
    }

    /// Makes the thread offer what it has to the guest again.
    pub(crate) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes of ours, which is what an eventfd takes. Fails only when the counter is
        // full, and then the thread is being woken already.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn reset(&self) {
        let _ = read(self.event.as_raw_fd(), &mut [0; 8]); // nothing to read is as good
    }
}

/// The input thread.
pub(crate) struct Reader {
    waker: Waker,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Starts to read standard input. The escape key has a meaning if it is a `terminal`.
    pub(crate) fn start(
        waker: Waker,
        terminal: bool,
        typed: impl Typed + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name("console input".into()).stack_size(128 << 10);
        let mut input = Input {
            source: STDIN_FILENO,
            waker: waker.clone(),
            escape: terminal.then(Escape::default),
            queue: VecDeque::new(),
            ended: false,
        };
        let thread = thread.spawn(move || while input.step(&typed) {})?;
        Ok(Self { waker, thread })
    }

    /// Ends the thread.
    pub(crate) fn finish(self) {
        self.waker.closing.store(true, Ordering::Release);
        self.waker.wake();
        // A panic of the reader has been reported when it happened; nothing else can be done about it.
        let _ = self.thread.join();
    }
}

struct Input {
    source: RawFd,
    waker: Waker,
    /// `None`: not a terminal.
    escape: Option<Escape>,
    queue: VecDeque<u8>,
    /// The end of the input was reached.
    ended: bool,
}

impl Input {
    /// Offers, waits, reads. `false`: the run is over.
    fn step(&mut self, typed: &impl Typed) -> bool {
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            let taken = typed.offer(front).min(front.len());
            if taken == 0 {
                break;
            }
            self.queue.drain(..taken);
        }
        let listen = !self.ended && (self.escape.is_some() || self.queue.is_empty());
        let mut wait = [
            pollfd { fd: self.waker.event.as_raw_fd(), events: POLLIN, revents: 0 },
            // A negative descriptor is passed over (poll(2)).
            pollfd { fd: if listen { self.source } else { -1 }, events: POLLIN, revents: 0 },
        ];
        let timeout = if self.queue.is_empty() { -1 } else { RETRY_MS };
        // SAFETY: an array of two structures, as said.
        let ready = unsafe { libc::poll(wait.as_mut_ptr(), wait.len() as libc::nfds_t, timeout) };
        if self.waker.closing.load(Ordering::Acquire) {
            return false;
        }
        if ready > 0 && wait[0].revents != 0 {
            self.waker.reset();
        }
        if ready > 0 && wait[1].revents != 0 {
            self.read(typed);
        }
        true
    }

    fn read(&mut self, typed: &impl Typed) {
        let mut buffer = [0; 1024];
        let bytes = match read(self.source, &mut buffer) {
            Ok(0) => {
                self.ended = true;
                return;
            }
            Ok(count) => &buffer[..count],
            Err(error) => {
                use io::ErrorKind::{Interrupted, WouldBlock};
                // Anything else will not get better, such as a terminal that is gone.
                self.ended |= !matches!(error.kind(), Interrupted | WouldBlock);
                return;
            }
        };
        let Some(escape) = &mut self.escape else {
            self.queue.extend(bytes);
            return;
        };
        for &byte in bytes {
            match escape.key(byte) {
                Key::Guest(byte) if self.queue.len() < TYPED_AHEAD => self.queue.push_back(byte),
                Key::Leave => typed.leave(),
                Key::Help => typed.help(),
                Key::Guest(_) | Key::Pending | Key::Unknown => {}
            }
        }
    }
}

fn read(source: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes no more than the buffer's length into it.
    let count = unsafe { libc::read(source, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::fs::File;
    use std::io::Write;

    /// A guest that takes so many bytes and no more.
    #[derive(Default)]
    struct Guest {
        room: Cell<usize>,
        got: RefCell<Vec<u8>>,
        left: Cell<bool>,
        helped: Cell<bool>,
    }

    impl Typed for Guest {
        fn offer(&self, bytes: &[u8]) -> usize {
            let count = bytes.len().min(self.room.get());
            self.room.set(self.room.get() - count);
            self.got.borrow_mut().extend(&bytes[..count]);
            count
        }

        fn leave(&self) {
            self.left.set(true);
        }

        fn help(&self) {
            self.helped.set(true);
        }
    }

    fn pipe() -> (OwnedFd, File) {
        let mut ends = [0; 2];
        // SAFETY: fills in two descriptors, owned by nobody else.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
            (OwnedFd::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
        }
    }

    fn input(source: &OwnedFd, terminal: bool) -> Input {
        Input {
            source: source.as_raw_fd(),
            waker: Waker::new().unwrap(),
            escape: terminal.then(Escape::default),
            queue: VecDeque::new(),
            ended: false,
        }
    }

    #[test]
    fn a_pipe_is_read_only_as_fast_as_the_guest_takes_it() {
        let (source, mut sink) = pipe();
        sink.write_all(&[b'a'; 3000]).unwrap();
        let (mut input, guest) = (input(&source, false), Guest::default());
        for _ in 0..3 {
            assert!(input.step(&guest));
        }
        assert_eq!(input.queue.len(), 1024, "one read, and then no more");
        sink.write_all(b"\x01x").unwrap(); // no escape sequence in a pipe
        drop(sink);
        while !input.ended || !input.queue.is_empty() {
            guest.room.set(guest.room.get() + 100);
            input.waker.wake();
            assert!(input.step(&guest));
        }
        assert_eq!(guest.got.borrow().len(), 3002);
        assert!(guest.got.borrow().ends_with(b"a\x01x"));
        assert!(!guest.left.get());
    }

    #[test]
    fn a_deaf_guest_does_not_take_the_escape_key_away() {
        let (source, mut keyboard) = pipe();
        let (mut input, guest) = (input(&source, true), Guest::default());
        for _ in 0..10 {
            keyboard.write_all(&[b'a'; 1000]).unwrap();
            assert!(input.step(&guest));
        }
        keyboard.write_all(b"\x01h\x01x").unwrap();
        assert!(input.step(&guest));
        assert!(guest.helped.get() && guest.left.get());
        assert_eq!(input.queue.len(), TYPED_AHEAD);
    }

    #[test]
    fn the_end_of_the_input_is_not_the_end_of_the_run() {
        let (source, sink) = pipe();
        drop(sink);
        let (mut input, guest) = (input(&source, false), Guest::default());
        assert!(input.step(&guest));
        assert!(input.ended);
        input.waker.wake();
        assert!(input.step(&guest), "waits for the end of the run without spinning");
        input.waker.closing.store(true, Ordering::Release);
        input.waker.wake();
        assert!(!input.step(&guest));
    }

    #[test]
    fn unreadable_input_counts_as_ended() {
        let (source, sink) = pipe();
        drop(source);
        let source = OwnedFd::from(sink); // the writing end
        let (mut input, guest) = (input(&source, false), Guest::default());
        input.read(&guest);
        assert!(input.ended);
    }
}
