//! A machine for tests: some memory at the usual place, and one vCPU.
#![allow(unsafe_code)] // hands out host memory
#![allow(dead_code, unreachable_pub)] // each test uses what it needs

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::sync::Arc;

use axvcpu::*;
use axvcpu_riscv::asm::Asm;
use axvcpu_riscv::paging::SV39X4;
use axvcpu_riscv::stage2::{Perms, Stage2};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

pub struct TestHal;

thread_local!(static CURRENT: Cell<*mut ()> = const { Cell::new(std::ptr::null_mut()) });

// SAFETY: a thread is a physical CPU, and has its own word.
unsafe impl AxVCpuHal for TestHal {
    type MmHal = TestHal;
    fn irq_hanlder() {}
    fn load_current() -> *mut () {
        CURRENT.get()
    }
    fn store_current(word: *mut ()) {
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

pub struct Machine {
    pub vcpu: AxVCpu<SoftVCpu<TestHal>>,
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
        let ram = TestHal::alloc_contiguous(SIZE / FRAME).unwrap();
        let code = code.finish().unwrap();
        assert!(code.len() <= SIZE);
        // SAFETY: fresh memory that is long enough.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), ram.as_usize() as *mut u8, code.len())
        };
        let mut stage2 = Stage2::<TestHal>::new(SV39X4).unwrap();
        stage2.map(GuestPhysAddr::new(RAM), ram, SIZE as u64, Perms::RWX).unwrap();
        let vcpu = AxVCpu::new(1, 0, 0, None, SoftConfig::new(clock)).unwrap();
        // SAFETY: table and memory are dropped after the vCPU.
        unsafe { vcpu.setup(GuestPhysAddr::new(RAM), stage2.root(), ()).unwrap() };
        vcpu.bind().unwrap();
        Self { vcpu, clock: None, stage2, ram }
    }

    pub fn run(&self) -> AxVCpuExitReason {
        self.vcpu.run().unwrap()
    }

    pub fn x(&self, reg: usize) -> u64 {
        self.vcpu.get_gpr(reg).unwrap()
    }

    pub fn instructions(&self) -> u64 {
        self.vcpu.with_arch(|arch| arch.instructions()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The vCPU is dropped after this body, but does not run any more.
        // SAFETY: allocated in `with_clock`.
        unsafe { TestHal::dealloc_contiguous(self.ram, SIZE / FRAME) };
    }
}
