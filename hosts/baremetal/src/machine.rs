//! The physical machine: what the device tree says of it, and how it starts and ends.
#![allow(unsafe_code)] // uses memory and devices the device tree tells of

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::Ordering;

use axvcpu::{AxPerCpu, AxResult, AxVCpuHal};
use fdt::Fdt;
use fdt::node::FdtNode;
use spin::Mutex;

use crate::boot::{online, start_others};
use crate::cpu::{Cpu, MAX_CPUS};
use crate::guest::{GuestFiles, Place, modules};
use crate::{Hal, arch, frames, mark, println, status, time, uart};

/// A program's function; see [`main!`](crate::main).
pub type Main = fn(&'static Machine) -> u8;

/// The physical machine.
#[derive(Debug)]
pub struct Machine {
    isa: &'static str,
    mmu_type: &'static str,
    bootargs: &'static str,
    timebase: u64,
    guest: Option<GuestFiles>,
    random: u64,
}

impl Machine {
    /// How many physical CPUs are up. They have the numbers below that.
    pub fn cpus(&self) -> usize {
        online()
    }

    /// The bytes of memory in use, by anybody: whole frames, and of the heap's frames each byte.
    pub fn memory_in_use(&self) -> usize {
        #[cfg(target_os = "none")]
        let heap = crate::heap::in_use();
        #[cfg(not(target_os = "none"))]
        let heap = 0; // the program's, which nobody asks for
        frames::Mem::in_use() + heap
    }

    /// Ticks of the time counter in a second.
    pub fn timebase(&self) -> u64 {
        self.timebase
    }

    /// What its harts can do, as an ISA string; empty if they are not RISC-V's.
    pub fn isa(&self) -> &str {
        self.isa
    }

    /// The largest translation mode of its harts, as the device tree calls it (`riscv,sv48`).
    pub fn mmu_type(&self) -> &str {
        self.mmu_type
    }

    /// The hypervisor's own command line.
    pub fn bootargs(&self) -> &str {
        self.bootargs
    }

    /// A number that is another one at each boot, as far as the machine has such.
    pub fn random(&self) -> u64 {
        self.random
    }

    /// The guest's files, if the loader brought some.
    pub fn guest(&self) -> Option<GuestFiles> {
        self.guest
    }

    /// Calls `f` with virtualization off on the CPU this is called on, to which no vCPU is bound.
    pub fn without_virtualization<R>(&self, f: impl FnOnce() -> R) -> AxResult<R> {
        let mut percpu = PER_CPU[Hal::cpu_id()].lock();
        percpu.hardware_disable()?;
        let result = f();
        percpu.hardware_enable()?;
        Ok(result)
    }

    /// Calls `job` with its number on every physical CPU, this one included, and comes back when all calls have.
    /// On CPU 0 only, and not from within such a job.
    pub fn on_all_cpus(&self, job: &(dyn Fn(usize) + Sync)) {
        let others = || (1..online()).filter_map(Cpu::get);
        let place = ptr::from_ref(&job).addr();
        for (id, cpu) in (1..).zip(others()) {
            cpu.job.store(place, Ordering::Release);
            Hal::kick_cpu(id);
        }
        job(Hal::cpu_id());
        for cpu in others() {
            while cpu.job.load(Ordering::Acquire) != 0 {
                core::hint::spin_loop();
            }
        }
    }
}

/// Everything from here to the program: on CPU 0.
pub(crate) fn boot(device_tree: *const u8) -> ! {
    // SAFETY: the firmware's promise (SBI 2.0, 9.1), or that of who found it.
    let tree = match unsafe { Fdt::from_ptr(device_tree) } {
        Ok(tree) => tree,
        Err(error) => panic!("the firmware's device tree cannot be read: {error:?}"),
    };
    let device_tree = (device_tree as u64, tree.total_size() as u64);
    let bootargs = tree.chosen().bootargs().unwrap_or("");
    mark::set(mark::find(bootargs));
    uart::find(&tree);
    arch::init(&tree);
    arch::init_cpu();
    let (kernel, initrd) = modules(&tree);
    let modules = [kernel.map(|(place, _)| place), initrd];
    init_memory(&tree, device_tree, modules.into_iter().flatten());

    let timebase = arch::timebase(&tree);
    time::set_timebase(timebase);
    let first = tree.cpus().next();
    let property = |name| first.and_then(|cpu| cpu.property(name));
    let text = |name| property(name).and_then(|text| text.as_str()).unwrap_or("");
    let chosen = tree.find_node("/chosen");
    let seed = chosen.and_then(|chosen| chosen.property("rng-seed")).map_or(0, |seed| {
        seed.value.iter().take(8).fold(0, |all, &byte| all << 8 | u64::from(byte))
    });
    let machine: &'static Machine = Box::leak(Box::new(Machine {
        isa: text("riscv,isa"),
        mmu_type: text("mmu-type"),
        bootargs,
        timebase,
        // SAFETY: the loader's memory, which `init_memory` has kept out of use.
        guest: kernel.map(|kernel| unsafe { GuestFiles::new(kernel, initrd) }),
        random: seed ^ arch::time(),
    }));

    enable_virtualization(0);
    start_others(tree.cpus().map(|cpu| cpu.ids().first()));
    arch::route_input(&tree);
    finish(call_main(machine))
}

