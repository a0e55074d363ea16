//! The virtual CPU a hypervisor holds.
#![allow(unsafe_code)] // passes on the promise behind `set_ept_root`

use crate::control::{
    ANSWERABLE, BOUND, Claim, Control, DEFERRED, IRQ_MASK, IRQ_SHIFT, KICK, LINES, RunClaim,
    States, UNANSWERED,
};
use crate::current::Header;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::{
    AxArchVCpu, AxError, AxResult, AxVCpuExitReason, AxVCpuHal, Fence, GuestPhysAddr, HostPhysAddr,
    VCpuState, current,
};

mod requests;

/// The number of a virtual machine; chosen by the hypervisor.
pub type VmId = usize;
/// The number of a vCPU within its machine; chosen by the hypervisor.
pub type VCpuId = usize;

/// Interrupt vectors are below this.
pub const MAX_VECTORS: usize = 64 * VECTOR_WORDS;
/// Level-triggered interrupt lines are below this.
pub const MAX_LINES: usize = 64;

/// As many as the control word has bits for. The model checker gets fewer, or it would not finish.
const VECTOR_WORDS: usize = if cfg!(loom) { 1 } else { 16 };

const AT_REST: States = States::of([VCpuState::Free, VCpuState::Ready, VCpuState::Blocked]);
const NOTHING_OPEN: (u32, AxError) = (UNANSWERED, AxError::Unanswered);
const ANYWAY: (u32, AxError) = (0, AxError::InvalidInput);

/// A virtual CPU: one backend, its state, and what other threads want from it.
///
/// # Who may call what
///
/// Every method takes `&self` and is safe from any thread at any time. A method that has no meaning in the
/// state it finds is refused with [`AxError::BadState`] and changes nothing; of two that need the backend at
/// the same moment one is refused with [`AxError::ResourceBusy`]. No method waits.
///
/// * Reading: [`state`](Self::state), [`bound_cpu`](Self::bound_cpu), the ids.
/// * Requests: [`kick`](Self::kick), [`wake`](Self::wake), [`inject_interrupt`](Self::inject_interrupt),
///   [`set_interrupt_line`](Self::set_interrupt_line), [`request_fence`](Self::request_fence). They reach the
///   vCPU wherever it is, are never lost and are carried out before the next guest instruction at the latest
///   that follows an entry, or soon if the vCPU is in the guest.
/// * The rest uses the backend. [`run`](Self::run) and [`unbind`](Self::unbind) additionally insist on the
///   physical CPU the vCPU is bound to, and refuse others with [`AxError::WrongCpu`].
///
/// # States
///
/// See [`VCpuState`] for the transitions. Dropping a bound vCPU unbinds it: drop it on its physical CPU.
#[repr(C)] // the header comes first
pub struct AxVCpu<A: AxArchVCpu> {
    header: Header,
    /// The physical CPU of the last [`bind`](Self::bind); has a meaning while bound.
    cpu: AtomicUsize,
    favor_phys_cpu: usize,
    phys_cpu_set: Option<usize>,
    control: Control<A>,
    /// Vectors that wait for the next entry.
    pending: [AtomicU64; VECTOR_WORDS],
    /// The lines as their devices want them.
    lines: AtomicU64,
    /// The lines as the backend was told. Written with the claim only.
    lines_told: AtomicU64,
}

impl<A: AxArchVCpu> AxVCpu<A> {
    /// Makes a vCPU in state [`Created`](VCpuState::Created).
    ///
    /// `favor_phys_cpu` is the physical CPU the hypervisor would like to run it on. `phys_cpu_set` has a bit
    /// for each physical CPU it may be bound to; `None` allows all.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when the set is empty; otherwise what the backend answers.
    pub fn new(
        vm_id: VmId,
        vcpu_id: VCpuId,
        favor_phys_cpu: usize,
        phys_cpu_set: Option<usize>,
        config: A::CreateConfig,
    ) -> AxResult<Self> {
        if phys_cpu_set == Some(0) {
            return Err(AxError::InvalidInput);
        }
        Ok(Self {
            header: Header::new::<A>(vm_id, vcpu_id),
            cpu: AtomicUsize::new(0),
            favor_phys_cpu,
            phys_cpu_set,
            control: Control::new(A::new(vm_id, vcpu_id, config)?),
            pending: core::array::from_fn(|_| AtomicU64::new(0)),
            lines: AtomicU64::new(0),
            lines_told: AtomicU64::new(0),
        })
    }

