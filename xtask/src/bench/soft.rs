//! The software backend: how much processor time guests take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Options;
use crate::arch::Arch;
use crate::assets::qemu::Qemu;
use crate::assets::{guest, initrd, qemu, store};
use crate::proc::{self, Finished};
use crate::progress::Step;
use crate::{cargo, demo};

/// Booting Debian may cost at most this many times QEMU's processor time.
const BOOT_TARGET: f64 = 3.5;

/// Computing must reach at least this share of QEMU's instructions per second.
const COMPUTE_TARGET: f64 = 0.30;

/// The guest that computes, and what its result begins with.
const GUEST: (&str, &str) = ("axvcpu-guest-compute", "compute-guest");
const GUEST_BANNER: &str = "AXVCPU-COMPUTE ";

/// Rounds of that guest, of a million instructions each: enough for a second or
/// more on either, and so few that they cost next to nothing.
const ROUNDS_HERE: u64 = 500;
const ROUNDS_QEMU: u64 = 1500;
const ROUNDS_SHORT: u64 = 1;

/// Longer than any run takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

/// One thing measured on both.
struct Measured {
    here: f64,
    qemu: f64,
}

/// Measures, prints a table, and says whether the targets are met.
pub(super) fn measure(options: &Options) -> Result<ExitCode> {
    ensure!(options.rounds > 0, "nothing is measured in 0 rounds");
    let guest = guest::fetch(Arch::Riscv64)?;
    let initrd = initrd::build(&guest.busybox, Arch::Riscv64, "demo", None)?;
    let qemu = qemu::fetch(Arch::Riscv64)?;
    let cli = cargo::build_cli()?;

    let boot = boot(options.rounds, &cli, &qemu, &guest.kernel, &initrd)?;
    let mips = compute(options.rounds, &cli, &qemu)?;

    let ratio = boot.here / boot.qemu;
    let share = mips.here / mips.qemu;
    let met = |met| if met { "met" } else { "MISSED" };
    let (boot_met, compute_met) = (ratio <= BOOT_TARGET, share >= COMPUTE_TARGET);
    println!("{:34}{:>10}{:>10}{:>8}  target", "", "axvcpu", "QEMU", "ratio");
    println!(
        "{:34}{:>10.2}{:>10.2}{ratio:>8.2}  <= {BOOT_TARGET} {}",
        "Debian to power-off, user seconds",
        boot.here,
        boot.qemu,
        met(boot_met)
    );
    println!(
        "{:34}{:>10.1}{:>10.1}{share:>8.2}  >= {COMPUTE_TARGET} {}",
        "computing, MIPS",
        mips.here,
        mips.qemu,
        met(compute_met)
    );
    if let Some(file) = &options.json {
        let text = format!(
            "{{\n  \"qemu_version\": \"{}\",\n  \"rounds\": {},\n  \
             \"boot_user_seconds\": {:.3},\n  \"boot_user_seconds_qemu\": {:.3},\n  \
             \"boot_ratio\": {ratio:.3},\n  \"compute_mips\": {:.1},\n  \
             \"compute_mips_qemu\": {:.1},\n  \"compute_share\": {share:.3}\n}}\n",
            qemu.version.replace(['"', '\\'], ""),
            options.rounds,
            boot.here,
            boot.qemu,
            mips.here,
            mips.qemu,
        );
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed = options.strict && !(boot_met && compute_met);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// User time from start to power-off, best of `rounds`, the two taking turns so
/// that what else the machine does hits both.
fn boot(rounds: u32, cli: &Path, qemu: &Qemu, kernel: &Path, initrd: &Path) -> Result<Measured> {
    let step = Step::new("boot Debian on both");
    let append = "console=ttyS0 quiet";
    let mut best = Measured { here: f64::INFINITY, qemu: f64::INFINITY };
    for round in 1..=rounds {
        step.detail(&format!("round {round} of {rounds}"));
        let mut here = Command::new(cli);
        here.arg("run").arg("--kernel").arg(kernel).arg("--initrd").arg(initrd);
        let done = run(here.args(["--memory", "512M", "--append", append]))?;
        demo::check(&done.stdout, 1)?;
        best.here = best.here.min(done.user_seconds);

        let mut there = on_qemu(qemu, kernel);
        let done = run(there.arg("-initrd").arg(initrd).args(["-append", append]))?;
        demo::check(&done.stdout, 1)?;
        best.qemu = best.qemu.min(done.user_seconds);
    }
    step.done(&format!("best of {rounds}"));
    Ok(best)
}

/// Million instructions per second in the guest that computes: starting and
/// stopping is measured with a short run and taken off.
fn compute(rounds: u32, cli: &Path, qemu: &Qemu) -> Result<Measured> {
    let maker = cargo::build(GUEST.0, GUEST.1)?;
    let step = Step::new("compute on both");
    let guest = |rounds| Computation::new(&maker, rounds);
    let (short, here, there) = (guest(ROUNDS_SHORT)?, guest(ROUNDS_HERE)?, guest(ROUNDS_QEMU)?);
    let on_axvcpu = |guest: &Computation| {
        let mut command = Command::new(cli);
        run(command.args(["run", "--memory", "128M", "--kernel"]).arg(&guest.file))
    };
    let on_qemu = |guest: &Computation| run(&mut on_qemu(qemu, &guest.file));

    // A machine that computes something else may be as fast as it likes.
    let (ours, theirs) = (checksum(&on_axvcpu(&here)?)?, checksum(&on_qemu(&here)?)?);
    ensure!(ours == theirs, "the guest computes {ours} here and {theirs} on QEMU");

    let mut best = Measured { here: 0.0, qemu: 0.0 };
    for round in 1..=rounds {
        step.detail(&format!("round {round} of {rounds}"));
        best.here = best.here.max(mips(on_axvcpu, &here, &short)?);
        best.qemu = best.qemu.max(mips(on_qemu, &there, &short)?);
    }
    step.done(&format!("best of {rounds}"));
    Ok(best)
}

/// The guest that computes, with a certain number of rounds.
struct Computation {
    file: PathBuf,
    instructions: u64,
}

impl Computation {
    fn new(maker: &Path, rounds: u64) -> Result<Self> {
        let folder = store().join("work/bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(format!("compute-{rounds}.bin"));
        let mut command = Command::new(maker);
        let said = proc::output(command.arg("--rounds").arg(rounds.to_string()).arg(&file))?;
        // "N instructions"
        let instructions = said.split_whitespace().next().and_then(|word| word.parse().ok());
        let instructions = instructions.with_context(|| format!("no count in: {said}"))?;
        Ok(Self { file, instructions })
    }
}

/// The first word behind the banner.
fn checksum(done: &Finished) -> Result<String> {
    let (_, rest) = done.stdout.split_once(GUEST_BANNER).context("the guest prints no result")?;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

fn mips(
    measure: impl Fn(&Computation) -> Result<Finished>,
    long: &Computation,
    short: &Computation,
) -> Result<f64> {
    let seconds = measure(long)?.user_seconds - measure(short)?.user_seconds;
    // Times come in hundredths of a second.
    ensure!(seconds > 0.1, "the guest is too short to be measured on this machine");
    Ok((long.instructions - short.instructions) as f64 / seconds / 1e6)
}

fn on_qemu(qemu: &Qemu, kernel: &Path) -> Command {
    let mut command = Command::new(&qemu.system);
    command.args(["-M", "virt", "-m", "512M", "-nographic", "-no-reboot", "-kernel"]).arg(kernel);
    command
}

fn run(command: &mut Command) -> Result<Finished> {
    let done = proc::run(command, &[], Some(LIMIT))?;
    if done.timed_out || !done.status.success() {
        let (console, words) = (proc::tail(&done.stdout, 6), proc::tail(&done.stderr, 6));
        bail!("`{}`: {}\n{console}\n{words}", proc::line(command), done.ended());
    }
    Ok(done)
}
