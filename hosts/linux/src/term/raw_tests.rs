use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::*;

#[path = "../../tests/common/pty.rs"]
#[allow(dead_code, unreachable_pub)] // the integration tests use the rest
mod pty;

const LIMIT: Duration = Duration::from_secs(60);

/// Marks the process that plays the program on the terminal.
const ROLE: &str = "AXVCPU_TEST_ROLE";

/// Runs one test of this file again, in a process on a terminal of its own.
fn play(test: &str, terminal: &mut pty::Pty) -> ExitStatus {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "--nocapture", &format!("term::raw::tests::{test}")]);
    terminal.spawn(program.env(ROLE, test)).wait().unwrap()
}

#[test]
fn a_panic_restores_the_terminal_before_it_says_anything() {
    if std::env::var_os(ROLE).is_some() {
        let _raw_mode = RawMode::enter().unwrap();
        let panic = std::thread::spawn(|| panic!("as a test"));
        assert!(panic.join().is_err());
        // The panic of one thread is enough: the run is over, and its message must be readable.
        assert!(!current().are_raw());
        std::process::exit(42); // without `Drop`
    }
    let mut terminal = pty::Pty::new();
    let before = terminal.settings();
    let status = play("a_panic_restores_the_terminal_before_it_says_anything", &mut terminal);
    terminal.wait_for("as a test");
    assert_eq!(status.code(), Some(42));
    assert_eq!(terminal.settings(), before);
}

#[test]
fn the_end_of_raw_mode_restores_the_terminal() {
    if std::env::var_os(ROLE).is_some() {
        let before = current();
        let raw_mode = RawMode::enter().unwrap();
        assert!(current().are_raw());
        restore();
        assert_eq!(current(), before);
        resume();
        assert!(current().are_raw());
        drop(raw_mode);
        assert_eq!(current(), before);
        resume(); // nothing to take any more
        assert_eq!(current(), before);
        std::process::exit(42);
    }
    let mut terminal = pty::Pty::new();
    let status = play("the_end_of_raw_mode_restores_the_terminal", &mut terminal);
    assert_eq!(status.code(), Some(42));
}

/// The settings of standard input.
fn current() -> pty::Settings {
    pty::settings_of(&io::stdin())
}
