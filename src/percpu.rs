//! Virtualization on one physical CPU: off, on, and every way to get that wrong.

use core::fmt;

use crate::{AxArchPerCpu, AxError, AxResult};

/// What is known about a physical CPU's virtualization hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PerCpuState {
    /// [`AxPerCpu::init`] was not called, or failed.
    Uninitialized,
    /// Initialized, hardware off.
    Disabled,
    /// Hardware on.
    Enabled,
}

impl fmt::Display for PerCpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uninitialized => "not initialized",
            Self::Disabled => "initialized with virtualization off",
            Self::Enabled => "initialized with virtualization on",
        })
    }
}

/// One physical CPU's virtualization hardware, from the first moment of the program: it can be made in a
/// `static` or per-CPU area and is initialized later.
///
/// | call | `Uninitialized` | `Disabled` | `Enabled` |
/// |---|---|---|---|
/// | [`init`](Self::init) | → `Disabled` | refused | refused |
/// | [`hardware_enable`](Self::hardware_enable) | refused | → `Enabled`, or stays on error | refused |
/// | [`hardware_disable`](Self::hardware_disable) | refused | refused | → `Disabled`, or stays on error |
/// | drop | nothing | nothing | hardware off |
///
/// "Refused" is [`BadCpuState`](AxError::BadCpuState) with the state found; it changes nothing.
#[derive(Debug)]
pub struct AxPerCpu<A: AxArchPerCpu> {
    arch: Option<(usize, A)>,
}

impl<A: AxArchPerCpu> AxPerCpu<A> {
    /// A physical CPU nothing is known about.
    pub const fn new() -> Self {
        Self { arch: None }
    }

    /// Takes note that this is physical CPU `cpu_id`; on that CPU. Fails as the backend does, and then leaves
    /// everything as it was.
    pub fn init(&mut self, cpu_id: usize) -> AxResult {
        self.expect(PerCpuState::Uninitialized)?;
        self.arch = Some((cpu_id, A::new(cpu_id)?));
        Ok(())
    }

    /// What is known now.
    pub fn state(&self) -> PerCpuState {
        match &self.arch {
            None => PerCpuState::Uninitialized,
            Some((_, arch)) if arch.is_enabled() => PerCpuState::Enabled,
            Some(_) => PerCpuState::Disabled,
        }
    }

    /// Whether virtualization is on; `false` before [`init`](Self::init).
    pub fn is_enabled(&self) -> bool {
        self.state() == PerCpuState::Enabled
    }

    /// The physical CPU given to [`init`](Self::init).
    pub fn cpu_id(&self) -> Option<usize> {
        self.arch.as_ref().map(|&(cpu_id, _)| cpu_id)
    }

    /// Switches virtualization on; on the physical CPU concerned. After an error it is off: the backend's
    /// half-done work is undone.
    pub fn hardware_enable(&mut self) -> AxResult {
        let arch = self.expect(PerCpuState::Disabled)?.ok_or(Self::UNINITIALIZED)?;
        arch.hardware_enable().inspect_err(|_| {
            // The first error is the one to report; there is nothing left to do about a second one.
            let _ = arch.hardware_disable();
        })
    }

    /// Switches virtualization off again; on the physical CPU concerned, with no vCPU bound to it. After an
    /// error it may be tried again.
    pub fn hardware_disable(&mut self) -> AxResult {
        self.expect(PerCpuState::Enabled)?.ok_or(Self::UNINITIALIZED)?.hardware_disable()
    }

    const UNINITIALIZED: AxError = AxError::BadCpuState { found: PerCpuState::Uninitialized };

    fn expect(&mut self, state: PerCpuState) -> AxResult<Option<&mut A>> {
        let found = self.state();
        if found != state {
            return Err(AxError::BadCpuState { found });
        }
        Ok(self.arch.as_mut().map(|(_, arch)| arch))
    }
}

impl<A: AxArchPerCpu> Default for AxPerCpu<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: AxArchPerCpu> Drop for AxPerCpu<A> {
    fn drop(&mut self) {
        if self.is_enabled() {
            // A destructor has nobody to report to; the CPU is going away with its state.
            let _ = self.hardware_disable();
        }
    }
}
