//! The vCPU alone: exits, calls that need none, interrupts, and taking turns.
#![allow(unsafe_code)] // sets vCPUs up on tables that outlive them

use alloc::vec::Vec;
use alloc::{format, vec};

use axvcpu::{AxVCpu, AxVCpuExitReason as Exit, GuestPhysAddr};
use axvcpu_baremetal::{Hal, Machine};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{irq, num};
use axvcpu_riscv64::{RiscvConfig, RiscvVCpu};

use crate::guest::{CODE, Space, assemble};
use crate::{Failure, Figure, Figures, instructions};

const ROUNDS: u64 = 10_000;
/// A call that nobody answers: in the extension space left to firmware.
const CALL: i64 = 0x0a00_0001;
const SBI_TIME: i64 = 0x5449_4d45;

type VCpu = AxVCpu<RiscvVCpu<Hal>>;

/// vCPUs in one address space, bound to this physical CPU. Dropped in this order.
struct Bench {
    vcpus: Vec<VCpu>,
    _space: Space,
}

impl Bench {
    fn new(
        count: usize,
        config: RiscvConfig,
        write: impl FnOnce(&mut Asm),
    ) -> Result<Self, Failure> {
        let space = Space::new(&assemble(CODE, write)?)?;
        let mut vcpus = vec![];
        for id in 0..count {
            let vcpu = VCpu::new(0, id, 0, None, config).map_err(|error| format!("{error}"))?;
            // SAFETY: the table maps the space's own frames, and both are dropped after the vCPUs.
            unsafe { vcpu.setup(GuestPhysAddr::new(CODE), space.root(), ()) }
                .and_then(|()| vcpu.bind())
                .map_err(|error| format!("{error}"))?;
            vcpus.push(vcpu);
        }
        Ok(Self { vcpus, _space: space })
    }

    fn vcpu(&self) -> &VCpu {
        &self.vcpus[0]
    }
}

pub(crate) fn figures(machine: &Machine) -> Figures {
    let config = RiscvConfig { timebase: machine.timebase(), ..RiscvConfig::new() };
    let without_sstc = RiscvConfig { sstc: false, ..config };
    let has_sstc = axvcpu_riscv64::features::<Hal>().is_some_and(|features| features.sstc);
    let mut figures = vec![
        null_call(config)?,
        answered_call(config)?,
        mmio_write(config)?,
        mmio_read(config)?,
        injection(config)?,
        turns(config)?,
    ];
    if has_sstc {
        figures.push(timer_call("set_timer call, guest timer in hardware (Sstc)", config, 0)?);
        figures.push(timer_register(config)?);
    }
    figures.push(timer_call("set_timer call without Sstc, later than armed", without_sstc, 1)?);
    let what = if has_sstc {
        "set_timer call without Sstc, earlier than armed (host arms by stimecmp)"
    } else {
        "set_timer call without Sstc, earlier than armed (host arms by SBI)"
    };
    figures.push(timer_call(what, without_sstc, -1)?);
    Ok(figures)
}

fn call_forever(g: &mut Asm) {
    g.li(A7, CALL);
    let again = g.here_label();
    g.ecall();
    g.addi(S0, S0, 1);
    g.j(again);
}

/// Instructions of one of many runs that each end with the exit that `is_it` expects; `then` is done after each.
fn runs(
    vcpu: &VCpu,
    is_it: impl Fn(&Exit) -> bool,
    then: impl Fn(&VCpu) -> bool,
) -> Result<u64, Failure> {
    const WARM: u64 = 16;
    let mut before = 0;
    for round in 0..WARM + ROUNDS {
        if round == WARM {
            before = instructions();
        }
        let exit = vcpu.run();
        if !exit.as_ref().is_ok_and(|exit| is_it(exit) && then(vcpu)) {
            return Err(format!("{exit:?}"));
        }
    }
    Ok((instructions() - before) / ROUNDS)
}

fn is_call(exit: &Exit) -> bool {
    matches!(exit, Exit::Hypercall { .. })
}

fn null_call(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, call_forever)?;
    let each = runs(bench.vcpu(), is_call, |_| true)?;
    Ok(Figure { what: "null call: exit and entry", each, guest: 3 })
}

fn answered_call(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, call_forever)?;
    let each = runs(bench.vcpu(), is_call, |vcpu| vcpu.set_return_value(0).is_ok())?;
    Ok(Figure { what: "null call, answered by set_return_value", each, guest: 3 })
}

const DEVICE: i64 = 0x1000_0000;

