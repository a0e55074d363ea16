//! A machine with a little memory, on this program's threads.
#![allow(unsafe_code)] // promises that the table outlives the vCPUs

use std::io::Write;
use std::sync::Arc;

use axvcpu::{AxResult, AxVCpu, AxVCpuHal, GuestPhysAddr};
use axvcpu_cli::hal::{Cpu, LinuxHal};
use axvcpu_cli::memory::GuestRam;
use axvcpu_kvm::{Kvm, KvmConfig, KvmMachine, KvmSetup, KvmVCpu, MachineConfig};
use axvcpu_x86::asm::Asm;
use axvcpu_x86::ept::{Ept, Perms, Stage2};
use axvcpu_x86::paging::{Size, Tables, entry};
use axvcpu_x86::start::{GDT, Mode, Start};

pub(crate) type Mm = <LinuxHal as AxVCpuHal>::MmHal;
pub(crate) type VCpu = AxVCpu<KvmVCpu<LinuxHal>>;

/// So much memory there is, from 0 on.
const RAM: usize = 0x10_0000;
const GDT_AT: u64 = 0x1000;
/// Where guests start.
pub(crate) const CODE: u64 = 0x1_0000;
const TABLES: u64 = 0x8_0000;

/// KVM, or `None` after a word about why there is none.
pub(crate) fn kvm(test: &str) -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(error) => {
            // Past the harness, which shows what a test prints only if it fails.
            let _ = writeln!(std::io::stdout(), "  kvm: {test}  skipped: {error}");
            None
        }
    }
}

/// The calling thread as a physical CPU that can be kicked.
pub(crate) fn cpu() -> Cpu {
    Cpu::register().unwrap().interruptible().unwrap()
}

/// With the tables and the descriptors that are in memory.
pub(crate) fn long_mode() -> Start {
    Start { mode: Mode::Long, gdt: GDT_AT, cr3: TABLES }
}

/// A program at [`CODE`].
pub(crate) fn assemble(body: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut asm = Asm::new(CODE);
    body(&mut asm);
    asm.finish().unwrap()
}

/// Fields are dropped in this order.
pub(crate) struct Bench {
    pub(crate) vcpus: Vec<VCpu>,
    pub(crate) machine: Arc<KvmMachine>,
    pub(crate) table: Stage2<Mm>,
    ram: GuestRam,
}

impl Bench {
    /// A machine with `code` in memory, and no vCPU.
    pub(crate) fn new(kvm: Kvm, config: &MachineConfig, code: &[u8]) -> Self {
        let machine = KvmMachine::new(kvm, config).unwrap();
        let ram = GuestRam::new(RAM).unwrap();
        let mut table = Stage2::new(Ept).unwrap();
        table.map(GuestPhysAddr::new(0), ram.host_address(), RAM as u64, Perms::RWX).unwrap();
        let this = Self { vcpus: Vec::new(), machine, table, ram };
        this.write(CODE, code);
        for (at, entry) in (GDT_AT..).step_by(8).zip(GDT) {
            this.write(at, &entry.to_le_bytes());
        }
        let tables = Tables::identity(TABLES, 4, Size::Large, entry::WRITE | entry::USER).unwrap();
        let write = |at, entry: u64| {
            this.write(at, &entry.to_le_bytes());
            Ok::<_, ()>(())
        };
        tables.write(write).unwrap();
        this
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        assert!(at as usize + bytes.len() <= RAM);
        let to = self.ram.base().as_ptr().wrapping_add(at as usize);
        // SAFETY: inside of memory that no reference points to.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    #[allow(dead_code)] // not all tests look
    pub(crate) fn read(&self, at: u64) -> u8 {
        assert!((at as usize) < RAM);
        // SAFETY: as above.
        unsafe { self.ram.base().as_ptr().wrapping_add(at as usize).read_volatile() }
    }

    /// One vCPU more.
    pub(crate) fn add(&mut self, setup: KvmSetup) -> &VCpu {
        let vcpu = self.try_add(self.vcpus.len(), setup).unwrap();
        self.vcpus.push(vcpu);
        self.vcpus.last().unwrap()
    }

    pub(crate) fn try_add(&self, number: usize, setup: KvmSetup) -> AxResult<VCpu> {
        let vcpu = VCpu::new(1, number, 0, None, KvmConfig::new(self.machine.clone()))?;
        // SAFETY: the table maps `ram`; both are dropped after the vCPUs here, and the callers drop theirs before.
        unsafe { vcpu.setup(GuestPhysAddr::new(CODE), self.table.root(), setup) }?;
        Ok(vcpu)
    }
}
