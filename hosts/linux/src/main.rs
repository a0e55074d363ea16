//! The `axvcpu` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    axvcpu_cli::main()
}
