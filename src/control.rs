//! The state machine: one atomic word that holds the state, who may touch the backend, and every request
//! other threads have made.
//!
//! Because a request and the state it races with live in the same word, each request is ordered against
//! each transition by the word itself: a kick either lands before the vCPU became `Running`, and the entry
//! sees it, or after, and the kicker sees `Running` and interrupts the physical CPU. No pairing of fences
//! between two variables has to be got right.
#![allow(unsafe_code)] // hands out the only `&mut` to the backend, guarded by the CLAIMED bit

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use bitflags::bitflags;

use crate::sync::{AtomicU32, MutPtr, Ordering, UnsafeCell};
use crate::{AxError, AxResult};

/// Where a vCPU is in its life.
///
/// | from | to | by |
/// |---|---|---|
/// | `Created` | `Free` | [`setup`](crate::AxVCpu::setup) |
/// | `Free` | `Ready` | [`bind`](crate::AxVCpu::bind) |
/// | `Ready` | `Running` | [`run`](crate::AxVCpu::run), until it returns |
/// | `Running` | `Ready` | any exit |
/// | `Running` | `Blocked` | a `Halt` exit with nothing pending |
/// | `Ready` | `Blocked` | [`block`](crate::AxVCpu::block), while a device has no answer yet |
/// | `Blocked` | `Ready` | [`wake`](crate::AxVCpu::wake), an interrupt, a kick |
/// | `Ready` | `Free` | [`unbind`](crate::AxVCpu::unbind) |
/// | any | `Invalid` | a transition that failed inside the backend |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VCpuState {
    /// Made, but without entry point and stage-2 root.
    Created = 0,
    /// Set up; on no physical CPU.
    Free = 1,
    /// On a physical CPU, and may run.
    Ready = 2,
    /// In the guest, or on the way in or out.
    Running = 3,
    /// On a physical CPU, waiting for an event.
    Blocked = 4,
    /// A transition failed inside the backend. The vCPU can only be unbound and dropped.
    Invalid = 5,
}

impl VCpuState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Free, Self::Ready, Self::Running, Self::Blocked, Self::Invalid];

    const fn from_word(word: u32) -> Self {
        Self::ALL[match (word & STATE_MASK) as usize {
            index @ 0..=5 => index,
            _ => 5,
        }]
    }
}

impl fmt::Display for VCpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created, but not set up",
            Self::Free => "free, on no physical CPU",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Invalid => "invalid",
        })
    }
}

bitflags! {
    /// What a fence makes visible to a vCPU: the stale copies it has to drop before its next instruction.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Fence: u32 {
        /// Instructions fetched earlier (`fence.i`, `ic iallu`).
        const INSTRUCTION = 1 << 12;
        /// Translations by the guest's own page tables (`sfence.vma`, `tlbi vmalle1`).
        const GUEST_TLB = 1 << 13;
        /// Translations by stage 2 (`hfence.gvma`, `tlbi vmalls12e1`), after its tables were changed.
        const STAGE2_TLB = 1 << 14;
    }
}

const STATE_MASK: u32 = 0b111;
/// One thread uses the backend; everybody else is refused.
const CLAIMED: u32 = 1 << 3;
/// The backend's `bind` was called and its `unbind` was not.
pub(crate) const BOUND: u32 = 1 << 4;
/// The last exit asks for a value.
pub(crate) const UNANSWERED: u32 = 1 << 5;
/// The last exit was a hypercall, whose result may be given.
pub(crate) const ANSWERABLE: u32 = 1 << 6;
/// Pending vectors are left over that the backend had no room for. Their requests were taken: this is what
/// remembers them.
pub(crate) const DEFERRED: u32 = 1 << 7;
/// Stop running and go back to the caller.
pub(crate) const KICK: u32 = 1 << 8;
/// Do not block the next time the guest halts.
pub(crate) const WAKE: u32 = 1 << 9;
/// A level-triggered line changed.
pub(crate) const LINES: u32 = 1 << 10;
/// One bit for each word of the pending-interrupt bitmap.
pub(crate) const IRQ_SHIFT: u32 = 16;
pub(crate) const IRQ_MASK: u32 = 0xffff << IRQ_SHIFT;

