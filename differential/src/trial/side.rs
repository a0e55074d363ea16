//! One of the two: a vCPU, its memory and its stage 2.
#![allow(unsafe_code)] // reads and writes guest memory, and gives a vCPU its stage-2 table

use alloc::format;
use alloc::string::String;
use core::slice;

use axvcpu::{
    AxArchVCpu, AxMmHal, AxResult, AxVCpu, AxVCpuExitReason as Exit, AxVCpuHal, Fence,
    GuestPhysAddr, HostPhysAddr, VCpuState,
};
use axvcpu_riscv::csr::irq;
use axvcpu_riscv::paging::{PAGE_SIZE, SV39X4};
use axvcpu_riscv::stage2::{Perms, Stage2};

use super::host::Action;
use super::layout::{BASE, PAGES, SIZE};
use super::state::State;

/// A hart and what a hypervisor can do with it.
pub trait Side {
    /// Enters the guest where it starts.
    ///
    /// # Errors
    ///
    /// The hypervisor's own.
    fn start(&mut self, entry: u64) -> Result<(), String>;

    /// Runs to the next exit that the guest is the reason of. `None`: it does not come in time.
    ///
    /// # Errors
    ///
    /// When the vCPU cannot be run.
    fn run(&mut self) -> Result<Option<Exit>, String>;

    /// All that the guest can read of its hart.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    fn state(&self) -> Result<State, String>;

    /// Guest memory, all of it.
    fn memory(&mut self) -> &mut [u8];

    /// Does something to the vCPU or its memory.
    ///
    /// # Errors
    ///
    /// When it is refused.
    fn act(&mut self, action: Action) -> Result<(), String>;
}

/// Whether two memories hold the same. By words, because this is done at every exit.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    let words = |bytes| {
        // SAFETY: any eight bytes are a number.
        let (before, words, after): (&[u8], &[u64], &[u8]) = unsafe { <[u8]>::align_to(bytes) };
        (before, words, after)
    };
    let ((a, left, b), (c, right, d)) = (words(left), words(right));
    a == c && b == d && left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l == r)
}

/// The frames of a platform.
type Mem<A> = <<A as AxArchVCpu>::Hal as AxVCpuHal>::MmHal;

/// A vCPU of any backend.
pub struct Machine<A: AxArchVCpu> {
    vcpu: AxVCpu<A>,
    table: Stage2<Mem<A>>,
    at: HostPhysAddr,
    visit: Visit<A>,
    watch: fn(),
}

/// How a backend tells its state.
pub type Visit<A> = fn(&A, &mut dyn FnMut(u64)) -> AxResult;

/// As many times a run may end for no reason of the guest's, before it counts as one that does not end.
const TURNS: usize = 4;

fn text(error: axvcpu::AxError) -> String {
    format!("{error}")
}

impl<A: AxArchVCpu<SetupConfig = ()>> Machine<A> {
    /// A vCPU made with `config`, bound to this CPU, with the memory at `at`. `watch` is called before each run, and
    /// may see to it that the run ends before long.
    ///
    /// # Errors
    ///
    /// When there is no memory, or no such vCPU.
    ///
    /// # Safety
    ///
    /// [`SIZE`] bytes at `at`, which is aligned to a page, are this machine's as long as it lives.
    pub unsafe fn new(
        config: A::CreateConfig,
        at: HostPhysAddr,
        visit: Visit<A>,
        watch: fn(),
    ) -> Result<Self, String> {
        let mut table = Stage2::new(SV39X4).map_err(text)?;
        for page in 0..PAGES as u64 {
            let offset = page * PAGE_SIZE;
            let host = HostPhysAddr::new(at.as_u64() + offset);
            let guest = GuestPhysAddr::new(BASE + offset);
            table.map(guest, host, PAGE_SIZE, Perms::RWX).map_err(text)?;
        }
        let vcpu = AxVCpu::new(0, 0, 0, None, config).map_err(text)?;
        // SAFETY: the table maps the caller's memory only. It is dropped after the vCPU, which is the field before.
        unsafe { vcpu.setup(GuestPhysAddr::new(BASE), table.root(), ()) }.map_err(text)?;
        vcpu.bind().map_err(text)?;
        Ok(Self { vcpu, table, at, visit, watch })
    }

