//! Which vCPU this physical CPU is working on.
//!
//! The per-CPU word of the [`AxVCpuHal`] points to the vCPU for exactly as long as a backend method runs, and
//! back to the one before, if any, after it: calls nest.
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

/// What every [`AxVCpu`] begins with, whatever its backend: what can be read of it without knowing that.
pub(crate) struct Header {
    pub(crate) ids: CurrentVCpu,
    backend: TypeId,
}

impl Header {
    pub(crate) fn new<A: AxArchVCpu>(vm_id: VmId, vcpu_id: VCpuId) -> Self {
        Self { ids: CurrentVCpu { vm_id, vcpu_id }, backend: TypeId::of::<A>() }
    }
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

    let _restore = Restore::<A::Hal>(A::Hal::load_current(), core::marker::PhantomData);
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a vCPU that is borrowed until `_restore` has put back the word, on any way out of here.
    unsafe { A::Hal::store_current(ptr::from_ref(vcpu).cast_mut().cast()) };
    f()
}

fn with_header<H: AxVCpuHal, R>(f: impl FnOnce(&Header) -> R) -> Option<R> {
    let header = H::load_current().cast::<Header>().cast_const();
    // SAFETY: null or what `scope` stored on this very CPU (the HAL's promise): an `AxVCpu`, which begins with
    // its header. `scope` has not returned, as it restores the word first, so the vCPU is still borrowed; its
    // header never changes.
    unsafe { header.as_ref() }.map(f)
}

/// Calls `f` with the vCPU whose backend method is running on this physical CPU: what a host's interrupt
/// handler or a memory callback needs to know whom it works for.
///
/// `None` outside backend methods, and when the current vCPU belongs to another backend than `A`. Inside `f`
/// the vCPU's requests ([`kick`](AxVCpu::kick), [`inject_interrupt`](AxVCpu::inject_interrupt), …) work as
/// always; what needs the backend itself is refused, because it is in use.
#[doc(alias = "CURRENT_VCPU")]
pub fn with_current_vcpu<A: AxArchVCpu, R>(f: impl FnOnce(&AxVCpu<A>) -> R) -> Option<R> {
    let backend = with_header::<A::Hal, _>(|header| header.backend)?;
    if backend != TypeId::of::<A>() {
        return None;
    }
    let vcpu = A::Hal::load_current().cast::<AxVCpu<A>>().cast_const();
    // SAFETY: `scope` stored an `&AxVCpu` of this backend, which it still borrows.
    Some(f(unsafe { &*vcpu }))
}

/// The ids of the vCPU whose backend method is running on this physical CPU; `None` outside of one.
pub fn current_ids<H: AxVCpuHal>() -> Option<CurrentVCpu> {
    with_header::<H, _>(|header| header.ids)
}
