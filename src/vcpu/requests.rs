//! What other threads want of a vCPU.

use super::{AxVCpu, MAX_LINES};
use crate::control::{IRQ_SHIFT, KICK, LINES, WAKE};
use crate::sync::Ordering;
use crate::{AxArchVCpu, AxError, AxResult, AxVCpuHal, Fence, VCpuState};

impl<A: AxArchVCpu> AxVCpu<A> {
    /// Makes the vCPU leave the guest and its [`run`](Self::run) return
    /// [`Nothing`](crate::AxVCpuExitReason::Nothing), now or, if it is not running, the next time it would enter. Kicks
    /// do not add up. A blocked vCPU becomes ready.
    pub fn kick(&self) {
        self.post(KICK);
    }

    /// Ends the vCPU's wait. If it does not wait now it will not wait the next time it would: a wake-up that
    /// races with the guest halting is not lost, at the price that a guest may find itself woken for nothing,
    /// which every architecture allows.
    pub fn wake(&self) {
        self.post(WAKE);
    }

    /// [`wake`](Self::wake) for the physical CPU that does the waiting: where a wake-up by others has to reach that CPU
    /// ([`AxVCpuHal::kick_cpu`]), this one is on it already and goes on to [`run`](Self::run) the vCPU. Called elsewhere it may
    /// go unnoticed.
    pub fn wake_here(&self) {
        self.control.request(WAKE);
    }

    /// Makes interrupt `vector` pending: delivered when the guest is entered next, which happens soon even if
    /// it is running now. The same vector requested twice before that is delivered once, as by any
    /// edge-triggered latch. A blocked vCPU becomes ready.
    ///
    /// # Errors
    ///
    /// [`InterruptFailed`](AxError::InterruptFailed) when the vector is not below [`MAX_VECTORS`](crate::MAX_VECTORS);
    /// [`BadState`](AxError::BadState) when the vCPU is [`Invalid`](VCpuState::Invalid) and will never take it.
    /// What the backend thinks of the vector is answered by [`run`](Self::run).
    pub fn inject_interrupt(&self, vector: usize) -> AxResult {
        let word = self.pending.get(vector / 64).ok_or(AxError::InterruptFailed { vector })?;
        // The vector first, the request second: whoever takes the request then finds the vector.
        word.fetch_or(1 << (vector % 64), Ordering::AcqRel);
        self.post_or_invalid(1 << (IRQ_SHIFT + vector as u32 / 64))
    }

    /// Raises or lowers a level-triggered interrupt line. The guest sees the line as it is when it is entered
    /// next; a pulse shorter than that may go unseen, as on a wire.
    ///
    /// # Errors
    ///
    /// As [`inject_interrupt`](Self::inject_interrupt), with [`MAX_LINES`] for the limit.
    pub fn set_interrupt_line(&self, vector: usize, asserted: bool) -> AxResult {
        if vector >= MAX_LINES {
            return Err(AxError::InterruptFailed { vector });
        }
        let bit = 1 << vector;
        let before = if asserted {
            self.lines.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.lines.fetch_and(!bit, Ordering::AcqRel)
        };
        if (before & bit != 0) != asserted {
            return self.post_or_invalid(LINES);
        }
        match self.state() {
            found @ VCpuState::Invalid => Err(AxError::BadState { found }),
            _ => Ok(()), // no change, nothing to post
        }
    }

    /// Makes the vCPU drop its stale copies before its next instruction; the caller has changed instructions
    /// or page tables. It may still be executing with the old ones when this returns:
    /// [`fence_outstanding`](Self::fence_outstanding) tells when it is not. Does not end the wait of a blocked
    /// vCPU.
    pub fn request_fence(&self, fence: Fence) {
        // `Fence` values can be made with bits that are not fences.
        self.post((fence & Fence::all()).bits());
    }

    /// Whether the vCPU may still be executing guest instructions with what a
    /// [`request_fence`](Self::request_fence) made stale, or somebody uses its backend, which may finish the guest's last
    /// instruction for that ([`get_gpr`](Self::get_gpr), [`unbind`](Self::unbind)). Either stops in bounded time by itself; a
    /// vCPU at rest is never waited for, so two that fence each other do not deadlock. Whoever has seen `false` need not
    /// look again.
    pub fn fence_outstanding(&self, fence: Fence) -> bool {
        self.control.outstanding(fence.bits())
    }

    fn post_or_invalid(&self, request: u32) -> AxResult {
        match self.post(request) {
            found @ VCpuState::Invalid => Err(AxError::BadState { found }),
            _ => Ok(()),
        }
    }

    fn post(&self, request: u32) -> VCpuState {
        let found = self.control.request(request);
        // A running vCPU has to come out to notice; a blocked one's physical CPU may be asleep. Nobody halts
        // in order to be woken by a fence, and a wake-up means nothing to a guest that runs.
        let kick = match found {
            VCpuState::Running => request != WAKE,
            VCpuState::Blocked => Fence::from_bits(request).is_none(),
            _ => false,
        };
        if kick {
            A::Hal::kick_cpu(self.cpu.load(Ordering::Relaxed));
        }
        found
    }
}
