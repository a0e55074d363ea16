//! The platform-level interrupt controller (RISC-V PLIC specification 1.0.0), without locks.
//!
//! Contexts are numbered as on common boards, two per hart: 2h is the M mode of hart h, which guests do
//! not have and which is not connected, 2h + 1 its S mode.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use axvcpu::{AccessWidth, AxArchVCpu};
use axvcpu_riscv::csr;

use crate::devices::IrqLine;
use crate::updates::Updates;
use crate::{Cpus, MmioDevice, NoDevice};

/// The highest interrupt source. Source 0 does not exist.
pub const SOURCES: u32 = 31;
/// Bytes of address space.
pub const SIZE: u64 = 0x400_0000;

/// Priorities and thresholds are below this.
const PRIORITIES: u32 = 8;
/// Contexts the address space has room for.
const MAX_CONTEXTS: u64 = 15_872;

const ENABLE: u64 = 0x2000;
const ENABLE_STRIDE: u64 = 0x80;
const CONTEXT: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;
const PENDING: u64 = 0x1000;

/// Something that has a supervisor external interrupt input per hart.
pub trait Harts: Send + Sync {
    /// How many harts.
    fn count(&self) -> usize;
    /// Raises or lowers the input of one of them.
    fn set_external(&self, hart: usize, asserted: bool);
}

impl<A: AxArchVCpu + Send> Harts for Cpus<A> {
    fn count(&self) -> usize {
        self.len()
    }

    fn set_external(&self, hart: usize, asserted: bool) {
        if let Some(cpu) = self.get(hart as u64) {
            // Fails only for a vCPU that is invalid and will never run again.
            let _ = cpu.vcpu().set_interrupt_line(csr::irq::EXTERNAL, asserted);
        }
    }
}

/// One source and its gateway, in one word so that each step is one atomic operation.
#[derive(Default)]
struct Source {
    bits: AtomicU8,
    priority: AtomicU32,
}

/// The device asserts its line.
const LEVEL: u8 = 1 << 0;
/// The gateway has passed a request on that nobody has claimed.
const REQUEST: u8 = 1 << 1;
/// Claimed and not completed: the gateway passes nothing on.
const IN_SERVICE: u8 = 1 << 2;

/// The S mode of a hart.
#[derive(Default)]
struct Context {
    /// A bit for each source.
    enabled: AtomicU32,
    threshold: AtomicU32,
    /// What the hart was told last. Belongs to the thread that computes the output.
    told: AtomicBool,
    updates: Updates,
}

/// The interrupt controller of a machine.
pub struct Plic {
    harts: Arc<dyn Harts>,
    sources: [Source; SOURCES as usize + 1],
    contexts: Box<[Context]>,
}

impl Plic {
    /// A controller after reset: every priority 0, nothing enabled.
    pub fn new(harts: Arc<dyn Harts>) -> Self {
        let contexts = (0..harts.count()).map(|_| Context::default()).collect();
        Self { harts, sources: Default::default(), contexts }
    }

    /// The line of a source, to be given to its device. `None` unless `source` is 1 to [`SOURCES`].
    pub fn line(self: &Arc<Self>, source: u32) -> Option<Arc<dyn IrqLine>> {
        let line = PlicLine { plic: self.clone(), source };
        (1..=SOURCES).contains(&source).then(|| Arc::new(line) as Arc<dyn IrqLine>)
    }

