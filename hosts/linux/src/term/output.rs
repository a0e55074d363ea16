//! The guest's console output: buffered, so that a guest that prints byte by byte does not make the program
//! write byte by byte.
//!
//! A thread of its own writes what has collected: at once when a line is complete or much has come together,
//! otherwise after a moment, which nobody sees who reads it. A reader that does not keep up slows the guest
//! down, as a slow serial line would.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// More than this is not kept: the guest waits.
const FULL: usize = 64 << 10;
/// This much is written at once even without the end of a line.
const PLENTY: usize = 4 << 10;
/// How long an unfinished line (a prompt, an echo) waits for more.
const MOMENT: Duration = Duration::from_millis(4);

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// Do not wait for more to come.
    hurry: bool,
    /// The last byte was not the end of a line.
    within_a_line: bool,
    /// How many wait for room.
    waiting: usize,
    /// No more will come: write the rest and end.
    closed: bool,
    /// The reader is gone or the program ends: what comes is thrown away.
    discarding: bool,
    /// The writer has ended.
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// For the writer: there is something to write.
    some: Condvar,
    /// For the guest: there is room again.
    room: Condvar,
    /// For the end of the run: the writer has ended.
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // consistent between any two statements
    }
}

/// Where the guest's output goes. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Shared>);

/// The thread that writes it.
pub(crate) struct Writer {
    output: Output,
    thread: JoinHandle<()>,
}

/// Tells that the writer has ended, however it does.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.ended, state.discarding) = (true, true);
        drop(state);
        self.0.room.notify_all();
        self.0.ended.notify_all();
    }
}

impl Output {
    /// Takes output. Waits for the reader when too much has collected.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        for chunk in bytes.chunks(PLENTY) {
            while state.buffer.len() + chunk.len() > FULL && !state.discarding {
                state.waiting += 1;
                state = self.0.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
            if state.discarding {
                return;
            }
            let before = (state.buffer.is_empty(), state.ready());
            state.buffer.extend_from_slice(chunk);
            state.hurry |= chunk.contains(&b'\n');
            state.within_a_line = !chunk.ends_with(b"\n");
            if before != (state.buffer.is_empty(), state.ready()) {
                self.0.some.notify_one();
            }
        }
    }

    /// Throws away what comes from now on and lets nobody wait any more: the run is to end although the reader
    /// does not read.
    pub(crate) fn discard(&self) {
        self.0.lock().discarding = true;
        self.0.room.notify_all();
    }

    /// Does not wait for more to come: the guest pauses.
    pub(crate) fn flush(&self) {
        let mut state = self.0.lock();
        if !state.buffer.is_empty() && !state.ready() {
            state.hurry = true;
            self.0.some.notify_one();
        }
    }

    /// Whether the guest waits for the reader at this moment.
    pub(crate) fn is_stuck(&self) -> bool {
        self.0.lock().waiting > 0
    }

    /// Whether the last line is unfinished.
    pub(crate) fn ends_within_a_line(&self) -> bool {
        self.0.lock().within_a_line
    }

    /// Starts to write to `sink`. `failed` is called with the first error, after which output is discarded.
    pub(crate) fn start(
        &self,
        sink: impl Write + Send + 'static,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Writer> {
        let thread = thread::Builder::new().name("console output".into()).stack_size(128 << 10);
        let ended = Ended(Arc::clone(&self.0));
        let thread = thread.spawn(move || {
            if let Err(error) = ended.0.drain(sink) {
                failed(error);
            }
        })?;
        Ok(Writer { output: self.clone(), thread })
    }
}

/// Standard output, which waits for its reader also when whoever shares it has made it non-blocking.
pub(crate) struct Stdout;

impl Stdout {
    fn retry<R>(mut f: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        loop {
            match f() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(MOMENT);
                }
                result => return result,
            }
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::retry(|| io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::retry(|| io::stdout().flush())
    }
}

impl State {
    /// Whether it should be written without waiting for more.
    fn ready(&self) -> bool {
        self.closed || self.hurry || self.buffer.len() >= PLENTY
    }
}

impl Shared {
    fn drain(&self, mut sink: impl Write) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            while state.buffer.is_empty() && !state.closed {
                state = self.some.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.ready() {
                (state, _) = self
                    .some
                    .wait_timeout_while(state, MOMENT, |state| !state.ready())
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.buffer.is_empty() {
                return Ok(()); // closed
            }
            std::mem::swap(&mut state.buffer, &mut batch);
            state.hurry = false;
            drop(state);
            self.room.notify_all();
            sink.write_all(&batch).and_then(|()| sink.flush())?;
            batch.clear();
        }
    }
}

