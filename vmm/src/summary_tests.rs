//! Ends and summaries, to the letter: programs read them.

use axvcpu::{AxError, AxVCpuExitReason as Exit};

use super::*;
use crate::ExitKind;
use crate::stats::Counters;

fn left() -> End {
    End::Outside { word: "left", status: 130, sentence: "left by the user".into() }
}

#[test]
fn every_end_has_its_status() {
    let failed = Outcome::CpuFailed { cpu: 0, error: AxError::NoMemory };
    for (outcome, cause, status, word, sentence) in [
        (Outcome::PowerOff, None, 0, "power-off", "the guest switched its machine off"),
        (Outcome::Reboot { warm: false }, None, 3, "reset", "the guest asked for a restart"),
        (Outcome::Reboot { warm: true }, None, 3, "reset", "the guest asked for a restart"),
        (Outcome::Crashed { reboot: false }, None, 4, "crash", "the guest crashed: the guest"),
        (Outcome::Crashed { reboot: true }, None, 4, "crash", "the guest crashed: the guest"),
        (Outcome::AllCpusStopped, None, 4, "crash", "the guest crashed: all CPUs"),
        (failed, None, 5, "host-error", "the host failed: CPU 0 failed: "),
        (Outcome::Stopped, None, 5, "host-error", "the host failed: the machine stopped for no"),
        (Outcome::Stopped, Some(left()), 130, "left", "left by the user"),
        // The guest was faster.
        (Outcome::PowerOff, Some(left()), 0, "power-off", "the guest switched its machine off"),
    ] {
        let end = End::new(Some(outcome), cause);
        assert_eq!((end.status(), end.word()), (status, word), "{outcome}");
        assert!(end.to_string().starts_with(sentence), "{end}");
        assert_eq!(end.failure().is_some(), status == 5);
    }
    assert_eq!(End::new(None, None).status(), 5);
}

fn stats() -> [CpuStats; 2] {
    let counters = Counters::default();
    for _ in 0..2 {
        counters.count(ExitKind::of(&Exit::Halt { wake_after_ns: None }));
    }
    let unmeasured = counters.snapshot();
    counters.count(ExitKind::Nothing);
    counters.in_guest(2_000_000_000);
    counters.outside(ExitKind::Halt, 3_000_000);
    [unmeasured, counters.snapshot()]
}

#[test]
fn all_there_can_be() {
    let summary = Summary {
        end: &End::PowerOff,
        backend: "soft",
        memory: 1 << 20,
        wall_ns: 2_912_400_000,
        process: Some(Process {
            user_ns: 2_686_000_000,
            system_ns: 364_000_000,
            peak_memory: 4096,
        }),
        instructions: Some(&[1_000_000_000, 200_000_000]),
        stats: &stats(),
        measured: true,
        repeatable: Some(Repeatable { guest_ns: 1_200_000_001, state: 0xab }),
    };
    let text = "axvcpu: the guest switched its machine off
  time          2.912 s (user 2.686 s, system 0.364 s)
  instructions  1200000000 (600 MIPS while in the guest)
  guest time    1.200000001 s
  final state   00000000000000ab (FNV-1a of registers and memory)
  in the guest  2.000 s, in the monitor 0.003 s
  exits by reason             count      time/ms      each/us
  halt                            4        3.000      750.000
  kick                            1        0.000        0.000
  all                             5        3.000      600.000
";
    assert_eq!(summary.text().to_string(), text);
    let json = concat!(
        r#"{"end":"power-off","status":0,"backend":"soft","cpus":2,"memory_bytes":1048576,"#,
        r#""wall_ns":2912400000,"user_ns":2686000000,"system_ns":364000000,"#,
        r#""peak_memory_bytes":4096,"instructions":[1000000000,200000000],"#,
        r#""in_guest_ns":2000000000,"outside_ns":3000000,"#,
        r#""exits":{"halt":{"count":4,"ns":3000000},"kick":{"count":1,"ns":0}},"#,
        r#""guest_ns":1200000001,"state":"00000000000000ab"}"#,
        "\n"
    );
    assert_eq!(summary.json().to_string(), json);
}

#[test]
fn what_a_host_does_not_know_is_left_out() {
    let summary = Summary {
        end: &left(),
        backend: "riscv64",
        memory: 4096,
        wall_ns: 1_000_000,
        process: None,
        instructions: None,
        stats: &stats()[..1],
        measured: false,
        repeatable: None,
    };
    let text = "axvcpu: left by the user
  time          0.001 s
  exits by reason             count
  halt                            2
  all                             2
";
    assert_eq!(summary.text().to_string(), text);
    let json = concat!(
        r#"{"end":"left","status":130,"backend":"riscv64","cpus":1,"memory_bytes":4096,"#,
        r#""wall_ns":1000000,"in_guest_ns":0,"outside_ns":0,"exits":{"halt":{"count":2,"ns":0}}}"#,
        "\n"
    );
    assert_eq!(summary.json().to_string(), json);
}
