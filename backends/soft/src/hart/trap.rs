//! Traps into the guest's supervisor, and the return from them. Privileged architecture, "Supervisor Cause
//! Register" and "Trap-Return Instructions".

use axvcpu_riscv::csr::{CAUSE_INTERRUPT, sstatus};

use super::Hart;

impl Hart {
    /// Enters the guest's trap handler. `self.pc` is the instruction that trapped or was interrupted.
    pub(crate) fn trap(&mut self, cause: u64, value: u64) {
        let csr = &mut self.csr;
        csr.scause = cause;
        csr.stval = value;
        csr.sepc = self.pc;
        let enabled = csr.sstatus & sstatus::SIE != 0;
        csr.sstatus &= !(sstatus::SIE | sstatus::SPIE | sstatus::SPP);
        if enabled {
            csr.sstatus |= sstatus::SPIE;
        }
        if !self.user {
            csr.sstatus |= sstatus::SPP;
        }
        self.user = false;
        let base = csr.stvec & !3;
        let vectored = csr.stvec & 1 != 0 && cause & CAUSE_INTERRUPT != 0;
        self.pc = if vectored { base.wrapping_add(4 * (cause & !CAUSE_INTERRUPT)) } else { base };
        self.update_privilege();
        // A handler that traps at once retires nothing. So that it comes to the end of its slice all the same,
        // a trap uses some of that up, without being counted as an instruction. Time passes, too: others may wait
        // for it to do so.
        self.left -= 1;
        self.granted -= 1;
        self.pass_ns(1);
    }

    /// `sret`: goes back to where the trap came from.
    pub(crate) fn trap_return(&mut self) {
        let csr = &mut self.csr;
        self.user = csr.sstatus & sstatus::SPP == 0;
        let enabled = csr.sstatus & sstatus::SPIE != 0;
        csr.sstatus &= !(sstatus::SIE | sstatus::SPP);
        csr.sstatus |= sstatus::SPIE | if enabled { sstatus::SIE } else { 0 };
        self.pc = csr.sepc;
        self.attention = true;
        self.update_privilege();
    }

    /// Takes the interrupt that is due, if any.
    pub(crate) fn take_interrupt(&mut self) {
        self.attention = false;
        let Some(number) = self.csr.deliverable(self.user) else { return };
        // An edge is over once it is taken; what the timer or a line says goes on being pending.
        if self.csr.latched & 1 << number != 0 {
            self.csr.latched &= !(1 << number);
            self.csr.set_pending(number, false);
            self.poll_timer(self.left);
        }
        self.trap(CAUSE_INTERRUPT | number as u64, 0);
    }

    /// Whether `wfi` has nothing to wait for.
    pub(crate) fn has_wakeup(&self) -> bool {
        self.csr.sip & self.csr.sie != 0
    }
}
