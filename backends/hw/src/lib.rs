//! What backends on virtualization hardware share: vCPUs whose registers stay in a physical CPU until another vCPU
//! needs them there.
//!
//! A vCPU's part that others reach through the physical CPU is a [`Shared`], which the vCPU [owns](Owned). The CPU keeps in
//! a [`Holder`] whose registers it has; whoever wants them for himself takes them out on the owner's behalf, and
//! [asks](Shared::ask) for them to be loaded again.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code)] // shares what is behind pointers

extern crate alloc;

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The part of a vCPU that other vCPUs of the same physical CPU reach, because they find its state in the
/// registers they need.
///
/// A vCPU is bound to one physical CPU; whoever accesses the image runs there, with host interrupts masked, and
/// not in the midst of another access. Unbinding removes every pointer to it from that CPU.
#[derive(Debug)]
pub struct Shared<I> {
    todo: AtomicU32,
    image: UnsafeCell<I>,
}

impl<I> Shared<I> {
    /// An image, and what has to be done before its guest is entered first, as bits of the backend's choice.
    pub const fn new(image: I, todo: u32) -> Self {
        Self { todo: AtomicU32::new(todo), image: UnsafeCell::new(image) }
    }

    /// Asks for something to be done before the next entry.
    #[inline]
    pub fn ask(&self, what: u32) {
        self.todo.fetch_or(what, Ordering::Relaxed);
    }

    /// What has to be done before the next entry.
    #[inline(always)]
    pub fn todo(&self) -> u32 {
        self.todo.load(Ordering::Relaxed)
    }

    /// The same; it is the caller's to do now.
    #[inline]
    pub fn take_todo(&self) -> u32 {
        self.todo.swap(0, Ordering::Relaxed)
    }

    /// The image.
    ///
    /// # Safety
    ///
    /// As the type says: called on the physical CPU the vCPU is bound to (or the vCPU is not bound and its owner
    /// calls), and no other reference is alive.
    #[allow(clippy::mut_from_ref)] // that is the point of the promise
    #[inline]
    pub unsafe fn image(&self) -> &mut I {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.image.get() }
    }
}

/// A [`Shared`] in the hands of its vCPU: a box in all but the aliasing.
#[derive(Debug)]
pub struct Owned<I>(*mut Shared<I>);

// SAFETY: what is behind it goes where its owner goes.
unsafe impl<I: Send> Send for Owned<I> {}

impl<I> Owned<I> {
    /// Takes a box over.
    pub fn new(shared: Box<Shared<I>>) -> Self {
        Self(Box::into_raw(shared))
    }

    /// Frees it. Without this it is never freed, which is what a vCPU wants that a physical CPU may still point to.
    ///
    /// # Safety
    ///
    /// Called once, and neither the owner nor a [`Holder`] uses it after.
    pub unsafe fn free(&mut self) {
        // SAFETY: from `Box::into_raw` in `new`; the rest is the caller's promise.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<I> Deref for Owned<I> {
    type Target = Shared<I>;

    #[inline(always)]
    fn deref(&self) -> &Shared<I> {
        // SAFETY: allocated in `new`, not freed before the owner is gone. Nobody has more than a shared reference.
        unsafe { &*self.0 }
    }
}

/// The vCPU that has something on a physical CPU, or nobody. Used on that CPU only, with host interrupts masked, so
/// that relaxed accesses, which cost nothing, are all it needs; being atomic it is harmless in wrong hands.
#[derive(Debug)]
pub struct Holder<I>(AtomicPtr<Shared<I>>);

impl<I> Holder<I> {
    /// Nobody.
    pub const fn nobody() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Whether it is this one.
    #[inline]
    pub fn is(&self, who: &Shared<I>) -> bool {
        ptr::eq(self.0.load(Ordering::Relaxed), who)
    }

    /// Who it is; null for nobody.
    #[inline]
    pub fn get(&self) -> *mut Shared<I> {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes it somebody else, or nobody.
    #[inline]
    pub fn set(&self, who: Option<&Shared<I>>) {
        let who = who.map_or(ptr::null_mut(), |who| ptr::from_ref(who).cast_mut());
        self.0.store(who, Ordering::Relaxed);
    }
}