    fn set_level(&self, source: u32, asserted: bool) {
        let Some(Source { bits, .. }) = self.sources.get(source as usize) else { return };
        if !asserted {
            // A request that was passed on stays until it is claimed, as the specification demands.
            bits.fetch_and(!LEVEL, Ordering::SeqCst);
            return;
        }
        let raise = |bits| Some(bits | LEVEL | if bits & IN_SERVICE == 0 { REQUEST } else { 0 });
        let before = bits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, raise).unwrap_or(0);
        if before & (REQUEST | IN_SERVICE) == 0 {
            self.update_for(source);
        }
    }

    /// The pending and enabled source with the highest priority, the lowest number among equals.
    fn best(&self, context: &Context) -> Option<(u32, u32)> {
        let mut enabled = context.enabled.load(Ordering::SeqCst) & !1;
        let mut best = None;
        while enabled != 0 {
            let number = enabled.trailing_zeros();
            enabled &= enabled - 1;
            let Some(source) = self.sources.get(number as usize) else { break };
            let priority = source.priority.load(Ordering::SeqCst);
            if source.bits.load(Ordering::SeqCst) & REQUEST != 0
                && priority > best.map_or(0, |(_, highest)| highest)
            {
                best = Some((number, priority));
            }
        }
        best
    }

    /// Claims the best source of a context; 0 when there is none. The threshold has no part in that.
    fn claim(&self, context: &Context) -> u32 {
        while let Some((number, _)) = self.best(context) {
            let Some(Source { bits, .. }) = self.sources.get(number as usize) else { break };
            let take = |bits| (bits & REQUEST != 0).then_some(bits & !REQUEST | IN_SERVICE);
            if bits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                self.update_for(number);
                return number;
            }
            // Another hart was faster.
        }
        0
    }

    /// Ends the service of a source. What the context has not enabled is ignored.
    fn complete(&self, context: &Context, number: u32) {
        let enabled =
            number <= SOURCES && context.enabled.load(Ordering::SeqCst) >> number & 1 != 0;
        let Some(Source { bits, .. }) = self.sources.get(number as usize) else { return };
        if !enabled || number == 0 {
            return;
        }
        let finish = |bits| {
            let again = if bits & LEVEL != 0 { REQUEST } else { 0 };
            (bits & IN_SERVICE != 0).then_some(bits & !IN_SERVICE | again)
        };
        if bits
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, finish)
            .is_ok_and(|b| b & LEVEL != 0)
        {
            self.update_for(number);
        }
    }

    /// Updates the harts that a source concerns. One that enables it at this moment does so itself.
    fn update_for(&self, source: u32) {
        for (hart, context) in self.contexts.iter().enumerate() {
            if context.enabled.load(Ordering::SeqCst) >> source & 1 != 0 {
                self.update(hart);
            }
        }
    }

    /// Tells a hart whether it is interrupted.
    fn update(&self, hart: usize) {
        let Some(context) = self.contexts.get(hart) else { return };
        context.updates.run(|| {
            let threshold = context.threshold.load(Ordering::SeqCst);
            let asserted = self.best(context).is_some_and(|(_, priority)| priority > threshold);
            if context.told.swap(asserted, Ordering::Relaxed) != asserted {
                self.harts.set_external(hart, asserted);
            }
        });
    }

    /// The hart and context behind a context number of the address map.
    fn context(&self, number: u64) -> Option<(usize, &Context)> {
        let hart = usize::try_from(number / 2).ok()?;
        if number % 2 == 0 { None } else { Some((hart, self.contexts.get(hart)?)) }
    }

    fn pending_word(&self) -> u32 {
        self.sources.iter().enumerate().fold(0, |word, (number, source)| {
            let pending = source.bits.load(Ordering::SeqCst) & REQUEST != 0;
            word | u32::from(pending) << number
        })
    }
}

/// What an offset means.
enum Register {
    Priority(usize),
    Pending,
    Enable(u64),
    Threshold(u64),
    Claim(u64),
    /// Reads as zero, ignores writes: sources and contexts that do not exist.
    Absent,
}

fn register(offset: u64, width: AccessWidth) -> Result<Register, NoDevice> {
    if width != AccessWidth::Dword {
        return Err(NoDevice);
    }
    Ok(match offset {
        0..PENDING => match offset / 4 {
            number @ 1.. if number <= u64::from(SOURCES) => Register::Priority(number as usize),
            _ => Register::Absent,
        },
        PENDING => Register::Pending,
        ENABLE..CONTEXT if offset % ENABLE_STRIDE == 0 => {
            Register::Enable((offset - ENABLE) / ENABLE_STRIDE)
        }
        CONTEXT..SIZE => {
            let context = (offset - CONTEXT) / CONTEXT_STRIDE;
            match offset % CONTEXT_STRIDE {
                0 if context < MAX_CONTEXTS => Register::Threshold(context),
                4 if context < MAX_CONTEXTS => Register::Claim(context),
                _ => Register::Absent,
            }
        }
        _ => Register::Absent,
    })
}

impl MmioDevice for Plic {
    fn name(&self) -> &str {
        "interrupt controller"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, NoDevice> {
        let value = match register(offset, width)? {
            Register::Priority(number) => {
                self.sources.get(number).map(|source| source.priority.load(Ordering::SeqCst))
            }
            Register::Pending => Some(self.pending_word()),
            Register::Enable(number) => {
                self.context(number).map(|(_, c)| c.enabled.load(Ordering::SeqCst))
            }
            Register::Threshold(number) => {
                self.context(number).map(|(_, c)| c.threshold.load(Ordering::SeqCst))
            }
            Register::Claim(number) => self.context(number).map(|(_, c)| self.claim(c)),
            Register::Absent => None,
        };
        Ok(value.unwrap_or(0).into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), NoDevice> {
        let data = data as u32;
        match register(offset, width)? {
            Register::Priority(number) => {
                if let Some(source) = self.sources.get(number) {
                    let priority = data % PRIORITIES;
                    if source.priority.swap(priority, Ordering::SeqCst) != priority {
                        self.update_for(number as u32);
                    }
                }
            }
            Register::Enable(number) => {
                if let Some((hart, context)) = self.context(number) {
                    let enabled = data & !1;
                    if context.enabled.swap(enabled, Ordering::SeqCst) != enabled {
                        self.update(hart);
                    }
                }
            }
            Register::Threshold(number) => {
                if let Some((hart, context)) = self.context(number) {
                    let threshold = data % PRIORITIES;
                    if context.threshold.swap(threshold, Ordering::SeqCst) != threshold {
                        self.update(hart);
                    }
                }
            }
            Register::Claim(number) => {
                if let Some((_, context)) = self.context(number) {
                    self.complete(context, data);
                }
            }
            Register::Pending | Register::Absent => {}
        }
        Ok(())
    }
}

struct PlicLine {
    plic: Arc<Plic>,
    source: u32,
}

impl IrqLine for PlicLine {
    fn set(&self, asserted: bool) {
        self.plic.set_level(self.source, asserted);
    }
}

#[cfg(test)]
#[path = "plic_tests.rs"]
mod tests;
