//! The atomics and the cell everything else is built on: `core`'s, or the model checker's under
//! `--cfg loom`.
#![allow(unsafe_code)] // the cell's accessor is unsafe in both versions

#[cfg(not(loom))]
mod imp {
    pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    /// `core`'s cell behind the interface of the model checker's, which sees for how long a pointer is used.
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn get_mut(&self) -> MutPtr<T> {
            MutPtr(self.0.get())
        }
    }

    /// A pointer into an [`UnsafeCell`]; the model checker counts it as an access while it lives.
    pub(crate) struct MutPtr<T>(*mut T);

    impl<T> MutPtr<T> {
        /// # Safety
        ///
        /// The cell outlives the reference, and nobody else reaches its content meanwhile.
        #[allow(clippy::mut_from_ref)] // as in the model checker's interface
        #[inline]
        pub(crate) unsafe fn deref(&self) -> &mut T {
            // SAFETY: the caller's promise.
            unsafe { &mut *self.0 }
        }
    }

    macro_rules! atomic_static {
        ($name:ident: $type:ty = $init:expr) => {
            static $name: $type = $init;
        };
    }
    pub(crate) use atomic_static;
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::{MutPtr, UnsafeCell};
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    macro_rules! atomic_static {
        ($name:ident: $type:ty = $init:expr) => {
            loom::lazy_static! { static ref $name: $type = $init; }
        };
    }
    pub(crate) use atomic_static;
}

pub(crate) use imp::*;
