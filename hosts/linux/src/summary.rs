//! The report on standard error at the end of a run.

use std::io::Write;
use std::time::Duration;

use axvcpu_vmm::End;
use axvcpu_vmm::summary::{Repeatable, Summary};

use crate::args::{self, Run};
use crate::fingerprint::Fingerprint;
use crate::machine::Machine;
use crate::touched::{PAGE, Touched};
use crate::usage;

/// Everything there is to tell about a run.
pub(crate) struct Report<'a> {
    pub(crate) args: &'a Run,
    pub(crate) machine: &'a Machine,
    pub(crate) end: &'a End,
    pub(crate) wall: Duration,
}

impl Report<'_> {
    /// Prints it in the form the user wants.
    pub(crate) fn print(&self) {
        let form: fn(Summary<'_>) -> String = match self.args.summary {
            args::Summary::None => return,
            args::Summary::Text => |summary| summary.text().to_string(),
            args::Summary::Json => |summary| summary.json().to_string(),
        };
        let process = usage::now(); // before the report itself costs time
        let vm = &self.machine.vm;
        let instructions: Vec<_> = vm
            .cpus()
            .iter()
            .map(|cpu| cpu.vcpu().with_arch(|arch| arch.instructions()).unwrap_or_default())
            .collect();
        let repeatable = |guest_ns| Repeatable { guest_ns, state: self.fingerprint() };
        let summary = Summary {
            end: self.end,
            backend: "soft",
            memory: self.args.memory.0,
            wall_ns: self.wall.as_nanos() as u64,
            process: Some(process),
            instructions: Some(&instructions),
            stats: &vm.stats(),
            measured: true,
            repeatable: self.machine.virtual_time().map(repeatable),
        };
        let _ = std::io::stderr().write_all(form(summary).as_bytes()); // nobody is left to tell if this fails
    }

    /// The final state: every vCPU's registers, and all memory.
    fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::new();
        for cpu in self.machine.vm.cpus() {
            // A vCPU that failed has no state any more, which is a state as well.
            let _ =
                cpu.vcpu().with_arch(|arch| arch.visit_state(|value| fingerprint.number(value)));
        }
        let memory = self.machine.vm.memory();
        let touched = Touched::open();
        let mut content = [0; PAGE as usize];
        for (range, host) in memory.mappings() {
            touched.for_each(host.as_u64(), range.size / PAGE, |page| {
                let addr = range.base + page * PAGE;
                if memory.read(addr, &mut content).is_ok() {
                    fingerprint.page(addr, &content);
                }
            });
        }
        fingerprint.value()
    }
}
