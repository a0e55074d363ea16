//! AxVCpu on Linux's KVM, for x86-64 guests.
//!
//! ```text
//!   Kvm ──▶ KvmMachine ──▶ KvmVCpu   (as many as there are threads, or more)
//!            memory slots    run page, registers, exits
//!            interrupt controllers
//! ```
//!
//! [`Kvm`] is the device, and knows what the kernel can do. A [`KvmMachine`] is a virtual machine of the kernel's, which
//! its vCPUs share: [`KvmConfig`] names it. [`KvmVCpu`] is the backend; a thread is a physical CPU to it, and the platform
//! below needs a way to take one out of the guest, which is [`kick::Thread`].
//!
//! Guest memory is described by a stage-2 table in [EPT's format](axvcpu_x86::ept), as on bare metal. The backend reads
//! it when it is set and whenever a vCPU carries out a [`Fence::STAGE2_TLB`](axvcpu::Fence::STAGE2_TLB), and tells the
//! kernel of the difference.
//!
//! What it adds to the contract of [`axvcpu`]: general-purpose registers are numbered as in
//! [`axvcpu_x86::reg::gpr`]; interrupt vectors are those of the guest's interrupt descriptor table (with the
//! kernel's local APICs from 16 on), and 2 is a non-maskable interrupt; there are no lines (those of a machine's interrupt controllers are
//! [`KvmMachine::set_line`]); memory that may be read may be executed. [`retry`](axvcpu::AxVCpu::retry) performs the
//! access of an MMIO exit on memory that was mapped meanwhile.
//!
//! The crate is empty on other systems than Linux and other processors than x86-64.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod cpuid;
pub mod kick;
mod kvm;
mod machine;
mod sys;
mod vcpu;

pub use kvm::{DEVICE, Kvm, KvmError, KvmPerCpu};
pub use kvm_bindings as bindings;
pub use machine::{Irqchip, KvmMachine, MachineConfig, MsrExits};
pub use vcpu::{KvmConfig, KvmSetup, KvmVCpu, State};