    fn place(&mut self, at: u64, bytes: &[u8]) -> Result<(), String> {
        let start = at.wrapping_sub(BASE) as usize;
        let end = start.checked_add(bytes.len());
        let place = end.and_then(|end| self.memory().get_mut(start..end));
        place.ok_or_else(|| format!("no memory at {at:#x}"))?.copy_from_slice(bytes);
        Ok(())
    }

    fn map(&mut self, page: usize, perms: Option<Perms>) -> AxResult {
        let offset = page as u64 * PAGE_SIZE;
        let guest = GuestPhysAddr::new(BASE + offset);
        self.table.unmap(guest, PAGE_SIZE)?;
        if let Some(perms) = perms {
            let host = HostPhysAddr::new(self.at.as_u64() + offset);
            self.table.map(guest, host, PAGE_SIZE, perms)?;
        }
        self.vcpu.request_fence(Fence::STAGE2_TLB);
        Ok(())
    }
}

impl<A: AxArchVCpu<SetupConfig = ()>> Side for Machine<A> {
    fn start(&mut self, entry: u64) -> Result<(), String> {
        if self.vcpu.state() == VCpuState::Blocked {
            self.vcpu.wake(); // the last trial ended while its guest waited
        }
        self.act(Action::Line(false))?; // it may still be raised
        self.vcpu.reset().map_err(text)?;
        self.vcpu.set_entry(GuestPhysAddr::new(entry)).map_err(text)
    }

    fn run(&mut self) -> Result<Option<Exit>, String> {
        for _ in 0..TURNS {
            (self.watch)();
            match self.vcpu.run() {
                Err(error) => return Err(format!("it cannot run: {error}")),
                Ok(Exit::Nothing) => {}
                Ok(Exit::ExternalInterrupt { .. }) => A::Hal::irq_handler(),
                Ok(exit) => return Ok(Some(exit)),
            }
        }
        Ok(None)
    }

    fn state(&self) -> Result<State, String> {
        State::of(|f| {
            self.vcpu.with_arch(|arch| (self.visit)(arch, f)).and_then(|done| done).map_err(text)
        })
    }

    fn memory(&mut self) -> &mut [u8] {
        let start = Mem::<A>::phys_to_virt(self.at).as_usize() as *mut u8;
        // SAFETY: the caller of `new` has promised the memory. The guest runs in `run` only, which needs this machine
        // while the slice is held.
        unsafe { slice::from_raw_parts_mut(start, SIZE) }
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        let vcpu = &self.vcpu;
        let done = match action {
            Action::Answer(value) => vcpu.set_return_value(value),
            Action::Fail => vcpu.fail_access(),
            Action::Retry => vcpu.retry(),
            Action::Wake => {
                vcpu.wake();
                Ok(())
            }
            Action::Inject(vector) => vcpu.inject_interrupt(vector),
            Action::Line(level) => vcpu.set_interrupt_line(irq::EXTERNAL, level),
            Action::Register(number, value) => vcpu.set_gpr(number, value),
            Action::Map(page, perms) => self.map(page, perms),
            Action::Tell(at, value) => return self.place(at, &value.to_le_bytes()),
            Action::Table(at, value) => {
                vcpu.request_fence(Fence::GUEST_TLB);
                return self.place(at, &value.to_le_bytes());
            }
            Action::Instruction(at, half) => {
                vcpu.request_fence(Fence::INSTRUCTION);
                return self.place(at, &half.to_le_bytes());
            }
        };
        done.map_err(|error| format!("{action:x?}: {error}"))
    }
}
