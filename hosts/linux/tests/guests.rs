//! Guests that end in every way there is, and the status and summary that tell.

mod common;

use common::guests::{self, Reset};
use common::{Done, axvcpu, file, run, run_with};
use std::os::unix::process::ExitStatusExt;

fn guest(content: &[u8], options: &[&str]) -> Done {
    let kernel = file("guest", content);
    run(axvcpu(&["run", "--memory", "16M", "--kernel", &kernel]).args(options))
}

#[test]
fn every_end_has_its_status() {
    for (kind, failure, code, sentence) in [
        (Reset::Shutdown, false, 0, "the guest switched its machine off"),
        (Reset::ColdReboot, false, 3, "the guest asked for a restart"),
        (Reset::WarmReboot, false, 3, "the guest asked for a restart"),
        (Reset::Shutdown, true, 4, "the guest crashed"),
    ] {
        for clock in ["host", "instructions"] {
            let done = guest(&guests::hello(kind, failure), &["--clock", clock]);
            assert_eq!(done.code(), code, "{done:?}");
            assert_eq!(done.stdout, "hello from the guest\n");
            assert!(done.stderr.starts_with(&format!("axvcpu: {sentence}")), "{}", done.stderr);
        }
    }
    for cpus in ["1", "4"] {
        let done = guest(&guests::stops_itself(), &["--cpus", cpus]);
        assert_eq!(done.code(), 4, "{done:?}");
    }
}

#[test]
fn the_summary_counts_exits() {
    let done = guest(&guests::hello(Reset::Shutdown, false), &[]);
    for part in ["exits by reason", "hypercall", "instructions", "MIPS", "user "] {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
    let hypercalls = done.stderr.lines().find(|line| line.contains("hypercall")).unwrap();
    assert_eq!(hypercalls.split_whitespace().nth(1), Some("2"));
}

#[test]
fn the_summary_for_programs_is_one_line_of_json() {
    let done = guest(&guests::hello(Reset::ColdReboot, false), &["--summary", "json"]);
    let line = done.stderr.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'));
    assert!(line.starts_with(r#"{"end":"reset","status":3,"backend":"soft","cpus":1,"#), "{line}");
    assert!(line.contains(r#""exits":{"hypercall":{"count":2"#), "{line}");
    assert!(line.ends_with('}'));
    let depth = line.chars().fold((0, 0), |(depth, lowest): (i32, i32), c| {
        let depth = depth + i32::from(c == '{') - i32::from(c == '}');
        (depth, lowest.min(depth))
    });
    assert_eq!(depth, (0, 0), "{line}");
}

#[test]
fn the_summary_tells_the_program_s_own_peak_of_memory() {
    const OURS: usize = 256 << 20;
    let large = vec![1_u8; OURS];
    let done = guest(&guests::hello(Reset::Shutdown, false), &["--summary", "json"]);
    assert_eq!(large.iter().map(|&byte| usize::from(byte)).sum::<usize>(), OURS); // it was there meanwhile
    let (_, rest) = done.stderr.split_once(r#""peak_memory_bytes":"#).unwrap();
    let peak = rest.split(',').next().unwrap().parse::<usize>().unwrap();
    assert!((1 << 20..OURS / 2).contains(&peak), "{peak}");
}

#[test]
fn quiet_is_quiet() {
    for options in [&["--quiet"][..], &["--no-summary"], &["--summary", "none"]] {
        let done = guest(&guests::hello(Reset::Shutdown, false), options);
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
        assert_eq!(done.stdout, "hello from the guest\n");
    }
}

#[test]
fn a_guest_that_writes_everywhere_hurts_only_itself() {
    let done = guest(&guests::writes_everywhere(), &[]);
    // It may have hit a device that ends the machine; it must not have hit the host.
    assert!(matches!(done.code(), 0 | 3 | 4), "{done:?}");
    assert!(!done.stderr.contains("panicked"), "{done:?}");
}

#[test]
fn random_instructions_hurt_only_themselves() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20 {
        let mut code = Vec::new();
        while code.len() < 4096 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            code.extend_from_slice(&state.to_le_bytes());
        }
        // Most end in a trap without a handler, forever; a deadline for those.
        let kernel = file("random", &code);
        let mut child = axvcpu(&["run", "--memory", "16M", "--kernel", &kernel])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        if child.try_wait().unwrap().is_none() {
            common::pty::signal(&child, libc::SIGTERM);
        }
        let done = common::finish(child);
        // On a busy machine the signal may come before the program is ready for it.
        let early = done.status.signal() == Some(libc::SIGTERM) && done.stderr.is_empty();
        assert!(early || matches!(done.code(), 0 | 3 | 4 | 143), "{done:?}");
        assert!(!done.stderr.contains("panicked"), "{done:?}");
    }
}

#[test]
fn piped_input_arrives_whole_and_its_end_is_not_the_guests() {
    let kernel = file("echo", &guests::echoes());
    let mut input: Vec<u8> = (0..60_000u32).map(|n| b'a' + (n % 16) as u8).collect();
    input.push(b'q');
    let done =
        run_with(&mut axvcpu(&["run", "-q", "--memory", "16M", "--kernel", &kernel]), &input);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(done.stdout.as_bytes() == [b"ready> ", &input[..]].concat());
}

#[test]
fn runs_by_instructions_repeat() {
    let state = |guest: &[u8], options: &[&str]| {
        let done = self::guest(guest, &[&["--clock", "instructions"], options].concat());
        assert_eq!(done.code(), 0, "{done:?}");
        let lines = done.stderr.lines();
        let kept = ["instructions", "guest time", "final state"];
        lines
            .filter(|line| kept.iter().any(|name| line.trim_start().starts_with(name)))
            // The speed differs from run to run.
            .map(|line| line.split(" (").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let hello = guests::hello(Reset::Shutdown, false);
    let one = state(&hello, &[]);
    assert_eq!(one.len(), 3, "{one:?}");
    assert_eq!(one, state(&hello, &[]));
    assert_eq!(state(&hello, &["--cpus", "4"]), state(&hello, &["--cpus", "4"]));
    assert_ne!(one.last(), state(&guests::writes_everywhere(), &[]).last());
}

#[test]
fn a_guest_that_waits_costs_nothing() {
    for options in [&["--cpus", "1"][..], &["--cpus", "8"], &["--clock", "instructions"]] {
        let kernel = file("idle", &guests::idles());
        let child = axvcpu(&["run", "--memory", "16M", "--kernel", &kernel])
            .args(options)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        let used = common::processor_time(&child);
        common::pty::signal(&child, libc::SIGINT);
        let done = common::finish(child);
        assert_eq!((done.code(), done.stdout.as_str()), (130, "ready> "));
        assert!(used <= 30, "{used} ticks of 100 with {options:?}");
    }
}