#[cfg(target_os = "none")]
fn call_main(machine: &'static Machine) -> u8 {
    unsafe extern "Rust" {
        safe static AXVCPU_MAIN: Main;
    }
    AXVCPU_MAIN(machine)
}

#[cfg(not(target_os = "none"))]
fn call_main(_machine: &'static Machine) -> u8 {
    status::HOST
}

/// Where a device's registers are.
pub(crate) fn base(node: &FdtNode<'_, '_>) -> Option<usize> {
    node.reg()?.next().map(|reg| reg.starting_address as usize)
}

/// The numbers of a property.
pub(crate) fn cells<'a>(
    node: &FdtNode<'_, 'a>,
    name: &str,
) -> Option<impl Iterator<Item = u32> + 'a> {
    let value = node.property(name)?.value;
    Some(value.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])))
}

/// Makes the memory that nobody has the hypervisor's.
fn init_memory(tree: &Fdt<'static>, device_tree: Place, modules: impl Iterator<Item = Place>) {
    let mut taken: [Place; 32] = [(0, 0); 32];
    let mut count = 0;
    let reserved = tree.find_node("/reserved-memory").into_iter().flat_map(|node| {
        node.children()
            .flat_map(|child| child.reg().into_iter().flatten())
            .map(|region| (region.starting_address as u64, region.size.unwrap_or(0) as u64))
    });
    for place in [image(), device_tree].into_iter().chain(modules).chain(reserved) {
        let Some(slot) = taken.get_mut(count) else { panic!("too many reserved ranges of memory") };
        *slot = place;
        count += 1;
    }
    // The largest range is all that is used.
    let largest = tree.memory().regions().max_by_key(|region| region.size.unwrap_or(0));
    let Some(memory) = largest else { panic!("the device tree tells of no memory") };
    let (base, size) = (memory.starting_address as u64, memory.size.unwrap_or(0) as u64);
    // SAFETY: the device tree's word, and all that is used of it so far is in `taken`.
    let enough = unsafe { frames::init(base, size, &taken[..count]) };
    #[cfg(target_os = "none")]
    let enough = enough && crate::heap::init();
    if !enough {
        panic!("{} MiB of memory is too little", size >> 20);
    }
}

/// The hypervisor's own image with its stacks.
fn image() -> Place {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static __image_start: u8;
            static __image_end: u8;
        }
        let (start, end) = (&raw const __image_start as u64, &raw const __image_end as u64);
        // The firmware below it is a reserved range.
        (start, end - start)
    }
    #[cfg(not(target_os = "none"))]
    (0, 0)
}

/// The virtualization of each CPU, on for as long as the machine is up.
static PER_CPU: [Mutex<AxPerCpu<arch::PerCpu>>; MAX_CPUS] =
    [const { Mutex::new(AxPerCpu::new()) }; MAX_CPUS];

/// Switches virtualization on on the CPU this is called on, which has this number.
pub(crate) fn enable_virtualization(cpu: usize) {
    let mut percpu = PER_CPU[cpu].lock();
    match percpu.init(cpu).and_then(|()| percpu.hardware_enable()) {
        Ok(()) => arch::virtualized(),
        Err(error) => {
            println!("axvcpu: CPU {cpu} {} ({error})", arch::NOT_VIRTUAL);
            finish(status::HOST)
        }
    }
}

/// Ends the machine's life; the status is what its runner sees.
pub fn exit(status: u8) -> ! {
    finish(status)
}

/// Ends the machine in an orderly way.
pub(crate) fn finish(status: u8) -> ! {
    crate::console::flush();
    power_off(status)
}

/// Ends the machine at once.
pub(crate) fn power_off(status: u8) -> ! {
    arch::power_off(status);
    loop {
        core::hint::spin_loop();
    }
}
