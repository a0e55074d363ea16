//! The physical machine: what the device tree says of it, and how it starts and ends.
#![allow(unsafe_code)] // uses memory and devices the device tree tells of

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use axvcpu::{AxPerCpu, AxResult, AxVCpuHal};
use axvcpu_riscv64::RiscvPerCpu;
use fdt::Fdt;
use fdt::node::FdtNode;
use spin::Mutex;

use crate::guest::{GuestFiles, Place, modules};
use crate::riscv64::{Cpu, MAX_CPUS, Plic, online, start_others};
use crate::{Hal, frames, println, riscv64, status, time, uart};

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

/// A register of QEMU's test device that ends the machine with a status; 0 if there is none.
static FINISHER: AtomicUsize = AtomicUsize::new(0);

impl Machine {
    /// How many physical CPUs are up. They have the numbers below that.
    pub fn cpus(&self) -> usize {
        online()
    }

    /// Ticks of the time counter in a second.
    pub fn timebase(&self) -> u64 {
        self.timebase
    }

    /// What its harts can do, as an ISA string.
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
    // SAFETY: the firmware's promise (SBI 2.0, 9.1).
    let tree = match unsafe { Fdt::from_ptr(device_tree) } {
        Ok(tree) => tree,
        Err(error) => panic!("the firmware's device tree cannot be read: {error:?}"),
    };
    let device_tree = (device_tree as u64, tree.total_size() as u64);
    find_devices(&tree);
    let (kernel, initrd) = modules(&tree);
    let modules = [kernel.map(|(place, _)| place), initrd];
    let first = tree.cpus().next();
    let property = |name| first.and_then(|cpu| cpu.property(name));
    let text = |name| property(name).and_then(|text| text.as_str()).unwrap_or("");
    if text("riscv,isa").split('_').any(|extension| extension == "zicboz") {
        let block = property("riscv,cboz-block-size").and_then(|size| size.as_usize());
        riscv64::use_blocks(block.unwrap_or(0));
    }
    init_memory(&tree, device_tree, modules.into_iter().flatten());

    let timebase = tree
        .find_node("/cpus")
        .and_then(|cpus| cpus.property("timebase-frequency"))
        .and_then(|hertz| hertz.as_usize())
        .unwrap_or(10_000_000) as u64;
    time::set_timebase(timebase);
    let chosen = tree.find_node("/chosen");
    let seed = chosen.and_then(|chosen| chosen.property("rng-seed")).map_or(0, |seed| {
        seed.value.iter().take(8).fold(0, |all, &byte| all << 8 | u64::from(byte))
    });
    let machine: &'static Machine = Box::leak(Box::new(Machine {
        isa: text("riscv,isa"),
        mmu_type: text("mmu-type"),
        bootargs: tree.chosen().bootargs().unwrap_or(""),
        timebase,
        // SAFETY: the loader's memory, which `init_memory` has kept out of use.
        guest: kernel.map(|kernel| unsafe { GuestFiles::new(kernel, initrd) }),
        random: seed ^ riscv64::time(),
    }));

    enable_virtualization(0);
    start_others(tree.cpus().map(|cpu| cpu.ids().first()));
    find_interrupts(&tree);
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

fn find_devices(tree: &Fdt<'static>) {
    let base = |node: &FdtNode<'_, '_>| {
        node.reg().and_then(|mut reg| reg.next()).map(|reg| reg.starting_address as usize)
    };
    if let Some(at) = tree.find_compatible(&["sifive,test0"]).as_ref().and_then(base) {
        FINISHER.store(at, Ordering::Relaxed);
    }
    let port = tree.find_compatible(&["ns16550a", "ns16550"]);
    if let Some((port, at)) = port.as_ref().and_then(|port| Some((port, base(port)?))) {
        let shift = port.property("reg-shift").and_then(|shift| shift.as_usize()).unwrap_or(0);
        // SAFETY: the device tree's word.
        unsafe { uart::init(at, shift) };
    }
}

/// The serial port's interrupt, for CPU 0.
fn find_interrupts(tree: &Fdt<'static>) {
    if let Some(plic) = plic(tree, Cpu::get(0).map_or(0, |cpu| cpu.hart.load(Ordering::Relaxed))) {
        plic.init();
    }
}

fn plic(tree: &Fdt<'_>, hart: usize) -> Option<Plic> {
    /// The supervisor's external interrupt, as the hart's own controller numbers it.
    const SUPERVISOR_EXTERNAL: u32 = 9;
    let cells = |node: &FdtNode<'_, '_>, name: &str| -> Option<Vec<u32>> {
        let value = node.property(name)?.value;
        Some(value.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let node = tree.find_compatible(&["sifive,plic-1.0.0", "riscv,plic0"])?;
    let base = node.reg()?.next()?.starting_address as usize;
    let cpu = tree.find_all_nodes("/cpus/cpu").find(|cpu| {
        cpu.reg()
            .and_then(|mut reg| reg.next())
            .is_some_and(|reg| reg.starting_address as usize == hart)
    })?;
    let controller =
        cpu.children().find(|child| child.property("interrupt-controller").is_some())?;
    let own = *cells(&controller, "phandle")?.first()?;
    let context = cells(&node, "interrupts-extended")?
        .chunks_exact(2)
        .position(|pair| pair == [own, SUPERVISOR_EXTERNAL])?;
    let port = tree.find_compatible(&["ns16550a", "ns16550"])?;
    let uart = *cells(&port, "interrupts")?.first()?;
    Some(Plic { base, context, uart })
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

/// The hypervisor extension of each CPU, on for as long as the machine is up.
static PER_CPU: [Mutex<AxPerCpu<RiscvPerCpu<Hal>>>; MAX_CPUS] =
    [const { Mutex::new(AxPerCpu::new()) }; MAX_CPUS];

/// Switches virtualization on on the CPU this is called on, which has this number.
pub(crate) fn enable_virtualization(cpu: usize) {
    let mut percpu = PER_CPU[cpu].lock();
    match percpu.init(cpu).and_then(|()| percpu.hardware_enable()) {
        Ok(()) => {
            let sstc = axvcpu_riscv64::features::<Hal>().is_some_and(|features| features.sstc);
            riscv64::init_timer(sstc);
        }
        Err(error) => {
            println!(
                "axvcpu: CPU {cpu} has no hypervisor extension ({error}); QEMU's has with `-cpu rv64,h=true`"
            );
            finish(status::HOST)
        }
    }
}

/// Ends the machine in an orderly way.
pub(crate) fn finish(status: u8) -> ! {
    crate::console::flush();
    power_off(status)
}

/// So long does the test device get to end the machine.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Ends the machine at once.
pub(crate) fn power_off(status: u8) -> ! {
    let finisher = FINISHER.load(Ordering::Relaxed);
    if finisher != 0 {
        let code = if status == 0 { 0x5555 } else { u32::from(status) << 16 | 0x3333 };
        // SAFETY: the device's register; the last thing this machine does.
        unsafe { (finisher as *mut u32).write_volatile(code) };
        // It takes its time, and the firmware would end the machine by the same device, with a status of its own.
        let start = time::now_ns();
        while time::now_ns() - start < PATIENCE_NS {
            core::hint::spin_loop();
        }
    }
    riscv64::power_off(status != 0);
    loop {
        core::hint::spin_loop();
    }
}
