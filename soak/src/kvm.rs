//! The machine on Linux's KVM.
#![allow(unsafe_code)] // promises that the table outlives the vCPUs

use std::sync::Arc;

use axvcpu::{AxVCpu, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr};
use axvcpu_cli::hal::{Cpu, LinuxHal};
use axvcpu_kvm::{Irqchip, Kvm, KvmConfig, KvmMachine, KvmSetup, KvmVCpu, MachineConfig};
use axvcpu_x86::asm::*;
use axvcpu_x86::ept::{Ept, Perms, Stage2};
use axvcpu_x86::paging::{Size, Tables, entry};
use axvcpu_x86::start::{CODE64, GDT, Mode, Start};

use crate::Guest;
use crate::memory::Memory;

const SIZE: usize = 0x20_0000;
const GDT_AT: u64 = 0x1000;
const IDT_AT: u64 = 0x2000;
/// The operand of `lidt`.
const IDTR_AT: u64 = 0x3000;
/// Where interrupts are counted, by vector; 0 is what the spinner counts.
const COUNTS: u64 = 0x4000;
const STACK: u64 = 0x8000;
const CODE: u64 = 0x1_0000;
const TABLES: u64 = 0x8_0000;
/// The port by which the leaver leaves.
const PORT: u8 = 0x10;
const VECTORS: [usize; 2] = [0x40, 0x51];

type Mm = <LinuxHal as AxVCpuHal>::MmHal;
type VCpu = AxVCpu<KvmVCpu<LinuxHal>>;

/// Fields are dropped in this order.
pub(crate) struct Machine {
    leaver: VCpu,
    spinner: VCpu,
    _machine: Arc<KvmMachine>,
    _table: Stage2<Mm>,
    memory: Memory,
}

fn count(a: &mut Asm, which: usize) {
    a.inc(abs((COUNTS + 8 * which as u64) as i32).of(Width::Qword));
}

/// The code, where the handlers begin in it, and where the spinner.
fn code() -> Result<(Vec<u8>, [u64; 2], u64), String> {
    let mut a = Asm::new(CODE);
    a.li(RSP, STACK);
    a.lidt(abs(IDTR_AT as i32));
    a.sti();
    let top = a.here_label();
    a.out_imm(PORT, AL);
    a.jmp(top);
    let handlers = VECTORS.map(|vector| {
        let here = a.here();
        count(&mut a, vector);
        a.iretq();
        here
    });
    let spinner = a.here();
    let top = a.here_label();
    count(&mut a, 0);
    a.jmp(top);
    let code = a.finish().map_err(|error| format!("the guest's code: {error:?}"))?;
    Ok((code, handlers, spinner))
}

/// An interrupt gate of 64 bits (SDM volume 3, 7.14.1).
fn gate(handler: u64) -> [u64; 2] {
    let low = handler & 0xffff | u64::from(CODE64) << 16 | 0x8e00 << 32;
    [low | (handler >> 16 & 0xffff) << 48, handler >> 32]
}

impl Machine {
    /// `None` if there is no KVM here.
    pub(crate) fn new() -> Result<Option<Self>, String> {
        let Ok(kvm) = Kvm::open() else { return Ok(None) };
        let memory = Memory::new(0, SIZE)?;
        let (code, handlers, spinner) = code()?;
        memory.write(CODE, &code);
        for (at, entry) in (GDT_AT..).step_by(8).zip(GDT) {
            memory.write(at, &entry.to_le_bytes());
        }
        for (vector, handler) in VECTORS.into_iter().zip(handlers) {
            for (at, half) in (IDT_AT + 16 * vector as u64..).step_by(8).zip(gate(handler)) {
                memory.write(at, &half.to_le_bytes());
            }
        }
        memory.write(IDTR_AT, &0xfffu16.to_le_bytes());
        memory.write(IDTR_AT + 2, &IDT_AT.to_le_bytes());
        let tables = Tables::identity(TABLES, 4, Size::Large, entry::WRITE | entry::USER);
        let write = |at, entry: u64| {
            memory.write(at, &entry.to_le_bytes());
            Ok::<_, ()>(())
        };
        let failed = |error| format!("a machine on KVM: {error}");
        tables.map_err(failed)?.write(write).map_err(|()| "no page tables")?;

        let config = MachineConfig { cpus: 2, irqchip: Irqchip::None, ..Default::default() };
        let machine = KvmMachine::new(kvm, &config).map_err(|error| error.to_string())?;
        let mut table = Stage2::<Mm>::new(Ept).map_err(failed)?;
        table
            .map(GuestPhysAddr::new(0), memory.host_address(), SIZE as u64, Perms::RWX)
            .map_err(failed)?;
        let start = Start { mode: Mode::Long, gdt: GDT_AT, cr3: TABLES };
        let vcpu = |id, entry| {
            let vcpu = VCpu::new(1, id, 0, None, KvmConfig::new(machine.clone()))?;
            let setup = KvmSetup::Start(start);
            // SAFETY: the table maps the machine's memory alone, and both are dropped after the vCPUs.
            unsafe { vcpu.setup(GuestPhysAddr::new(entry), table.root(), setup) }?;
            Ok(vcpu)
        };
        let leaver = vcpu(0, CODE).map_err(failed)?;
        let spinner = vcpu(1, spinner).map_err(failed)?;
        Ok(Some(Self { leaver, spinner, _machine: machine, _table: table, memory }))
    }
}

impl Guest for Machine {
    type Arch = KvmVCpu<LinuxHal>;

    const EDGES: &'static [usize] = &VECTORS;
    const ONLY_KICKS: bool = false;
    const LINE: Option<usize> = None;

    fn cpu() -> Result<Cpu, String> {
        let cpu = Cpu::register().map_err(|error| error.to_string())?;
        cpu.interruptible().map_err(|error| error.to_string())
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
        matches!(exit, Exit::IoWrite { port, .. } if *port == u16::from(PORT))
    }

    fn lowers(_: &Exit) -> bool {
        false
    }
}
