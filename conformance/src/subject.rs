//! What the suite needs from a backend's author.

use axvcpu::{AxArchVCpu, AxResult};

/// A backend under test, and the platform it runs on: what the suites for all architectures ask. Each has questions
/// of its own, see [`riscv::Subject`](crate::riscv::Subject), [`arm::Subject`](crate::arm::Subject),
/// [`x86::Subject`](crate::x86::Subject) and, for any, [`generic::Subject`](crate::generic::Subject).
///
/// Guest memory is made of frames from the backend's own [`AxVCpuHal`](axvcpu::AxVCpuHal); the suite writes the
/// guests and the stage-2 tables into them. Virtualization is on (see [`AxPerCpu`](axvcpu::AxPerCpu)) on every
/// physical CPU the suite is run on.
pub trait Subject {
    /// The backend.
    type Arch: AxArchVCpu + Send;
    /// What the vCPUs of one machine share and are made with; `()` where they share nothing.
    type Machine;

    /// What the backend is called in the report.
    fn name(&self) -> &str;

    /// Makes a machine. The suite drops it after its vCPUs, and before their memory.
    fn machine(&self) -> AxResult<Self::Machine>;

    /// What a new vCPU of a machine is made with. vCPUs of one case share their machine's time.
    fn create_config(
        &self,
        machine: &Self::Machine,
    ) -> AxResult<<Self::Arch as AxArchVCpu>::CreateConfig>;

    /// What a vCPU is set up with.
    fn setup_config(&self) -> <Self::Arch as AxArchVCpu>::SetupConfig;

    /// Lets `ns` nanoseconds of guest time pass; called while no vCPU runs.
    fn sleep(&self, ns: u64);

    /// Whether to look once more for something that another physical CPU is about to do, after this many looks
    /// in vain. It takes that CPU microseconds, and a second if it is slow or interrupted. The default looks a hundred million
    /// times and does nothing in between. A host whose physical
    /// CPUs are threads lets another one run meanwhile.
    fn look_again(looks: u64) -> bool {
        core::hint::spin_loop();
        looks < 100_000_000
    }

    /// Passes a moment on a physical CPU that has nothing else to do: a tenth of a millisecond, or whatever is about as long.
    fn pass() {
        for _ in 0..2000 {
            core::hint::spin_loop();
        }
    }

    /// How many vCPUs it takes, made and run on one physical CPU one after the other, to use up whatever the CPU
    /// tells their translations apart by, and more. The default, 100, is for backends that use no such numbers.
    fn crowd(&self) -> usize {
        100
    }

    /// How many bytes of host memory are in use, for guests that try to make it more. The default is for platforms that
    /// cannot say.
    fn memory_in_use(&self) -> Option<usize> {
        None
    }

    /// How many more these may become while one vCPU runs: the backend's caches, which are full at some time.
    fn caches(&self) -> usize {
        0
    }

    /// Calls `there` on another physical CPU while it calls `here` on this one, and comes back when both have.
    /// The default answers `false` and calls neither: there is no other CPU, and the cases about two of them are
    /// skipped.
    fn on_two_cpus(&self, here: &mut dyn FnMut(), there: &mut (dyn FnMut() + Send)) -> bool {
        let _ = (here, there);
        false
    }

    /// Switches virtualization off on the physical CPU it is called on, calls `f`, and switches it on again; no vCPU is
    /// bound there. The default answers `false` and does nothing of this, and the cases about it are skipped. Where there
    /// is nothing to switch off, calling `f` is all it takes.
    fn without_virtualization(&self, f: &mut dyn FnMut()) -> bool {
        let _ = f;
        false
    }
}
