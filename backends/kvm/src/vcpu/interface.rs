//! The interface's methods.
#![allow(unsafe_code)] // takes a stage-2 root

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use axvcpu::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason, AxVCpuHal, Fence, GuestPhysAddr, HostPhysAddr,
    Requests, VCpuId, VmId,
};
use axvcpu_x86::reg::msr;
use kvm_bindings::*;

use super::registers;
use super::{KvmConfig, KvmSetup, KvmVCpu, Open, Todo};
use crate::kick::{Thread, is_loaded, unload};
use crate::sys::{enter, request};

impl<H: AxVCpuHal> AxArchVCpu for KvmVCpu<H> {
    type Hal = H;
    type CreateConfig = KvmConfig;
    type SetupConfig = KvmSetup;

    /// The number of the vCPU is that of its local APIC.
    fn new(_: VmId, vcpu: VCpuId, config: KvmConfig) -> AxResult<Self> {
        Self::make(vcpu, config)
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        self.entry = entry.as_u64();
        if self.reset.is_some() { self.go_to(self.entry) } else { Ok(()) }
    }

    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        self.set_root(root)
    }

    fn setup(&mut self, config: KvmSetup) -> AxResult {
        self.prepare_msrs()?;
        match &config {
            KvmSetup::Start(start) => {
                let special = request::GET_SREGS.call(self.fd())?;
                let (special, general) =
                    registers::start(start, self.entry, special).ok_or(AxError::InvalidInput)?;
                request::SET_SREGS.call(self.fd(), &special)?;
                request::SET_REGS.call(self.fd(), &general)?;
                let running = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
                request::SET_MP_STATE.call(self.fd(), &running)?;
            }
            // Nobody would ever start it.
            KvmSetup::Wait if !self.has_irqchip() || self.apic == 0 => {
                return Err(AxError::InvalidInput);
            }
            KvmSetup::Wait => {}
            KvmSetup::State(state) => self.restore(state)?,
        }
        self.reset = Some(Box::new(self.state()?));
        // What is mapped until the first run is there, as on hardware that has not looked yet.
        self.todo |= Todo::MEMORY;
        Ok(())
    }

    /// What no thread but the calling one can end.
    fn run(&mut self) -> AxResult<AxVCpuExitReason> {
        self.run_to_exit(None, None)
    }

    #[inline(always)]
    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        // All of this is inlined to where the caller looks at the exit: then the frequent one is never put together in
        // memory. That is what the others have a place of their own for.
        let mut entered = None;
        if self.todo.is_empty() && is_loaded(&self.page) {
            // A request that came after the vCPU began to run has kicked the thread, and with it this page.
            let result = enter(self.shared.fd.as_fd());
            if result == 0 {
                if let Some(exit) = self.plain_port_access() {
                    return Ok(exit);
                }
            }
            entered = Some(result);
        }
        let mut result = Ok(AxVCpuExitReason::Nothing);
        self.run_slowly(entered, requests, &mut result);
        result
    }

    fn bind(&mut self) -> AxResult {
        let thread = Thread::current()
            .map_err(|error| AxError::Host { code: error.raw_os_error().unwrap_or(0) })?;
        self.shared.thread.store(thread.id(), Ordering::SeqCst);
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        self.settle_at_rest()?;
        unload(&self.page);
        self.shared.thread.store(0, Ordering::SeqCst);
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        self.write_gpr(reg, val)
    }

    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        self.read_gpr(reg)
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        self.inject(vector)
    }

    fn set_return_value(&mut self, val: u64) {
        self.answer(val);
    }

    fn reset(&mut self) -> AxResult {
        self.drop_exit()?;
        self.pending.clear();
        self.page.set_interrupt_window(false);
        self.todo &= Todo::MEMORY;
        let state = self.reset.take().ok_or(AxError::InvalidInput)?;
        // Some registers of a state that was saved are put back into memory too.
        self.reread_memory()?;
        let result = self.restore(&state);
        self.reset = Some(state);
        result
    }

    /// Instructions and the guest's own translations are the kernel's business, which keeps no stale ones.
    fn fence(&mut self, fence: Fence) -> AxResult {
        if fence.contains(Fence::STAGE2_TLB) { self.reread_memory() } else { Ok(()) }
    }

    /// Performs the access of the last MMIO exit on memory that is there now; if there is none, the exit comes again.
    fn retry(&mut self) -> AxResult {
        match (self.open, self.page.exit_reason()) {
            // The kernel fetches again anyhow.
            (Open::Fetch, _) => {}
            (Open::Asked | Open::Store, KVM_EXIT_MMIO) => self.todo |= Todo::RETRY,
            _ => return Err(AxError::NotAsked),
        }
        self.open = Open::Nothing;
        Ok(())
    }

    /// As on a bus where nobody answers: what is read is all ones, which is no instruction, and what is written goes
    /// nowhere. A model-specific register that is not there is a general-protection fault.
    fn fail_access(&mut self) -> AxResult {
        match (self.open, self.page.exit_reason()) {
            (Open::Nothing, _) => return Err(AxError::NotAsked),
            (Open::Fetch, _) => self.raise_undefined()?,
            (_, KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR) => self.page.set_msr(None),
            (Open::Asked, _) => self.answer(u64::MAX),
            (Open::Store, _) => {}
        }
        self.open = Open::Nothing;
        Ok(())
    }
}

impl<H: AxVCpuHal> KvmVCpu<H> {
    /// What firmware leaves in registers that a reset clears: memory is cached, and string instructions are fast. A CPU
    /// that has not got the register has nothing to prepare.
    fn prepare_msrs(&mut self) -> AxResult {
        const FAST_STRINGS: u64 = 1;
        const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;
        for (index, value) in
            [(msr::MISC_ENABLE, FAST_STRINGS), (msr::MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK)]
        {
            if self.machine.msrs().contains(&index) {
                request::SET_MSRS.call(self.fd(), &request::OneMsr::new(index, value))?;
            }
        }
        Ok(())
    }

    /// The exception of an instruction that does not exist (SDM volume 3, table 7-1).
    pub(super) fn raise_undefined(&mut self) -> AxResult {
        const UNDEFINED: u8 = 6;
        let exception =
            kvm_vcpu_events__bindgen_ty_1 { injected: 1, nr: UNDEFINED, ..Default::default() };
        self.set_exception(exception)
    }

    /// Takes back an exception that the guest has not seen.
    pub(super) fn drop_exception(&mut self) -> AxResult {
        self.set_exception(Default::default())
    }

    fn set_exception(&mut self, exception: kvm_vcpu_events__bindgen_ty_1) -> AxResult {
        let events = request::GET_VCPU_EVENTS.call(self.fd())?;
        request::SET_VCPU_EVENTS.call(self.fd(), &kvm_vcpu_events { exception, ..events })?;
        self.page.set_not_ready_for_interrupt();
        Ok(())
    }
}
