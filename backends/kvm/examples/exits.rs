//! How many instructions of user space a port-write exit costs: the loop below, and nothing else, differs between the
//! ways. To be run under a counter of instructions, with two numbers of exits: `exits raw|ioctls|run|axvcpu COUNT`.
#![allow(unsafe_code)] // two of the ways use the kernel's interface without a library of ours

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod program {
    use std::env;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axvcpu::{AccessWidth, AxVCpu, AxVCpuExitReason as Exit, AxVCpuHal, GuestPhysAddr};
    use axvcpu_cli::hal::{Cpu, LinuxHal};
    use axvcpu_cli::memory::GuestRam;
    use axvcpu_kvm::bindings::{kvm_run, kvm_userspace_memory_region};
    use axvcpu_kvm::{Irqchip, Kvm, KvmConfig, KvmMachine, KvmSetup, KvmVCpu, MachineConfig};
    use axvcpu_vmm::{Bus, MmioDevice, NoDevice};
    use axvcpu_x86::ept::{Ept, Perms, Stage2};
    use axvcpu_x86::start::Start;

    const ENTRY: u64 = 0x1000;
    const PORT: u16 = 0x3f8;
    /// `mov dx, PORT`; `out dx, al`; back to it.
    const GUEST: [u8; 6] = [0xba, PORT as u8, (PORT >> 8) as u8, 0xee, 0xeb, 0xfd];
    const RAM: usize = 0x1_0000;

    fn ram() -> GuestRam {
        let ram = GuestRam::new(RAM).expect("memory");
        let to = ram.base().as_ptr().wrapping_add(ENTRY as usize);
        // SAFETY: inside of memory of our own that no reference points to.
        unsafe { to.copy_from_nonoverlapping(GUEST.as_ptr(), GUEST.len()) };
        ram
    }

    /// Counts what is written, so that nothing can be left out.
    #[derive(Default)]
    struct Sink(AtomicU64);

    impl MmioDevice for Sink {
        fn name(&self) -> &str {
            "sink"
        }
        fn read(&self, _: u64, _: AccessWidth) -> Result<u64, NoDevice> {
            Err(NoDevice)
        }
        fn write(&self, _: u64, _: AccessWidth, _: u64) -> Result<(), NoDevice> {
            self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Through the interface alone.
    fn run(count: u64) -> u64 {
        let mut sum = 0;
        with_vcpu(|vcpu| {
            for _ in 0..count {
                match vcpu.run() {
                    Ok(Exit::IoWrite { port, width: AccessWidth::Byte, data }) => {
                        assert_eq!(port, PORT);
                        std::hint::black_box(data);
                        sum += 1;
                    }
                    Ok(Exit::Nothing) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        sum
    }

    /// Through the interface, and the machine monitor's bus.
    fn axvcpu(count: u64) -> u64 {
        let sink = Arc::new(Sink::default());
        let mut ports = Bus::new();
        ports.add(PORT.into(), 8, sink.clone()).expect("room");
        with_vcpu(|vcpu| {
            for _ in 0..count {
                match vcpu.run() {
                    Ok(Exit::IoWrite { port, width, data }) => {
                        ports.write(port.into(), width, data).expect("a device");
                    }
                    Ok(Exit::Nothing) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        sink.0.load(Ordering::Relaxed)
    }

    /// A vCPU that is bound to this thread, about to start.
    fn with_vcpu(f: impl FnOnce(&AxVCpu<KvmVCpu<LinuxHal>>)) {
        let _cpu = Cpu::register().expect("a CPU").interruptible().expect("signals");
        let ram = ram();
        let mut table = Stage2::<<LinuxHal as AxVCpuHal>::MmHal>::new(Ept).expect("a table");
        let base = GuestPhysAddr::new(0);
        table.map(base, ram.host_address(), RAM as u64, Perms::RWX).expect("a mapping");
        let config = MachineConfig { irqchip: Irqchip::None, ..Default::default() };
        let machine = KvmMachine::new(Kvm::open().expect("KVM"), &config).expect("a machine");
        let config = KvmConfig::new(machine);
        let vcpu = AxVCpu::<KvmVCpu<LinuxHal>>::new(0, 0, 0, None, config).expect("a vCPU");
        let (entry, setup) = (GuestPhysAddr::new(ENTRY), KvmSetup::Start(Start::REAL));
        // SAFETY: the table and the memory it maps are dropped after the vCPU.
        unsafe { vcpu.setup(entry, table.root(), setup) }.expect("set up");
        vcpu.bind().expect("bound");
        f(&vcpu);
    }

    fn region(ram: &GuestRam) -> kvm_userspace_memory_region {
        kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: RAM as u64,
            userspace_addr: ram.base().as_ptr() as u64,
        }
    }

    /// The least there can be: `ioctl`, and a look at the page.
    fn raw(count: u64) -> u64 {
        let ram = ram();
        let (kvm, vm, vcpu) = prepared(&ram);
        let size = kvm.get_vcpu_mmap_size().expect("a size");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&vcpu);
        // SAFETY: a new mapping.
        let page = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, fd, 0)
        };
        let run = page.cast::<kvm_run>();
        let mut sum = 0;
        for _ in 0..count {
            const KVM_RUN: u64 = 0xae80;
            // SAFETY: enters the guest, which has memory of its own.
            if unsafe { libc::ioctl(fd, KVM_RUN as _, 0) } != 0 {
                continue;
            }
            // SAFETY: the kernel is done with the page.
            unsafe {
                assert_eq!((*run).exit_reason, 2);
                let io = (*run).__bindgen_anon_1.io;
                let data = run.cast::<u8>().wrapping_add(io.data_offset as usize);
                assert_eq!(io.port, PORT);
                std::hint::black_box(data.read_volatile());
            }
            sum += 1;
        }
        drop((vcpu, vm));
        sum
    }

    /// Through the crate `kvm-ioctls`.
    fn ioctls(count: u64) -> u64 {
        let ram = ram();
        let (_kvm, vm, mut vcpu) = prepared(&ram);
        let mut sum = 0;
        for _ in 0..count {
            match vcpu.run() {
                Ok(kvm_ioctls::VcpuExit::IoOut(port, data)) => {
                    assert_eq!(port, PORT);
                    std::hint::black_box(data[0]);
                    sum += 1;
                }
                Err(error) if error.errno() == libc::EINTR => {}
                other => panic!("{other:?}"),
            }
        }
        drop((vcpu, vm));
        sum
    }

    fn prepared(ram: &GuestRam) -> (kvm_ioctls::Kvm, kvm_ioctls::VmFd, kvm_ioctls::VcpuFd) {
        let kvm = kvm_ioctls::Kvm::new().expect("KVM");
        let vm = kvm.create_vm().expect("a machine");
        // SAFETY: the memory lives as long as the machine: see the callers.
        unsafe { vm.set_user_memory_region(region(ram)) }.expect("memory");
        let vcpu = vm.create_vcpu(0).expect("a vCPU");
        let mut special = vcpu.get_sregs().expect("registers");
        (special.cs.base, special.cs.selector) = (0, 0);
        vcpu.set_sregs(&special).expect("registers");
        let mut registers = vcpu.get_regs().expect("registers");
        (registers.rip, registers.rflags) = (ENTRY, 2);
        vcpu.set_regs(&registers).expect("registers");
        (kvm, vm, vcpu)
    }

    pub(crate) fn main() {
        let arguments: Vec<_> = env::args().skip(1).collect();
        let [way, count] = &arguments[..] else { panic!("exits raw|ioctls|run|axvcpu COUNT") };
        let count = count.parse().expect("a number of exits");
        let way = match way.as_str() {
            "raw" => raw,
            "ioctls" => ioctls,
            "run" => run,
            "axvcpu" => axvcpu,
            other => panic!("{other}: raw, ioctls, run or axvcpu"),
        };
        println!("{} exits", way(count));
    }
}

fn main() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    program::main();
}