    /// The machine this vCPU belongs to.
    #[inline]
    pub fn vm_id(&self) -> VmId {
        self.header.ids.vm_id
    }

    /// The vCPU's number within its machine.
    #[inline]
    pub fn vcpu_id(&self) -> VCpuId {
        self.header.ids.vcpu_id
    }

    /// The physical CPU the hypervisor would like to run the vCPU on. A wish only.
    pub fn favor_phys_cpu(&self) -> usize {
        self.favor_phys_cpu
    }

    /// The physical CPUs the vCPU may be bound to, a bit each; `None` means all.
    pub fn phys_cpu_set(&self) -> Option<usize> {
        self.phys_cpu_set
    }

    /// The state at this moment. Never waits and never fails; another thread may change it right after.
    #[inline]
    pub fn state(&self) -> VCpuState {
        self.control.state()
    }

    /// The physical CPU the vCPU is on, while it is [`Ready`](VCpuState::Ready),
    /// [`Running`](VCpuState::Running) or [`Blocked`](VCpuState::Blocked).
    pub fn bound_cpu(&self) -> Option<usize> {
        matches!(self.state(), VCpuState::Ready | VCpuState::Running | VCpuState::Blocked)
            .then(|| self.cpu.load(Ordering::Relaxed))
    }

    /// Gives the vCPU its first instruction and its stage-2 root and makes it [`Free`](VCpuState::Free).
    ///
    /// # Errors
    ///
    /// [`BadState`](AxError::BadState) unless `Created`. What the backend answers makes the vCPU
    /// [`Invalid`](VCpuState::Invalid).
    ///
    /// # Safety
    ///
    /// As for [`AxArchVCpu::set_ept_root`]: until the vCPU is dropped `ept_root` is a well-formed stage-2 table
    /// of memory the guest may use.
    pub unsafe fn setup(
        &self,
        entry: GuestPhysAddr,
        ept_root: HostPhysAddr,
        config: A::SetupConfig,
    ) -> AxResult {
        self.transition(VCpuState::Created, VCpuState::Free, NOTHING_OPEN, |arch| {
            arch.set_entry(entry)?;
            // SAFETY: the caller's promise is the same.
            unsafe { arch.set_ept_root(ept_root)? };
            arch.setup(config)
        })
    }

    /// Puts the vCPU onto the physical CPU this is called on and makes it [`Ready`](VCpuState::Ready).
    ///
    /// # Errors
    ///
    /// [`BadState`](AxError::BadState) unless `Free`; [`WrongCpu`](AxError::WrongCpu) when the affinity does not
    /// allow this CPU. What the backend answers makes the vCPU [`Invalid`](VCpuState::Invalid); what it has left
    /// on the CPU is taken off by [`unbind`](Self::unbind) or by dropping the vCPU, as if it were bound.
    pub fn bind(&self) -> AxResult {
        let current = A::Hal::cpu_id();
        let mut claim = self.control.claim(States::of([VCpuState::Free]), ANYWAY, None)?;
        if !self.allows(current) {
            let bound = match self.phys_cpu_set {
                Some(set) if !self.allows(self.favor_phys_cpu) => set.trailing_zeros() as usize,
                _ => self.favor_phys_cpu,
            };
            claim.restore();
            return Err(AxError::WrongCpu { bound, current });
        }
        self.cpu.store(current, Ordering::Relaxed);
        // From here on the physical CPU may hold some of the vCPU, even if this fails half-way.
        claim.keep_if_abandoned(BOUND);
        current::scope(self, || claim.bind())?; // an error abandons the claim: Invalid
        claim.finish(VCpuState::Ready, BOUND, 0);
        Ok(())
    }

    fn allows(&self, cpu: usize) -> bool {
        match self.phys_cpu_set {
            None => true,
            Some(set) => cpu < usize::BITS as usize && set & (1 << cpu) != 0,
        }
    }

