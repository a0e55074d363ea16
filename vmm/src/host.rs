//! What the program or hypervisor around the machine provides.

use axvcpu::{AxArchVCpu, AxVCpuHal};

/// The physical machine as a virtual machine's run loop needs it: a clock, and a way to wait.
///
/// A hosted platform implements it with the monotonic clock and a thread's park/unpark; a platform without
/// threads, or one whose guest time is an instruction count, by moving its own clock forward.
pub trait VmHost {
    /// Nanoseconds on the clock that guest time follows.
    fn now_ns(&self) -> u64;

    /// Waits, on the calling thread or physical CPU, until [`now_ns`](Self::now_ns) reaches `deadline_ns`
    /// or [`kick_cpu`](AxVCpuHal::kick_cpu) is called for this physical CPU. A kick since the last wait
    /// makes it return at once, or one that comes just before would be slept through. It may also return
    /// for no reason.
    ///
    /// Where guest time is virtual, the implementation advances it to `deadline_ns` and returns.
    fn wait(&self, deadline_ns: Option<u64>);

    /// Begins a slice of time: a host interrupt is to arrive on the calling physical CPU when
    /// [`now_ns`](Self::now_ns) reaches `end_ns`, so that the vCPU that runs then leaves the guest. `None`
    /// needs no interrupt: nobody else wants the CPU. Called where several vCPUs share a physical CPU, each
    /// time before one of them runs; the last call counts, and need not be remembered over a
    /// [`wait`](Self::wait) or an interrupt. A [`kick_cpu`](AxVCpuHal::kick_cpu), also one by the physical
    /// CPU itself, has to end a run as well.
    ///
    /// Answers whether the host does all that. `false`, the default, makes every single run of a vCPU its
    /// slice. That is right with a backend that ends runs by itself, and where each vCPU has a thread of its
    /// own; otherwise a guest that waits for another of its CPUs in a loop waits forever.
    fn begin_slice(&self, end_ns: Option<u64>) -> bool {
        let _ = end_ns;
        false
    }

    /// Called in waits too short to sleep in: another vCPU is about to leave the guest. `turns` counts the
    /// calls of one such wait; a hosted platform should yield the thread when it gets large, because the
    /// other vCPU's thread may be the one without a processor.
    fn relax(&self, turns: u32) {
        let _ = turns;
        core::hint::spin_loop();
    }

    /// Nanoseconds on the clock that the times in the statistics are measured with. `None`, the default,
    /// leaves them out and saves reading a clock twice per exit.
    fn exit_clock_ns(&self) -> Option<u64> {
        None
    }
}

/// Where the guest's console output goes.
pub trait ConsoleSink: Send + Sync {
    /// The guest writes `bytes`, often one at a time. Called with the device's lock held: it should buffer
    /// rather than wait, and must not call into the machine.
    fn write(&self, bytes: &[u8]);

    /// A vCPU is about to wait, or the machine has ended: a good moment to pass on what was buffered.
    fn flush(&self) {}

    /// There is room again for input after it was refused. Called with the device's lock held, like
    /// [`write`](Self::write).
    fn input_wanted(&self) {}
}

/// Makes the physical CPU that `vcpu` is bound to look up from whatever it does.
pub(crate) fn kick_bound<A: AxArchVCpu>(vcpu: &axvcpu::AxVCpu<A>) {
    if let Some(cpu) = vcpu.bound_cpu() {
        A::Hal::kick_cpu(cpu);
    }
}
