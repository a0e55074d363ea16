//! The conformance suite on the hardware backend: every case of the contract, with each stage-2 mode the hardware
//! has, with the guest's own timer and without.
//!
//! On its command line: `filter=TEXT` runs the cases whose names contain the text only, with `_` for a space;
//! `verbose` tells the name of each case before it runs, for a case that does not end.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use axvcpu::{AxResult, AxVCpuHal};
use axvcpu_baremetal::{Hal, Machine, println, status, time};
use axvcpu_conformance::{Report, Subject, riscv, run_per_cpu};
use axvcpu_riscv::paging::{Mode, SV48X4, SV57X4};
use axvcpu_riscv64::{Features, RiscvConfig, RiscvPerCpu, RiscvVCpu};
use pair::on_two_cpus;

mod pair;

axvcpu_baremetal::main!(conformance);

/// The backend in one of the shapes that guests can get.
struct Riscv64 {
    machine: &'static Machine,
    name: String,
    config: RiscvConfig,
    features: Features,
}

impl Subject for Riscv64 {
    type Arch = RiscvVCpu<Hal>;

    fn name(&self) -> &str {
        &self.name
    }

    fn create_config(&self) -> AxResult<RiscvConfig> {
        Ok(self.config)
    }

    fn setup_config(&self) {}

    fn sleep(&self, ns: u64) {
        let end = time::now_ns() + ns;
        while time::now_ns() < end {
            core::hint::spin_loop();
        }
    }

    fn crowd(&self) -> usize {
        (1 << self.features.vmid_bits) + 100
    }

    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        on_two_cpus(self.machine, here, there)
    }
}

impl riscv::Subject for Riscv64 {
    fn stage2_mode(&self) -> Mode {
        self.config.stage2
    }

    fn time_base(&self) -> u64 {
        self.machine.timebase()
    }

    fn has_stimecmp(&self) -> bool {
        self.config.sstc && self.features.sstc
    }

    fn orders_interrupts(&self) -> bool {
        self.machine.isa().split('_').any(|extension| extension == "ssaia")
    }
}

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

/// The shapes to try.
fn subjects(machine: &'static Machine, features: Features) -> Vec<Riscv64> {
    let plain = RiscvConfig { timebase: machine.timebase(), ..RiscvConfig::new() };
    let mut shapes = Vec::from([("riscv64, Sv39x4", plain)]);
    if features.sstc {
        shapes.push(("riscv64, no timer of the guest's own", RiscvConfig { sstc: false, ..plain }));
    }
    let offset = 0u64.wrapping_sub(time::now_ticks());
    shapes.push((
        "riscv64, instructions fetched to be decoded, time from 0",
        RiscvConfig { fetch_always: true, time_offset: offset, ..plain },
    ));
    for (name, mode) in [("riscv64, Sv48x4", SV48X4), ("riscv64, Sv57x4", SV57X4)] {
        if features.has_stage2(mode) {
            shapes.push((name, RiscvConfig { stage2: mode, ..plain }));
        }
    }
    let shape =
        |(name, config): (&str, _)| Riscv64 { machine, name: name.into(), config, features };
    shapes.into_iter().map(shape).collect()
}

/// The cases about the switch itself, on this CPU.
fn per_cpu(machine: &Machine) -> AxResult<Report> {
    machine.without_virtualization(|| {
        run_per_cpu::<RiscvPerCpu<Hal>>("riscv64, a physical CPU", Hal::cpu_id())
    })
}

fn conformance(machine: &'static Machine) -> u8 {
    let options = match Options::parse(machine.bootargs()) {
        Ok(options) => options,
        Err(message) => {
            println!("axvcpu: {message}");
            return status::USAGE;
        }
    };
    let Some(features) = axvcpu_riscv64::features::<Hal>() else {
        println!("axvcpu: virtualization is off on CPU 0, which cannot be");
        return status::HOST;
    };
    println!("{} CPUs, {features:?}", machine.cpus());

    let mut reports = Vec::new();
    let mut add = |report: Report| {
        println!("\n{report}");
        reports.push(report);
    };
    for subject in subjects(machine, features) {
        let before = |name| {
            if options.verbose {
                println!("{}: {name}", subject.name());
            }
        };
        add(riscv::run_matching(&subject, &options.filter, before));
    }
    if options.filter.is_empty() {
        match per_cpu(machine) {
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
