//! A machine with a page or two of memory, on this program's threads.
#![allow(unsafe_code)] // promises that the table outlives the vCPUs

use std::sync::Arc;

use axvcpu::{AxVCpu, AxVCpuHal, GuestPhysAddr, HostPhysAddr};
use axvcpu_cli::hal::{Cpu, LinuxHal};
use axvcpu_cli::memory::GuestRam;
use axvcpu_kvm::{Kvm, KvmConfig, KvmMachine, KvmSetup, KvmVCpu, MachineConfig};
use axvcpu_x86::ept::{Ept, Perms, Stage2};

pub(crate) type Mm = <LinuxHal as AxVCpuHal>::MmHal;
pub(crate) type VCpu = AxVCpu<KvmVCpu<LinuxHal>>;

/// KVM, or `None` after a word about why there is none: the machine that runs the tests may not have it.
pub(crate) fn kvm(test: &str) -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(error) => {
            println!("  {test}  skipped: {error}");
            None
        }
    }
}

/// The calling thread as a physical CPU that can be kicked.
pub(crate) fn cpu() -> Cpu {
    Cpu::register().unwrap().interruptible().unwrap()
}

/// Fields are dropped in this order.
pub(crate) struct Bench {
    pub(crate) vcpus: Vec<VCpu>,
    pub(crate) machine: Arc<KvmMachine>,
    pub(crate) table: Stage2<Mm>,
    pub(crate) ram: GuestRam,
}

/// So much memory there is, from 0 on.
pub(crate) const RAM: usize = 0x10_0000;

impl Bench {
    /// A machine with `code` at its entry.
    pub(crate) fn new(kvm: Kvm, config: &MachineConfig, entry: u64, code: &[u8]) -> Self {
        let machine = KvmMachine::new(kvm, config).unwrap();
        let ram = GuestRam::new(RAM).unwrap();
        let mut table = Stage2::new(Ept).unwrap();
        table.map(GuestPhysAddr::new(0), ram.host_address(), RAM as u64, Perms::RWX).unwrap();
        let this = Self { vcpus: Vec::new(), machine, table, ram };
        this.write(entry, code);
        this
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        assert!(at as usize + bytes.len() <= RAM);
        let to = self.ram.base().as_ptr().wrapping_add(at as usize);
        // SAFETY: inside of memory that no reference points to.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    pub(crate) fn read(&self, at: u64) -> u8 {
        // SAFETY: as above.
        unsafe { self.ram.base().as_ptr().wrapping_add(at as usize).read_volatile() }
    }

    /// One vCPU more.
    pub(crate) fn add(&mut self, entry: u64, setup: KvmSetup) -> &VCpu {
        let config = KvmConfig::new(self.machine.clone());
        let vcpu = VCpu::new(1, self.vcpus.len(), 0, None, config).unwrap();
        let root: HostPhysAddr = self.table.root();
        // SAFETY: the table maps `ram`, and both are dropped after the vCPUs.
        unsafe { vcpu.setup(GuestPhysAddr::new(entry), root, setup) }.unwrap();
        self.vcpus.push(vcpu);
        self.vcpus.last().unwrap()
    }
}
