//! The terminal is the guest's while it runs, and as it was after every kind of end.

mod common;

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::guests::{self, Reset};
use common::pty::{Pty, signal, state};
use common::{axvcpu, file, processor_time, run, wait};

/// Starts a guest on a terminal and waits until it has said its first word.
fn start(pty: &mut Pty, guest: &[u8]) -> std::process::Child {
    let before = pty.settings();
    assert!(!before.are_raw());
    let kernel = file("guest", guest);
    let child = pty.spawn(&mut axvcpu(&["run", "--memory", "16M", "--kernel", &kernel]));
    pty.wait_for("axvcpu: Ctrl-A x leaves");
    pty.wait_for("ready> ");
    assert!(pty.settings().are_raw());
    child
}

#[test]
fn ctrl_a_x_leaves() {
    for guest in [guests::idles(), guests::spins(), guests::echoes()] {
        let mut pty = Pty::new();
        let before = pty.settings();
        let mut child = start(&mut pty, &guest);
        pty.type_in(b"\x01x");
        assert_eq!(wait(&mut child).code(), Some(130));
        assert_eq!(pty.settings(), before);
        pty.wait_for("axvcpu: left by the user");
    }
}

#[test]
fn keys_reach_the_guest_except_for_commands() {
    let mut pty = Pty::new();
    let before = pty.settings();
    let mut child = start(&mut pty, &guests::echoes());
    // Ctrl-C, Ctrl-Z and Ctrl-D mean nothing to the terminal now.
    for keys in ["a", "\x03", "\x1a", "\x04", "\x1b[A"] {
        pty.type_in(keys.as_bytes());
        pty.wait_for(keys);
    }
    pty.type_in(b"\x01\x01");
    pty.wait_for("\x01");
    pty.type_in(b"\x01h");
    pty.wait_for("axvcpu: Ctrl-A Ctrl-A  send Ctrl-A to the guest");
    pty.type_in(b"q");
    assert_eq!(wait(&mut child).code(), Some(0));
    assert_eq!(pty.settings(), before);
}

#[test]
fn a_guest_that_does_not_listen_cannot_hold_the_user() {
    let mut pty = Pty::new();
    let mut child = start(&mut pty, &guests::spins());
    for _ in 0..20 {
        pty.type_in(&[b'a'; 512]);
        thread::sleep(Duration::from_millis(2)); // a terminal's own buffer is small
    }
    pty.type_in(b"\x01x");
    assert_eq!(wait(&mut child).code(), Some(130));
}

#[test]
fn the_guests_own_end() {
    let mut pty = Pty::new();
    let before = pty.settings();
    let kernel = file("hello", &guests::hello(Reset::ColdReboot, false));
    let mut child = pty.spawn(&mut axvcpu(&["run", "--memory", "16M", "--kernel", &kernel]));
    pty.wait_for("hello from the guest");
    assert_eq!(wait(&mut child).code(), Some(3));
    assert_eq!(pty.settings(), before);
}

#[test]
fn signals_end_the_run_in_order() {
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let mut pty = Pty::new();
        let before = pty.settings();
        let mut child = start(&mut pty, &guests::idles());
        signal(&child, number);
        assert_eq!(wait(&mut child).code(), Some(128 + number));
        assert_eq!(pty.settings(), before);
        pty.wait_for(&format!("axvcpu: ended by signal {number}"));
    }
}

#[test]
fn a_pause_gives_the_terminal_back_for_as_long_as_it_lasts() {
    let mut pty = Pty::new();
    let before = pty.settings();
    // The kernel does not stop a process that no shell could continue, so there is one in between.
    let kernel = file("guest", &guests::echoes());
    let line = format!(
        "set -m; {} run --memory 16M --kernel {kernel} & fg >/dev/null; echo stopped $?; \
         read go; fg >/dev/null; echo ended $?",
        env!("CARGO_BIN_EXE_axvcpu")
    );
    let mut shell = std::process::Command::new("bash");
    let mut shell = pty.spawn(shell.args(["-c", &line]));
    pty.wait_for("ready> ");
    pty.wait_until(|settings| settings.are_raw());
    let child = children(&shell);
    assert_eq!(child.len(), 1);
    // SAFETY: a child of our child, which has not ended.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(child[0], libc::SIGTSTP);
    }
    pty.wait_for("stopped 148"); // 128 and SIGTSTP
    assert!(!pty.settings().are_raw());
    assert_eq!(pty.settings(), before);
    pty.type_in(b"\n");
    pty.wait_until(|settings| settings.are_raw());
    pty.type_in(b"z");
    pty.wait_for("z");
    pty.type_in(b"q");
    pty.wait_for("ended 0");
    assert_eq!(wait(&mut shell).code(), Some(0));
    assert_eq!(pty.settings(), before);
}

/// The processes a process has started.
fn children(parent: &std::process::Child) -> Vec<i32> {
    let id = parent.id();
    let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    list.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn without_a_terminal_there_is_no_escape_key() {
    let kernel = file("echo", &guests::echoes());
    let done = common::run_with(
        &mut axvcpu(&["run", "--quiet", "--memory", "16M", "--kernel", &kernel]),
        b"\x01x and \x01h, then q",
    );
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    assert_eq!(done.stdout, "ready> \x01x and \x01h, then q");
}

#[test]
fn a_signal_also_ends_a_run_whose_output_nobody_takes() {
    let kernel = file("chatter", &guests::prints_forever());
    let mut child = axvcpu(&["run", "--memory", "16M", "--kernel", &kernel])
        .stdout(Stdio::piped()) // which is never read
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Until it sleeps because the pipe is full: no processor time any more.
    let mut used = u64::MAX;
    while used != processor_time(&child) {
        used = processor_time(&child);
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(state(&child), 'S');
    let start = Instant::now();
    signal(&child, libc::SIGTERM);
    let status = wait(&mut child);
    assert_eq!(status.code(), Some(128 + libc::SIGTERM));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_closed_output_ends_the_run() {
    let kernel = file("chatter", &guests::prints_forever());
    let mut child = axvcpu(&["run", "--memory", "16M", "--kernel", &kernel])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = common::finish(child);
    assert_eq!(done.code(), 128 + libc::SIGPIPE, "{done:?}");
    assert!(done.stderr.starts_with("axvcpu: nobody reads the guest's output any more\n"));
}

#[test]
fn closed_standard_descriptors_do_no_harm() {
    let kernel = file("hello", &guests::hello(Reset::Shutdown, false));
    let line = format!(
        "exec <&- >&- 2>&-; {} run --memory 16M --kernel {kernel}",
        env!("CARGO_BIN_EXE_axvcpu")
    );
    assert_eq!(run(std::process::Command::new("sh").args(["-c", &line])).code(), 0);
}
