//! The backend: what the core asks of a virtual CPU, put in terms of the hart.
#![allow(unsafe_code)] // implements `set_ept_root`, which is an unsafe function

use core::mem::replace;

use axvcpu::{
    AxArchPerCpu, AxArchVCpu, AxError, AxResult, AxVCpuExitReason, AxVCpuHal, Fence, GuestPhysAddr,
    HostPhysAddr, Requests, VCpuId, VmId,
};

use crate::hart::{Hart, Open};
use crate::isa::{REGISTERS, cause, sys};

/// Instructions between two looks at the requests.
const TURN: u32 = 64;

/// A virtual CPU of the toy architecture on the platform `H`.
pub struct ToyVCpu<H> {
    hart: Hart<H>,
    /// Where it starts after a reset.
    entry: u64,
}

// ANCHOR: execute
impl<H: AxVCpuHal> ToyVCpu<H> {
    fn execute(&mut self, stop: impl Fn() -> bool) -> AxVCpuExitReason {
        if let Open::Store { .. } = replace(&mut self.hart.open, Open::Nothing) {
            self.hart.pc += 4;
        }
        while !stop() {
            for _ in 0..TURN {
                if let Some(exit) = self.hart.step() {
                    return exit;
                }
            }
        }
        AxVCpuExitReason::Nothing
    }
}
// ANCHOR_END: execute

impl<H> ToyVCpu<H> {
    // ANCHOR: forget
    /// Forgets the access of the last exit, whose instruction `pc` is still at. Answers its address.
    fn undo(&mut self) -> AxResult<u64> {
        match self.hart.open {
            Open::Load { addr, .. } | Open::Store { addr } | Open::Fault { addr } => {
                self.hart.open = Open::Nothing;
                Ok(addr)
            }
            Open::Nothing | Open::Call => Err(AxError::NotAsked),
        }
    }
    // ANCHOR_END: forget
}

impl<H: AxVCpuHal> AxArchVCpu for ToyVCpu<H> {
    type Hal = H;
    type CreateConfig = ();
    type SetupConfig = ();

    // ANCHOR: new
    fn new(_: VmId, _: VCpuId, (): ()) -> AxResult<Self> {
        Ok(Self { hart: Hart::new(), entry: 0 })
    }
    // ANCHOR_END: new

    // ANCHOR: setup
    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        // The access of the last exit is over: the guest does not come back to it.
        self.hart.open = Open::Nothing;
        self.hart.pc = entry.as_u64();
        Ok(())
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        self.hart.root = root;
        self.hart.forget_translations();
        Ok(())
    }

    fn setup(&mut self, (): ()) -> AxResult {
        self.entry = self.hart.pc;
        self.reset()
    }
    // ANCHOR_END: setup

    // ANCHOR: run
    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        Ok(self.execute(|| false))
    }

    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        Ok(self.execute(|| requests.pending()))
    }
    // ANCHOR_END: run

    // All of the vCPU is in this structure, and nothing of it on the physical CPU.
    fn bind(&mut self) -> AxResult {
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        if reg >= REGISTERS {
            return Err(AxError::InvalidInput);
        }
        self.hart.set_register(reg, val);
        Ok(())
    }

    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        self.hart.registers.get(reg).copied().ok_or(AxError::InvalidInput)
    }

    // ANCHOR: interrupts
    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        if vector >= 64 {
            return Err(AxError::InterruptFailed { vector });
        }
        self.hart.system[sys::PENDING] |= 1 << vector;
        Ok(())
    }
    // ANCHOR_END: interrupts

    // ANCHOR: mmio
    fn set_return_value(&mut self, val: u64) {
        match replace(&mut self.hart.open, Open::Nothing) {
            Open::Load { rd, width, .. } => {
                self.hart.set_register(rd, val & width.mask());
                self.hart.pc += 4;
            }
            Open::Call => self.hart.set_register(1, val),
            _ => {} // the core passes on no answer that was not asked for
        }
    }
    // ANCHOR_END: mmio

    // ANCHOR: reset
    fn reset(&mut self) -> AxResult {
        self.hart.registers = [0; REGISTERS];
        self.hart.system = [0; sys::COUNT];
        self.hart.open = Open::Nothing;
        self.hart.pc = self.entry;
        self.hart.forget_instructions();
        Ok(())
    }
    // ANCHOR_END: reset

    // ANCHOR: fence
    fn fence(&mut self, fence: Fence) -> AxResult {
        if fence.contains(Fence::STAGE2_TLB) {
            self.hart.forget_translations();
        }
        if fence.contains(Fence::INSTRUCTION) {
            self.hart.forget_instructions();
        }
        Ok(()) // guests have no translations of their own
    }
    // ANCHOR_END: fence

    // ANCHOR: undo
    fn retry(&mut self) -> AxResult {
        self.undo().map(|_| ())
    }

    fn fail_access(&mut self) -> AxResult {
        let addr = self.undo()?;
        self.hart.trap(cause::ACCESS, addr);
        Ok(())
    }
    // ANCHOR_END: undo
}

/// A physical CPU: any will do.
#[derive(Debug)]
pub struct ToyPerCpu {
    enabled: bool,
}

impl AxArchPerCpu for ToyPerCpu {
    fn new(_: usize) -> AxResult<Self> {
        Ok(Self { enabled: false })
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }

    fn hardware_enable(&mut self) -> AxResult {
        self.enabled = true;
        Ok(())
    }

    fn hardware_disable(&mut self) -> AxResult {
        self.enabled = false;
        Ok(())
    }
}