    /// Takes the vCPU off its physical CPU and makes it [`Free`](VCpuState::Free). An
    /// [`Invalid`](VCpuState::Invalid) vCPU that is still on a CPU is taken off and stays `Invalid`.
    ///
    /// # Errors
    ///
    /// [`BadState`](AxError::BadState) unless `Ready`, or `Invalid` and still bound;
    /// [`WrongCpu`](AxError::WrongCpu). What the backend answers makes the vCPU `Invalid`; unbinding may be tried
    /// again.
    pub fn unbind(&self) -> AxResult {
        let states = States::of([VCpuState::Ready, VCpuState::Invalid]);
        let mut claim = self.control.claim(states, ANYWAY, None)?;
        let found = claim.found();
        if !claim.has(BOUND) {
            claim.restore();
            return Err(AxError::BadState { found });
        }
        if let Err(wrong) = self.check_cpu() {
            claim.restore();
            return Err(wrong);
        }
        current::scope(self, || claim.unbind())?;
        let state = if found == VCpuState::Invalid { found } else { VCpuState::Free };
        claim.finish(state, 0, BOUND);
        Ok(())
    }

    #[inline]
    fn check_cpu(&self) -> AxResult {
        let bound = self.cpu.load(Ordering::Relaxed);
        if A::Hal::is_cpu(bound) {
            return Ok(());
        }
        Err(AxError::WrongCpu { bound, current: A::Hal::cpu_id() })
    }

    /// Runs the guest until something concerns the caller. The vCPU is [`Running`](VCpuState::Running)
    /// meanwhile and [`Ready`](VCpuState::Ready) after, or [`Blocked`](VCpuState::Blocked) after a
    /// [`Halt`](AxVCpuExitReason::Halt) with nothing pending.
    ///
    /// Before the guest is entered everything requested so far is carried out: fences, then interrupt lines,
    /// then interrupts. A kick that is outstanding ends the run with [`Nothing`](AxVCpuExitReason::Nothing)
    /// instead; it is used up by that.
    ///
    /// # Errors
    ///
    /// [`BadState`](AxError::BadState) unless `Ready`; [`Unanswered`](AxError::Unanswered) when the last exit
    /// still asks for a value; [`WrongCpu`](AxError::WrongCpu). An interrupt or line the backend refuses ends the
    /// run before entry with that error, the vCPU stays `Ready` and what was refused is no longer pending. A
    /// fence the backend refuses does the same but stays requested: the guest is not entered before it
    /// succeeds. An error of the guest entry itself makes the vCPU [`Invalid`](VCpuState::Invalid).
    #[inline(always)]
    pub fn run(&self) -> AxResult<AxVCpuExitReason> {
        // This is the path every exit of a guest takes: whatever is rare is elsewhere.
        match self.control.start_run() {
            // With the claim only: which CPU the vCPU is bound to may change until then.
            Some(claim) => match self.check_cpu() {
                Ok(()) => self.run_claimed(claim),
                Err(wrong) => {
                    claim.restore();
                    Err(wrong)
                }
            },
            None => apart(|result| *result = self.run_after_requests()),
        }
    }

    /// A run that has nothing to do but to enter the guest.
    ///
    /// The exit is large. Every function on its way makes it in the one place it returns it from, because then it
    /// is never copied.
    #[inline(always)]
    fn run_claimed(&self, mut claim: RunClaim<'_, A>) -> AxResult<AxVCpuExitReason> {
        let requests = claim.requests();
        let mut result = current::scope(self, || claim.arch().run_watching(requests));
        match result {
            Ok(AxVCpuExitReason::Halt { wake_after_ns }) => {
                self.finish_blocked(claim);
                result = Ok(AxVCpuExitReason::Halt { wake_after_ns });
            }
            Ok(AxVCpuExitReason::Nothing) => {
                return apart(|result| *result = self.finish_or_go_on(claim));
            }
            Ok(ref exit) => claim.finish(exit.leaves_open()),
            Err(_) => drop(claim), // abandons it: Invalid
        }
        result
    }

    /// The end of a run in which the guest began to wait.
    #[cold]
    #[inline(never)]
    fn finish_blocked(&self, claim: RunClaim<'_, A>) {
        claim.into_claim().finish(VCpuState::Blocked, 0, ANSWERABLE);
    }