/// What the running vCPU has to leave the guest for.
const ENTRY_REQUESTS: u32 = KICK | LINES | IRQ_MASK | Fence::all().bits();
/// What ends the wait of a blocked vCPU.
const WAKING: u32 = KICK | WAKE | LINES | IRQ_MASK;
/// What is the claim holder's own bookkeeping.
const OWNER_BITS: u32 = BOUND | UNANSWERED | ANSWERABLE | DEFERRED;

/// A running vCPU's view of what other threads want from it.
///
/// Given to [`AxArchVCpu::run_watching`](crate::AxArchVCpu::run_watching). A backend that executes guest code
/// itself asks [`pending`](Self::pending) now and then; one that hands the CPU over to the hardware ignores
/// it and is interrupted by [`AxVCpuHal::kick_cpu`](crate::AxVCpuHal::kick_cpu).
#[derive(Clone, Copy)]
pub struct Requests<'a>(&'a AtomicU32);

impl Requests<'_> {
    /// Whether the backend should stop at the next instruction boundary and return
    /// [`Nothing`](crate::AxVCpuExitReason::Nothing). One relaxed load.
    #[inline]
    pub fn pending(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ENTRY_REQUESTS != 0
    }
}

/// A set of states, to say where an operation is allowed.
#[derive(Clone, Copy)]
pub(crate) struct States(u8);

impl States {
    pub(crate) const fn of<const N: usize>(states: [VCpuState; N]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < N {
            bits |= 1 << states[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    const fn has(self, state: VCpuState) -> bool {
        self.0 & (1 << state as u8) != 0
    }
}

/// A backend and the word that decides who may use it.
pub(crate) struct Control<A> {
    word: AtomicU32,
    arch: UnsafeCell<A>,
}

// SAFETY: the only way to `A` is a `Claim`, and CLAIMED lets one exist at a time; the claim is taken with
// acquire and given back with release ordering. So sharing a `Control` only ever moves `A` between threads.
unsafe impl<A: Send> Sync for Control<A> {}

impl<A> Control<A> {
    const ABANDONED: End = End { state: VCpuState::Invalid, set: 0, clear: 0 };

    pub(crate) fn new(arch: A) -> Self {
        Self { word: AtomicU32::new(VCpuState::Created as u32), arch: UnsafeCell::new(arch) }
    }

    #[inline]
    pub(crate) fn state(&self) -> VCpuState {
        VCpuState::from_word(self.word.load(Ordering::Acquire))
    }

    /// Takes exclusive use of the backend, if the vCPU is in one of `states` and no bit of `unless` is set
    /// (the answer to that is `refusal`). Where `during` names a state the vCPU shows it until the claim is
    /// given back.
    #[inline]
    pub(crate) fn claim(
        &self,
        states: States,
        (unless, refusal): (u32, AxError),
        during: Option<VCpuState>,
    ) -> AxResult<Claim<'_, A>> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let found = VCpuState::from_word(word);
            if !states.has(found) {
                return Err(AxError::BadState { found });
            }
            if word & CLAIMED != 0 {
                return Err(AxError::ResourceBusy);
            }
            if word & unless != 0 {
                return Err(refusal);
            }
            let shown = during.unwrap_or(found);
            let claimed = word & !STATE_MASK | shown as u32 | CLAIMED;
            match self.word.compare_exchange_weak(
                word,
                claimed,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(self.claimed(word, claimed)),
                Err(now) => word = now,
            }
        }
    }

    /// [`claim`](Self::claim) for a run that has nothing to do but to enter the guest: of a `Ready` vCPU, shown as
    /// `Running`, whose last exit has its answer, and of which nobody wants anything. `None` if it is not like that,
    /// or somebody interferes. One exchange, most of the time.
    #[inline(always)]
    pub(crate) fn start_run(&self) -> Option<RunClaim<'_, A>> {
        const READY: u32 = VCpuState::Ready as u32;
        const HINDRANCES: u32 = CLAIMED | UNANSWERED | DEFERRED | ENTRY_REQUESTS;
        /// What the word is before nearly every run.
        const USUAL: u32 = READY | BOUND;
        let exchange = |before| {
            // A request that comes from here on finds the vCPU running, and kicks it.
            let running = before ^ TURNED_BY_RUN;
            self.word.compare_exchange(before, running, Ordering::Acquire, Ordering::Relaxed)
        };
        // On x86 an exchange says what it found. Elsewhere it begins with a load anyhow.
        let mut turned = TURNED_BY_RUN;
        if !cfg!(target_arch = "x86_64") || exchange(USUAL).is_err() {
            let before = self.word.load(Ordering::Relaxed);
            if before & (STATE_MASK | HINDRANCES) != READY || exchange(before).is_err() {
                return None;
            }
            // The last hypercall may not have had its answer, and need not.
            turned |= before & ANSWERABLE;
        }
        let arch = ManuallyDrop::new(self.arch.get_mut());
        Some(RunClaim { control: self, arch, turned })
    }

