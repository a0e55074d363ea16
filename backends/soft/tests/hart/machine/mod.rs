//! A machine for tests: some memory at the usual place, and one vCPU or several.
#![allow(unsafe_code)] // hands out host memory

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use axvcpu::*;
use axvcpu_riscv::asm::Asm;
use axvcpu_riscv::paging::{Mode, SV39X4};
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

pub struct TestHal;

pub type VCpu = AxVCpu<SoftVCpu<TestHal>>;

thread_local! {
    static CURRENT: Cell<*mut ()> = const { Cell::new(std::ptr::null_mut()) };
    static CPU: usize = {
        static CPUS: AtomicUsize = AtomicUsize::new(0);
        CPUS.fetch_add(1, Ordering::Relaxed)
    };
}

// SAFETY: a thread is a physical CPU, and has its own word and number.
unsafe impl AxVCpuHal for TestHal {
    type MmHal = TestHal;
    fn irq_hanlder() {}
    fn cpu_id() -> usize {
        CPU.with(|cpu| *cpu)
    }
    fn load_current() -> *mut () {
        CURRENT.get()
    }
    unsafe fn store_current(word: *mut ()) {
        CURRENT.set(word);
    }
}

const FRAME: usize = 4096;

// SAFETY: frames come from the allocator, zeroed and aligned; addresses are the same in both views.
unsafe impl AxMmHal for TestHal {
    fn alloc_frame() -> Option<HostPhysAddr> {
        Self::alloc_contiguous(1)
    }
    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        // SAFETY: the caller's promise.
        unsafe { Self::dealloc_contiguous(frame, 1) }
    }
    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        let layout = Layout::from_size_align(count * FRAME, count * FRAME).ok()?;
        // SAFETY: the layout is not empty.
        Some(HostPhysAddr::new(unsafe { alloc_zeroed(layout) } as u64)).filter(|p| p.as_u64() != 0)
    }
    unsafe fn dealloc_contiguous(frames: HostPhysAddr, count: usize) {
        let layout = Layout::from_size_align(count * FRAME, count * FRAME).unwrap();
        // SAFETY: allocated above with the same layout.
        unsafe { dealloc(frames.as_usize() as *mut u8, layout) }
    }
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

/// Where memory begins.
pub const RAM: u64 = 0x8000_0000;
/// How much there is.
pub const SIZE: usize = 4 << 20;
/// A device: stage 2 maps nothing here.
pub const DEVICE: u64 = 0x1000_0000;

pub struct Machine {
    pub vcpu: VCpu,
    /// Unless the host's clock drives the guest's time.
    pub clock: Option<Arc<VirtualClock>>,
    pub stage2: Stage2<TestHal>,
    ram: HostPhysAddr,
}

impl Machine {
    /// A machine that runs `code` from the start of its memory, its time driven by instructions.
    pub fn new(code: Asm) -> Self {
        let clock = VirtualClock::new();
        let mut machine = Self::with_clock(code, Clock::Instructions(clock.clone()));
        machine.clock = Some(clock);
        machine
    }

    pub fn with_clock(code: Asm, clock: Clock) -> Self {
        Self::with_stage2(code, clock, SV39X4)
    }

    pub fn with_stage2(code: Asm, clock: Clock, mode: Mode) -> Self {
        let ram = TestHal::alloc_contiguous(SIZE / FRAME).unwrap();
        let mut stage2 = Stage2::<TestHal>::new(mode).unwrap();
        stage2.map(GuestPhysAddr::new(RAM), ram, SIZE as u64, Perms::RWX).unwrap();
        let config = SoftConfig { stage2: mode, ..SoftConfig::new(clock) };
        let vcpu = AxVCpu::new(1, 0, 0, None, config).unwrap();
        // SAFETY: table and memory are dropped after the vCPU.
        unsafe { vcpu.setup(GuestPhysAddr::new(RAM), stage2.root(), ()).unwrap() };
        vcpu.bind().unwrap();
        let machine = Self { vcpu, clock: None, stage2, ram };
        machine.write(RAM, &code.finish().unwrap());
        machine
    }

