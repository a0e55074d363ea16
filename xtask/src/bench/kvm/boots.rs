//! Debian's boot on KVM in a virtual machine: its exits by reason, which are the guest's and the backend's doing, and its
//! time, which depends on the machine below.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::arch::Arch;
use crate::assets::{guest, initrd};
use crate::bench::summary::{self, number};
use crate::progress::Step;
use crate::{demo, l1, proc};

/// What the kernel's command line has behind the console: without and with all its messages.
const MESSAGES: [(&str, &str); 2] = [("quiet", " quiet"), ("with all messages", "")];

/// Processors of the machine: one for the guest, and one for what else there is.
const CPUS: u32 = 2;

/// Longer than any boot takes on a slow machine, and longer than all of it.
const PART: u64 = 240;
const LIMIT: Duration = Duration::from_secs(600);

/// A boot to power-off.
pub(super) struct Boot {
    about: &'static str,
    /// By the clock of the machine it ran in.
    seconds: f64,
    exits: Vec<(String, u64)>,
}

/// Boots.
///
/// # Errors
///
/// Fails when the machine cannot be had here, or a guest does not come to its end.
pub(super) fn measure() -> Result<Vec<Boot>> {
    let mut machine = l1::Machine::prepare()?;
    let guest = guest::fetch(Arch::X86_64)?;
    machine.add("initrd", initrd::build(&guest.busybox, Arch::X86_64, "demo", None)?);
    machine.add("kernel", guest.kernel);
    let parts = MESSAGES.map(|(_, more)| l1::Part {
        script: format!(
            "exec axvcpu run --backend kvm --kernel /kernel --initrd /initrd --append '{}{more}' --summary json\n",
            Arch::X86_64.console()
        ),
        limit: PART,
    });
    let step = Step::new("boot Debian on KVM in a virtual machine");
    let run = l1::run(&machine, "bench-kvm", CPUS, &parts, LIMIT)?;
    step.done("measured");
    ensure!(run.done.len() == parts.len(), "not all guests came to their end; {}", run.ended);
    let boots = MESSAGES.iter().zip(&run.done);
    boots.map(|((about, _), done)| Boot::new(about, done)).collect()
}

impl Boot {
    fn new(about: &'static str, done: &l1::Done) -> Result<Self> {
        let words = || format!("{}\n{}", proc::tail(&done.stdout, 8), proc::tail(&done.stderr, 4));
        ensure!(done.code == 0, "the guest ended with exit code {}\n{}", done.code, words());
        demo::check(&done.stdout, 1).with_context(words)?;
        let summary = done.stderr.lines().last().unwrap_or_default();
        let exits = summary::exits(summary);
        ensure!(!exits.is_empty(), "the summary names no exits: {summary}");
        let wall = number(summary, "wall_ns")
            .ok_or_else(|| anyhow!("the summary tells no time: {summary}"))?;
        Ok(Self { about, seconds: wall as f64 / 1e9, exits })
    }

    pub(super) fn json(&self) -> String {
        let exits: Vec<_> =
            self.exits.iter().map(|(name, count)| format!("\"{name}\": {count}")).collect();
        format!(
            "{{ \"boot\": \"{}\", \"seconds\": {:.3}, \"exits\": {{ {} }} }}",
            self.about,
            self.seconds,
            exits.join(", ")
        )
    }
}

/// The table.
pub(super) fn show(boots: &[Boot]) {
    let row = |name: &str, cell: &dyn Fn(&Boot) -> String| {
        let cells = boots.iter().map(|boot| format!(" {} |", cell(boot)));
        println!("| {name} |{}", cells.collect::<String>());
    };
    println!();
    row("Debian's boot to power-off, 1 CPU, in a virtual machine", &|boot| boot.about.into());
    println!("|---|{}", "---:|".repeat(boots.len()));
    row("seconds", &|boot| format!("{:.2}", boot.seconds));
    for name in summary::reasons(boots.iter().map(|boot| boot.exits.as_slice())) {
        row(name, &|boot| summary::count(&boot.exits, name).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_without_a_summary_is_none() {
        let console = format!(
            "{}\n{} 1\n{} {}\n{}\n",
            initrd::BEGIN,
            initrd::CPUS,
            initrd::SHA256,
            initrd::KNOWN_SHA256,
            initrd::END
        );
        let boot = |code, stderr: &str| {
            let (stdout, stderr) = (console.clone(), stderr.to_owned());
            Boot::new("x", &l1::Done { code, stdout, stderr, seconds: 9.0, timed_out: false })
        };
        let summary =
            r#"{"end":"power-off","wall_ns":2500000000,"exits":{"io write":{"count":12,"ns":3}}}"#;
        let good = boot(0, summary).unwrap();
        assert_eq!((good.seconds, good.exits), (2.5, vec![("io write".to_owned(), 12)]));
        assert!(boot(3, summary).is_err());
        assert!(boot(0, "").is_err());
        assert!(boot(0, r#"{"exits":{"io write":{"count":12,"ns":3}}}"#).is_err());
    }
}