    /// The claim, after the word was changed to `claimed`.
    #[inline]
    fn claimed(&self, before: u32, claimed: u32) -> Claim<'_, A> {
        let arch = ManuallyDrop::new(self.arch.get_mut());
        Claim { control: self, arch, before, claimed, end: Self::ABANDONED }
    }

    /// Leaves `requests` for the vCPU. Answers the state it was found in, after a blocked vCPU was made
    /// ready if a request of this kind ends its wait.
    #[inline]
    pub(crate) fn request(&self, requests: u32) -> VCpuState {
        let before = self.word.fetch_or(requests, Ordering::AcqRel);
        let found = VCpuState::from_word(before);
        if found == VCpuState::Blocked && requests & WAKING != 0 {
            self.unblock(before | requests);
        }
        found
    }

    /// Makes a blocked vCPU ready. A claim on it is left to do that by itself when it ends.
    #[cold]
    fn unblock(&self, mut word: u32) {
        // Without a request left somebody else has done it, and this may be another wait already.
        while VCpuState::from_word(word) == VCpuState::Blocked
            && word & CLAIMED == 0
            && word & WAKING != 0
        {
            let ready = word & !(STATE_MASK | WAKE) | VCpuState::Ready as u32;
            match self.word.compare_exchange_weak(word, ready, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Whether any of these requests has not reached a vCPU whose backend is at work at this moment: in the guest, or for
    /// somebody who asks for a register, which may have to finish the guest's last instruction.
    pub(crate) fn outstanding(&self, requests: u32) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word & requests != 0 && word & CLAIMED != 0
    }
}

/// Exclusive use of a backend. Giving it back without saying what became of the vCPU, as a panic does,
/// makes the vCPU `Invalid`.
pub(crate) struct Claim<'a, A> {
    control: &'a Control<A>,
    arch: ManuallyDrop<MutPtr<A>>,
    before: u32,
    /// The word as the claim made it. Other threads add requests to it, nothing else.
    claimed: u32,
    end: End,
}

/// What a claim leaves behind.
#[derive(Clone, Copy)]
struct End {
    state: VCpuState,
    set: u32,
    clear: u32,
}

impl<'a, A> Claim<'a, A> {
    /// The state the claim found.
    pub(crate) fn found(&self) -> VCpuState {
        VCpuState::from_word(self.before)
    }

    /// Whether any of these owner's bits was set when the claim was taken.
    #[inline]
    pub(crate) fn has(&self, bits: u32) -> bool {
        self.before & bits & OWNER_BITS != 0
    }

    /// What other threads want while the guest runs.
    #[inline]
    pub(crate) fn requests(&self) -> Requests<'a> {
        Requests(&self.control.word)
    }

    /// Takes over every request that concerns an entry: they are the caller's to carry out now.
    pub(crate) fn take_requests(&self) -> u32 {
        self.control.word.fetch_and(!ENTRY_REQUESTS, Ordering::AcqRel) & ENTRY_REQUESTS
    }

    /// Sets `bits` of the owner's even if the claim is abandoned.
    #[inline]
    pub(crate) fn keep_if_abandoned(&mut self, bits: u32) {
        debug_assert_eq!(bits & !OWNER_BITS, 0);
        self.end.set |= bits;
    }

    /// Gives the claim back with the vCPU in the state it was found in.
    pub(crate) fn restore(self) {
        let state = self.found();
        self.finish(state, 0, 0);
    }

    /// Gives the claim back with the vCPU in `state`, and `set` and `clear` of the owner's bits changed.
    #[inline]
    pub(crate) fn finish(mut self, state: VCpuState, set: u32, clear: u32) {
        debug_assert_eq!((set | clear) & !OWNER_BITS, 0);
        self.end = End { state, set, clear };
    }
}

