//! What the kernel, hypervisor or program below provides.
#![allow(unsafe_code)] // declares unsafe traits: a wrong implementation breaks memory safety
use core::ptr;

use crate::sync::{AtomicPtr, Ordering, atomic_static};
use crate::{HostPhysAddr, HostVirtAddr};

/// Host memory: page frames and the way to reach them.
///
/// # Safety
///
/// A frame handed out by [`alloc_frame`](Self::alloc_frame) is 4 KiB long, 4 KiB aligned, zeroed, readable and
/// writable at [`phys_to_virt`](Self::phys_to_virt) of its address, and nobody else's until it is given back.
/// The two conversions are inverses of each other on all memory a backend is given (frames, and the guest
/// memory its stage-2 tables map), and keep the low 12 bits of addresses. Over what a table maps as one large page they
/// are linear: what follows one another in physical addresses does so where code accesses it.
pub unsafe trait AxMmHal {
    /// Takes one zeroed 4 KiB frame; `None` when the host has none left.
    fn alloc_frame() -> Option<HostPhysAddr>;

    /// Gives a frame back.
    ///
    /// # Safety
    ///
    /// `frame` came from [`alloc_frame`](Self::alloc_frame), was not given back since, and nothing uses it
    /// any more, translation hardware included.
    unsafe fn dealloc_frame(frame: HostPhysAddr);

    /// Takes `count` frames that follow one another, aligned to their size together: the root of a stage-2
    /// table needs them. `count` is a power of two. They are given back with
    /// [`dealloc_contiguous`](Self::dealloc_contiguous), as a whole.
    ///
    /// The default looks for them among frames taken one by one, which serves allocators that work through
    /// memory in order. Others should override both functions.
    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        /// Enough to meet a run of 16 frames wherever an orderly allocator stands.
        const TRIES: usize = 64;
        let size = count as u64 * 4096;
        let mut taken = [HostPhysAddr::new(0); TRIES];
        let (mut len, mut found) = (0, None);
        while len < TRIES && found.is_none() && count.is_power_of_two() {
            let Some(frame) = Self::alloc_frame() else { break };
            taken[len] = frame;
            len += 1;
            let start = frame.as_u64() & !(size - 1);
            let inside = |f: &&HostPhysAddr| f.as_u64().wrapping_sub(start) < size;
            found = (taken[..len].iter().filter(inside).count() == count).then_some(start);
        }
        for &frame in &taken[..len] {
            if found.is_none_or(|start| frame.as_u64().wrapping_sub(start) >= size) {
                // SAFETY: taken above and not used.
                unsafe { Self::dealloc_frame(frame) };
            }
        }
        found.map(HostPhysAddr::new)
    }

    /// Gives back what [`alloc_contiguous`](Self::alloc_contiguous) answered for the same `count`.
    ///
    /// # Safety
    ///
    /// As for [`dealloc_frame`](Self::dealloc_frame).
    unsafe fn dealloc_contiguous(frames: HostPhysAddr, count: usize) {
        for i in 0..count as u64 {
            // SAFETY: the default `alloc_contiguous` took each of them with `alloc_frame`; the rest is the
            // caller's promise.
            unsafe { Self::dealloc_frame(HostPhysAddr::new(frames.as_u64() + 4096 * i)) };
        }
    }

    /// Where code accesses the memory at this physical address.
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr;

    /// The physical address of memory that code accesses here.
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr;
}

