//! The one console: the hypervisor's own messages, the guest's output, and what is typed.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use alloc::boxed::Box;
use axvcpu::AxVCpuHal;
use axvcpu_vmm::ConsoleSink;
use spin::Mutex;

use crate::{Hal, time, timer, uart};

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($args:tt)*) => { $crate::Console.print(::core::format_args!($($args)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($args:tt)*) => { $crate::print!("{}\n", ::core::format_args!($($args)*)) };
}

/// The console. Output of different CPUs does not mix within one call.
#[derive(Clone, Copy, Debug)]
pub struct Console;

/// Output that is not sent yet.
struct Output {
    bytes: [u8; 512],
    len: usize,
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.len == self.bytes.len() {
                self.send();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
    }

    fn send(&mut self) {
        uart::send(&self.bytes[..self.len]);
        self.len = 0;
    }
}

static OUTPUT: Mutex<Output> = Mutex::new(Output { bytes: [0; 512], len: 0 });

/// The CPU that has the console for its last words, plus one; 0 as long as nobody has.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// Keeps everybody silent while a CPU says its last words.
fn is_closed() -> bool {
    LAST.load(Ordering::Relaxed) != 0
}

impl Console {
    /// Prints, with `\n` as `\r\n`.
    #[doc(hidden)]
    pub fn print(self, args: fmt::Arguments<'_>) {
        struct Lines<'a>(&'a mut Output);
        impl Write for Lines<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for &byte in text.as_bytes() {
                    if byte == b'\n' {
                        self.0.add(b"\r");
                    }
                    self.0.add(&[byte]);
                }
                Ok(())
            }
        }
        if is_closed() {
            return;
        }
        let mut output = OUTPUT.lock();
        let _ = Lines(&mut output).write_fmt(args); // the writer does not fail
        output.send();
    }
}

/// Ends output by all CPUs but `cpu`, for its last words. `false` if it is saying them already: they failed. Does not
/// come back if another CPU is.
#[cfg_attr(not(target_os = "none"), allow(dead_code))]
pub(crate) fn close(cpu: usize) -> bool {
    match LAST.compare_exchange(0, cpu + 1, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => true,
        Err(last) if last == cpu + 1 => false,
        Err(_) => loop {
            core::hint::spin_loop(); // the other one ends the machine
        },
    }
}

/// So long another CPU gets to send what it has begun with.
const PATIENCE_NS: u64 = 100_000_000;

/// Prints last words, whatever another CPU holds, or this one, if it failed while it printed.
#[cfg_attr(not(target_os = "none"), expect(dead_code))]
pub(crate) fn last_words(args: fmt::Arguments<'_>) {
    let start = time::now_ns();
    let mut output = OUTPUT.try_lock();
    while output.is_none() && time::now_ns() - start < PATIENCE_NS {
        core::hint::spin_loop();
        output = OUTPUT.try_lock();
    }
    if let Some(output) = &mut output {
        output.send();
    }
    raw(args);
}

/// Prints without a lock.
pub(crate) fn raw(args: fmt::Arguments<'_>) {
    struct Raw;
    impl Write for Raw {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            uart::send(text.as_bytes());
            Ok(())
        }
    }
    let _ = Raw.write_fmt(args); // the writer does not fail
}

/// Sends what was held back.
pub(crate) fn flush() {
    if !is_closed() {
        OUTPUT.lock().send();
    }
}

/// The guest's side: its output goes out as it is.
impl ConsoleSink for Console {
    fn write(&self, bytes: &[u8]) {
        if is_closed() {
            return;
        }
        let mut output = OUTPUT.lock();
        output.add(bytes);
        // Line by line: a character at a time would cost an exit of the machine under this one each. A line that is
        // not finished soon goes out as it is.
        if bytes.contains(&b'\n') {
            output.send();
        } else {
            timer::set_flush(time::now_ticks() + time::timebase() / 50);
        }
    }

    fn flush(&self) {
        flush();
    }

    fn input_wanted(&self) {
        // The caller holds the guest's serial port: passed on when that CPU looks at its interrupts.
        Hal::kick_cpu(0);
    }
}

/// What was typed and not yet taken.
struct Input {
    bytes: [u8; 256],
    start: usize,
    len: usize,
}

static INPUT: Mutex<Input> = Mutex::new(Input { bytes: [0; 256], start: 0, len: 0 });

/// Who takes what is typed, and answers how many bytes of it.
type Reader = Box<dyn Fn(&[u8]) -> usize + Send>;

static READER: Mutex<Option<Reader>> = Mutex::new(None);

/// Makes `reader` take what is typed from now on; on CPU 0 only. It is called there with interrupts of the hypervisor
/// being dealt with, and answers how many bytes it took; the rest is offered again later.
pub fn read_input(reader: Option<Reader>) {
    *READER.lock() = reader;
    pass_on_input();
}

/// A byte was typed. What nobody takes is lost when there is too much of it.
pub(crate) fn received(byte: u8) {
    let mut input = INPUT.lock();
    if input.len < input.bytes.len() {
        let at = (input.start + input.len) % input.bytes.len();
        input.bytes[at] = byte;
        input.len += 1;
    }
}

/// Offers what was typed to its reader. On CPU 0 only, so that nobody has to wait for the lock; a reader does not
/// come here itself, as it deals with no interrupts.
pub(crate) fn pass_on_input() {
    let reader = READER.lock();
    let Some(read) = &*reader else { return };
    loop {
        let (byte, len) = {
            let input = INPUT.lock();
            (input.bytes[input.start], input.len)
        };
        if len == 0 || read(&[byte]) == 0 {
            return;
        }
        let mut input = INPUT.lock();
        input.start = (input.start + 1) % input.bytes.len();
        input.len -= 1;
    }
}
