//! What a backend implements.
#![allow(unsafe_code)] // declares `set_ept_root`, whose argument the backend cannot check

use crate::{
    AxError, AxResult, AxVCpuExitReason, AxVCpuHal, Fence, GuestPhysAddr, HostPhysAddr, Requests,
    VCpuId, VmId,
};

/// One architecture's virtual CPU.
///
/// [`AxVCpu`](crate::AxVCpu) calls every method with exclusive access and in the order its state machine
/// allows. [`run`](Self::run), with what comes before an entry ([`fence`](Self::fence),
/// [`set_interrupt_line`](Self::set_interrupt_line), [`inject_interrupt`](Self::inject_interrupt)), and
/// [`unbind`](Self::unbind) come on the physical CPU of the [`bind`](Self::bind); what looks at a vCPU that does not
/// run may come from any thread. A backend therefore needs no lock and no state machine of its own.
///
/// The methods without a body are the contract. Those with one are capabilities: a backend that lacks one
/// keeps the default, which answers [`Unsupported`](AxError::Unsupported) unless its text says otherwise.
///
/// An error from [`setup`](Self::setup), [`bind`](Self::bind), [`unbind`](Self::unbind),
/// [`run`](Self::run) or [`reset`](Self::reset) means that the vCPU's state is not known any more: it becomes
/// [`Invalid`](crate::VCpuState::Invalid). An error from any other method means that the call was refused and
/// nothing changed.
pub trait AxArchVCpu: Sized + 'static {
    /// The platform the backend is built on.
    type Hal: AxVCpuHal;
    /// What [`new`](Self::new) needs to know.
    type CreateConfig;
    /// What [`setup`](Self::setup) needs to know.
    type SetupConfig;

    /// Makes a vCPU. [`Unsupported`](AxError::Unsupported) when the hardware cannot run one.
    fn new(vm_id: VmId, vcpu_id: VCpuId, config: Self::CreateConfig) -> AxResult<Self>;

    /// Sets the address of the next instruction, a guest physical address because guests start with
    /// translation off.
    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult;

    /// Sets the stage-2 page table, in the architecture's own format. Addresses in it are those of
    /// [`AxMmHal`](crate::AxMmHal).
    ///
    /// It means the same where the hardware does not walk it, because a kernel below the backend has tables of its own: the
    /// backend reads it then, when it is set and with each [`Fence::STAGE2_TLB`], and what it tells the kernel is no more
    /// than a TLB. A change, even one that maps what was not, takes effect with the next of these fences at the latest;
    /// what cannot be expressed there (that readable memory may not be executed, for one) is not enforced, and the backend
    /// says so. A machine of that kernel's may have one table for all its vCPUs; another one is
    /// [`InvalidInput`](AxError::InvalidInput).
    ///
    /// # Safety
    ///
    /// Until another root is set or the vCPU is dropped, `root` is the root of a well-formed stage-2 table, and
    /// everything it maps is memory the guest may read, write and execute as the table permits, at any time
    /// and from any vCPU. After a change that takes a permission or mapping away, what was mapped stays
    /// allocated until the vCPU has carried out a [`Fence::STAGE2_TLB`].
    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult;

    /// Puts the vCPU into the architecture's reset state, ready for its first run. Comes after
    /// [`set_entry`](Self::set_entry) and [`set_ept_root`](Self::set_ept_root), which it keeps.
    fn setup(&mut self, config: Self::SetupConfig) -> AxResult;

    /// Enters the guest and comes back with the reason why it stopped. Exits that
    /// [ask](AxVCpuExitReason::asks) leave their instruction unfinished until
    /// [`set_return_value`](Self::set_return_value); others are complete, except where their text says so.
    fn run(&mut self) -> AxResult<AxVCpuExitReason>;

    /// Loads the vCPU onto the physical CPU this is called on. On a hosted backend that is the calling thread.
    fn bind(&mut self) -> AxResult;

    /// Takes the vCPU off the physical CPU, which keeps nothing of it. Also called to undo a
    /// [`bind`](Self::bind) that failed half-way, and again after it failed itself.
    fn unbind(&mut self) -> AxResult;

    /// Writes general-purpose register `reg`, in the architecture's numbering; writing a hardwired zero
    /// register does nothing. [`InvalidInput`](AxError::InvalidInput) when there is no such register.
    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult;

    /// Makes interrupt `vector` pending in the guest, as an edge: the guest takes it when it is next enabled
    /// and unmasked. [`ResourceBusy`](AxError::ResourceBusy) when there is no room now but will be after a
    /// run; [`InterruptFailed`](AxError::InterruptFailed) or [`InvalidInput`](AxError::InvalidInput) when it can
    /// never be delivered.
    fn inject_interrupt(&mut self, vector: usize) -> AxResult;

    /// Completes the access of the last exit with the value read, or writes the first result of a hypercall.
    /// The backend cuts the value to the access's width and extends it as the instruction demands.
    fn set_return_value(&mut self, val: u64);

    /// [`run`](Self::run) for backends that execute guest code themselves: they look at
    /// [`requests`](Requests::pending) at bounded intervals and return
    /// [`Nothing`](AxVCpuExitReason::Nothing) when there are any. This is what [`AxVCpu`](crate::AxVCpu)
    /// calls; the default is `run`.
    #[inline]
    fn run_watching(&mut self, requests: Requests<'_>) -> AxResult<AxVCpuExitReason> {
        let _ = requests;
        self.run()
    }

    /// Reads general-purpose register `reg`.
    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        let _ = reg;
        Err(AxError::Unsupported)
    }

    /// Puts the vCPU back into the architecture's reset state, as after [`setup`](Self::setup), with the
    /// same configuration, entry and stage-2 root. Where [`set_entry`](Self::set_entry) has sent the guest since then does
    /// not count.
    fn reset(&mut self) -> AxResult {
        Err(AxError::Unsupported)
    }

    /// Raises or lowers a level-triggered interrupt line (`vector` is below
    /// [`MAX_LINES`](crate::MAX_LINES)).
    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        let _ = (vector, asserted);
        Err(AxError::Unsupported)
    }

    /// Drops the stale copies `fence` names before the next guest instruction. Stage 2 is not used stale between two runs
    /// either: once [`fence_outstanding`](crate::AxVCpu::fence_outstanding) is false memory may be gone, so a method that
    /// accesses it for an instruction that is not finished looks at the table before it does.
    fn fence(&mut self, fence: Fence) -> AxResult {
        let _ = fence;
        Err(AxError::Unsupported)
    }

    /// Forgets the access of the last MMIO exit, read or write, so that the next run performs the
    /// instruction again: for a fault on memory that the caller has mapped meanwhile. After a
    /// [`NestedPageFault`](AxVCpuExitReason::NestedPageFault) that is so anyway, and the answer is `Ok`.
    fn retry(&mut self) -> AxResult {
        Err(AxError::Unsupported)
    }

    /// Makes the instruction of the last MMIO or [`NestedPageFault`](AxVCpuExitReason::NestedPageFault) exit
    /// fail in the guest as an access to an address where nothing answers fails on hardware: an access
    /// fault, an external abort, a general-protection fault. Nothing else of the exit remains.
    fn fail_access(&mut self) -> AxResult {
        Err(AxError::Unsupported)
    }
}

/// One physical CPU's virtualization hardware; on a hosted backend, whether the calling thread may use that of the kernel
/// below. [`AxPerCpu`](crate::AxPerCpu) calls the methods in the
/// right order only, and on the physical CPU concerned.
pub trait AxArchPerCpu: Sized {
    /// Prepares for physical CPU `cpu_id`, without touching its hardware yet.
    fn new(cpu_id: usize) -> AxResult<Self>;

    /// Whether the hardware is on.
    fn is_enabled(&self) -> bool;

    /// Switches the hardware on. [`Unsupported`](AxError::Unsupported) when there is none. After an error
    /// [`hardware_disable`](Self::hardware_disable) is called to undo what had been done.
    fn hardware_enable(&mut self) -> AxResult;

    /// Switches the hardware off, and leaves the CPU as it was before; also from a half-enabled state.
    fn hardware_disable(&mut self) -> AxResult;
}
