//! `soak [EXITS]`: soaks every backend that works here, and says what was counted. KVM, whose exits take longer by far,
//! leaves a hundredth as often.

use std::process::ExitCode;

/// Without an argument.
const EXITS: u64 = 2_000_000;

fn main() -> ExitCode {
    let exits = match std::env::args().nth(1).map(|text| text.parse()) {
        None => EXITS,
        Some(Ok(exits)) if exits > 0 => exits,
        Some(_) => {
            eprintln!("usage: soak [EXITS]");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    // One after the other: they would take the processors from each other.
    for (name, result) in [
        ("soft", axvcpu_soak::soft(exits).map(Some)),
        ("kvm", axvcpu_soak::kvm(exits.div_ceil(100))),
    ] {
        match result {
            Ok(Some(account)) => println!("{name:6}{account}"),
            Ok(None) => println!("{name:6}is not here"),
            Err(error) => {
                println!("{name:6}FAILED: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
