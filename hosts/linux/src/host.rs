//! What a vCPU's thread offers to the machine it works for: time, and sleep.
#![allow(unsafe_code)] // one system call

use std::hint;
use std::sync::Arc;
use std::thread;

use axvcpu_soft::VirtualClock;
use axvcpu_vmm::VmHost;

use crate::hal::{Cpu, RegisterError, monotonic_ns};

/// The thread it is made on.
pub(crate) struct Host {
    cpu: Cpu,
    /// `None`: guest time is the host's.
    clock: Option<Arc<VirtualClock>>,
}

impl Host {
    pub(crate) fn new(clock: Option<Arc<VirtualClock>>) -> Result<Self, RegisterError> {
        Ok(Self { cpu: Cpu::register()?, clock })
    }
}

#[cfg(target_arch = "x86_64")]
impl Host {
    /// The same on the host's clock, with kicks that take it out of a guest on KVM.
    pub(crate) fn interruptible() -> Result<Self, String> {
        let Self { cpu, clock } = Self::new(None).map_err(|error| error.to_string())?;
        let cpu = cpu.interruptible().map_err(|error| error.to_string())?;
        Ok(Self { cpu, clock })
    }
}

impl VmHost for Host {
    fn now_ns(&self) -> u64 {
        match &self.clock {
            None => monotonic_ns(),
            Some(clock) => clock.now_ns(),
        }
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        match (&self.clock, deadline_ns) {
            // Nobody executes instructions now, so time would stand still: it jumps to the next event.
            (Some(clock), Some(deadline)) => clock.advance_to_ns(deadline),
            _ => {
                self.cpu.idle(deadline_ns);
            }
        }
    }

    fn relax(&self, turns: u32) {
        // Whom we wait for may need this very processor.
        if turns < 64 { hint::spin_loop() } else { thread::yield_now() }
    }

    fn exit_clock_ns(&self) -> Option<u64> {
        Some(monotonic_ns())
    }
}

/// An unpredictable number, to seed the guest's random numbers. `None` when the host has none to give.
pub(crate) fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the kernel writes no more than the buffer's length into it.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    (got == bytes.len() as isize).then(|| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hal::LinuxHal;
    use axvcpu::AxVCpuHal;

    #[test]
    fn virtual_time_jumps_to_the_next_event_and_real_time_is_slept_through() {
        let clock = VirtualClock::new();
        let host = Host::new(Some(Arc::clone(&clock))).unwrap();
        host.wait(Some(3_600_000_000_000));
        assert_eq!(host.now_ns(), 3_600_000_000_000);
        host.wait(Some(1)); // time does not go back
        assert_eq!(host.now_ns(), 3_600_000_000_000);
        drop(host);
        let host = Host::new(None).unwrap();
        let deadline = host.now_ns() + 2_000_000;
        host.wait(Some(deadline));
        assert!(host.now_ns() >= deadline);
    }

    #[test]
    fn without_an_event_only_a_kick_ends_the_wait() {
        for clock in [None, Some(VirtualClock::new())] {
            let host = Host::new(clock).unwrap();
            let cpu = host.cpu.id();
            let kicker = thread::spawn(move || {
                thread::sleep(std::time::Duration::from_millis(2));
                LinuxHal::kick_cpu(cpu);
            });
            host.wait(None); // forever, if the kick were lost
            kicker.join().unwrap();
        }
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
