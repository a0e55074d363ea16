//! Guests that call their firmware with everything: the machine bears it, answers as the specifications say, and ends as it
//! should. Hangs are found by the time limit.

mod common;

use std::io::Write;

use axvcpu_guest_firmware::{Arch, Guest, MEMORY, guests};
use common::{Done, axvcpu, file, run};

/// What a process has at most, in bytes: the guest's memory, and the program's own.
const PEAK: u64 = MEMORY + (16 << 20);

/// A number of the summary.
#[track_caller]
fn number(summary: &str, key: &str) -> u64 {
    let found = summary.split_once(&format!(r#""{key}":"#)).and_then(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    });
    found.unwrap_or_else(|| panic!("no {key} in {summary}"))
}

#[track_caller]
fn judge(guest: &Guest, options: &[&str]) -> Done {
    let kernel = file(&guest.name, &guest.image);
    let (memory, cpus) = (MEMORY.to_string(), guest.cpus.to_string());
    let mut command = axvcpu(&["run", "--memory", &memory, "--cpus", &cpus, "--kernel", &kernel]);
    let done = run(command.args(["--summary", "json"]).args(options));
    let result = guest.judge(&done.stdout, done.status.code());
    result.unwrap_or_else(|error| panic!("{} {options:?}: {error}\n{}", guest.name, done.stderr));
    assert_eq!(done.stderr.lines().count(), 1, "{}: {}", guest.name, done.stderr);
    let peak = number(&done.stderr, "peak_memory_bytes");
    assert!(peak < PEAK, "{} {options:?}: {peak} bytes", guest.name);
    std::fs::remove_file(kernel).unwrap();
    done
}

#[test]
fn the_sbi_bears_everything() {
    let guests = guests(Arch::Riscv64).unwrap();
    assert!(guests.iter().any(|guest| guest.cpus == 4 && guest.name.starts_with("storm")));
    for guest in &guests {
        judge(guest, &["--backend", "soft"]);
    }
}

/// Among the CPUs that a sweep starts there are some that only trap, as there is nothing where their handlers are. The first
/// one sleeps meanwhile, and time has to pass for it.
#[test]
fn with_a_clock_that_counts_instructions_it_is_the_same() {
    let options = ["--backend", "soft", "--clock", "instructions"];
    for guest in &guests(Arch::Riscv64).unwrap() {
        let state = || {
            let done = judge(guest, &options);
            let (_, state) = done.stderr.rsplit_once(r#""state":"#).unwrap();
            (state.to_owned(), number(&done.stderr, "guest_ns"), done.stdout)
        };
        match guest.name.as_str() {
            "sweep-1" | "storm" => assert_eq!(state(), state(), "{}", guest.name),
            "sweep-4" => drop(state()),
            _ => {}
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_pc_bears_everything() {
    let rows = run(&mut axvcpu(&["backends"])).stdout;
    let row = rows.lines().find(|line| line.starts_with("kvm")).unwrap();
    if !row.contains(" yes ") {
        // Past the harness, which shows what a test prints only if it fails.
        let _ = writeln!(std::io::stdout(), "  kvm: firmware  skipped: {row}");
        return;
    }
    for guest in &guests(Arch::X86_64).unwrap() {
        // Some of the KVMs that are in a virtual machine themselves never come back from a hypercall, and that is
        // nothing a program could help. Where KVM is complete the stage `kvm` makes them.
        if guest.name.starts_with("hypercalls") {
            let _ = writeln!(std::io::stdout(), "  kvm: {}  left to the stage kvm", guest.name);
            continue;
        }
        judge(guest, &["--backend", "kvm"]);
    }
}