    /// The end of a run that the backend ended because of a request, if there is one.
    #[cold]
    #[inline(never)]
    fn finish_or_go_on(&self, claim: RunClaim<'_, A>) -> AxResult<AxVCpuExitReason> {
        if claim.requests().pending() {
            return self.carry_on(claim.into_claim(), true);
        }
        claim.finish(0);
        Ok(AxVCpuExitReason::Nothing)
    }

    /// A run that has something to do before it enters the guest, or must be refused.
    #[cold]
    #[inline(never)]
    fn run_after_requests(&self) -> AxResult<AxVCpuExitReason> {
        const READY: States = States::of([VCpuState::Ready]);
        let claim = self.control.claim(READY, NOTHING_OPEN, Some(VCpuState::Running))?;
        self.carry_on(claim, false)
    }

    /// A run with everything that may have to be done before an entry; `entered` if the guest was before.
    fn carry_on(&self, mut claim: Claim<'_, A>, entered: bool) -> AxResult<AxVCpuExitReason> {
        if let Err(wrong) = self.check_cpu() {
            claim.restore();
            return Err(wrong);
        }
        let mut owner = Owner { deferred: claim.has(DEFERRED), entered, entry_failed: false };
        let requests = claim.requests();
        let result = current::scope(self, || {
            loop {
                match self.carry_out_requests(&mut claim, &mut owner) {
                    Ok(false) => {}
                    Ok(true) => return Ok(AxVCpuExitReason::Nothing),
                    Err(error) => return Err(error),
                }
                owner.entered = true;
                let result = claim.run_watching(requests);
                match &result {
                    Ok(AxVCpuExitReason::Nothing) if requests.pending() => continue,
                    Ok(_) => {}
                    Err(_) => owner.entry_failed = true,
                }
                return result;
            }
        });
        if owner.entry_failed {
            return result; // abandons the claim: Invalid
        }
        let (state, set) = match &result {
            Ok(AxVCpuExitReason::Halt { .. }) if !owner.deferred => (VCpuState::Blocked, 0),
            Ok(exit) => (VCpuState::Ready, exit.leaves_open()),
            Err(_) => (VCpuState::Ready, 0),
        };
        let set = if owner.deferred { set | DEFERRED } else { set };
        // A run that did not come to enter the guest leaves the last exit as it was.
        let clear = if owner.entered { UNANSWERED | ANSWERABLE | DEFERRED } else { DEFERRED };
        claim.finish(state, set, clear & !set);
        result
    }

    /// Carries out what other threads want before an entry. `true`: they want the run to end.
    #[cold]
    fn carry_out_requests(&self, claim: &mut Claim<'_, A>, owner: &mut Owner) -> AxResult<bool> {
        let taken = claim.take_requests();
        // Everything taken must arrive: what fails must not take the rest along.
        let fence = Fence::from_bits_truncate(taken);
        let mut result = if fence.is_empty() { Ok(()) } else { claim.fence(fence) };
        if result.is_err() {
            // Nothing may be entered with stale copies: whoever asked for this already relies on it.
            self.control.request(fence.bits());
        }
        if taken & LINES != 0 {
            result = result.and(self.tell_lines(claim));
        }
        if taken & IRQ_MASK != 0 || owner.deferred {
            let words = if owner.deferred { IRQ_MASK } else { taken } >> IRQ_SHIFT;
            result = result.and(self.deliver(claim, words, owner));
        }
        if result.is_err() && taken & KICK != 0 {
            self.control.request(KICK);
        }
        result.map(|()| taken & KICK != 0)
    }

    fn tell_lines(&self, claim: &mut Claim<'_, A>) -> AxResult {
        let told = self.lines_told.load(Ordering::Relaxed);
        let lines = self.lines.load(Ordering::Acquire);
        self.lines_told.store(lines, Ordering::Relaxed);
        let mut result = Ok(());
        let mut changed = told ^ lines;
        while changed != 0 {
            let vector = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            result = result.and(claim.set_interrupt_line(vector, lines & (1 << vector) != 0));
        }
        result
    }