impl Writer {
    /// Writes what is left, and ends. If the reader does not read for that long, the rest is lost; the thread
    /// then stays until the program is gone.
    pub(crate) fn finish(self, patience: Option<Duration>) {
        let shared = &self.output.0;
        let mut state = shared.lock();
        state.closed = true;
        shared.some.notify_one();
        if let Some(patience) = patience {
            (state, _) = shared
                .ended
                .wait_timeout_while(state, patience, |state| !state.ended)
                .unwrap_or_else(PoisonError::into_inner);
            if !state.ended {
                return;
            }
        }
        drop(state);
        // A panic of the writer has been reported when it happened; nothing else can be done about it.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    /// Hands every write on, and waits before each for leave to do it.
    struct Recorder(mpsc::Sender<Vec<u8>>, Option<mpsc::Receiver<()>>);

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(leave) = &self.1 {
                leave.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn no_error(error: io::Error) {
        panic!("{error}");
    }

    #[test]
    fn everything_arrives_in_order_and_in_few_writes() {
        let (sender, written) = mpsc::channel();
        let output = Output::default();
        let writer = output.start(Recorder(sender, None), no_error).unwrap();
        let mut expected = Vec::new();
        for n in 0..20_000 {
            let line = format!("line {n}\r\n");
            for byte in line.as_bytes() {
                output.write(&[*byte]);
            }
            expected.extend_from_slice(line.as_bytes());
        }
        writer.finish(None);
        let written: Vec<_> = written.into_iter().collect();
        assert_eq!(written.concat(), expected);
        assert!(written.len() <= 20_000, "{} writes", written.len());
    }

    #[test]
    fn a_prompt_without_newline_is_written_soon() {
        let (sender, written) = mpsc::channel();
        let output = Output::default();
        let writer = output.start(Recorder(sender, None), no_error).unwrap();
        output.write(b"login: ");
        let start = Instant::now();
        assert_eq!(written.recv().unwrap(), b"login: ");
        assert!(start.elapsed() < Duration::from_secs(2));
        writer.finish(None);
        assert!(written.recv().is_err());
    }

    #[test]
    fn a_slow_reader_slows_the_guest_down_and_bounds_the_buffer() {
        let (sender, written) = mpsc::channel();
        let (leave, waits) = mpsc::channel();
        let output = Output::default();
        let writer = output.start(Recorder(sender, Some(waits)), no_error).unwrap();
        let total = 4 * FULL;
        let (done, finished) = mpsc::channel();
        let guest = output.clone();
        let guest = thread::spawn(move || {
            for n in 0..total {
                guest.write(&[n as u8]);
            }
            done.send(()).unwrap();
        });
        // Nothing is read: the guest must come to a halt with two buffers full at most.
        assert!(finished.recv_timeout(Duration::from_millis(100)).is_err());
        assert!(output.0.lock().buffer.len() <= FULL);
        drop(finished);
        let mut count = 0;
        while count < total {
            leave.send(()).unwrap();
            let batch = written.recv().unwrap();
            assert!(batch.iter().enumerate().all(|(n, &byte)| byte == (count + n) as u8));
            assert!(batch.len() <= FULL);
            count += batch.len();
        }
        drop(leave);
        let _ = guest.join(); // its last send may find nobody
        writer.finish(None);
        assert_eq!(count, total);
    }

    #[test]
    fn a_gone_reader_is_reported_once_and_holds_nobody_up() {
        let (sender, written) = mpsc::channel();
        drop(written);
        let (failed, failure) = mpsc::channel();
        let recorder = Recorder(sender, None);
        let output = Output::default();
        let writer =
            output.start(recorder, move |error| failed.send(error.kind()).unwrap()).unwrap();
        for _ in 0..4 {
            output.write(&vec![b'x'; FULL]);
        }
        writer.finish(None);
        assert_eq!(failure.into_iter().collect::<Vec<_>>(), [io::ErrorKind::BrokenPipe]);
    }

    #[test]
    fn discarding_frees_a_guest_that_waits() {
        let (sender, _written) = mpsc::channel();
        let (leave, waits) = mpsc::channel::<()>();
        let output = Output::default();
        let writer = output.start(Recorder(sender, Some(waits)), drop).unwrap();
        let guest = output.clone();
        let guest = thread::spawn(move || guest.write(&vec![0; 8 * FULL]));
        thread::sleep(Duration::from_millis(20));
        assert!(!guest.is_finished() && output.is_stuck());
        output.discard();
        guest.join().unwrap();
        writer.finish(Some(Duration::from_millis(20))); // the writer itself still waits for its reader
        drop(leave);
    }
}
