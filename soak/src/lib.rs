//! A guest that leaves as fast as it can, while other threads want everything of it that can be wanted.
//!
//! Two vCPUs: the *leaver* exits with every few instructions, the *spinner* never by itself. Threads beside them
//!
//! * inject edges, each as soon as the guest has counted the one before;
//! * raise a line, which the guest has lowered and counts;
//! * kick both, and wait for the run that a kick ends;
//! * request fences of both, and wait until they are done.
//!
//! Nothing here may be lost or come twice, and what was counted tells. A wait that takes too long is a failure as well,
//! not a hang.

mod account;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm;
mod memory;
mod soft;
mod threads;

pub use account::Account;
use axvcpu::{AxArchVCpu, AxVCpu, AxVCpuExitReason};
use axvcpu_cli::hal::Cpu;

/// A machine to soak.
pub(crate) trait Guest: Sync {
    /// What runs it.
    type Arch: AxArchVCpu + Send;

    /// The vectors that edges are injected of. The guest counts each by itself.
    const EDGES: &'static [usize];

    /// The line, if there is one, and where the guest counts it.
    const LINE: Option<usize>;

    /// Whether nothing but a kick ends a run with [`Nothing`](AxVCpuExitReason::Nothing).
    const ONLY_KICKS: bool;

    /// The calling thread as a physical CPU.
    fn cpu() -> Result<Cpu, String>;

    /// The vCPU that leaves all the time.
    fn leaver(&self) -> &AxVCpu<Self::Arch>;

    /// The vCPU that never leaves.
    fn spinner(&self) -> &AxVCpu<Self::Arch>;

    /// How often the guest has taken the interrupt with this vector.
    fn taken(&self, vector: usize) -> u64;

    /// Whether the spinner has begun.
    fn spins(&self) -> bool;

    /// Whether an exit is the leaver's usual one, after which it goes on by itself.
    fn is_usual(exit: &AxVCpuExitReason) -> bool;

    /// Whether an exit is the guest's wish to have the line lowered.
    fn lowers(exit: &AxVCpuExitReason) -> bool;
}

/// Soaks the software hart until it has left this often.
///
/// # Errors
///
/// What was lost or came too often.
pub fn soft(exits: u64) -> Result<Account, String> {
    threads::soak(&soft::Machine::new()?, exits)
}

/// The same on Linux's KVM; `None` where there is none.
///
/// # Errors
///
/// As for [`soft`].
pub fn kvm(exits: u64) -> Result<Option<Account>, String> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    return match kvm::Machine::new()? {
        Some(machine) => threads::soak(&machine, exits).map(Some),
        None => Ok(None),
    };
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    return {
        let _ = exits;
        Ok(None)
    };
}