fn mmio_write(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        g.li(A0, DEVICE);
        let again = g.here_label();
        g.sw(S0, 0, A0);
        g.addi(S0, S0, 1);
        g.j(again);
    })?;
    let each = runs(bench.vcpu(), |exit| matches!(exit, Exit::MmioWrite { .. }), |_| true)?;
    Ok(Figure { what: "MMIO write: exit and entry", each, guest: 3 })
}

fn mmio_read(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        g.li(A0, DEVICE);
        let again = g.here_label();
        g.lw(S1, 0, A0);
        g.addi(S0, S0, 1);
        g.j(again);
    })?;
    let is_it = |exit: &Exit| matches!(exit, Exit::MmioRead { .. });
    let each = runs(bench.vcpu(), is_it, |vcpu| vcpu.set_return_value(1).is_ok())?;
    Ok(Figure { what: "MMIO read: exit, answer and entry", each, guest: 3 })
}

/// From the injecting call to the first instruction of the guest's handler, which reads the counter itself.
fn injection(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        let handler = g.label();
        g.la(T0, handler);
        g.csrw(num::STVEC, T0);
        g.li(T0, 1 << irq::SOFTWARE);
        g.csrw(num::SIE, T0);
        g.csrrsi(ZERO, num::SSTATUS, 2);
        g.li(A7, CALL);
        let again = g.here_label();
        g.ecall();
        g.j(again);
        g.align(4);
        g.bind(handler);
        g.csrr(A0, num::INSTRET);
        g.csrrci(ZERO, num::SIP, 1 << irq::SOFTWARE);
        g.ecall();
        g.sret();
    })?;
    let vcpu = bench.vcpu();
    let mut total = 0;
    for _ in 0..16 + ROUNDS {
        let _ = vcpu.run().map_err(|error| format!("{error}"))?;
        let before = instructions();
        vcpu.inject_interrupt(irq::SOFTWARE).map_err(|error| format!("{error}"))?;
        match vcpu.run() {
            Ok(Exit::Hypercall { args, .. }) => total += args[0].wrapping_sub(before),
            exit => return Err(format!("{exit:?}")),
        }
    }
    let each = total / (16 + ROUNDS);
    Ok(Figure { what: "injection: from the call to the guest's handler", each, guest: 1 })
}

/// Two vCPUs in turns, each with a null call.
fn turns(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(2, config, call_forever)?;
    let [first, second] = &bench.vcpus[..] else { return Err("not two vCPUs".into()) };
    let is_it = |_: &Exit| true;
    let both = runs(first, is_it, |_| matches!(second.run(), Ok(Exit::Hypercall { .. })))?;
    Ok(Figure { what: "null call with a switch to another vCPU", each: both / 2, guest: 3 })
}

/// `set_timer` with a time that moves by `step` with each call, from far in the future.
fn timer_call(what: &'static str, config: RiscvConfig, step: i32) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        g.li(S1, 1 << 60);
        g.li(A7, SBI_TIME);
        g.li(A6, 0);
        many(g, |g| {
            g.addi(S1, S1, step);
            g.mv(A0, S1);
            g.ecall();
        });
    })?;
    Ok(Figure { what, each: inside(bench.vcpu())?, guest: 5 })
}

/// `stimecmp`, written by the guest.
fn timer_register(config: RiscvConfig) -> Result<Figure, Failure> {
    let bench = Bench::new(1, config, |g| {
        g.li(S1, 1 << 60);
        many(g, |g| {
            g.addi(S1, S1, 1);
            g.csrw(num::STIMECMP, S1);
        });
    })?;
    let each = inside(bench.vcpu())?;
    Ok(Figure { what: "stimecmp written by the guest: no exit", each, guest: 4 })
}

/// Does something [`ROUNDS`] times between two calls, with the counter in `a0`. Adds two instructions a round.
fn many(g: &mut Asm, body: impl FnOnce(&mut Asm)) {
    let rounds = g.label();
    g.mv(S3, A7);
    g.li(A7, CALL);
    g.ecall(); // warm
    g.li(S2, ROUNDS as i64);
    g.csrr(S4, num::INSTRET);
    g.mv(A7, S3);
    g.bind(rounds);
    body(g);
    g.addi(S2, S2, -1);
    g.bnez(S2, rounds);
    g.csrr(A0, num::INSTRET);
    g.sub(A0, A0, S4);
    g.li(A7, CALL);
    g.ecall();
}

fn inside(vcpu: &VCpu) -> Result<u64, Failure> {
    let _ = vcpu.run().map_err(|error| format!("{error}"))?;
    match vcpu.run() {
        Ok(Exit::Hypercall { args, .. }) => Ok(args[0] / ROUNDS),
        exit => Err(format!("{exit:?}")),
    }
}
