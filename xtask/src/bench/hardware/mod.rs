//! The hardware backends: how many instructions guests and the hypervisor take.
//!
//! Counts repeat whatever else the machine is doing, so nothing is measured twice.

mod boots;
mod kind;
mod trips;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use self::boots::Boot;
use self::trips::Trip;
use super::Options;
use super::count;
use crate::arch::Bare;
use crate::assets::{guest, initrd, qemu, store};
use crate::bare;
use crate::machine::Guest;

/// The memory of the guest whose boot is counted.
const MEMORY: u64 = 512 << 20;

/// Ends the guest's output in a boot, and stands before the status of a machine
/// that has to print it.
const MARK: &str = "axvcpubench";

/// Longer than any run takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Measures, prints the tables, and says whether the targets are met.
pub(super) fn measure(options: &Options, arch: Bare) -> Result<ExitCode> {
    let qemu = qemu::fetch(arch.guests())?;
    let (bench, hypervisor) = (bare::image("bench", arch)?, bare::image("hypervisor", arch)?);
    let guest = guest::fetch(arch.guests())?;
    let initrd = initrd::build(&guest.busybox, arch.guests(), "demo", None)?;
    let folder = store().join("work/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let kind = kind::of(arch);
    let mut trips = Vec::new();
    for cpu in kind.cpus {
        trips.extend(trips::measure(arch, &qemu.system, &bench, cpu)?);
    }
    let mut boots = Vec::new();
    for (about, quiet) in boots::MESSAGES {
        let append = format!("{}{quiet}", arch.guests().console());
        let files = Guest { kernel: &guest.kernel, initrd: Some(&initrd), append: &append };
        boots.push(Boot::measure(about, &kind, &qemu.system, &hypervisor, &files, &folder)?);
    }

    let version = qemu.version.replace(['"', '\\'], "");
    println!("Instructions, counted by QEMU {version} with `-icount {}`", count::METHOD);
    trips::show(&kind, &trips);
    boots::show(&kind, &boots);
    if let Some(file) = &options.json {
        let trips: Vec<_> = trips.iter().map(Trip::json).collect();
        let boots: Vec<_> = boots.iter().map(Boot::json).collect();
        let text = format!(
            "{{\n  \"qemu_version\": \"{version}\",\n  \"round_trips\": [\n    {}\n  ],\n  \
             \"boots\": [\n    {}\n  ]\n}}\n",
            trips.join(",\n    "),
            boots.join(",\n    "),
        );
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let met = trips.iter().all(Trip::is_met) && boots.iter().all(Boot::is_met);
    Ok(if options.strict && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
