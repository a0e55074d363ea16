//! A terminal of one's own, for programs that want one.
#![allow(unsafe_code)] // pseudo-terminal system calls

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// A pseudo-terminal, and what the program on it has said.
pub struct Pty {
    keyboard: File,
    terminal: OwnedFd,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

/// The settings of a terminal that have to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    characters: [u8; libc::NCCS],
}

impl Settings {
    /// Whether keys go to the program as they are, and not through line editing.
    pub fn are_raw(&self) -> bool {
        self.local & (libc::ICANON | libc::ECHO | libc::ISIG) == 0
    }
}

impl Pty {
    pub fn new() -> Self {
        let (mut controller, mut terminal) = (0, 0);
        // SAFETY: fills in two descriptors, which are owned by nobody else; names and modes are not asked for.
        let (controller, terminal) = unsafe {
            let result = libc::openpty(
                &mut controller,
                &mut terminal,
                ptr::null_mut(),
                ptr::null(),
                ptr::null(),
            );
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            (File::from_raw_fd(controller), OwnedFd::from_raw_fd(terminal))
        };
        let mut source = controller.try_clone().unwrap();
        let (sender, screen) = mpsc::channel();
        // Ends with the test: a read fails once nobody has the terminal open any more.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keyboard: controller, terminal, screen, seen: String::new() }
    }

    /// Starts a program with this as its controlling terminal, in a session of its own.
    pub fn spawn(&self, command: &mut Command) -> Child {
        let end = || Stdio::from(self.terminal.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: the closure makes async-signal-safe system calls only.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command.spawn().unwrap()
    }

    pub fn settings(&self) -> Settings {
        settings_of(&self.terminal)
    }

    pub fn type_in(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Waits until the text appears behind what was waited for before. Answers everything up to it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(found) = self.seen.find(text) {
                let rest = self.seen.split_off(found + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = super::LIMIT.saturating_sub(start.elapsed());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
    }

    /// Waits until the settings satisfy a condition.
    #[track_caller]
    pub fn wait_until(&self, condition: impl Fn(&Settings) -> bool) {
        let start = Instant::now();
        while !condition(&self.settings()) {
            assert!(start.elapsed() < super::LIMIT, "{:?}", self.settings());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The settings of a terminal.
pub fn settings_of(terminal: &impl AsRawFd) -> Settings {
    // SAFETY: an all-zero `termios` is valid, and the kernel fills it in.
    let mode = unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &mut mode), 0);
        mode
    };
    Settings {
        input: mode.c_iflag,
        output: mode.c_oflag,
        control: mode.c_cflag,
        local: mode.c_lflag,
        characters: mode.c_cc,
    }
}

/// Has the command start with the signals that end it as they are by default. Whoever runs the tests in the background of a
/// script has some of them ignored, which programs inherit, and the command under test respects.
pub fn with_signals(command: &mut Command) {
    let reset = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            // SAFETY: may be called between fork and exec (signal-safety(7)); the program has not started.
            if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `reset` makes system calls only.
    unsafe { command.pre_exec(reset) };
}

/// Sends a signal to a process.
pub fn signal(child: &Child, signal: i32) {
    // SAFETY: the child was not waited for yet, so its number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// The state of a process as the kernel names it: `R`, `S`, `T`, …
pub fn state(child: &Child) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let (_, behind_the_name) = stat.rsplit_once(") ").unwrap();
    behind_the_name.chars().next().unwrap()
}
