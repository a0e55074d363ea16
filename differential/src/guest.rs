//! The opinion under test: a guest on the software hart, which has for an operating system the two system
//! calls that are made.
#![allow(unsafe_code)] // reads and writes guest memory, and gives a vCPU its stage-2 table

use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axvcpu::{AxVCpu, AxVCpuExitReason, GuestPhysAddr};
use axvcpu_cli::hal::{Frames, LinuxHal};
use axvcpu_cli::memory::GuestRam;
use axvcpu_riscv::paging::SV39X4;
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

use crate::image::{self, Image};
use crate::{layout, paging};

/// A batch takes a fraction of a second; something is wrong with one that takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

const SIZE: usize = (layout::END - layout::BASE) as usize;

/// How the guest's programs are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In S-mode without translation.
    Bare,
    /// In U-mode behind page tables, with timer interrupts.
    Paging,
}

/// What the programs wrote, and why there is no more of it.
pub(crate) struct Outcome {
    pub(crate) output: Vec<u8>,
    /// Not set when the guest ended as it should.
    pub(crate) trouble: Option<String>,
}

struct Ram(GuestRam);

impl Ram {
    /// The guest's memory, while the vCPU does not run.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `SIZE` bytes, mapped as long as the value lives. The vCPU runs on this thread, and not while
        // its caller holds the slice; nothing else knows the memory.
        unsafe { slice::from_raw_parts_mut(self.0.base().as_ptr(), SIZE) }
    }

    /// `length` bytes at virtual address `address`, appended to `to`.
    fn read(&mut self, mode: Mode, address: u64, length: u64, to: &mut Vec<u8>) -> Option<()> {
        for address in address..address.checked_add(length)? {
            let physical = match mode {
                Mode::Bare => address,
                Mode::Paging => paging::translate(address),
            };
            let offset = usize::try_from(physical.checked_sub(layout::BASE)?).ok()?;
            to.push(*self.bytes().get(offset)?);
        }
        Some(())
    }
}

/// Runs all programs of an image.
///
/// # Errors
///
/// The host's and the harness's own. What the guest does wrong is in the outcome.
pub(crate) fn run(image: &Image, mode: Mode) -> anyhow::Result<Outcome> {
    let mut ram = Ram(GuestRam::new(SIZE).context("no memory for the guest")?);
    ram.bytes()[..image.bytes.len()].copy_from_slice(&image.bytes);
    let entry = match mode {
        Mode::Bare => image.supervisor_entry,
        Mode::Paging => paging::prepare(ram.bytes(), image.user_entry)?,
    };
    let mut table = Stage2::<Frames>::new(SV39X4)?;
    let base = GuestPhysAddr::new(layout::BASE);
    table.map(base, ram.0.host_address(), SIZE as u64, Perms::RWX)?;

    let config = SoftConfig::new(Clock::Instructions(VirtualClock::new()));
    let vcpu = AxVCpu::<SoftVCpu<LinuxHal>>::new(0, 0, 0, None, config)?;
    // SAFETY: the table maps the guest's RAM only; both are dropped after the vCPU, being older.
    unsafe { vcpu.setup(GuestPhysAddr::new(entry), table.root(), ())? };
    vcpu.bind()?;

    let outcome = serve(&vcpu, &mut ram, mode);
    vcpu.unbind()?;
    outcome
}

/// The guest's operating system.
fn serve(vcpu: &AxVCpu<SoftVCpu<LinuxHal>>, ram: &mut Ram, mode: Mode) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut output = Vec::new();
    loop {
        let trouble = match vcpu.run()? {
            AxVCpuExitReason::Hypercall {
                nr: image::WRITE,
                args: [1, address, length, ..],
                ..
            } => {
                if ram.read(mode, address, length.min(1 << 20), &mut output).is_none() {
                    bail!("the driver writes from {address:#x}");
                }
                vcpu.set_return_value(length)?;
                continue;
            }
            AxVCpuExitReason::Hypercall { nr: image::EXIT, .. } => None,
            AxVCpuExitReason::Hypercall {
                nr: paging::TRAP, args: [cause, value, pc, ..], ..
            } => Some(format!("trap at {pc:#x}: cause {cause:#x}, value {value:#x}")),
            // Another vCPU's turn, if there were one.
            AxVCpuExitReason::Nothing if start.elapsed() < PATIENCE => continue,
            AxVCpuExitReason::Nothing => {
                Some(format!("not finished after {} s", PATIENCE.as_secs()))
            }
            exit => Some(format!("unexpected exit {exit:x?}")),
        };
        return Ok(Outcome { output, trouble });
    }
}
