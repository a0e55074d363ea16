//! Runs a target over files, without libFuzzer: `repeat TARGET FILE…`, or `repeat --list`.

use std::process::ExitCode;

use axvcpu_fuzz::{TARGETS, find};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    if name == "--list" {
        for target in TARGETS {
            println!("{:16}{}", target.name, target.about);
        }
        return ExitCode::SUCCESS;
    }
    let Some(target) = find(&name) else {
        eprintln!("there is no target `{name}`; `--list` names them");
        return ExitCode::FAILURE;
    };
    for file in arguments {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        (target.run)(&bytes);
        println!("{file}: ok");
    }
    ExitCode::SUCCESS
}
