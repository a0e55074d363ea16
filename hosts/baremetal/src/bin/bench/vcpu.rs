//! The vCPU alone: exits, interrupts, and taking turns.
#![allow(unsafe_code)] // sets vCPUs up on tables that outlive them

use alloc::vec::Vec;
use alloc::{format, vec};

use axvcpu::{AxVCpu, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr};
use axvcpu_baremetal::Hal;

use crate::arch::{self, Asm, Backend, CODE, Config};
use crate::guest::{Space, assemble};
use crate::{Failure, Figure, Figures, ROUNDS, WARM};

pub(crate) type VCpu = AxVCpu<Backend>;

/// vCPUs in one address space, bound to this physical CPU. Dropped in this order.
pub(crate) struct Bench {
    pub(crate) vcpus: Vec<VCpu>,
    _space: Space,
}

impl Bench {
    pub(crate) fn new(
        count: usize,
        config: Config,
        write: impl FnOnce(&mut Asm),
    ) -> Result<Self, Failure> {
        let space = Space::new(&assemble(CODE, write)?)?;
        let mut vcpus = vec![];
        for (id, config) in vec![config; count].into_iter().enumerate() {
            let vcpu = VCpu::new(0, id, 0, None, config).map_err(|error| format!("{error}"))?;
            // SAFETY: the table maps the space's own frames, and both are dropped after the vCPUs.
            unsafe { vcpu.setup(GuestPhysAddr::new(CODE), space.root(), ()) }
                .and_then(|()| vcpu.bind())
                .map_err(|error| format!("{error}"))?;
            vcpus.push(vcpu);
        }
        Ok(Self { vcpus, _space: space })
    }

    pub(crate) fn vcpu(&self) -> &VCpu {
        &self.vcpus[0]
    }

    /// The two of them.
    pub(crate) fn both(&self) -> Result<(&VCpu, &VCpu), Failure> {
        match &self.vcpus[..] {
            [first, second] => Ok((first, second)),
            _ => Err("not two vCPUs".into()),
        }
    }
}

/// What every architecture has.
#[inline(always)] // with it, the loops that count come out as tight as they can
pub(crate) fn figures(config: &Config) -> Figures {
    let config = || Config::clone(config);
    Ok(vec![
        null_call(config())?,
        answered_call(config())?,
        mmio_write(config())?,
        mmio_read(config())?,
        injection(config())?,
        turns("null call with a switch to another vCPU", 3, config(), arch::call_forever)?,
    ])
}

/// Instructions of one of many runs that each end with the exit that `is_it` expects; `then` is done after each.
pub(crate) fn runs(
    vcpu: &VCpu,
    is_it: impl Fn(&Exit) -> bool,
    then: impl Fn(&VCpu) -> bool,
) -> Result<u64, Failure> {
    let mut before = 0;
    for round in 0..WARM + ROUNDS {
        if round == WARM {
            before = arch::count();
        }
        let exit = vcpu.run();
        if !exit.as_ref().is_ok_and(|exit| is_it(exit) && then(vcpu)) {
            return Err(format!("{exit:?}"));
        }
    }
    Ok(arch::instructions(arch::count() - before) / ROUNDS)
}

fn is_call(exit: &Exit) -> bool {
    matches!(exit, Exit::Hypercall { .. })
}

fn is_write(exit: &Exit) -> bool {
    matches!(exit, Exit::MmioWrite { .. })
}

/// Runs a vCPU to its next call, and answers the first argument.
pub(crate) fn called(vcpu: &VCpu) -> Result<u64, Failure> {
    match vcpu.run() {
        Ok(Exit::Hypercall { args, .. }) => Ok(args[0]),
        exit => Err(format!("{exit:?}")),
    }
}

fn null_call(config: Config) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, arch::call_forever)?;
    let each = runs(bench.vcpu(), is_call, |_| true)?;
    Ok(Figure { what: "null call: exit and entry", each, guest: 3 })
}

fn answered_call(config: Config) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, arch::call_forever)?;
    let each = runs(bench.vcpu(), is_call, |vcpu| vcpu.set_return_value(0).is_ok())?;
    Ok(Figure { what: "null call, answered by set_return_value", each, guest: 3 })
}

fn mmio_write(config: Config) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, arch::write_forever)?;
    let each = runs(bench.vcpu(), is_write, |_| true)?;
    Ok(Figure { what: "MMIO write: exit and entry", each, guest: 3 })
}

fn mmio_read(config: Config) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, arch::read_forever)?;
    let is_it = |exit: &Exit| matches!(exit, Exit::MmioRead { .. });
    let each = runs(bench.vcpu(), is_it, |vcpu| vcpu.set_return_value(1).is_ok())?;
    Ok(Figure { what: "MMIO read: exit, answer and entry", each, guest: 3 })
}

/// From the injecting call to the first instruction of the guest's handler, which reads the counter itself.
fn injection(config: Config) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, arch::take_interrupts)?;
    let vcpu = bench.vcpu();
    let mut total = 0;
    for _ in 0..16 + ROUNDS {
        let _ = vcpu.run().map_err(|error| format!("{error}"))?;
        let before = arch::count();
        vcpu.inject_interrupt(arch::INTERRUPT).map_err(|error| format!("{error}"))?;
        match vcpu.run() {
            Ok(Exit::Hypercall { args, .. }) => total += args[0].wrapping_sub(before),
            exit => return Err(format!("{exit:?}")),
        }
    }
    let each = arch::instructions(total) / (16 + ROUNDS);
    Ok(Figure { what: "injection: from the call to the guest's handler", each, guest: 1 })
}

/// Two vCPUs in turns, each with a call.
pub(crate) fn turns(
    what: &'static str,
    guest: u64,
    config: Config,
    write: impl FnOnce(&mut Asm),
) -> Result<Figure, Failure> {
    let bench = Bench::new(2, config, write)?;
    let (first, second) = bench.both()?;
    let both = runs(first, |_| true, |_| matches!(second.run(), Ok(Exit::Hypercall { .. })))?;
    Ok(Figure { what, each: both / 2, guest })
}

/// What a guest of [`arch::many`] has counted for each round.
pub(crate) fn inside(vcpu: &VCpu) -> Result<u64, Failure> {
    called(vcpu)?;
    loop {
        match vcpu.run() {
            Ok(Exit::Hypercall { args, .. }) => return Ok(arch::instructions(args[0]) / ROUNDS),
            // Of a timer of the guest's, where those are the host's to notice.
            Ok(Exit::ExternalInterrupt { .. }) => Hal::irq_handler(),
            exit => return Err(format!("{exit:?}")),
        }
    }
}