    fn deliver(&self, claim: &mut Claim<'_, A>, mut words: u32, owner: &mut Owner) -> AxResult {
        owner.deferred = false;
        let mut result = Ok(());
        while words != 0 {
            let index = words.trailing_zeros() as usize;
            words &= words - 1;
            let Some(word) = self.pending.get(index) else { break };
            let mut vectors = word.swap(0, Ordering::AcqRel);
            while vectors != 0 {
                let bit = vectors.trailing_zeros() as usize;
                let vector = 64 * index + bit;
                match claim.inject_interrupt(vector) {
                    Err(AxError::ResourceBusy) => {
                        // Room comes with the guest's progress, so these wait for the entry after this one.
                        word.fetch_or(vectors, Ordering::AcqRel);
                        owner.deferred = true;
                        break;
                    }
                    Err(error) => result = result.and(Err(error)),
                    Ok(()) => {}
                }
                vectors &= vectors - 1;
            }
        }
        result
    }

    /// Makes a [`Ready`](VCpuState::Ready) vCPU [`Blocked`](VCpuState::Blocked): the hypervisor waits for a
    /// device before it can answer or go on. [`wake`](Self::wake) ends it. If something is pending that would
    /// end it at once the vCPU stays `Ready`.
    pub fn block(&self) -> AxResult {
        let claim = self.control.claim(States::of([VCpuState::Ready]), ANYWAY, None)?;
        // A vector that waits for room in the backend is as pending as one nobody took yet.
        let state = if claim.has(DEFERRED) { VCpuState::Ready } else { VCpuState::Blocked };
        claim.finish(state, 0, 0);
        Ok(())
    }

    /// Answers the last exit with the value read, or sets the first result of a hypercall.
    ///
    /// # Errors
    ///
    /// [`NotAsked`](AxError::NotAsked) when the last exit has no answer or had it; [`BadState`](AxError::BadState)
    /// unless the vCPU is [`Free`](VCpuState::Free), [`Ready`](VCpuState::Ready) or
    /// [`Blocked`](VCpuState::Blocked).
    #[inline]
    pub fn set_return_value(&self, val: u64) -> AxResult {
        let mut claim = self.control.claim(AT_REST, ANYWAY, None)?;
        if !claim.has(UNANSWERED | ANSWERABLE) {
            claim.restore();
            return Err(AxError::NotAsked);
        }
        current::scope(self, || claim.set_return_value(val));
        let state = claim.found();
        claim.finish(state, 0, UNANSWERED | ANSWERABLE);
        Ok(())
    }

    /// Writes general-purpose register `reg`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](AxError::InvalidInput) when there is no such register; [`BadState`](AxError::BadState)
    /// unless the vCPU is [`Free`](VCpuState::Free), [`Ready`](VCpuState::Ready) or
    /// [`Blocked`](VCpuState::Blocked).
    #[inline]
    pub fn set_gpr(&self, reg: usize, val: u64) -> AxResult {
        self.at_rest(ANYWAY, |arch| arch.set_gpr(reg, val))
    }

    /// Reads general-purpose register `reg`. Same errors as [`set_gpr`](Self::set_gpr), or
    /// [`Unsupported`](AxError::Unsupported).
    pub fn get_gpr(&self, reg: usize) -> AxResult<u64> {
        self.at_rest(ANYWAY, |arch| arch.get_gpr(reg))
    }

    /// Sets the next instruction. [`Unanswered`](AxError::Unanswered) while the last exit asks for a value;
    /// otherwise as [`set_gpr`](Self::set_gpr).
    pub fn set_entry(&self, entry: GuestPhysAddr) -> AxResult {
        self.at_rest(NOTHING_OPEN, |arch| arch.set_entry(entry))
    }

    /// Puts the vCPU into its architecture's reset state, at the entry of [`setup`](Self::setup) and with everything pending
    /// forgotten: interrupts, an unanswered exit. Requests that other threads make meanwhile may go either way.
    ///
    /// # Errors
    ///
    /// As [`set_gpr`](Self::set_gpr); what the backend answers makes the vCPU [`Invalid`](VCpuState::Invalid),
    /// except [`Unsupported`](AxError::Unsupported).
    pub fn reset(&self) -> AxResult {
        let mut claim = self.control.claim(AT_REST, ANYWAY, None)?;
        match current::scope(self, || claim.reset()) {
            Err(AxError::Unsupported) => {
                claim.restore();
                return Err(AxError::Unsupported);
            }
            result => result?,
        }
        for word in &self.pending {
            word.store(0, Ordering::Relaxed);
        }
        // The backend has forgotten the lines; what is asserted must be told again.
        self.lines_told.store(0, Ordering::Relaxed);
        if self.lines.load(Ordering::Acquire) != 0 {
            self.control.request(LINES);
        }
        let state = claim.found();
        claim.finish(state, 0, UNANSWERED | ANSWERABLE | DEFERRED);
        Ok(())
    }

