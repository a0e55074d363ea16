//! x86 guests on this machine's KVM, if it has one; small ones, which the poorest KVM can run.
#![cfg(target_arch = "x86_64")]

mod common;

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use axvcpu_x86::asm::*;
use common::pty::{Pty, signal};
use common::{Done, axvcpu, file, finish, run};

/// Where a flat binary is put.
const BASE: u64 = 0x10_0000;

/// Whether there is a KVM; says so if not.
fn is_here(test: &str) -> bool {
    let done = run(&mut axvcpu(&["backends"]));
    let row = done.stdout.lines().find(|line| line.starts_with("kvm")).unwrap().to_owned();
    let works = row.contains(" yes ");
    if !works {
        // Past the harness, which shows what a test prints only if it fails.
        let _ = writeln!(std::io::stdout(), "  kvm: {test}  skipped: {row}");
    }
    works
}

fn build(program: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut a = Asm::new(BASE);
    program(&mut a);
    a.finish().unwrap()
}

fn print(a: &mut Asm, text: &str) {
    a.li(RDX, 0x3f8);
    for byte in text.bytes() {
        a.mov(AL, i32::from(byte as i8));
        a.out_dx(AL);
    }
}

/// Writes to a port.
fn out(a: &mut Asm, port: u16, value: Reg, number: u64) {
    a.li(RDX, port.into());
    a.li(RAX, number);
    a.out_dx(value);
}

fn hello(end: impl FnOnce(&mut Asm)) -> Vec<u8> {
    build(|a| {
        print(a, "hello from the guest\n");
        end(a);
        let again = a.here_label();
        a.hlt();
        a.jmp(again);
    })
}

fn power_off(a: &mut Asm) {
    out(a, 0x604, AX, 5 << 10 | 1 << 13);
}

fn guest(content: &[u8], options: &[&str]) -> Done {
    let kernel = file("guest", content);
    let arguments = ["run", "--backend", "kvm", "--memory", "16M", "--kernel", &kernel];
    run(axvcpu(&arguments).args(options))
}

#[test]
fn every_end_has_its_status() {
    if !is_here("every end") {
        return;
    }
    type End = fn(&mut Asm);
    let crash: End = |a| {
        // No table of interrupts, and an exception.
        a.ud2();
    };
    let ends: [(End, i32, &str); 4] = [
        (power_off, 0, "the guest switched its machine off"),
        (|a| out(a, 0xcf9, AL, 6), 3, "the guest asked for a restart"),
        (|a| out(a, 0x64, AL, 0xfe), 3, "the guest asked for a restart"),
        (crash, 4, "the guest crashed"),
    ];
    for (end, code, sentence) in ends {
        let done = guest(&hello(end), &[]);
        assert_eq!(done.code(), code, "{done:?}");
        assert_eq!(done.stdout, "hello from the guest\n");
        assert!(done.stderr.starts_with(&format!("axvcpu: {sentence}")), "{}", done.stderr);
        assert!(done.stderr.contains("port write"), "{}", done.stderr);
    }
}

#[test]
fn an_elf_program_for_x86_needs_no_option() {
    if !is_here("an ELF program") {
        return;
    }
    let code = hello(power_off);
    // Header, one loadable segment, code (System V ABI, chapters 4 and 5).
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let numbers = [BASE, 64, 0];
    numbers.iter().for_each(|number: &u64| elf.extend(number.to_le_bytes()));
    elf.extend([0u16, 0, 64, 56, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    elf.extend([1u32, 7].iter().flat_map(|word| word.to_le_bytes()));
    let size = code.len() as u64;
    elf.extend([120, BASE, BASE, size, size, 4096].iter().flat_map(|n: &u64| n.to_le_bytes()));
    elf.extend(code);
    let done = run(&mut axvcpu(&["run", "--kernel", &file("x86-elf", &elf)]));
    assert_eq!((done.code(), done.stdout.as_str()), (0, "hello from the guest\n"), "{done:?}");
    let json = guest(&hello(power_off), &["--summary", "json"]).stderr;
    assert!(
        json.starts_with(r#"{"end":"power-off","status":0,"backend":"kvm","cpus":1,"#),
        "{json}"
    );
    assert!(!json.contains("instructions"), "{json}");
}

#[test]
fn what_this_backend_cannot_do_is_refused() {
    if !is_here("what is refused") {
        return;
    }
    for (options, expected) in [
        (&["--clock", "instructions"][..], "needs a backend that counts them: --backend soft"),
        (&["--append", &"x".repeat(70_000)], "--append: "),
    ] {
        let done = guest(&hello(power_off), options);
        assert_eq!((done.code(), done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(done.stderr.contains(expected), "{}", done.stderr);
    }
}

/// Says that it is there, in a line without an end, and then does nothing: in the kernel, or busily.
fn idles(busily: bool) -> Vec<u8> {
    build(|a| {
        print(a, "ready> ");
        let again = a.here_label();
        if !busily {
            a.hlt();
        }
        a.jmp(again);
    })
}

#[test]
fn a_signal_ends_a_guest_that_does_not_leave_by_itself() {
    if !is_here("signals") {
        return;
    }
    for busily in [false, true] {
        for cpus in ["1", "4"] {
            let kernel = file("idle", &idles(busily));
            let arguments = ["run", "--backend", "kvm", "--cpus", cpus, "--kernel", &kernel];
            let mut command = axvcpu(&arguments);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            thread::sleep(Duration::from_millis(300));
            signal(&child, libc::SIGTERM);
            let done = finish(child);
            assert_eq!((done.code(), done.stdout.as_str()), (143, "ready> "), "{done:?}");
            assert!(done.stderr.starts_with("axvcpu: ended by signal 15"), "{}", done.stderr);
        }
    }
}

#[test]
fn keys_reach_the_guest_and_the_terminal_is_restored() {
    if !is_here("the terminal") {
        return;
    }
    // Answers each key with the next one in the alphabet.
    let code = build(|a| {
        print(a, "ready> ");
        let (again, nothing) = (a.here_label(), a.label());
        a.li(RDX, 0x3fd);
        a.in_dx(AL);
        a.test(AL, 1);
        a.jcc(Cond::E, nothing);
        a.li(RDX, 0x3f8);
        a.in_dx(AL);
        a.inc(AL);
        a.out_dx(AL);
        a.bind(nothing);
        a.jmp(again);
    });
    let kernel = file("echo", &code);
    let mut pty = Pty::new();
    let before = pty.settings();
    let mut child = pty.spawn(&mut axvcpu(&["run", "--backend", "kvm", "--kernel", &kernel]));
    pty.wait_for("ready> ");
    pty.type_in(b"HAL");
    pty.wait_for("IBM");
    pty.type_in(b"\x01x");
    assert_eq!(common::wait(&mut child).code(), Some(130));
    assert_eq!(pty.settings(), before);
}
