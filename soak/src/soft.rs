//! The machine on the software hart.
#![allow(unsafe_code)] // promises that the table outlives the vCPUs

use axvcpu::{AxVCpu, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr};
use axvcpu_cli::hal::{Cpu, LinuxHal, monotonic_ns};
use axvcpu_riscv::asm::csrs::{SCAUSE, SIE, SIP, SSTATUS, STIMECMP, STVEC};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::irq;
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu};

use crate::Guest;
use crate::memory::Memory;

const RAM: u64 = 0x8000_0000;
const SIZE: usize = 0x20_0000;
/// Where interrupts are counted, by vector; 0 is what the spinner counts.
const COUNTS: u64 = RAM + 0x1_0000;
/// What the guest stores to so that the line is lowered.
const DEVICE: u64 = 0x1000_0000;
/// The call by which the leaver leaves.
const CALL: u64 = 77;

type Mm = <LinuxHal as AxVCpuHal>::MmHal;
type VCpu = AxVCpu<SoftVCpu<LinuxHal>>;

/// Fields are dropped in this order.
pub(crate) struct Machine {
    leaver: VCpu,
    spinner: VCpu,
    _table: Stage2<Mm>,
    memory: Memory,
}

/// Counts at an address that is in the low bits of `COUNTS`. Only handlers do, or only the spinner.
fn count(a: &mut Asm, which: i32) {
    a.ld(T1, 8 * which, S1);
    a.addi(T1, T1, 1);
    a.sd(T1, 8 * which, S1);
}

/// The leaver's code, and where the spinner's begins in it.
fn code() -> Result<(Vec<u8>, u64), String> {
    let mut a = Asm::new(RAM);
    let (handler, timer, external) = (a.label(), a.label(), a.label());
    a.li(S1, COUNTS as i64);
    a.li(S2, DEVICE as i64);
    a.la(T0, handler);
    a.csrw(STVEC, T0);
    a.li(T0, -1);
    a.csrw(STIMECMP, T0);
    a.li(T0, 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL);
    a.csrw(SIE, T0);
    a.csrrsi(ZERO, SSTATUS, 2);
    a.li(A7, CALL as i64);
    let top = a.here_label();
    a.ecall();
    a.j(top);

    a.align(4);
    a.bind(handler);
    a.csrr(T0, SCAUSE);
    a.andi(T0, T0, 0x3f);
    a.li(T1, irq::TIMER as i64);
    a.beq(T0, T1, timer);
    a.li(T1, irq::EXTERNAL as i64);
    a.beq(T0, T1, external);
    // The next edge comes when this one is counted, so what is pending is cleared before.
    a.csrrci(ZERO, SIP, 1 << irq::SOFTWARE);
    count(&mut a, irq::SOFTWARE as i32);
    a.sret();
    a.bind(timer);
    count(&mut a, irq::TIMER as i32);
    a.sret();
    a.bind(external);
    a.sd(ZERO, 0, S2);
    count(&mut a, irq::EXTERNAL as i32);
    a.sret();

    let spinner = a.here();
    a.li(S1, COUNTS as i64);
    let top = a.here_label();
    count(&mut a, 0);
    a.j(top);
    let code = a.finish().map_err(|error| format!("the guest's code: {error:?}"))?;
    Ok((code, spinner))
}

impl Machine {
    pub(crate) fn new() -> Result<Self, String> {
        let memory = Memory::new(RAM, SIZE)?;
        let (code, spinner) = code()?;
        memory.write(RAM, &code);
        let config = SoftConfig::new(Clock::Host(monotonic_ns));
        let failed = |error| format!("a machine on the software hart: {error}");
        let mut table = Stage2::<Mm>::new(config.stage2).map_err(failed)?;
        table
            .map(GuestPhysAddr::new(RAM), memory.host_address(), SIZE as u64, Perms::RWX)
            .map_err(failed)?;
        let vcpu = |id, entry| {
            let vcpu = VCpu::new(1, id, 0, None, config.clone())?;
            // SAFETY: the table maps the machine's memory alone, and both are dropped after the vCPUs.
            unsafe { vcpu.setup(GuestPhysAddr::new(entry), table.root(), ()) }?;
            Ok(vcpu)
        };
        let leaver = vcpu(0, RAM).map_err(failed)?;
        let spinner = vcpu(1, spinner).map_err(failed)?;
        Ok(Self { leaver, spinner, _table: table, memory })
    }
}

impl Guest for Machine {
    type Arch = SoftVCpu<LinuxHal>;

    const EDGES: &'static [usize] = &[irq::SOFTWARE, irq::TIMER];
    const ONLY_KICKS: bool = true;
    const LINE: Option<usize> = Some(irq::EXTERNAL);

    fn cpu() -> Result<Cpu, String> {
        Cpu::register().map_err(|error| error.to_string())
    }

    fn leaver(&self) -> &VCpu {
        &self.leaver
    }

    fn spinner(&self) -> &VCpu {
        &self.spinner
    }

    fn taken(&self, vector: usize) -> u64 {
        self.memory.count(COUNTS + 8 * vector as u64)
    }

    fn spins(&self) -> bool {
        self.memory.count(COUNTS) != 0
    }

    fn is_usual(exit: &Exit) -> bool {
        matches!(exit, Exit::Hypercall { nr: CALL, .. })
    }

    fn lowers(exit: &Exit) -> bool {
        matches!(exit, Exit::MmioWrite { addr, .. } if addr.as_u64() == DEVICE)
    }
}
