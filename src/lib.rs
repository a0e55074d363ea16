//! Virtual CPUs behind one interface.
//!
//! A hypervisor written against this crate creates, runs, interrupts and stops virtual CPUs without
//! knowing what executes them: an interpreter, a RISC-V hart with the H extension, an AArch64 core at
//! EL2, SVM, VMX or Linux KVM. Four pieces make up the interface:
//!
//! * [`AxVCpu`] is the virtual CPU a hypervisor holds. It owns the state machine ([`VCpuState`]), makes
//!   every operation safe to call from any thread, and delivers kicks, wake-ups, interrupts and fences
//!   to a vCPU that runs on another physical CPU.
//! * [`AxArchVCpu`] is what a backend implements: one architecture's registers and guest entry.
//! * [`AxVCpuHal`] (with [`AxMmHal`]) is what the kernel or program below provides: frames, the
//!   dispatch of host interrupts, and on multiprocessors a per-CPU word and a cross-CPU kick.
//! * [`AxPerCpu`] switches a physical CPU's virtualization hardware on and off.
//!
//! The crate is `no_std`, allocates nothing and takes no lock.
//!
//! # One life cycle
//!
//! The backend below "executes" a guest that asks for one hypercall and then waits; real backends plug in
//! the same way.
//!
//! ```
//! use axvcpu::*;
//!
//! struct Hal;
//! struct Frames;
//! // SAFETY: hands out no frames at all, so it cannot hand out a wrong one.
//! unsafe impl AxMmHal for Frames {
//!     fn alloc_frame() -> Option<HostPhysAddr> { None }
//!     unsafe fn dealloc_frame(_: HostPhysAddr) {}
//!     fn phys_to_virt(p: HostPhysAddr) -> HostVirtAddr { HostVirtAddr::new(p.as_usize()) }
//!     fn virt_to_phys(v: HostVirtAddr) -> HostPhysAddr { HostPhysAddr::new(v.as_u64()) }
//! }
//! // SAFETY: the program has one thread, which the defaults are made for.
//! unsafe impl AxVCpuHal for Hal {
//!     type MmHal = Frames;
//!     fn irq_hanlder() {}
//! }
//!
//! #[derive(Default)]
//! struct Tiny { pc: u64, a0: u64 }
//! impl AxArchVCpu for Tiny {
//!     type Hal = Hal;
//!     type CreateConfig = ();
//!     type SetupConfig = ();
//!     fn new(_vm: VmId, _vcpu: VCpuId, _: ()) -> AxResult<Self> { Ok(Self::default()) }
//!     fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult { self.pc = entry.as_u64(); Ok(()) }
//!     unsafe fn set_ept_root(&mut self, _: HostPhysAddr) -> AxResult { Ok(()) }
//!     fn setup(&mut self, _: ()) -> AxResult { Ok(()) }
//!     fn run(&mut self) -> AxResult<AxVCpuExitReason> {
//!         self.pc += 4;
//!         Ok(match self.pc {
//!             0x8000_0004 => AxVCpuExitReason::Hypercall { nr: 1, function: 0, args: [self.a0, 0, 0, 0, 0, 0] },
//!             _ => AxVCpuExitReason::Halt { wake_after_ns: None },
//!         })
//!     }
//!     fn bind(&mut self) -> AxResult { Ok(()) }
//!     fn unbind(&mut self) -> AxResult { Ok(()) }
//!     fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
//!         if reg != 0 { return Err(AxError::InvalidInput); }
//!         self.a0 = val;
//!         Ok(())
//!     }
//!     fn inject_interrupt(&mut self, _vector: usize) -> AxResult { Ok(()) }
//!     fn set_return_value(&mut self, val: u64) { self.a0 = val; }
//! }
//!
//! let vcpu = AxVCpu::<Tiny>::new(0, 0, 0, None, ())?;
//! // SAFETY: this backend never reads guest memory, so any root will do.
//! unsafe { vcpu.setup(GuestPhysAddr::new(0x8000_0000), HostPhysAddr::new(0), ())? };
//! vcpu.set_gpr(0, 42)?;
//! vcpu.bind()?;
//! match vcpu.run()? {
//!     AxVCpuExitReason::Hypercall { nr: 1, args, .. } => vcpu.set_return_value(args[0] + 1)?,
//!     other => panic!("unexpected exit {other:?}"),
//! }
//! assert!(matches!(vcpu.run()?, AxVCpuExitReason::Halt { .. }));
//! assert_eq!(vcpu.state(), VCpuState::Blocked);
//! vcpu.inject_interrupt(9)?; // from any thread: the vCPU is ready again
//! assert_eq!(vcpu.state(), VCpuState::Ready);
//! vcpu.unbind()?;
//! # Ok::<(), AxError>(())
//! ```

#![no_std]

#[cfg(any(test, loom))]
extern crate std;

mod addr;
mod arch_vcpu;
mod control;
mod current;
mod error;
mod exit;
mod hal;
mod percpu;
mod sync;
mod vcpu;

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;

pub use addr::{GuestPhysAddr, HostPhysAddr, HostVirtAddr};
pub use arch_vcpu::{AxArchPerCpu, AxArchVCpu};
pub use control::{Fence, Requests, VCpuState};
pub use current::{CurrentVCpu, current_ids, with_current_vcpu};
pub use error::{AxError, AxResult};
pub use exit::{AccessKind, AccessWidth, AxVCpuExitReason};
pub use hal::{AxMmHal, AxVCpuHal};
pub use percpu::{AxPerCpu, PerCpuState};
pub use vcpu::{AxVCpu, MAX_LINES, MAX_VECTORS, VCpuId, VmId};