/// The hardware abstraction layer: a port of this crate to a platform.
///
/// A uniprocessor port is three items: `MmHal`, [`irq_fetch`](Self::irq_fetch) and
/// [`irq_hanlder`](Self::irq_hanlder). A multiprocessor port adds [`cpu_id`](Self::cpu_id), the per-CPU
/// word ([`load_current`](Self::load_current), [`store_current`](Self::store_current)) and
/// [`kick_cpu`](Self::kick_cpu).
///
/// "Physical CPU" means whatever runs a vCPU without moving away under it: a hart or core for a bare-metal
/// hypervisor, a thread for a hosted one. A host that can preempt or migrate the calling code keeps it on one
/// CPU for the length of every call into this crate.
///
/// # Safety
///
/// * [`load_current`](Self::load_current) answers what the *same* physical CPU last gave to
///   [`store_current`](Self::store_current), null before the first time. The defaults keep one word for the
///   whole program and are right only where a single physical CPU ever calls into this crate.
/// * [`cpu_id`](Self::cpu_id) is different on different physical CPUs and never changes on one, and
///   [`is_cpu`](Self::is_cpu) agrees with it.
pub unsafe trait AxVCpuHal: 'static {
    /// The platform's memory.
    type MmHal: AxMmHal;

    /// The number of the interrupt being serviced on this physical CPU. Backends call it once after a host
    /// interrupt ended a run, to fill in
    /// [`ExternalInterrupt`](crate::AxVCpuExitReason::ExternalInterrupt). The default is 0, for platforms
    /// on which [`irq_hanlder`](Self::irq_hanlder) finds the source by itself.
    fn irq_fetch() -> usize {
        0
    }

    /// Dispatches the interrupt that ended a run to the host's own handlers. Called on the physical CPU that
    /// took it, with host interrupts still masked.
    ///
    /// Every platform must implement it: an interrupt that nobody dispatches fires again at once and forever.
    /// (The spelling is the published one. [`irq_handler`](Self::irq_handler) is its alias.)
    ///
    /// # Panics
    ///
    /// The default body panics.
    fn irq_hanlder() {
        unimplemented!(
            "AxVCpuHal::irq_hanlder: implement it for this platform and hand the pending host interrupt \
             to the kernel's dispatcher there"
        )
    }

    /// Calls [`irq_hanlder`](Self::irq_hanlder).
    #[inline]
    fn irq_handler() {
        Self::irq_hanlder();
    }

    /// The number of the physical CPU this is called on. The default, 0, is for uniprocessors.
    #[inline]
    fn cpu_id() -> usize {
        0
    }

    /// Whether this is called on physical CPU `cpu`. For platforms that can tell that with less than
    /// [`cpu_id`](Self::cpu_id) takes; every run asks.
    #[inline]
    fn is_cpu(cpu: usize) -> bool {
        Self::cpu_id() == cpu
    }

    /// Makes physical CPU `cpu` leave the guest it runs, or the idle wait for a blocked vCPU, soon. Called
    /// from any physical CPU, also for itself, at any time, and must not wait. A CPU that is about to enter a
    /// guest must leave it at once again: on bare metal an interprocessor interrupt does that because host
    /// interrupts stay masked from before `run` until the guest is entered.
    ///
    /// The default does nothing, which is right for a uniprocessor (nobody can kick while the guest runs)
    /// and for backends that watch [`Requests`](crate::Requests) themselves.
    #[inline]
    fn kick_cpu(cpu: usize) {
        let _ = cpu;
    }

    /// Makes a host timer interrupt arrive on the physical CPU this is called on when its time counter
    /// reaches `deadline`, in the counter's ticks, or earlier; `u64::MAX` asks for none. The last call counts.
    /// Answers whether the platform does that.
    ///
    /// Backends call it for a guest timer that the hardware does not provide, with the physical CPU's host
    /// interrupts masked. One that is told `false`, the default, programs the CPU's timer itself: a platform that
    /// uses this timer for purposes of its own implements the method and keeps the earliest of all deadlines.
    #[inline]
    fn arm_timer(deadline: u64) -> bool {
        let _ = deadline;
        false
    }

    /// The word last stored on this physical CPU, null before the first time.
    #[inline]
    fn load_current() -> *mut () {
        CURRENT.load(Ordering::Relaxed)
    }

    /// Keeps one word for this physical CPU: which vCPU it is working on.
    ///
    /// # Safety
    ///
    /// This crate follows the word. Others only call this to put back what
    /// [`load_current`](Self::load_current) answered on the same CPU, as a host does that switches between
    /// threads in the middle of a call into this crate.
    #[inline]
    unsafe fn store_current(word: *mut ()) {
        CURRENT.store(word, Ordering::Relaxed);
    }
}

// The current-vCPU word of platforms with a single physical CPU.
atomic_static!(CURRENT: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut()));
