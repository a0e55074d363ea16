//! Which vCPU this physical CPU is working on.
//!
//! The per-CPU word of the [`AxVCpuHal`] points to a [`CurrentVCpu`] record for exactly as long as a backend
//! method runs. The record lives on the stack of that call, so it needs no storage and calls nest.
#![allow(unsafe_code)] // follows the per-CPU word

use core::any::TypeId;
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::{AxArchVCpu, AxVCpu, AxVCpuHal, VCpuId, VmId};

/// The vCPU whose backend is at work on this physical CPU, whatever its architecture.
#[doc(alias = "CURRENT_VCPU")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentVCpu {
    /// Its virtual machine.
    pub vm_id: VmId,
    /// Its number within the machine.
    pub vcpu_id: VCpuId,
}

struct Record {
    ids: CurrentVCpu,
    backend: TypeId,
    vcpu: *const (),
}

/// Runs `f` with `vcpu` as this physical CPU's current vCPU.
#[inline]
pub(crate) fn scope<A: AxArchVCpu, R>(vcpu: &AxVCpu<A>, f: impl FnOnce() -> R) -> R {
    struct Restore<H: AxVCpuHal>(*mut (), core::marker::PhantomData<H>);
    impl<H: AxVCpuHal> Drop for Restore<H> {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: what was there before, on this CPU.
            unsafe { H::store_current(self.0) };
            compiler_fence(Ordering::SeqCst);
        }
    }

    let mut record = Record {
        ids: CurrentVCpu { vm_id: vcpu.vm_id(), vcpu_id: vcpu.vcpu_id() },
        backend: TypeId::of::<A>(),
        vcpu: ptr::from_ref(vcpu).cast(),
    };
    let _restore = Restore::<A::Hal>(A::Hal::load_current(), core::marker::PhantomData);
    // Interrupt handlers of this CPU follow the word: the record is complete before it is stored, and stays so
    // until the word is restored.
    compiler_fence(Ordering::Release);
    // SAFETY: a record that lives until `_restore` has put back the word, on any way out of here.
    unsafe { A::Hal::store_current(ptr::from_mut(&mut record).cast()) };
    f()
}

fn with_record<H: AxVCpuHal, R>(f: impl FnOnce(&Record) -> R) -> Option<R> {
    let record = H::load_current().cast::<Record>().cast_const();
    // SAFETY: null or what `scope` stored on this very CPU (the HAL's promise). `scope` has not returned, as
    // it restores the word first, so the record is alive; it is never written after it was stored.
    unsafe { record.as_ref() }.map(f)
}

/// Calls `f` with the vCPU whose backend method is running on this physical CPU: what a host's interrupt
/// handler or a memory callback needs to know whom it works for.
///
/// `None` outside backend methods, and when the current vCPU belongs to another backend than `A`. Inside `f`
/// the vCPU's requests ([`kick`](AxVCpu::kick), [`inject_interrupt`](AxVCpu::inject_interrupt), …) work as
/// always; what needs the backend itself is refused, because it is in use.
#[doc(alias = "CURRENT_VCPU")]
pub fn with_current_vcpu<A: AxArchVCpu, R>(f: impl FnOnce(&AxVCpu<A>) -> R) -> Option<R> {
    with_record::<A::Hal, _>(|record| {
        if record.backend != TypeId::of::<A>() {
            return None;
        }
        // SAFETY: the record was made from an `&AxVCpu` of this backend that `scope` still borrows.
        Some(f(unsafe { &*record.vcpu.cast::<AxVCpu<A>>() }))
    })?
}

/// The ids of the vCPU whose backend method is running on this physical CPU; `None` outside of one.
pub fn current_ids<H: AxVCpuHal>() -> Option<CurrentVCpu> {
    with_record::<H, _>(|record| record.ids)
}