    /// Another vCPU of the machine, on no CPU yet. It must be dropped before the machine.
    pub fn another(&self, id: usize, clock: Clock, entry: u64) -> VCpu {
        let config = SoftConfig { stage2: self.stage2.format(), ..SoftConfig::new(clock) };
        let vcpu = AxVCpu::new(1, id, 0, None, config).unwrap();
        // SAFETY: the tests drop what this gives them before the machine.
        unsafe { vcpu.setup(GuestPhysAddr::new(entry), self.stage2.root(), ()).unwrap() };
        vcpu
    }

    pub fn run(&self) -> AxVCpuExitReason {
        self.vcpu.run().unwrap()
    }

    /// Runs until something concerns the hypervisor.
    pub fn exit(&self) -> AxVCpuExitReason {
        exit(&self.vcpu)
    }

    /// Runs until the guest calls with this number.
    #[track_caller]
    pub fn until(&self, call: u64) {
        let exit = self.exit();
        assert!(matches!(exit, AxVCpuExitReason::Hypercall { nr, .. } if nr == call), "{exit:x?}");
    }

    pub fn x(&self, reg: usize) -> u64 {
        self.vcpu.get_gpr(reg).unwrap()
    }

    pub fn instructions(&self) -> u64 {
        self.vcpu.with_arch(|arch| arch.instructions()).unwrap()
    }

    pub fn state(&self) -> Vec<u64> {
        let mut state = Vec::new();
        self.vcpu.with_arch(|arch| arch.visit_state(|value| state.push(value))).unwrap();
        state
    }

    /// The host address of a guest physical one.
    pub fn host(&self, gpa: u64) -> HostPhysAddr {
        assert!((RAM..RAM + SIZE as u64).contains(&gpa), "{gpa:#x}");
        HostPhysAddr::new(self.ram.as_u64() + (gpa - RAM))
    }

    fn byte(&self, gpa: u64) -> &AtomicU8 {
        // SAFETY: `host` answers addresses in this machine's memory, which guests only touch with atomics.
        unsafe { AtomicU8::from_ptr(self.host(gpa).as_usize() as *mut u8) }
    }

    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        for (at, &byte) in (gpa..).zip(bytes) {
            self.byte(at).store(byte, Ordering::Relaxed);
        }
    }

    pub fn read(&self, gpa: u64, bytes: usize) -> Vec<u8> {
        (gpa..gpa + bytes as u64).map(|at| self.byte(at).load(Ordering::Relaxed)).collect()
    }

    pub fn write_u64(&self, gpa: u64, value: u64) {
        self.write(gpa, &value.to_le_bytes());
    }

    pub fn read_u64(&self, gpa: u64) -> u64 {
        u64::from_le_bytes(self.read(gpa, 8).try_into().unwrap())
    }

    /// Writes code assembled for another address than its own.
    pub fn write_code(&self, gpa: u64, code: Asm) {
        self.write(gpa, &code.finish().unwrap());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The vCPU is dropped after this body, but does not run any more.
        // SAFETY: allocated in `with_stage2`.
        unsafe { TestHal::dealloc_contiguous(self.ram, SIZE / FRAME) };
    }
}

/// Runs `vcpu` until something concerns the hypervisor.
pub fn exit(vcpu: &VCpu) -> AxVCpuExitReason {
    for _ in 0..5_000 {
        match vcpu.run().unwrap() {
            AxVCpuExitReason::Nothing => {}
            exit => return exit,
        }
    }
    panic!("the guest never comes back");
}

/// Raises a flag when it goes away, in a panic too, so that other threads do not wait for ever.
pub struct AtTheEnd<'a>(pub &'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Numbers that look random and are the same in every run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
