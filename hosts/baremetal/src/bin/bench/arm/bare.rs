//! The backend without what `AxVCpu` puts around it.
#![allow(unsafe_code)] // sets a vCPU up on a table that outlives it

use alloc::{format, vec};

use axvcpu::{AxArchVCpu, AxResult, AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_baremetal::Machine;

use super::{Asm, Backend, CODE, Config, call_forever, count, instructions, write_forever};
use crate::guest::{Space, assemble};
use crate::{Failure, Figure, Figures, ROUNDS, WARM};

/// A vCPU bound to this physical CPU, and its address space. Dropped in this order.
struct Bare {
    vcpu: Backend,
    space: Space,
}

impl Bare {
    /// In the order of [`AxArchVCpu`].
    fn new(write: impl FnOnce(&mut Asm)) -> Result<Self, Failure> {
        let failed = |error| format!("{error}");
        let space = Space::new(&assemble(CODE, write)?)?;
        let vcpu = Backend::new(0, 0, Config::new()).map_err(failed)?;
        let mut this = Self { vcpu, space };
        this.set_up().map_err(failed)?;
        Ok(this)
    }

    fn set_up(&mut self) -> AxResult {
        self.vcpu.set_entry(GuestPhysAddr::new(CODE))?;
        // SAFETY: the table maps the space's own frames, and both are dropped after the vCPU.
        unsafe { self.vcpu.set_ept_root(self.space.root()) }?;
        self.vcpu.setup(())?;
        self.vcpu.bind()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // On the CPU it is bound to, where that cannot fail.
        let _ = self.vcpu.unbind();
    }
}

pub(super) fn figures(_: &Machine) -> Figures {
    Ok(vec![
        Figure { what: "null call: exit and entry", each: runs(call_forever)?, guest: 3 },
        Figure { what: "MMIO write: exit and entry", each: runs(write_forever)?, guest: 3 },
    ])
}

/// Instructions of one of many runs of a guest that does the same forever.
fn runs(write: impl FnOnce(&mut Asm)) -> Result<u64, Failure> {
    let Bare { vcpu, .. } = &mut Bare::new(write)?;
    let mut before = 0;
    for round in 0..WARM + ROUNDS {
        if round == WARM {
            before = count();
        }
        let exit = vcpu.run();
        if !matches!(exit, Ok(Exit::Hypercall { .. } | Exit::MmioWrite { .. })) {
            return Err(format!("{exit:?}"));
        }
    }
    Ok(instructions(count() - before) / ROUNDS)
}
