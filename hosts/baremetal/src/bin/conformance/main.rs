//! The conformance suite on the machine's hardware backend: every case of the contract, in each shape the hardware can
//! give to a vCPU.
//!
//! On its command line: `filter=TEXT` runs the cases whose names contain the text only, with `_` for a space;
//! `verbose` tells the name of each case before it runs, for a case that does not end.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

#[cfg(target_arch = "aarch64")]
mod arm;
mod pair;
#[cfg(not(target_arch = "aarch64"))]
mod riscv;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use axvcpu_baremetal::{Hal, Machine, println, status};
use axvcpu_conformance::{Report, Subject as _};

#[cfg(target_arch = "aarch64")]
use arm as arch;
#[cfg(not(target_arch = "aarch64"))]
use riscv as arch;

axvcpu_baremetal::main!(conformance);

/// What the command line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    filter: String,
    verbose: bool,
}

impl Options {
    fn parse(line: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("filter", text)) => options.filter = text.replace('_', " "),
                None if word == "verbose" => options.verbose = true,
                _ => return Err(format!("'{word}' is no option of the conformance suite")),
            }
        }
        Ok(options)
    }
}

fn conformance(machine: &'static Machine) -> u8 {
    let options = match Options::parse(machine.bootargs()) {
        Ok(options) => options,
        Err(message) => {
            println!("axvcpu: {message}");
            return status::USAGE;
        }
    };
    let Some(features) = arch::features::<Hal>() else {
        println!("axvcpu: virtualization is off on CPU 0, which cannot be");
        return status::HOST;
    };
    println!("{} CPUs, {features:?}", machine.cpus());

    let mut reports = Vec::new();
    let mut add = |report: Report| {
        println!("\n{report}");
        reports.push(report);
    };
    for subject in arch::subjects(machine, features) {
        let before = |name| {
            if options.verbose {
                println!("{}: {name}", subject.name());
            }
        };
        add(arch::run_matching(&subject, &options.filter, before));
    }
    if options.filter.is_empty() {
        match arch::per_cpu(machine) {
            Ok(report) => add(report),
            Err(error) => {
                println!("axvcpu: virtualization cannot be switched off: {error}");
                return status::HOST;
            }
        }
    }

    let total = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    let (passed, failed) = (total(Report::passed), total(Report::failed));
    println!(
        "\nall together:\n{passed} passed, {failed} failed, {} skipped",
        total(Report::skipped)
    );
    u8::from(failed != 0 || passed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = Options::parse("verbose filter=mmio:_lb").unwrap();
        assert_eq!(options, Options { filter: "mmio: lb".into(), verbose: true });
        assert_eq!(Options::parse("").unwrap(), Options::default());
        for wrong in ["filter", "verbose=1", "fast"] {
            assert!(Options::parse(wrong).unwrap_err().contains(wrong));
        }
    }
}