    /// Undoes the last MMIO exit, so that the next run performs the guest's instruction again. For a caller
    /// that finds memory, not a device, at the address and has mapped it. After a
    /// [`NestedPageFault`](AxVCpuExitReason::NestedPageFault), whose instruction the next run performs again in any case,
    /// it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](AxError::Unsupported), or [`NotAsked`](AxError::NotAsked) when there is nothing to undo;
    /// [`BadState`](AxError::BadState) as for [`set_gpr`](Self::set_gpr).
    pub fn retry(&self) -> AxResult {
        self.close_exit(A::retry)
    }

    /// Answers the last MMIO or nested-page-fault exit with the failure that hardware gives an access nothing
    /// responds to, delivered to the guest as its architecture's access fault.
    ///
    /// # Errors
    ///
    /// As [`retry`](Self::retry).
    pub fn fail_access(&self) -> AxResult {
        self.close_exit(A::fail_access)
    }

    fn close_exit(&self, f: impl FnOnce(&mut A) -> AxResult) -> AxResult {
        let mut claim = self.control.claim(AT_REST, ANYWAY, None)?;
        let result = current::scope(self, || f(&mut claim));
        let state = claim.found();
        claim.finish(state, 0, if result.is_ok() { UNANSWERED } else { 0 });
        result
    }

    /// Runs `f` on the backend itself: for what only this backend can tell. Same states as
    /// [`set_gpr`](Self::set_gpr).
    ///
    /// It gets no `&mut`: that would let a caller swap the backend for another and keep it, stage-2 root
    /// included, for longer than [`setup`](Self::setup) was promised, or change its state without a word to this
    /// vCPU.
    pub fn with_arch<R>(&self, f: impl FnOnce(&A) -> R) -> AxResult<R> {
        self.at_rest(ANYWAY, |arch| Ok(f(arch)))
    }

    /// Uses the backend of a vCPU that does not run, without a change of state.
    #[inline]
    fn at_rest<R>(
        &self,
        unless: (u32, AxError),
        f: impl FnOnce(&mut A) -> AxResult<R>,
    ) -> AxResult<R> {
        let mut claim = self.control.claim(AT_REST, unless, None)?;
        let result = current::scope(self, || f(&mut claim));
        claim.restore();
        result
    }

    /// Makes a transition that the backend has to carry out; its failure makes the vCPU invalid.
    fn transition(
        &self,
        from: VCpuState,
        to: VCpuState,
        unless: (u32, AxError),
        f: impl FnOnce(&mut A) -> AxResult,
    ) -> AxResult {
        let mut claim = self.control.claim(States::of([from]), unless, None)?;
        current::scope(self, || f(&mut claim))?;
        claim.finish(to, 0, 0);
        Ok(())
    }
}

impl<A: AxArchVCpu> Drop for AxVCpu<A> {
    fn drop(&mut self) {
        let states = States::of(VCpuState::ALL);
        let Ok(mut claim) = self.control.claim(states, ANYWAY, None) else {
            return; // nobody else can hold a claim on what is being dropped
        };
        if claim.has(BOUND) {
            // A destructor has nobody to report to; the backend has done what it could.
            let _ = current::scope(self, || claim.unbind());
        }
        claim.finish(VCpuState::Invalid, 0, BOUND);
    }
}

/// Calls what answers an exit that is not the usual one. Its answer has a place of its own, so that the usual exit, which the
/// compiler sees being made, need not have one in memory.
#[inline(always)]
fn apart(f: impl FnOnce(&mut AxResult<AxVCpuExitReason>)) -> AxResult<AxVCpuExitReason> {
    let mut result = Ok(AxVCpuExitReason::Nothing);
    f(&mut result);
    result
}

/// What the thread that runs the vCPU keeps in mind from one entry to the next.
struct Owner {
    /// The backend had no room for all pending vectors.
    deferred: bool,
    /// The guest was entered: whatever the last exit asked for is over.
    entered: bool,
    /// The guest entry itself failed, and nobody knows the vCPU's state.
    entry_failed: bool,
}