/// What a run turns over in a word that is `Ready`: to `Running`, and claimed; and back.
const TURNED_BY_RUN: u32 = (VCpuState::Ready as u32 ^ VCpuState::Running as u32) | CLAIMED;

/// A [`Claim`] for the length of a run, with no more in it than that needs.
pub(crate) struct RunClaim<'a, A> {
    control: &'a Control<A>,
    arch: ManuallyDrop<MutPtr<A>>,
    /// What has to be turned over in the word at the end. Only the holder of a claim changes these bits.
    turned: u32,
}

impl<'a, A> RunClaim<'a, A> {
    /// The backend.
    #[inline(always)]
    pub(crate) fn arch(&mut self) -> &mut A {
        // SAFETY: CLAIMED is set by this claim alone; `&mut self` keeps this the only reference.
        unsafe { MutPtr::deref(&self.arch) }
    }

    /// What other threads want while the guest runs.
    #[inline(always)]
    pub(crate) fn requests(&self) -> Requests<'a> {
        Requests(&self.control.word)
    }

    /// Gives the claim back with the vCPU `Ready`, and `open` of the owner's bits set.
    #[inline(always)]
    pub(crate) fn finish(mut self, open: u32) {
        // SAFETY: dropped once, here: the claim itself is forgotten. Before the word, as in `Claim`.
        unsafe { ManuallyDrop::drop(&mut self.arch) };
        self.control.word.fetch_xor(self.turned ^ open, Ordering::Release);
        core::mem::forget(self);
    }

    /// Gives the claim back with everything as it was found.
    #[cold]
    pub(crate) fn restore(self) {
        let open = self.turned & ANSWERABLE;
        self.finish(open);
    }

    /// The same as a claim that can end otherwise.
    #[cold]
    pub(crate) fn into_claim(self) -> Claim<'a, A> {
        let this = ManuallyDrop::new(self);
        let before = VCpuState::Ready as u32 | this.turned & ANSWERABLE;
        let word = this.control.word.load(Ordering::Relaxed);
        let claimed = word & (STATE_MASK | CLAIMED | OWNER_BITS);
        // SAFETY: moved out of what is not dropped.
        let arch = unsafe { core::ptr::read(&this.arch) };
        let before = before | claimed & BOUND;
        Claim { control: this.control, arch, before, claimed, end: Control::<A>::ABANDONED }
    }
}

impl<A> Drop for RunClaim<'_, A> {
    /// Abandons the claim: `Invalid`.
    #[cold]
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.arch) };
        let turned = VCpuState::Running as u32 ^ VCpuState::Invalid as u32 | CLAIMED;
        self.control.word.fetch_xor(turned, Ordering::Release);
    }
}

impl<A> Deref for Claim<'_, A> {
    type Target = A;

    #[inline]
    fn deref(&self) -> &A {
        // SAFETY: CLAIMED is set by this claim alone, and the cell is borrowed with it.
        unsafe { MutPtr::deref(&self.arch) }
    }
}

impl<A> DerefMut for Claim<'_, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut A {
        // SAFETY: as above; `&mut self` keeps this the only reference.
        unsafe { MutPtr::deref(&self.arch) }
    }
}

impl<A> Drop for Claim<'_, A> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used after. The cell must be let go before the word, or the
        // next claim could overlap this one.
        unsafe { ManuallyDrop::drop(&mut self.arch) };
        let End { state, set, clear } = self.end;
        let word = &self.control.word;
        if state != VCpuState::Blocked {
            // Only the claim's holder changes these bits, so it knows which of them to turn over.
            let after = self.claimed & !(STATE_MASK | CLAIMED | clear) | set | state as u32;
            word.fetch_xor(self.claimed ^ after, Ordering::Release);
            return;
        }
        let mut before = word.load(Ordering::Relaxed);
        loop {
            let mut after = before & !(STATE_MASK | CLAIMED | clear) | set;
            // A request that came first must not be slept through.
            after |= if before & WAKING != 0 {
                after &= !WAKE;
                VCpuState::Ready
            } else {
                state
            } as u32;
            match word.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }
}
