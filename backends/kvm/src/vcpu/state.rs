//! Everything a vCPU consists of, by classes: to be looked at, kept and put back.

use axvcpu::{AxError, AxResult, AxVCpuHal};
use kvm_bindings::*;

use super::KvmVCpu;
use crate::sys::request::{self, Xsave};

impl std::fmt::Debug for State {
    /// The general-purpose registers: the rest would fill pages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("general", &self.general).finish_non_exhaustive()
    }
}

/// The state of a vCPU between two instructions.
///
/// The classes are the kernel's own structures: what is in them is described in Linux's
/// Documentation/virt/kvm/api.rst.
#[derive(Clone)]
pub struct State {
    /// General-purpose registers, `rip` and `rflags`.
    pub general: kvm_regs,
    /// Segments, descriptor tables, control registers, EFER, and where the local APIC is.
    pub special: kvm_sregs,
    /// x87, SSE and whatever else XSAVE keeps, in its format.
    pub(crate) extended: Box<Xsave>,
    /// Extended control registers: what XSAVE keeps.
    pub extended_control: kvm_xcrs,
    /// Breakpoints.
    pub debug: kvm_debugregs,
    /// Exceptions and interrupts that wait, or are about to be taken.
    pub events: kvm_vcpu_events,
    /// Whether it runs, halts, or waits to be started.
    pub running: kvm_mp_state,
    /// The local APIC, if the kernel has it.
    pub apic: Option<kvm_lapic_state>,
    /// Model-specific registers: number and value, in the order in which they are put back.
    pub msrs: Vec<(u32, u64)>,
}

impl State {
    /// x87, SSE and whatever else XSAVE keeps (SDM volume 1, 13.4).
    pub fn extended(&self) -> &[u32] {
        &self.extended.region
    }
}

impl<H: AxVCpuHal> KvmVCpu<H> {
    /// The state. Of a vCPU that is [`Free`](axvcpu::VCpuState::Free) and whose last run ended with
    /// [`Nothing`](axvcpu::AxVCpuExitReason::Nothing), as it does after a kick, it is whole. Otherwise the instruction of the
    /// last exit may not be finished in it: one that is bound, one that was not answered, or a store that may be undone.
    ///
    /// Not in it is what is the machine's (memory, the I/O APIC, the 8259s, the 8254, the clock), time (the time-stamp
    /// counter and what it is to do for the local APIC's timer), and vectors that wait in the backend.
    pub fn state(&self) -> AxResult<State> {
        let fd = self.fd();
        // What is in the page the kernel will take over at the next entry.
        let general = match self.page.registers_are_changed() {
            true => self.page.registers(),
            false => request::GET_REGS.call(fd)?,
        };
        let large = self.extended_size()? > size_of::<kvm_xsave>();
        let extended =
            if large { request::GET_XSAVE2.call(fd) } else { request::GET_XSAVE.call(fd) };
        let mut msrs = Vec::with_capacity(self.machine.msrs().len());
        for &index in self.machine.msrs() {
            let mut one = request::OneMsr::new(index, 0);
            if request::GET_MSRS.call(fd, &mut one)? == 1 {
                msrs.push((index, one.data()));
            }
        }
        Ok(State {
            general,
            special: request::GET_SREGS.call(fd)?,
            extended: Box::new(extended?),
            extended_control: request::GET_XCRS.call(fd)?,
            debug: request::GET_DEBUGREGS.call(fd)?,
            events: request::GET_VCPU_EVENTS.call(fd)?,
            running: request::GET_MP_STATE.call(fd)?,
            apic: self.has_irqchip().then(|| request::GET_LAPIC.call(fd)).transpose()?,
            msrs,
        })
    }

    /// How many bytes of the XSAVE area the kernel gives and takes, which it decides by itself: so before it is asked to.
    fn extended_size(&self) -> AxResult<usize> {
        let size = self.machine.kvm().capability(KVM_CAP_XSAVE2) as usize;
        if size <= size_of::<Xsave>() { Ok(size) } else { Err(AxError::Unsupported) }
    }

    /// Puts a state into the vCPU, all of it: the last exit is over, and nothing of the page counts.
    pub(super) fn restore(&mut self, state: &State) -> AxResult {
        let fd = self.fd();
        // Modes before what depends on them. The APIC is where the special registers say, and pending interrupts go
        // into it.
        request::SET_MP_STATE.call(fd, &state.running)?;
        request::SET_XCRS.call(fd, &state.extended_control)?;
        request::SET_SREGS.call(fd, &state.special)?;
        request::SET_REGS.call(fd, &state.general)?;
        self.extended_size()?;
        request::SET_XSAVE.call(fd, &state.extended)?;
        for &(index, value) in &state.msrs {
            // Each of them could be set here (see `KvmMachine::find_msrs`), but the state may be from elsewhere. What is not
            // there is as good as zero.
            if request::SET_MSRS.call(fd, &request::OneMsr::new(index, value))? != 1 && value != 0 {
                return Err(AxError::Unsupported);
            }
        }
        request::SET_DEBUGREGS.call(fd, &state.debug)?;
        if let Some(apic) = &state.apic {
            request::SET_LAPIC.call(fd, apic)?;
        }
        let all = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
        let events = kvm_vcpu_events { flags: state.events.flags | all, ..state.events };
        request::SET_VCPU_EVENTS.call(fd, &events)?;
        self.page.set_task_priority(state.special.cr8);
        self.page.set_registers_changed(false);
        self.page.set_not_ready_for_interrupt();
        self.page.set_finished();
        Ok(())
    }
}
