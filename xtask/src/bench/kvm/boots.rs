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

/// A machine of QEMU's that is as small as ours, on KVM, with the same guest.
const QEMU: &str = "-M microvm,acpi=on -accel kvm -cpu host -m 512 -nodefaults -display none -no-reboot -serial stdio \
                    -kernel /kernel -initrd /initrd";

/// A boot to power-off.
pub(super) struct Boot {
    about: &'static str,
    /// By the clock of the machine it ran in.
    seconds: f64,
    exits: Vec<(String, u64)>,
    /// As long as it took from the program's start to its end; and QEMU with the same KVM and the same guest.
    whole: f64,
    qemu: Option<f64>,
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
    let qemu = machine.add_qemu()?;
    let part = |script| l1::Part { script, limit: PART };
    let console = Arch::X86_64.console();
    let mut parts: Vec<_> = MESSAGES
        .map(|(_, more)| {
            part(format!(
                "exec axvcpu run --backend kvm --kernel /kernel --initrd /initrd --append '{console}{more}' --summary \
                 json\n"
            ))
        })
        .into();
    let compared = qemu.iter().flat_map(|start| {
        MESSAGES.map(|(_, more)| part(format!("exec {start} {QEMU} -append '{console}{more}'\n")))
    });
    parts.extend(compared);
    let step = Step::new("boot Debian on KVM in a virtual machine");
    let run = l1::run(&machine, "bench-kvm", CPUS, &parts, LIMIT)?;
    step.done("measured");
    ensure!(run.done.len() == parts.len(), "not all guests came to their end; {}", run.ended);
    let (own, others) = run.done.split_at(MESSAGES.len());
    let boots = MESSAGES.iter().zip(own).enumerate();
    boots.map(|(index, ((about, _), done))| Boot::new(about, done, others.get(index))).collect()
}

impl Boot {
    fn new(about: &'static str, done: &l1::Done, qemu: Option<&l1::Done>) -> Result<Self> {
        let words = || format!("{}\n{}", proc::tail(&done.stdout, 8), proc::tail(&done.stderr, 4));
        ensure!(done.code == 0, "the guest ended with exit code {}\n{}", done.code, words());
        demo::check(&done.stdout, 1).with_context(words)?;
        let summary = done.stderr.lines().last().unwrap_or_default();
        let exits = summary::exits(summary);
        ensure!(!exits.is_empty(), "the summary names no exits: {summary}");
        let wall = number(summary, "wall_ns")
            .ok_or_else(|| anyhow!("the summary tells no time: {summary}"))?;
        let seconds = |done: &l1::Done| -> Result<f64> {
            demo::check(&done.stdout, 1).context("in QEMU")?;
            Ok(done.seconds)
        };
        let qemu = qemu.map(seconds).transpose()?;
        Ok(Self { about, seconds: wall as f64 / 1e9, exits, whole: done.seconds, qemu })
    }

    pub(super) fn json(&self) -> String {
        let exits: Vec<_> =
            self.exits.iter().map(|(name, count)| format!("\"{name}\": {count}")).collect();
        format!(
            "{{ \"boot\": \"{}\", \"seconds\": {:.3}, \"whole\": {:.3}, \"qemu\": {}, \"exits\": {{ {} }} }}",
            self.about,
            self.seconds,
            self.whole,
            self.qemu.map_or("null".into(), |seconds| format!("{seconds:.3}")),
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
    row("seconds, of the machine", &|boot| format!("{:.2}", boot.seconds));
    row("seconds, of the program", &|boot| format!("{:.2}", boot.whole));
    if boots.iter().any(|boot| boot.qemu.is_some()) {
        let seconds = |boot: &Boot| boot.qemu.map_or("-".into(), |qemu| format!("{qemu:.2}"));
        row("seconds, of QEMU on the same KVM", &seconds);
    } else {
        eprintln!(
            "SKIPPED QEMU on the same KVM: this machine's own QEMU cannot be moved into another"
        );
    }
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
            let done = l1::Done { code, stdout, stderr, seconds: 9.0, timed_out: false };
            Boot::new("x", &done, None)
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
