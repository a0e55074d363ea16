//! The opinion under test: a guest on the software hart, which has for an operating system the two system
//! calls that are made.
#![allow(unsafe_code)] // reads and writes guest memory, and gives a vCPU its stage-2 table

use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axvcpu::{AxVCpu, AxVCpuExitReason, GuestPhysAddr};
use axvcpu_cli::hal::{Frames, LinuxHal};
use axvcpu_cli::memory::GuestRam;
use axvcpu_differential::image::{self, Image};
use axvcpu_differential::{layout, paging};
use axvcpu_riscv::paging::SV39X4;
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

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
    fn new() -> anyhow::Result<Self> {
        Ok(Self(GuestRam::new(SIZE).context("no memory for the guest")?))
    }

    /// Calls `f` with a hart that has this memory and starts at `entry`.
    fn hart<R>(
        &mut self,
        entry: u64,
        f: impl FnOnce(&mut Self, &AxVCpu<SoftVCpu<LinuxHal>>) -> anyhow::Result<R>,
    ) -> anyhow::Result<R> {
        let mut table = Stage2::<Frames>::new(SV39X4)?;
        let base = GuestPhysAddr::new(layout::BASE);
        table.map(base, self.0.host_address(), SIZE as u64, Perms::RWX)?;
        let config = SoftConfig::new(Clock::Instructions(VirtualClock::new()));
        let vcpu = AxVCpu::<SoftVCpu<LinuxHal>>::new(0, 0, 0, None, config)?;
        // SAFETY: the table maps this memory only; both outlive the vCPU, which ends with this function.
        unsafe { vcpu.setup(GuestPhysAddr::new(entry), table.root(), ())? };
        vcpu.bind()?;
        let result = f(self, &vcpu);
        vcpu.unbind()?;
        result
    }

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
    let mut ram = Ram::new()?;
    ram.bytes()[..image.bytes.len()].copy_from_slice(&image.bytes);
    let entry = match mode {
        Mode::Bare => image.supervisor_entry,
        Mode::Paging => paging::prepare(ram.bytes(), image.user_entry, paging::INTERVAL)
            .map_err(anyhow::Error::msg)?,
    };
    ram.hart(entry, |ram, vcpu| serve(vcpu, ram, mode))
}

/// Runs `image`, which is loaded and entered at `entry`, until it asks its firmware for anything, and answers
/// the memory from [`layout::BASE`] on and what it asked for unless that was a reset.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_kernel(image: &[u8], entry: u64) -> anyhow::Result<(Vec<u8>, Option<String>)> {
    const SYSTEM_RESET: u64 = 0x5352_5354;

    let mut ram = Ram::new()?;
    let start = (entry - layout::BASE) as usize;
    let place = ram.bytes().get_mut(start..start + image.len());
    place.context("the image does not fit")?.copy_from_slice(image);
    ram.hart(entry, |ram, vcpu| {
        let start = Instant::now();
        let trouble = loop {
            match vcpu.run()? {
                AxVCpuExitReason::Hypercall { nr: SYSTEM_RESET, .. } => break None,
                AxVCpuExitReason::Nothing if start.elapsed() < PATIENCE => {}
                exit => break Some(format!("unexpected exit {exit:x?}")),
            }
        };
        Ok((ram.bytes().to_vec(), trouble))
    })
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
