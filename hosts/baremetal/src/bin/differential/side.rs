//! One of the two: a vCPU, its memory, and what it does.
#![allow(unsafe_code)] // reads and writes guest memory, and gives a vCPU its stage-2 table

use alloc::format;
use alloc::string::String;
use core::slice;

use axvcpu::{
    AxArchVCpu, AxMmHal, AxVCpu, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr, HostPhysAddr,
};
use axvcpu_baremetal::{Hal, Mem, time};
use axvcpu_differential::layout;
use axvcpu_riscv::paging::{PAGE_SIZE, SV39X4};
use axvcpu_riscv::stage2::{Perms, Stage2};

/// Guest memory, from [`layout::BASE`] on.
const SIZE: usize = (layout::END - layout::BASE) as usize;
const PAGES: usize = SIZE / PAGE_SIZE as usize;

/// A batch takes a fraction of a second; something is wrong with one that takes this long.
const PATIENCE_NS: u64 = 60_000_000_000;

/// Guest memory that is mapped as long as it lives.
pub(crate) struct Ram {
    at: HostPhysAddr,
    table: Stage2<Mem>,
}

impl Ram {
    pub(crate) fn new() -> Result<Self, String> {
        let mut table = Stage2::new(SV39X4).map_err(|error| format!("{error}"))?;
        let at = Mem::alloc_ram(PAGES).ok_or("no memory for a guest")?;
        table
            .map(GuestPhysAddr::new(layout::BASE), at, SIZE as u64, Perms::RWX)
            .map_err(|error| format!("{error}"))?;
        Ok(Self { at, table })
    }

    /// The guest's memory, while its vCPU does not run.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let start = Mem::phys_to_virt(self.at).as_usize() as *mut u8;
        // SAFETY: `SIZE` bytes taken in `new`. Guests run on this CPU only, and not while the slice is held.
        unsafe { slice::from_raw_parts_mut(start, SIZE) }
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: taken in `new`; the vCPU that used the memory is dropped before, see `Side`.
        unsafe { Mem::dealloc_contiguous(self.at, PAGES) };
    }
}

/// A vCPU that is bound to this CPU, on its memory.
pub(crate) struct Side<'a, A: AxArchVCpu> {
    pub(crate) vcpu: AxVCpu<A>,
    ram: &'a mut Ram,
    since: u64,
}

impl<'a, A: AxArchVCpu<Hal = Hal, SetupConfig = ()>> Side<'a, A> {
    /// A vCPU made with `config` that is about to start at `entry`.
    pub(crate) fn new(
        ram: &'a mut Ram,
        config: A::CreateConfig,
        entry: u64,
    ) -> Result<Self, String> {
        let text = |error| format!("{error}");
        let vcpu = AxVCpu::new(0, 0, 0, None, config).map_err(text)?;
        let root = ram.table.root();
        // SAFETY: the table maps this memory only; both outlive the vCPU, which borrows them.
        unsafe { vcpu.setup(GuestPhysAddr::new(entry), root, ()) }.map_err(text)?;
        vcpu.bind().map_err(text)?;
        Ok(Self { vcpu, ram, since: time::now_ns() })
    }

    /// Runs to the next exit that the guest is the reason of.
    pub(crate) fn run(&mut self) -> Result<Exit, String> {
        loop {
            match self.vcpu.run() {
                Err(error) => return Err(format!("it cannot run: {error}")),
                Ok(Exit::Nothing) => {}
                Ok(Exit::ExternalInterrupt { .. }) => Hal::irq_handler(),
                Ok(exit) => return Ok(exit),
            }
            if time::now_ns() - self.since > PATIENCE_NS {
                return Err(format!("not finished after {} s", PATIENCE_NS / 1_000_000_000));
            }
        }
    }

    /// `x0` to `x31`.
    pub(crate) fn registers(&self) -> Result<[u64; 32], String> {
        let mut registers = [0; 32];
        for (number, value) in registers.iter_mut().enumerate() {
            *value = self.vcpu.get_gpr(number).map_err(|error| format!("x{number}: {error}"))?;
        }
        Ok(registers)
    }

    pub(crate) fn answer(&self, value: u64) -> Result<(), String> {
        self.vcpu.set_return_value(value).map_err(|error| format!("no answer: {error}"))
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.ram.bytes()
    }
}
